use super::*;

/// A small repository in which all is well, with `changed` files in the place of its own.
fn repository(changed: &[(&str, &str)]) -> Files {
    let mut files = Files::from([
        ("README.md", "[a](docs/a.md#one-two) [out](https://host/none.md)\n"),
        ("ARCHITECTURE.md", "## Where is …\n\n| question | answer |\n|---|---|\n| Where? | `src/b.rs`: `work` |\n"),
        ("docs/README.md", "- [a](a.md)\n"),
        ("docs/a.md", "# One `two`\n\n[up](../README.md) [self](#one-two) [folder](../src)\n\n```\n[no](link.md)\n```\n"),
        ("src/b.rs", "pub(crate) fn work() {}\n"),
    ]
    .map(|(path, text)| (path.to_owned(), text.to_owned())));
    files.extend(
        changed
            .iter()
            .map(|(path, text)| ((*path).to_owned(), (*text).to_owned())),
    );
    files
}

fn said_of(changed: &[(&str, &str)]) -> Vec<String> {
    complaints(&repository(changed))
}

#[test]
fn nothing_is_said_where_all_is_well() {
    assert_eq!(said_of(&[]), Vec::<String>::new());
}

#[test]
fn a_link_leads_to_a_file() {
    let said = said_of(&[("README.md", "\n[a](docs/gone.md)\n")]);
    assert_eq!(
        said,
        ["README.md:2: the link docs/gone.md: there is no docs/gone.md"]
    );
    let said = said_of(&[("README.md", "[a](../a.md)\n")]);
    assert_eq!(
        said,
        ["README.md:1: the link ../a.md: it leads out of the repository"]
    );
}

#[test]
fn a_link_leads_to_a_heading() {
    let said = said_of(&[("README.md", "[a](docs/a.md#three)\n")]);
    assert_eq!(
        said,
        ["README.md:1: the link docs/a.md#three: docs/a.md has no heading #three"]
    );
    let said = said_of(&[("README.md", "# Here\n[a](#there)\n")]);
    assert_eq!(
        said,
        ["README.md:2: the link #there: README.md has no heading #there"]
    );
}

#[test]
fn headings_are_named_as_github_names_them() {
    let page = "# `/metrics`\n## Is it safe? Is it fast?\n## Two\n### Two\n```\n# no heading\n```\n#neither\n";
    let expected = ["is-it-safe-is-it-fast", "metrics", "two", "two-1"];
    assert!(anchors(page).iter().eq(expected));
}

#[test]
fn code_names_pages_that_are_there() {
    let code = "# See docs/a.md#one-two, docs/a.md.\n# mydocs/x.md\n";
    assert_eq!(said_of(&[("src/c.py", code)]), Vec::<String>::new());
    for file in ["src/c.rs", "src/c.py", "run.sh", "Makefile"] {
        let said = said_of(&[(file, "# See docs/gone.md.\n")]);
        assert_eq!(said, [format!("{file}:1: there is no docs/gone.md")]);
    }
    let said = said_of(&[("src/c.rs", "// docs/a.md#three\n")]);
    assert_eq!(said, ["src/c.rs:1: docs/a.md has no heading #three"]);
}

/// What is said of this answer in the table of places.
fn answered(answer: &str) -> Vec<String> {
    let table = format!("## {WHERE} …\n| question | answer |\n|---|---|\n| Where? | {answer} |\n");
    said_of(&[
        ("ARCHITECTURE.md", &table),
        ("src/c.py", "class Call:\n    async def answer(self):\n"),
    ])
}

#[test]
fn what_a_place_names_is_defined_there() {
    assert_eq!(
        answered("`src/b.rs`: `work`, `src/c.py`: `Call` `answer`"),
        Vec::<String>::new()
    );
    for (answer, why) in [
        ("`src/gone.rs`: `work`", "there is no src/gone.rs"),
        ("`src/b.rs`: `wor`", "src/b.rs doesn't define wor"),
        ("`src/b.rs`", "no item is named beside the path"),
        ("`work`: `src/b.rs` `work`", "work comes before any path"),
    ] {
        assert!(
            answered(answer).contains(&format!("ARCHITECTURE.md:4: {why}")),
            "{answer}"
        );
    }
    let without = said_of(&[("ARCHITECTURE.md", "## Words\n")]);
    assert_eq!(without, ["ARCHITECTURE.md has no table \"Where is …\""]);
}

#[test]
fn a_definition_is_no_mention() {
    assert!(!defines(
        "use x::Call;\n// fn comes\nlet fnord = answer;\n",
        "comes"
    ));
    assert!(!defines("impl Call {}\n", "Call"));
    assert!(defines("pub struct Call<'a>(u8);\n", "Call"));
    assert!(defines("    pub(crate) const MOST: u8 = 1;\n", "MOST"));
}

#[test]
fn each_page_is_listed() {
    let said = said_of(&[("docs/start/b.md", "# B\n")]);
    assert_eq!(said, ["docs/README.md has no line for start/b.md"]);
}

#[test]
fn this_repository_is_read() {
    let files = read().expect("git lists it");
    assert!(files.contains_key("xtask/src/docs.rs") && files.contains_key("README.md"));
}
