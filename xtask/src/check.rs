//! `cargo xtask check`: everything about the source that can be said without running it.
//!
//! Exists so that a person and CI ask the same questions in the same words. All of them are asked
//! even when one fails: a formatting slip should not hide a lint.

use anyhow::{Context as _, Result, bail};

use crate::cargo::cargo;
use crate::{deps, docs};

const CARGO_CHECKS: &[(&str, &[&str])] = &[
    ("formatting", &["fmt", "--all", "--check"]),
    (
        "lints",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
    ),
];

/// Runs every check and names those that failed.
pub(crate) fn run() -> Result<()> {
    let mut failed = Vec::new();
    for (what, args) in CARGO_CHECKS {
        println!("check: {what} (cargo {})", args.join(" "));
        let status = cargo()
            .args(*args)
            .status()
            .with_context(|| format!("failed to start cargo {}", args[0]))?;
        if !status.success() {
            failed.push(*what);
        }
    }
    println!("check: layers (cargo xtask deps)");
    if let Err(error) = deps::run() {
        eprintln!("{error:#}");
        failed.push("layers");
    }
    println!("check: documentation (cargo xtask docs)");
    if let Err(error) = docs::run() {
        eprintln!("{error:#}");
        failed.push("documentation");
    }
    if failed.is_empty() {
        println!("check: all is well");
        return Ok(());
    }
    bail!("check failed: {}", failed.join(", "))
}
