//! Checks that answers are right with many concurrent callers. A fast worker that mixes up two callers is worthless.

use std::net::SocketAddr;
use std::sync::Mutex;

use anyhow::{Result, bail};
use serde::Serialize;

use super::client::{Client, next_number};
use super::{interrupt, wire};

/// How many calls were made and how they ended.
#[derive(Serialize, Default, Debug)]
pub(super) struct Tally {
    pub(super) calls: usize,
    pub(super) right: usize,
    pub(super) wrong_or_lost: usize,
    /// The first few errors.
    pub(super) examples: Vec<String>,
}

impl Tally {
    pub(super) fn must_be_clean(&self) -> Result<()> {
        if self.right == self.calls {
            return Ok(());
        }
        bail!(
            "{} of {} answers wrong or lost: {}",
            self.wrong_or_lost,
            self.calls,
            self.examples.join("; ")
        )
    }
}

/// Makes `calls` calls with `clients` threads; every body differs, in length too.
pub(super) fn run(address: SocketAddr, clients: usize, calls: usize) -> Result<Tally> {
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for client in 0..clients {
            // The first few threads take the remainder.
            let share = calls / clients + usize::from(client < calls % clients);
            let tally = &tally;
            scope.spawn(move || one_client(address, share, tally));
        }
    });
    interrupt::check()?;
    match tally.into_inner() {
        Ok(tally) => Ok(tally),
        Err(_) => bail!("a client of the correctness run panicked"),
    }
}

fn one_client(address: SocketAddr, calls: usize, tally: &Mutex<Tally>) {
    let mut connection = None;
    for call in 0..calls {
        if interrupt::check().is_err() {
            return;
        }
        let body = wire::echo_body(next_number(), padding(call));
        let outcome = match connection
            .take()
            .map_or_else(|| Client::connect(address), Ok)
        {
            Ok(mut client) => client.echo(&body).map(|_| connection = Some(client)),
            Err(error) => Err(error),
        };
        let Ok(mut tally) = tally.lock() else { return };
        tally.calls += 1;
        match outcome {
            Ok(()) => tally.right += 1,
            Err(error) => {
                tally.wrong_or_lost += 1;
                if tally.examples.len() < 5 {
                    tally.examples.push(format!("{error:#}"));
                }
            }
        }
    }
}

/// Returns the padding's length: mostly short, sometimes a few KiB, rarely more than a socket buffer.
fn padding(call: usize) -> usize {
    match call % 50 {
        49 => 300_000 + call,
        n if n % 10 == 9 => 4_000 + call,
        _ => call % 97,
    }
}
