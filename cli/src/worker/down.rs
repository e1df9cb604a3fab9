//! `ol worker down`: asks the worker to stop and waits until all of its processes have ended.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use ol_worker::directory::Directory;
use serde_json::json;

use crate::at::{At, facts};
use crate::out::Out;
use crate::process;

#[derive(Debug, Args)]
pub(crate) struct Down {
    #[command(flatten)]
    at: At,
}

impl Down {
    pub(crate) fn run(self, out: Out) -> Result<ExitCode> {
        let directory = self.at.open()?;
        let root = directory.root().display();
        match process::stop(&directory, drain(&directory)?)? {
            Some(pid) => {
                let value = json!({"stopped": true, "pid": pid.as_raw_pid()});
                out.result(
                    &value,
                    format_args!("stopped the worker in {root} (pid {pid})"),
                );
                Ok(ExitCode::SUCCESS)
            }
            None => bail!("no worker runs in {root}; start one with `ol worker up -d -p {root}`"),
        }
    }
}

/// How long the directory's worker may drain. If the configuration was broken since the worker started, a default is used: the worker must
/// still be stoppable.
pub(super) fn drain(directory: &Directory) -> Result<Duration> {
    const DEFAULT: Duration = Duration::from_secs(30);
    let loaded = directory.load(&[], &facts()?);
    Ok(loaded.map_or(DEFAULT, |(config, _)| config.drain()))
}
