//! Many functions that hold memory, called once each, with and without zygotes: part of `bench cold`.
//!
//! There is no target, but no answer may be wrong or missing, and the rate is printed.

use anyhow::{Context as _, Result};

use super::fleet::{self, Function, Work};
use super::session::{Session, progress};
use super::summary::Goal;
use super::timing::Ways;

/// How many functions.
const COUNT: usize = 200;
/// Values of `features.import_cache`.
const CACHES: [&str; 2] = ["", "tree"];

/// Measures with each value, and adds a row for it.
pub(super) fn run(session: &mut Session<'_>, rounds: usize) -> Result<()> {
    let clients = std::thread::available_parallelism()?.get();
    let functions = Function::several("holder", COUNT, Work::Allocate);
    let mut rates = [Vec::new(), Vec::new()];
    let mut ways = [Ways::default(), Ways::default()];
    let directories = [
        session.roomy("-none", &["features.import_cache="])?,
        session.roomy("-tree", &["features.import_cache=tree"])?,
    ];
    for round in 0..rounds {
        progress(&format!(
            "{COUNT} functions of 10 MB, round {} of {rounds}",
            round + 1
        ));
        for which in [round % 2, (round + 1) % 2] {
            let server = directories[which].up()?;
            if round == 0 {
                fleet::upload(&server, &functions)?;
            }
            let calls = fleet::call_each(&server, &functions, clients)
                .with_context(|| format!("features.import_cache=\"{}\"", CACHES[which]))?;
            rates[which].push(calls.rate());
            ways[which].merge(calls.ways);
            directories[which].down(server)?;
        }
    }
    for which in 0..2 {
        let cache = CACHES[which];
        let what = format!("{COUNT} functions of 10 MB once each, import_cache \"{cache}\"");
        session
            .report
            .row(4, what, "calls/s", &rates[which], &[], Goal::Informs);
        session.note(format!(
            "{} calls with import_cache \"{cache}\": every answer right; {}",
            COUNT * rounds,
            ways[which].text()
        ));
    }
    Ok(())
}
