//! `ol worker up`: starts the worker, in the foreground or background, and makes its directory first if there is none.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use ol_model::{Warning, WorkerConfig};
use ol_worker::directory::{BaseChoice, Directory, DirectoryError};
use rustix::process::geteuid;

use super::{detach, init};
use crate::at::{At, facts};
use crate::out::Out;

#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    at: At,
    /// Base image for a new directory: `host`, `debian[:SUITE]`, `tar:PATH`, `dir:PATH`, `docker:IMAGE` [default: host]
    #[arg(short = 'i', long = "image", value_name = "BASE")]
    base: Option<BaseChoice>,
    /// Override settings of the configuration, as in -o limits.mem_mb=100,worker_port=0
    #[arg(short, long = "options", value_name = "KEY=VALUE,…")]
    options: Vec<String>,
    /// Serve in the background; return when the worker answers
    #[arg(short, long)]
    detach: bool,
    /// Used internally for the process in the background; standard input is where it reports that it is ready
    #[arg(long, hide = true, conflicts_with = "detach")]
    detached: bool,
}

impl Up {
    pub(crate) fn run(self, out: Out) -> Result<ExitCode> {
        let notify = if self.detached {
            Some(detach::settle()?)
        } else {
            None
        };
        if !geteuid().is_root() {
            bail!("a worker needs root to make sandboxes; run it with sudo");
        }
        let directory = self.directory(out)?;
        let (config, warnings) = directory.load(&self.options, &facts()?)?;
        self.check_base(out, &directory, &config)?;
        if self.detach {
            self.detach(out, &directory, &warnings)
        } else {
            ol_worker::up(directory, config, warnings, notify)
        }
    }

    fn directory(&self, out: Out) -> Result<Directory> {
        match Directory::open(&self.at.path) {
            Err(DirectoryError::Absent { .. }) => {}
            opened => return Ok(opened?),
        }
        // Checked first, so that a mistake in -o doesn't leave a new directory behind.
        let root = std::path::absolute(&self.at.path)?;
        let mut config = WorkerConfig::defaults(&root, &facts()?);
        for given in &self.options {
            config = config.with_overrides(given)?;
        }
        config.validate()?;
        let real = root.join("worker");
        if config.worker_dir != real {
            let given = config.worker_dir;
            return Err(DirectoryError::Elsewhere { given, real }.into());
        }
        init::on_the_way(out, &self.at.path, self.base.as_ref())
    }

    /// Checks that there is a base image, and notes if -i has no effect, because it is only for new directories.
    fn check_base(&self, out: Out, directory: &Directory, config: &WorkerConfig) -> Result<()> {
        let found = directory.base(config)?;
        if let Some(asked) = self.base.as_ref().filter(|asked| !asked.is(&found.source)) {
            out.note(format_args!(
                "note: {root} keeps its base image {}; to replace it, run `ol worker init -b -i {asked} -p {root}`",
                found.source,
                root = directory.root().display()
            ));
        }
        Ok(())
    }

    fn detach(&self, out: Out, directory: &Directory, warnings: &[Warning]) -> Result<ExitCode> {
        // The worker process checks this again, which is decisive; it is also checked here, in order to report it in one sentence without a
        // log.
        if directory.locked()? {
            return Err(directory.held().into());
        }
        for warning in warnings {
            out.note(format_args!("warning: {warning}"));
        }
        detach::start(out, directory, &self.options)
    }
}
