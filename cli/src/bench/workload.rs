//! The benchmarks by name: how many functions of which kind are called, by how many clients. Each call chooses one at random.
//!
//! Names, numbers and flags are those of the original worker.

use std::process::ExitCode;

use anyhow::Result;
use clap::builder::BoolishValueParser;
use clap::{ArgAction, ArgMatches, Args, FromArgMatches, Subcommand};

use super::load::{Failed, Load, Plan};
use super::names::Names;
use crate::out::Out;

/// What the functions do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WorkloadKind {
    /// Nothing.
    Python,
    /// A little with pandas.
    Pandas,
}

impl WorkloadKind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Python => "bench-py-",
            Self::Pandas => "bench-pd-",
        }
    }

    /// The name of the function with this number.
    pub(super) fn function(self, number: u32) -> String {
        format!("{}{number}", self.prefix())
    }
}

/// The most functions that any benchmark calls.
pub(super) const MOST_FUNCTIONS: u32 = 64 << 10;

/// A benchmark.
#[derive(Debug, Clone, Copy)]
struct Workload {
    name: &'static str,
    kind: WorkloadKind,
    functions: u32,
    tasks: u32,
}

const fn workload(name: &'static str, kind: WorkloadKind, functions: u32, tasks: u32) -> Workload {
    Workload {
        name,
        kind,
        functions,
        tasks,
    }
}

const ALL: [Workload; 12] = [
    workload("py64-seq", WorkloadKind::Python, 64, 1),
    workload("py64-par", WorkloadKind::Python, 64, 32),
    workload("py1k-seq", WorkloadKind::Python, 1 << 10, 1),
    workload("py1k-par", WorkloadKind::Python, 1 << 10, 32),
    workload("py64k-seq", WorkloadKind::Python, MOST_FUNCTIONS, 1),
    workload("py64k-par", WorkloadKind::Python, MOST_FUNCTIONS, 32),
    workload("pd64-seq", WorkloadKind::Pandas, 64, 1),
    workload("pd64-par", WorkloadKind::Pandas, 64, 32),
    workload("pd1k-seq", WorkloadKind::Pandas, 1 << 10, 1),
    workload("pd1k-par", WorkloadKind::Pandas, 1 << 10, 32),
    workload("pd64k-seq", WorkloadKind::Pandas, MOST_FUNCTIONS, 1),
    workload("pd64k-par", WorkloadKind::Pandas, MOST_FUNCTIONS, 32),
];

impl Workload {
    fn about(&self) -> String {
        let kind = match self.kind {
            WorkloadKind::Python => "functions that do nothing",
            WorkloadKind::Pandas => "functions that correlate columns with pandas",
        };
        let clients = match self.tasks {
            1 => "one call after the other".to_owned(),
            tasks => format!("by {tasks} clients"),
        };
        format!("Call {} {kind} at random, {clients}", self.functions)
    }

    fn command(&self) -> clap::Command {
        Flags::augment_args(clap::Command::new(self.name).about(self.about()))
    }

    /// The remedy if a failure is of a kind that further calls can't cure.
    fn hopeless(&self, failed: &Failed) -> Option<String> {
        if failed.code.as_deref() == Some("unknown-function") {
            let functions = self.functions;
            return Some(format!(
                "{} isn't installed; run `ol bench init --functions {functions}` first",
                failed.name
            ));
        }
        let missing = failed.code.as_deref() == Some("no-packages");
        (missing && self.kind == WorkloadKind::Pandas).then(|| {
            format!(
                "functions of this worker can't have numpy and pandas; see to its package index (docs/howto/private-index.md), or measure \
                 with {}: {}",
                self.name.replacen("pd", "py", 1),
                failed.text
            )
        })
    }
}

#[derive(Debug, Args)]
struct Flags {
    /// Call each function once before the time begins
    #[arg(short, long, value_name = "BOOL", action = ArgAction::Set, default_value = "true",
        num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = BoolishValueParser::new())]
    warmup: bool,
    #[command(flatten)]
    load: Load,
}

/// One benchmark and its flags. Implements clap's traits by hand, because a derived enum would repeat the table.
#[derive(Debug)]
pub(crate) struct Command {
    workload: Workload,
    flags: Flags,
}

impl Command {
    pub(crate) fn run(self, out: Out) -> Result<ExitCode> {
        let Workload {
            name,
            kind,
            functions,
            tasks,
        } = self.workload;
        let plan = Plan {
            benchmark: name,
            names: Names::Random {
                prefix: kind.prefix(),
                functions,
            },
            tasks,
            warm: if self.flags.warmup { functions } else { 0 },
            most_failed_percent: 1,
            hopeless: &|failed| self.workload.hopeless(failed),
        };
        self.flags.load.run(&plan, out)
    }
}

impl Subcommand for Command {
    fn augment_subcommands(command: clap::Command) -> clap::Command {
        command.subcommands(ALL.iter().map(Workload::command))
    }

    fn augment_subcommands_for_update(command: clap::Command) -> clap::Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        ALL.iter().any(|workload| workload.name == name)
    }
}

impl FromArgMatches for Command {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let chosen = matches.subcommand().and_then(|(name, matches)| {
            let workload = ALL.iter().find(|workload| workload.name == name)?;
            Some((*workload, matches))
        });
        let (workload, matches) =
            chosen.ok_or_else(|| clap::Error::new(clap::error::ErrorKind::MissingSubcommand))?;
        let flags = Flags::from_arg_matches(matches)?;
        Ok(Self { workload, flags })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_do() {
        for Workload {
            name,
            kind,
            functions,
            tasks,
        } in ALL
        {
            let amount = match functions {
                64 => "64".to_owned(),
                more => format!("{}k", more / 1024),
            };
            let (kind, mode) = (
                &kind.prefix()["bench-".len()..][..2],
                if tasks == 1 { "seq" } else { "par" },
            );
            assert_eq!(name, format!("{kind}{amount}-{mode}"));
        }
    }

    #[test]
    fn what_is_missing_is_told_with_its_remedy() {
        let failed = |code: Option<&str>, text: &str| Failed {
            name: "bench-pd-3".to_owned(),
            code: code.map(str::to_owned),
            text: text.to_owned(),
        };
        let [python, .., pandas] = ALL;
        let unknown = failed(Some("unknown-function"), "");
        let remedy = python.hopeless(&unknown).expect("one");
        assert!(remedy.contains("ol bench init --functions 64"), "{remedy}");
        let module = failed(Some("no-packages"), "500: no wheel of numpy");
        assert_eq!(python.hopeless(&module), None);
        let remedy = pandas.hopeless(&module).expect("one");
        assert!(remedy.contains("no wheel of numpy"), "{remedy}");
        assert!(remedy.contains("py64k-par"), "{remedy}");
        assert_eq!(pandas.hopeless(&failed(Some("died"), "")), None);
    }
}
