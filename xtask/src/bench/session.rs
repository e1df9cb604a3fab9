//! The common begin and end of every benchmark: arguments, the binary, the log, the report.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::summary::Report;
use super::worker::{self, Directory};
use super::{child, interrupt};
use crate::cargo::workspace;

/// A memory pool for all sandboxes of a benchmark at their reserved sizes: none may be evicted while it is measured. It is more than most
/// machines have, which is fine here, because a sandbox uses a fraction of what it reserves.
const ROOMY: &str = "mem_pool_mb=80000";

#[derive(clap::Args)]
pub(crate) struct Common {
    /// How often everything is measured, the worker and the floor by turns
    #[arg(long, default_value_t = 5)]
    pub(super) rounds: usize,
    /// Use this binary instead of building `ol`
    #[arg(long, value_name = "PATH")]
    ol: Option<PathBuf>,
    /// Override a key of the worker's configuration
    #[arg(short, long = "option", value_name = "KEY=VALUE")]
    options: Vec<String>,
}

/// One run of one benchmark.
pub(super) struct Session<'a> {
    name: &'static str,
    common: &'a Common,
    target: PathBuf,
    built: Option<PathBuf>,
    /// The file for the servers' output.
    pub(super) log: PathBuf,
    pub(super) report: Report,
}

impl<'a> Session<'a> {
    /// Call it from the main thread, before any server is started.
    pub(super) fn begin(name: &'static str, common: &'a Common) -> Result<Self> {
        ensure!(common.rounds > 0, "--rounds must be above zero");
        child::adopt_orphans()?;
        interrupt::watch()?;
        let target = workspace()?.target_directory;
        std::fs::create_dir_all(target.join("bench"))?;
        let log = target.join("bench").join(format!("{name}.log"));
        std::fs::write(&log, "")?;
        Ok(Self {
            name,
            common,
            target,
            built: None,
            log,
            report: Report::new(name),
        })
    }

    /// The folder of the results and of other files of benchmarks.
    pub(super) fn results(&self) -> PathBuf {
        self.target.join("bench")
    }

    /// An initialised worker directory; `label` tells several directories apart. The user's own options come last.
    pub(super) fn directory(&mut self, label: &str, options: &[&str]) -> Result<Directory> {
        let ol = self.binary()?;
        self.directory_of(&ol, label, options)
    }

    /// The `ol` that is measured: the one given with `--ol`, or one built now.
    pub(super) fn binary(&mut self) -> Result<PathBuf> {
        Ok(match (&self.common.ol, &self.built) {
            (Some(ol), _) => std::path::absolute(ol)?,
            (None, Some(ol)) => ol.clone(),
            (None, None) => self.built.insert(worker::build(&self.target)?).clone(),
        })
    }

    fn directory_of(&self, ol: &Path, label: &str, options: &[&str]) -> Result<Directory> {
        let ours = options.iter().map(|option| (*option).to_owned());
        let options: Vec<String> = ours.chain(self.common.options.iter().cloned()).collect();
        Directory::init(ol.to_owned(), label, &options, &self.log)
    }

    /// Like [`Self::directory`], with room for as many sandboxes as a benchmark starts.
    pub(super) fn roomy(&mut self, label: &str, options: &[&str]) -> Result<Directory> {
        let ol = self.binary()?;
        self.roomy_of(&ol, label, options)
    }

    /// Like [`Self::roomy`], for another build of the worker.
    pub(super) fn roomy_of(&self, ol: &Path, label: &str, options: &[&str]) -> Result<Directory> {
        self.directory_of(ol, label, &[&[ROOMY], options].concat())
    }

    /// Adds a sentence under the table.
    pub(super) fn note(&mut self, sentence: impl Into<String>) {
        self.report.notes.push(sentence.into());
    }

    /// Prints the table and writes `target/bench/NAME.json`.
    pub(super) fn end(self) -> Result<()> {
        self.report.print();
        let file = format!("{}.json", self.name);
        self.report.write(&self.results().join(file))
    }
}

/// Prints on standard error what is being done.
pub(super) fn progress(what: &str) {
    eprintln!("bench: {what}");
}
