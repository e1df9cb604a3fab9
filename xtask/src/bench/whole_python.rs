//! Starts a whole Python that imports something and ends, as one would without a worker (target 5).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::client::micros;
use super::floor_http::PYTHON;
use super::session::progress;
use super::summary::quantile;

/// How many Pythons a round starts.
const STARTS: usize = 3;

fn pandas(results: &Path) -> PathBuf {
    results.join("pandas")
}

/// Installs pandas where [`whole_start`] finds it, unless it is already there.
pub(super) fn install_pandas(results: &Path) -> Result<()> {
    let place = pandas(results);
    if place.exists() {
        return Ok(());
    }
    progress("installing pandas");
    let status = Command::new(PYTHON)
        .args(["-m", "pip", "install", "--quiet", "--target"])
        .arg(&place)
        .arg("pandas")
        .status()
        .context("failed to start pip")?;
    if !status.success() {
        // A partial installation would count as complete next time.
        let _ = std::fs::remove_dir_all(&place);
        bail!("pip couldn't install pandas");
    }
    Ok(())
}

/// The median time of a whole Python that runs `statement` and ends; `None` if the statement fails.
pub(super) fn whole_start(statement: &str, results: &Path) -> Result<Option<f64>> {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let began = Instant::now();
        let status = Command::new(PYTHON)
            .args(["-c", statement])
            .env("PYTHONPATH", pandas(results))
            .stderr(Stdio::null())
            .status()
            .with_context(|| format!("failed to start {PYTHON}"))?;
        if !status.success() {
            return Ok(None);
        }
        times.push(micros(began.elapsed()));
    }
    Ok(Some(quantile(&times, 500)))
}
