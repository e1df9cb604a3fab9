//! `ol completions SHELL`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::out::Out;

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell to complete in
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, out: Out) -> Result<ExitCode> {
        // Into a buffer first, because the generator panics when its writer fails.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::Cli::command(), "ol", &mut script);
        out.bytes(&script);
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_shell_learns_every_subcommand() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut crate::Cli::command(), "ol", &mut script);
            let script = String::from_utf8(script).expect("text");
            for word in ["force-cleanup", "install", "invocation", "completions"] {
                assert!(script.contains(word), "{shell} lacks {word}");
            }
        }
    }
}
