//! Kills a process that installs and removes at random moments; all packages that are there then are complete.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use super::{child_of, entries, install, pin, tar, told_to_be_the_child};
use crate::store::{Store, StoreLimits};

const FILES: usize = 20;

const TEST: &str = "store::tests::killed::killed_at_any_moment_packages_are_whole";

/// Installs and removes for ever, and reports each finished round.
fn child(folder: &Path) -> ! {
    let store = Store::open(folder, StoreLimits::default()).expect("opened");
    let names: Vec<_> = (0..FILES).map(|n| format!("d{}/f{n}", n % 3)).collect();
    for number in (0..3_u32).cycle() {
        let contents = number.to_string().repeat(500);
        let files = names
            .iter()
            .map(|name| (name.as_str(), 0o644, contents.as_bytes()));
        let files: Vec<_> = files.collect();
        drop(install(&store, &pin(&format!("p==1.{number}")), &tar(&files)).expect("stored"));
        store
            .remove(&pin(&format!("p==1.{}", (number + 1) % 3)))
            .expect("removed");
        writeln!(io::stdout(), "step").expect("the parent listens");
    }
    unreachable!("it cycles")
}

#[test]
fn killed_at_any_moment_packages_are_whole() {
    if let Some(folder) = told_to_be_the_child() {
        child(&folder);
    }
    let folder = tempfile::tempdir().expect("a temporary directory");
    let random = RandomState::new();
    let mut seen_unfinished = false;
    for round in 0..60_u64 {
        let mut child = child_of(TEST, &[], folder.path());
        let mut child = child.stdout(Stdio::piped()).spawn().expect("started");
        let steps = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut steps = steps
            .map(|line| line.expect("a line"))
            .filter(|line| line.ends_with("step"));
        steps.next().expect("the child works");
        // Not a wait for something: the kill should come at a random moment.
        std::thread::sleep(Duration::from_micros(random.hash_one(round) % 20_000));
        child.kill().expect("killed");
        child.wait().expect("reaped");

        let mut visible = 0;
        for entry in entries(folder.path()) {
            if entry.starts_with('.') {
                seen_unfinished = true;
                continue;
            }
            visible += 1;
            let number = entry.strip_prefix("p==1.").expect("one of the child's");
            for n in 0..FILES {
                let path = folder
                    .path()
                    .join(&entry)
                    .join(format!("files/d{}/f{n}", n % 3));
                let contents = fs::read_to_string(path).expect("a whole package");
                assert_eq!(contents, number.repeat(500));
            }
        }
        assert!(visible >= 1, "one is there at any moment");
        let store = Store::open(folder.path(), StoreLimits::default()).expect("opened");
        assert_eq!(store.list().expect("listed").len(), visible);
        assert_eq!(entries(folder.path()).len(), visible, "the rest is swept");
    }
    assert!(seen_unfinished, "no kill came in the middle of anything");
}
