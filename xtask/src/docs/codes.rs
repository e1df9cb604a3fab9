//! The table of error codes: it has each code that the worker's answers may have, and no other.

use std::collections::BTreeSet;

use super::Files;

const PAGE: &str = "docs/reference/http.md";
const HEADING: &str = "## Errors";
/// Where errors become answers.
const ANSWERS: &str = "crates/ol-event/src/";

pub(super) fn complaints(files: &Files) -> Vec<String> {
    let sources = files
        .iter()
        .filter(|(path, _)| path.starts_with(ANSWERS) && path.ends_with(".rs"));
    let given: BTreeSet<&str> = sources.flat_map(|(_, text)| given(text)).collect();
    let page = files.get(PAGE).map_or("", String::as_str);
    let told: BTreeSet<&str> = told(page).collect();
    let untold = given
        .difference(&told)
        .map(|code| format!("{PAGE} has no row for the error code {code}"));
    let gone = told
        .difference(&given)
        .map(|code| format!("{PAGE} has a row for {code}, which no answer has"));
    untold.chain(gone).collect()
}

/// The codes in `Problem::new(status, "code", …)` and `(StatusCode::…, "code")`.
fn given(text: &str) -> impl Iterator<Item = &str> {
    let made = text.split("::new(").skip(1);
    let listed = text.split("(StatusCode::").skip(1);
    made.chain(listed).filter_map(|rest| {
        let (_, rest) = rest.split_once(',')?;
        let (code, _) = rest.trim_start().strip_prefix('"')?.split_once('"')?;
        let letters = |c: char| c.is_ascii_lowercase() || c == '-';
        (!code.is_empty() && code.chars().all(letters)).then_some(code)
    })
}

/// The second cell of each row: `| 404 | `no-route` | … |`.
fn told(page: &str) -> impl Iterator<Item = &str> {
    let section = page.split_once(HEADING).map_or("", |(_, rest)| rest);
    let section = section
        .split_once("\n## ")
        .map_or(section, |(section, _)| section);
    section.lines().filter_map(|line| {
        line.split(" | ")
            .nth(1)?
            .strip_prefix('`')?
            .strip_suffix('`')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said_of(table: &str) -> Vec<String> {
        let source = "match error {\n    A => (StatusCode::NOT_FOUND, \"no-route\"),\n}\nProblem::new(\n    status,\n    \"in-use\",\n    \
            format!(\"a, b\"),\n);\nVec::new();\n";
        let page = format!(
            "{HEADING}\n\n| status | code |\n|---|---|\n{table}\n## More\n| 1 | `other` | x |\n"
        );
        complaints(&Files::from([
            (PAGE.to_owned(), page),
            (format!("{ANSWERS}api/run.rs"), source.to_owned()),
        ]))
    }

    #[test]
    fn each_code_has_a_row_and_each_row_a_code() {
        let both = "| 404 | `no-route` | x |\n| 409 | `in-use` | x |\n";
        assert_eq!(said_of(both), Vec::<String>::new());
        assert_eq!(
            said_of("| 404 | `no-route` | x |\n| 400 | `gone` | x |\n"),
            [
                "docs/reference/http.md has no row for the error code in-use",
                "docs/reference/http.md has a row for gone, which no answer has"
            ]
        );
    }
}
