//! `cargo xtask test-v2`: the conformance tests on a host that has only cgroup v2.
//!
//! Exists because the worker treats cgroup v1 and v2 differently, and a container or a CI runner has only one of them. The binaries are
//! built here and run in the virtual machine of [`crate::vm`], one test at a time, because it is slow. Running no test at all is an error:
//! a filter that matches nothing would look like a suite that passed.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde::Deserialize;

use crate::cargo::{self, cargo};
use crate::supervise;
use crate::vm::{self, Job, MachineOptions, quoted};

/// The package whose tests are run.
const PACKAGE: &str = "ol-conformance";

/// Where tests put their files; in the machine this is memory.
const TEST_DIR: &str = "/tmp";

/// The file in which tests record that the machine lacks something; see [`crate::test`].
const SKIP_LOG: &str = "/tmp/skipped-tests.txt";

/// Run the conformance tests in the cgroup v2 machine
#[derive(Debug, Args)]
pub(crate) struct TestV2Args {
    #[command(flatten)]
    machine: MachineOptions,
    /// Run the tests whose names contain one of these
    #[arg(value_name = "FILTER", default_values_t = [String::from("slice"), String::from("a_blank"), String::from("a_zygote"), String::from("alike_on_the_host")])]
    filters: Vec<String>,
}

/// Builds, then tests. The exit code is 0, or that of the last test binary which failed.
pub(crate) fn run(args: &TestV2Args) -> Result<ExitCode> {
    let deadline = args.machine.deadline();
    let workspace = cargo::workspace()?;
    let ol = build(&["build", "-p", "ol", "--bin", "ol"], deadline)?;
    let ol = ol.first().context("cargo built no `ol`")?;
    let suites = build(&["test", "-p", PACKAGE, "--no-run"], deadline)?;

    let mut script = "code=0\n".to_owned();
    let mut listed = 0;
    for suite in &suites {
        let tests = count(suite, &args.filters, deadline)?;
        if tests > 0 {
            listed += tests;
            script.push_str(&suite_line(suite, &args.filters));
        }
    }
    ensure!(
        listed > 0,
        "no test of {PACKAGE} has {} in its name",
        args.filters.join(" or ")
    );
    eprintln!("xtask: running {listed} test(s) in the cgroup v2 machine");
    script.push_str(
        "if [ -s \"$OL_SKIP_LOG\" ]; then echo 'SKIPPED, so NOT tested:'; cat \"$OL_SKIP_LOG\"; fi\nexit $code\n",
    );

    let job = Job {
        command: vec!["sh".into(), "-c".into(), script.into()],
        dir: workspace.workspace_root.clone(),
        env: vec![
            ("OL_BIN".into(), ol.executable.clone().into()),
            ("OL_TEST_DIR".into(), TEST_DIR.into()),
            // The machine interprets its instructions, hence deadlines are made longer.
            ("OL_TEST_SLOW".into(), "1".into()),
            ("OL_SKIP_LOG".into(), SKIP_LOG.into()),
        ],
    };
    let outcome = vm::run(&workspace, &args.machine, &job, deadline)?;
    if outcome.code == 0 && passed(&outcome.output) == 0 {
        bail!("{listed} test(s) match, but none was run and passed");
    }
    Ok(ExitCode::from(outcome.code))
}

/// An executable that cargo has built.
struct Built {
    executable: PathBuf,
    /// Where cargo would run it.
    dir: PathBuf,
}

/// The parts of a message of cargo that are needed here; messages of other kinds lack these fields.
#[derive(Deserialize)]
struct Message {
    reason: String,
    executable: Option<PathBuf>,
    manifest_path: Option<PathBuf>,
}

/// Makes cargo build something, and returns the executables.
fn build(args: &[&str], deadline: Instant) -> Result<Vec<Built>> {
    let mut cargo = cargo();
    cargo
        .args(args)
        .arg("--message-format=json-render-diagnostics");
    built(&supervise::output(&cargo, deadline)?)
}

fn built(messages: &str) -> Result<Vec<Built>> {
    let mut all = Vec::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Message =
            serde_json::from_str(line).context("failed to read what cargo says")?;
        if message.reason != "compiler-artifact" {
            continue;
        }
        if let (Some(executable), Some(manifest)) = (message.executable, message.manifest_path) {
            let dir = manifest.parent().unwrap_or(Path::new("/")).to_owned();
            all.push(Built { executable, dir });
        }
    }
    Ok(all)
}

/// How many tests of a suite match the filters. Listing them doesn't need the machine, thus happens here.
fn count(suite: &Built, filters: &[String], deadline: Instant) -> Result<usize> {
    let mut list = Command::new(&suite.executable);
    list.args(["--list", "--format", "terse"])
        .args(filters)
        .current_dir(&suite.dir);
    let listing = supervise::output(&list, deadline)?;
    Ok(listing
        .lines()
        .filter(|line| line.ends_with(": test"))
        .count())
}

/// The line of the shell script that runs a suite.
fn suite_line(suite: &Built, filters: &[String]) -> String {
    let filters: Vec<String> = filters.iter().map(|filter| quoted(filter)).collect();
    format!(
        "cd {} && {} --test-threads=1 {} || code=$?\n",
        quoted(&suite.dir.to_string_lossy()),
        quoted(&suite.executable.to_string_lossy()),
        filters.join(" ")
    )
}

/// The sum over libtest's lines `test result: ok. 3 passed; …`.
fn passed(output: &[u8]) -> usize {
    let output = String::from_utf8_lossy(output);
    let results = output
        .lines()
        .filter_map(|line| line.strip_prefix("test result: "));
    results
        .filter_map(|result| {
            result
                .split(['.', ';'])
                .nth(1)?
                .trim()
                .strip_suffix(" passed")?
                .parse::<usize>()
                .ok()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_tests_are_counted_over_all_suites() {
        let output = b"test result: ok. 3 passed; 0 failed; 1 ignored\nx\ntest result: FAILED. 1 passed; 2 failed\n";
        assert_eq!(passed(output), 4);
        assert_eq!(passed(b"running 0 tests"), 0);
    }

    #[test]
    fn only_what_can_be_run_counts_as_built() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","manifest_path":"/w/a/Cargo.toml","executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/w/b/Cargo.toml","executable":"/t/b-1"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let all = built(messages).expect("cargo's messages");
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].executable, Path::new("/t/b-1"));
        assert_eq!(all[0].dir, Path::new("/w/b"));
    }

    #[test]
    fn a_suite_is_run_where_cargo_would() {
        let suite = Built {
            executable: "/t/it's".into(),
            dir: "/w/b".into(),
        };
        assert_eq!(
            suite_line(&suite, &["slice".into()]),
            "cd '/w/b' && '/t/it'\\''s' --test-threads=1 'slice' || code=$?\n"
        );
    }
}
