//! A function that must not notice what packages of other functions do.

use crate::index::{PackageIndex, uv};
use crate::patience::Over;
use crate::place::in_place;
use crate::worker::Worker;
use serde_json::json;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// Runs `test` on a worker with an index of its own, while a function without packages is called all the time. What is fetched is kept in
/// `kept_in` (`CARGO_TARGET_TMPDIR`).
///
/// # Panics
/// When `test` does, or a call fails.
pub fn with_victim(
    kept_in: &Path,
    options: &[&str],
    test: impl FnOnce(&Worker<'_>, &PackageIndex),
) {
    in_place(|place| {
        place.find_first(&uv(kept_in));
        let index = PackageIndex::start();
        let mirror = format!("pip_mirror={}", index.url());
        let worker = place.up(&[&[mirror.as_str()][..], options].concat());
        worker.install("victim", &[("f.py", "def f(event):\n    return event\n")]);
        let over = Over::default();
        thread::scope(|scope| {
            let until = over.when_dropped();
            let victim = scope.spawn(|| {
                let mut calls = 0;
                while !over.is() {
                    assert_eq!(worker.call("victim", &json!(calls)).ok(), json!(calls));
                    calls += 1;
                    thread::sleep(Duration::from_millis(20));
                }
                calls
            });
            test(&worker, &index);
            drop(until);
            let calls = victim.join().expect("its asserts hold");
            assert!(calls > 10, "{calls} calls prove little");
        });
        worker.down();
    });
}
