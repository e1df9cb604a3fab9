//! Reports a test that can't run here; where nothing may be skipped, that is a failure.

use std::fs::File;
use std::io::Write as _;

/// Whether this process can make sandboxes. If not, the calling test is recorded as skipped.
///
/// # Panics
/// When the variable `CI` is set: there, nothing may be skipped.
pub fn root_or_skip() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    skip("needs root to make sandboxes; run the tests with sudo");
    false
}

/// Records that the calling test doesn't run here, and why.
///
/// # Panics
/// When the variable `CI` is set.
pub(crate) fn skip(reason: &str) {
    let name = test_name();
    let rule = "!".repeat(72);
    let text =
        format!("\n{rule}\n!! SKIPPED, so NOT tested: {name}\n!!       why: {reason}\n{rule}\n");
    // Not `eprintln!`, whose output the test harness would capture.
    let _ = std::io::stderr().write_all(text.as_bytes());
    if let Some(path) = std::env::var_os("OL_SKIP_LOG") {
        let log = File::options().append(true).create(true).open(path);
        let written = log.and_then(|mut log| writeln!(log, "{name}\t{reason}"));
        assert!(written.is_ok(), "the skip can't be recorded: {written:?}");
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "{name} is skipped under CI: it {reason}"
    );
}

/// The name of the calling test. The harness names a test's thread after it, unless it runs only one at a time.
fn test_name() -> String {
    let thread = std::thread::current()
        .name()
        .filter(|name| *name != "main")
        .map(str::to_owned);
    std::env::var("NEXTEST_TEST_NAME")
        .ok()
        .or(thread)
        .unwrap_or_else(|| {
            let program = std::env::args().next().unwrap_or_default();
            format!("a test of {program}")
        })
}
