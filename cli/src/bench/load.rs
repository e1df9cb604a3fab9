//! The load: as many clients as there are tasks, each with its own connection and one call at a time, until the time is over.
//!
//! A success counts only if it ends within the time, as in the original worker; a failure counts whenever it ends. An error that further
//! calls can't cure stops all clients at once.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, value_parser};
use ureq::http::Method;

use super::names::{Names, Random};
use super::outcome::{Outcome, Sink};
use crate::at::At;
use crate::client::{Client, error_text};
use crate::out::{Format, Out};

/// The default duration.
const SECONDS: f64 = 60.0;

/// After this many failures without any success, the benchmark is stopped.
const HOPELESS: usize = 100;

/// The most failures that are printed one by one.
const SHOWN: usize = 5;

#[derive(Debug, Args)]
pub(super) struct Load {
    /// How long to call, after the warm-up; 0 is the default, 60
    #[arg(short, long, value_name = "SECONDS", default_value_t = SECONDS, value_parser = parse_seconds)]
    seconds: f64,
    /// How many clients call at once; 0 is the benchmark's own number
    #[arg(short, long, value_name = "NUMBER", default_value_t = 0, value_parser = value_parser!(u32).range(0..=4096))]
    tasks: u32,
    /// Write the result into this file too; `text` and `json` choose how to print instead of naming a file
    #[arg(short = 'o', long, value_name = "FILE", value_parser = Format::or_file)]
    output: Option<Format>,
    #[command(flatten)]
    at: At,
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "no number".to_owned())?;
    match seconds {
        0.0 => Ok(SECONDS),
        0.0..=1e6 => Ok(seconds),
        _ => Err("not between 0 and a million".to_owned()),
    }
}

/// A benchmark's parameters.
pub(super) struct Plan<'a> {
    pub(super) benchmark: &'static str,
    pub(super) names: Names,
    /// The number of clients, unless the command line sets one.
    pub(super) tasks: u32,
    /// How many of its functions are called once before the time begins.
    pub(super) warm: u32,
    /// With a larger share of failures, the benchmark fails.
    pub(super) most_failed_percent: usize,
    /// Returns the remedy if a failure is of a kind that further calls can't cure.
    pub(super) hopeless: &'a (dyn Fn(&Failed) -> Option<String> + Sync),
}

/// A call that failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) name: String,
    /// The worker's error code, if the worker itself sent the failure.
    pub(super) code: Option<String>,
    /// The status and one line of the text; of a traceback the last line, which names the error.
    pub(super) text: String,
}

/// Counters shared by all clients.
#[derive(Default)]
struct Tally {
    successes: AtomicUsize,
    errors: AtomicUsize,
    stop: AtomicBool,
    /// Why it was stopped early.
    why: Mutex<Option<String>>,
}

impl Load {
    pub(super) fn run(&self, plan: &Plan<'_>, out: Out) -> Result<ExitCode> {
        let tasks = if self.tasks == 0 {
            plan.tasks
        } else {
            self.tasks
        };
        // Opened before the measurement, so that a wrong path doesn't cost its result.
        let sink = match &self.output {
            Some(Format::File(path)) => Some(Sink::open(path)?),
            _ => None,
        };
        let clients = (0..tasks).map(|_| Client::public(self.at.open()?));
        let clients = clients.collect::<Result<Vec<_>>>()?;
        self.warm(plan, &clients, out)?;
        let outcome = self.call(plan, &clients, out)?;
        if let Some(sink) = sink {
            sink.write(&outcome)?;
        }
        outcome.print(out);
        Ok(ExitCode::SUCCESS)
    }

    fn warm(&self, plan: &Plan<'_>, clients: &[Client], out: Out) -> Result<()> {
        let (Names::Random { prefix, .. }, Some(client)) = (&plan.names, clients.first()) else {
            return Ok(());
        };
        if plan.warm > 0 {
            out.note(format_args!(
                "warming up: each of {} functions is called once",
                plan.warm
            ));
        }
        for number in 0..plan.warm {
            if let Err(failed) = one(client, &format!("{prefix}{number}")) {
                match (plan.hopeless)(&failed) {
                    Some(remedy) => bail!(remedy),
                    None => bail!("{} failed: {}", failed.name, failed.text),
                }
            }
        }
        Ok(())
    }

    fn call(&self, plan: &Plan<'_>, clients: &[Client], out: Out) -> Result<Outcome> {
        let tally = Tally::default();
        out.note(format_args!(
            "calling for {} seconds, {} at once",
            self.seconds,
            clients.len()
        ));
        let end = Instant::now() + Duration::from_secs_f64(self.seconds);
        let times = thread::scope(|scope| {
            // Nothing is sent on this channel: it closes when the last client ends.
            let (alive, ended) = mpsc::channel::<()>();
            let clients: Vec<_> = (0..)
                .zip(clients)
                .map(|(seed, client)| {
                    let (tally, alive) = (&tally, alive.clone());
                    scope.spawn(move || {
                        let _alive = alive;
                        tally.calls(plan, client, Random(seed), end, out)
                    })
                })
                .collect();
            drop(alive);
            watch(&tally, &ended, out);
            let joined = clients.into_iter().map(thread::ScopedJoinHandle::join);
            let times: thread::Result<Vec<_>> = joined.collect();
            times.map(|times| times.concat())
        });
        let times = times.ok().context("a client broke; run it again")?;
        tally.outcome(plan, self.seconds, times)
    }
}

/// Prints the throughput once a second.
fn watch(tally: &Tally, ended: &mpsc::Receiver<()>, out: Out) {
    let mut before = 0;
    while ended.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
        let now = tally.successes.load(Ordering::Relaxed);
        out.note(format_args!("throughput: {}/second", now - before));
        before = now;
    }
}

impl Tally {
    /// Makes one client's calls until `end`; returns how long each successful one took.
    fn calls(
        &self,
        plan: &Plan<'_>,
        client: &Client,
        mut random: Random,
        end: Instant,
        out: Out,
    ) -> Vec<Duration> {
        let mut times = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            if begun >= end {
                break;
            }
            match one(client, &plan.names.next(&mut random)) {
                Err(failed) => self.failed(plan, &failed, out),
                Ok(()) => {
                    let now = Instant::now();
                    if now < end {
                        self.successes.fetch_add(1, Ordering::Relaxed);
                        times.push(now - begun);
                    }
                }
            }
        }
        times
    }

    fn failed(&self, plan: &Plan<'_>, failed: &Failed, out: Out) {
        let errors = 1 + self.errors.fetch_add(1, Ordering::Relaxed);
        let told = format!("{} failed: {}", failed.name, failed.text);
        let why = (plan.hopeless)(failed).or_else(|| {
            let hopeless = errors >= HOPELESS && self.successes.load(Ordering::Relaxed) == 0;
            hopeless.then(|| format!("the first {errors} calls all failed; the last: {told}"))
        });
        if let Some(why) = why {
            self.stop.store(true, Ordering::Relaxed);
            *self.why.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        } else if errors <= SHOWN {
            out.note(told);
        }
    }

    fn outcome(self, plan: &Plan<'_>, seconds: f64, times: Vec<Duration>) -> Result<Outcome> {
        if let Some(why) = self
            .why
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
        {
            bail!(why);
        }
        let (successes, errors) = (self.successes.into_inner(), self.errors.into_inner());
        let (calls, most) = (successes + errors, plan.most_failed_percent);
        if errors * 100 > calls * most {
            bail!(
                "{errors} of {calls} calls failed, which is more than {most} %; see `ol logs NAME`"
            );
        }
        Ok(Outcome::new(plan.benchmark, seconds, errors, times))
    }
}

/// Calls `name` once.
fn one(client: &Client, name: &str) -> Result<(), Failed> {
    let failed = |code, text| Failed {
        name: name.to_owned(),
        code,
        text,
    };
    let headers = [("content-type", "text/json")];
    let sent = client.send(Method::POST, &format!("/run/{name}"), &headers, "null");
    let mut answer = sent.map_err(|error| failed(None, format!("{error:#}")))?;
    if answer.status() == 200 {
        // Read to its end, so that the connection can be reused.
        let read = std::io::copy(&mut answer.body_mut().as_reader(), &mut std::io::sink());
        return read
            .map(drop)
            .map_err(|error| failed(None, format!("the answer broke off: {error}")));
    }
    let code = answer.headers().get("x-ol-error");
    let code = code.and_then(|v| v.to_str().ok()).map(str::to_owned);
    let (status, text) = (answer.status(), error_text(&mut answer));
    // In a traceback the last line names the error, in a "no-packages" error the first.
    let mut lines = text.lines();
    let line = match code.as_deref() {
        Some("no-packages") => lines.next(),
        _ => lines.last(),
    };
    let line = line.unwrap_or_default().to_owned();
    Err(failed(code, format!("{status}: {line}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_what_the_original_takes() {
        assert_eq!(parse_seconds("0"), Ok(60.0));
        assert_eq!(parse_seconds("0.5"), Ok(0.5));
        for bad in ["-1", "nan", "inf", "x"] {
            assert!(parse_seconds(bad).is_err(), "{bad}");
        }
    }
}
