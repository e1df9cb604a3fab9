//! `ol bench play`: a trace, which is a file with the name of a function on each line. The functions are called in that order, starting
//! over at the end, until the time is over.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicUsize;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::load::{Load, Plan};
use super::names::Names;
use crate::invoke::parse_target;
use crate::out::Out;

#[derive(Debug, Args)]
pub(crate) struct Play {
    /// A text file with one function on each line; a path and a query may follow its name
    #[arg(short = 'f', long, value_name = "FILE")]
    trace: PathBuf,
    #[command(flatten)]
    load: Load,
}

impl Play {
    pub(crate) fn run(self, out: Out) -> Result<ExitCode> {
        let path = self.trace.display();
        let text = fs::read_to_string(&self.trace)
            .with_context(|| format!("failed to read {path}; check its name"))?;
        let names = names(&text).with_context(|| format!("{path} is no trace"))?;
        let plan = Plan {
            benchmark: "play",
            names: Names::InTurn(names, AtomicUsize::new(0)),
            tasks: 1,
            warm: 0,
            most_failed_percent: 5,
            hopeless: &|_| None,
        };
        self.load.run(&plan, out)
    }
}

/// The functions in a trace, which must contain at least one.
fn names(text: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (line, name) in (1..).zip(text.lines().map(str::trim)) {
        if !name.is_empty() {
            names.push(parse_target(name).with_context(|| format!("line {line}"))?);
        }
    }
    if names.is_empty() {
        bail!("it names no function; write one on each line");
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn a_trace_is_a_name_on_each_line() {
        let good = names("a\n\n b?x=1\r\na").expect("a trace");
        assert_eq!(good, ["a", "b?x=1", "a"]);
        names("\n \n").expect_err("nothing to call");
        let bad = names("a\n../b\n").expect_err("no name");
        assert!(bad.to_string().contains("line 2"), "{bad:#}");
    }
}
