//! `cargo xtask test`: runs the whole suite, and then lists the tests that did *not* run.
//!
//! Exists because a test that skips itself (no root, no cgroup delegation, no network namespace) looks exactly like one that passed. There
//! are two kinds:
//!
//! * `#[ignore = "…"]`: found by asking the test binaries, which also know the reason;
//! * a test that finds while running that the host lacks something: it appends a line `NAME<TAB>REASON` to the file named by [`SKIP_LOG`],
//!   and returns.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::cargo::{cargo, workspace};

/// The variable with the file to which a test that can't run here appends `NAME<TAB>REASON`.
const SKIP_LOG: &str = "OL_SKIP_LOG";

/// Runs `cargo nextest run` with `args` and reports every skipped test. The exit code is nextest's.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    install_nextest_if_missing()?;
    let packages = package_choice(args);
    if packages.is_empty() {
        test_python_runtime()?;
    }
    let skip_log = workspace()?.target_directory.join("skipped-tests.txt");
    if let Some(folder) = skip_log.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&skip_log, "")
        .with_context(|| format!("failed to empty {}", skip_log.display()))?;

    let mut nextest = cargo();
    nextest.args(["nextest", "run"]);
    if packages.is_empty() {
        nextest.arg("--workspace");
    }
    let status = nextest
        .args(args)
        .env(SKIP_LOG, &skip_log)
        .status()
        .context("failed to start cargo nextest run")?;

    let status = if status.success() && args.is_empty() {
        test_other_starts(&skip_log)?
    } else {
        status
    };

    let mut skipped = skipped_while_running(&skip_log)?;
    match ignored(&packages) {
        Ok(ignored) => skipped.extend(ignored),
        Err(error) => eprintln!("warning: can't tell which tests are ignored: {error:#}"),
    }
    report(&skipped);
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

/// The suites whose result can depend on how a sandbox was started, because a process in the sandbox answers what they ask: what it may do,
/// what it sees, what its Python can do, which function its lines belong to, what its web app is told.
///
/// Other suites test the worker (commands, the registry, HTTP, limits of instances, packages), for which the kind of start is one line in
/// `provision.rs`, or start each kind themselves: `starts_alike`, which compares them byte for byte, `forks`, `zygotes`, `timing`. All
/// suites with all kinds are part of `make test-long`.
const OF_EVERY_START: &str = "binary(sandbox_view) + binary(system_calls) + binary(hostile) + binary(exhaustion) + binary(python) \
                              + binary(output) + binary(webapps) + binary(helpers)";

/// Runs these suites again for each way of starting that isn't the default: what a leaf may do and sees must not depend on it.
fn test_other_starts(skip_log: &Path) -> Result<ExitStatus> {
    let mut status = ExitStatus::default();
    for starts in ["fresh", "blank", "resume"] {
        eprintln!("the rights and the view of a leaf that is made {starts}:");
        status = cargo()
            .args([
                "nextest",
                "run",
                "-p",
                "ol-conformance",
                "-E",
                OF_EVERY_START,
            ])
            .env(SKIP_LOG, skip_log)
            .env("OL_TEST_STARTS", starts)
            .status()
            .context("failed to start cargo nextest run")?;
        if !status.success() {
            break;
        }
    }
    Ok(status)
}

/// Runs the tests of the program inside a Python sandbox; they play the worker's part.
fn test_python_runtime() -> Result<()> {
    let folder = workspace()?.workspace_root.join("runtime/python/tests");
    let status = Command::new("/usr/bin/python3")
        .args(["-B", "-m", "unittest", "discover", "-s"])
        .arg(&folder)
        .status()
        .context("failed to start /usr/bin/python3")?;
    ensure!(
        status.success(),
        "the tests of runtime/python failed; see above"
    );
    Ok(())
}

fn install_nextest_if_missing() -> Result<()> {
    let present = cargo()
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if present {
        return Ok(());
    }
    eprintln!(
        "cargo-nextest is missing: running `cargo install cargo-nextest --locked` (some minutes)"
    );
    let status = cargo()
        .args(["install", "cargo-nextest", "--locked"])
        .status()
        .context("failed to start cargo install")?;
    ensure!(
        status.success(),
        "failed to install cargo-nextest; see above"
    );
    Ok(())
}

/// The `-p NAME` flags among `args`. If there are any, `--workspace` must be left out, since cargo would silently prefer it.
fn package_choice(args: &[String]) -> Vec<String> {
    let mut chosen = Vec::new();
    let mut rest = args.iter().take_while(|arg| *arg != "--");
    while let Some(arg) = rest.next() {
        if arg == "-p" || arg == "--package" {
            chosen.extend([arg.clone(), rest.next().cloned().unwrap_or_default()]);
        } else if arg.starts_with("--package=") || (arg.starts_with("-p") && !arg.contains("--")) {
            chosen.push(arg.clone());
        }
    }
    chosen
}

/// Test name → reason.
type Skipped = BTreeMap<String, String>;

fn skipped_while_running(log: &Path) -> Result<Skipped> {
    let text = std::fs::read_to_string(log)
        .with_context(|| format!("failed to read {}", log.display()))?;
    Ok(text
        .lines()
        .map(|line| line.split_once('\t').unwrap_or((line, "no reason given")))
        .map(|(name, reason)| (name.to_owned(), reason.to_owned()))
        .collect())
}

#[derive(Deserialize)]
struct Listing {
    #[serde(rename = "rust-suites")]
    suites: BTreeMap<String, Suite>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Suite {
    binary_path: PathBuf,
    cwd: PathBuf,
    #[serde(default)]
    testcases: BTreeMap<String, Case>,
}

#[derive(Deserialize)]
struct Case {
    ignored: bool,
}

fn ignored(packages: &[String]) -> Result<Skipped> {
    let mut list = cargo();
    list.args(["nextest", "list", "--message-format", "json"]);
    if packages.is_empty() {
        list.arg("--workspace");
    }
    let output = list.args(packages).stderr(Stdio::null()).output()?;
    ensure!(output.status.success(), "cargo nextest list failed");
    let listing: Listing = serde_json::from_slice(&output.stdout)?;

    let mut skipped = Skipped::new();
    for (suite_name, suite) in &listing.suites {
        let names: Vec<&str> = suite
            .testcases
            .iter()
            .filter(|(_, case)| case.ignored)
            .map(|(name, _)| name.as_str())
            .collect();
        if names.is_empty() {
            continue;
        }
        // When told to run an ignored test without `--ignored`, a test binary doesn't run it and prints the reason.
        let said = Command::new(&suite.binary_path)
            .current_dir(&suite.cwd)
            .args(&names)
            .arg("--exact")
            .output()?;
        let said = String::from_utf8_lossy(&said.stdout);
        for name in names {
            let reason = ignore_reason(&said, name).unwrap_or("#[ignore] without a reason");
            skipped.insert(format!("{suite_name} {name}"), reason.to_owned());
        }
    }
    Ok(skipped)
}

/// The reason in libtest's line `test NAME ... ignored, REASON`.
fn ignore_reason<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    said.lines().find_map(|line| {
        line.strip_prefix("test ")?
            .strip_prefix(name)?
            .strip_prefix(" ... ignored, ")
    })
}

fn report(skipped: &Skipped) {
    if skipped.is_empty() {
        eprintln!("no test was skipped");
        return;
    }
    let rule = "!".repeat(72);
    eprintln!(
        "\n{rule}\n!! {} TEST(S) SKIPPED, so what they cover is NOT tested here:",
        skipped.len()
    );
    for (name, reason) in skipped {
        eprintln!("!!   {name}\n!!       why: {reason}");
    }
    eprintln!("{rule}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_choice_is_seen_in_every_spelling() {
        let choice =
            |args: &[&str]| package_choice(&args.iter().map(|a| (*a).into()).collect::<Vec<_>>());
        assert_eq!(choice(&["-p", "ol-sys", "name"]), ["-p", "ol-sys"]);
        assert_eq!(choice(&["--package=ol-sys"]), ["--package=ol-sys"]);
        assert_eq!(choice(&["-pol-sys"]), ["-pol-sys"]);
        assert_eq!(choice(&["--no-fail-fast", "--", "-p"]), [""; 0]);
        assert_eq!(choice(&["--profile", "ci"]), [""; 0]);
    }

    #[test]
    fn libtest_tells_why_it_ignored() {
        let said = "running 2 tests\ntest a::b ... ignored, needs root\ntest a ... ignored\n";
        assert_eq!(ignore_reason(said, "a::b"), Some("needs root"));
        assert_eq!(ignore_reason(said, "a"), None);
    }
}
