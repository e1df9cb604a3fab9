//! The commands in README and the pages in `docs/start/` work in the order of the page, and print what the page says.
//!
//! Blocks marked `sh` are run with bash, one after the other, in a folder that is empty at first. If a block marked `text` follows one, it
//! is what the commands print; `…` in it stands for anything. A comment before a block may be `<!-- not run: REASON -->`, or
//! `<!-- fails on purpose -->` if the block's last command has to fail.

use ol_testkit::index::uv;
use ol_testkit::{PackageIndex, Place, Worker, in_place, wheel};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn repository() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("crates/ol-conformance")
}

#[derive(Debug, PartialEq, Eq)]
struct Block {
    script: String,
    fails: bool,
    prints: Option<String>,
}

/// The blocks of `page` that are to be run.
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut skipped, mut fails) = (false, false);
    // Is the next `text` block what the last block of `blocks` prints?
    let mut told = false;
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        skipped |= line.starts_with("<!-- not run: ");
        fails |= line == "<!-- fails on purpose -->";
        let Some(kind) = line.strip_prefix("```") else {
            continue;
        };
        let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let text = text.join("\n");
        match (kind, blocks.last_mut()) {
            ("sh", _) if !skipped => blocks.push(Block {
                script: text,
                fails,
                prints: None,
            }),
            ("text", Some(block)) if told => block.prints = Some(text),
            _ => {}
        }
        told = kind == "sh" && !skipped;
        (skipped, fails) = (false, false);
    }
    blocks
}

/// Does `text` match `pattern`, in which `…` stands for anything?
fn is_like(text: &str, pattern: &str) -> bool {
    match pattern.split_once('…') {
        None => text == pattern,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            let mut ends = (0..=text.len()).filter(|at| text.is_char_boundary(*at));
            ends.any(|at| is_like(&text[at..], rest))
        }),
    }
}

/// A folder with an `ol` for the worker of this place, and a `sudo` that just runs its command.
fn tools(place: &Place) -> PathBuf {
    let folder = place.own("tools");
    fs::create_dir(&folder).expect("made");
    let ol = place.command::<&str>(&[]);
    let (ol, dir) = (ol.get_program().to_string_lossy(), place.dir());
    let ol = format!("#!/bin/sh\nexec {ol} \"$@\" -p {}\n", dir.display());
    for (name, script) in [("ol", ol.as_str()), ("sudo", "#!/bin/sh\nexec \"$@\"\n")] {
        let path = folder.join(name);
        fs::write(&path, script).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("ours");
    }
    // curl fails on an answer that is an error, and shows no progress bar.
    fs::write(
        folder.join(".curlrc"),
        "silent\nshow-error\nfail-with-body\n",
    )
    .expect("written");
    folder
}

fn run(worker: &Worker<'_>, tools: &Path, folder: &Path, block: &Block) {
    let script = block.script.replace("localhost:5000", &worker.address);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(tools.to_owned()).chain(std::env::split_paths(&path));
    let output = Command::new("bash")
        .args(["-c", &format!("set -eu -o pipefail; exec 2>&1\n{script}")])
        .current_dir(folder)
        .env("PATH", std::env::join_paths(folders).expect("no colons"))
        .env("CURL_HOME", tools)
        .stdin(Stdio::null())
        .output()
        .expect("there is bash");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        output.status.success(),
        !block.fails,
        "{}\n{printed}{}",
        block.script,
        worker.place.log_text()
    );
    if let Some(expected) = &block.prints {
        assert!(
            is_like(printed.trim_end(), expected),
            "{}\nprints\n{printed}\nand not\n{expected}",
            block.script
        );
    }
}

/// A stand-in for the package `roman`, so that the page's test needs no network.
fn roman() -> ol_testkit::Dist {
    let module = "def toRoman(number):
    letters = ''
    for value, letter in ((1000, 'M'), (100, 'C'), (10, 'X'), (5, 'V'), (4, 'IV'), (1, 'I')):
        while number >= value:
            letters, number = letters + letter, number - value
    return letters
";
    let metadata = "Summary: for a test";
    wheel("roman", "5.1")
        .file("roman.py", module)
        .metadata(metadata)
        .build()
}

/// Runs the blocks of `page`, of which there must be some; `packages` says whether the page installs packages.
fn follow(page: &str, packages: bool) {
    let blocks = blocks(page);
    assert!(!blocks.is_empty(), "nothing to run in: {page}");
    in_place(|place| {
        let index = packages.then(|| {
            place.find_first(&uv(Path::new(env!("CARGO_TARGET_TMPDIR"))));
            let index = PackageIndex::start();
            index.add(roman());
            index
        });
        let mirror = index.map(|index| (format!("pip_mirror={}", index.url()), index));
        let options: Vec<&str> = mirror.iter().map(|(mirror, _)| mirror.as_str()).collect();
        let worker = place.up(&options);
        let tools = tools(place);
        let folder = place.own("here");
        fs::create_dir(&folder).expect("made");
        for block in &blocks {
            run(&worker, &tools, &folder, block);
        }
        worker.down();
    });
}

fn page(path: &str) -> String {
    fs::read_to_string(repository().join(path)).expect(path)
}

#[test]
fn the_first_function() {
    follow(&page("docs/start/first-function.md"), false);
}

#[test]
fn the_first_package() {
    follow(&page("docs/start/first-package.md"), true);
}

#[test]
fn the_first_web_app() {
    follow(&page("docs/start/first-web-app.md"), false);
}

#[test]
fn the_first_function_of_the_readme() {
    let readme = page("README.md");
    let (_, section) = readme
        .split_once("\n## Your first function\n")
        .expect("its section");
    let (section, _) = section.split_once("\n## ").expect("more follows");
    follow(section, false);
}

#[test]
fn each_first_page_is_followed() {
    let pages = ol_testkit::place::listing(&repository().join("docs/start"));
    let names: Vec<_> = pages.iter().filter_map(|path| path.file_name()).collect();
    assert_eq!(
        names,
        ["first-function.md", "first-package.md", "first-web-app.md"]
    );
}

#[test]
fn blocks_are_those_that_a_reader_types() {
    let page = "<!-- not run: it needs a disk -->\n```sh\nno\n```\n\n```text\nnothing\n```\n```sh\none\ntwo\n```\nprints\n```text\na…c\n```\n\
        <!-- fails on purpose -->\n```sh\nthree\n```\n```yaml\na: 1\n```\n```text\nnothing\n```\n";
    let expected = [("one\ntwo", false, Some("a…c")), ("three", true, None)];
    let expected = expected.map(|(script, fails, prints)| Block {
        script: script.to_owned(),
        fails,
        prints: prints.map(str::to_owned),
    });
    assert_eq!(blocks(page), expected);
    assert!(is_like("abbc", "a…c") && is_like("ac", "a…c") && is_like("a", "a"));
    assert!(!is_like("abd", "a…c") && !is_like("aa", "a") && !is_like("", "a…"));
}
