//! Checks a worker directory: its configuration, its base image, and whether a worker could start.

use std::net::TcpListener;

use ol_model::WorkerConfig;
use ol_warden::rootfs::Base;
use ol_worker::directory::{BaseInUse, Directory, DirectoryError};

use super::Finding;
use crate::at::{At, facts};

/// Examines the directory, if there is one; also returns the base image that its sandboxes would have.
pub(super) fn look(at: &At) -> (BaseInUse, Vec<Finding>) {
    let host = || BaseInUse {
        base: Base::Host,
        source: "host".to_owned(),
    };
    let directory = match at.open() {
        Ok(directory) => directory,
        Err(error) => return (host(), vec![unopened(&error)]),
    };
    let loaded = facts().and_then(|facts| Ok(directory.load(&[], &facts)?));
    let (config, warnings) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            let finding = Finding::missing("configuration", format!("{error:#}"), "");
            return (host(), vec![finding]);
        }
    };
    let mut findings = vec![Finding::ok(
        "configuration",
        directory.config().display().to_string(),
    )];
    findings.extend(
        warnings
            .iter()
            .map(|warning| Finding::optional("configuration", warning.to_string(), "")),
    );
    let base = directory.base(&config).unwrap_or_else(|error| {
        findings.push(Finding::missing("base image", error.to_string(), ""));
        host()
    });
    findings.push(worker(&directory, &config));
    (base, findings)
}

fn unopened(error: &anyhow::Error) -> Finding {
    match error.downcast_ref() {
        Some(DirectoryError::Absent { path }) => Finding::optional(
            "directory",
            format!("none at {} yet", path.display()),
            "`ol worker init` makes one",
        ),
        _ => Finding::missing("directory", format!("{error:#}"), ""),
    }
}

/// Whether the worker runs, or its address is free.
fn worker(directory: &Directory, config: &WorkerConfig) -> Finding {
    match directory.locked() {
        Ok(true) => return Finding::ok("worker", "running"),
        Ok(false) => {}
        Err(error) => return Finding::optional("worker", error.to_string(), "run with sudo"),
    }
    let address = format!("{}:{}", config.worker_url, config.port());
    match TcpListener::bind((config.worker_url.as_str(), config.port())) {
        Ok(_) => Finding::ok("worker", format!("not running; {address} is free")),
        Err(error) => Finding::missing(
            "worker",
            format!("not running, and {address} can't be had ({error})"),
            "choose another with worker_url and worker_port in config.json; worker_port \"0\" picks a free one",
        ),
    }
}
