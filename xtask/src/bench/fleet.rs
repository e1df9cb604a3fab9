//! Many functions, each with a name that appears in its answers: a cold start needs a function that wasn't called before.
//!
//! Every answer contains its function's name and its call's number, so that an answer of another function or call is noticed.

use std::io::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use super::child::Server;
use super::client::{Client, micros};
use super::interrupt;
use super::timing::Ways;

/// What a function does before it answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Work {
    Nothing,
    /// Sleeps for a second.
    Sleep,
    /// Keeps 10 MB, every page of it written.
    Allocate,
}

/// A function, uploaded or not.
#[derive(Clone, Debug)]
pub(super) struct Function {
    pub(super) name: String,
    work: Work,
    /// Its `ol.yaml`, empty for none.
    settings: &'static str,
}

impl Function {
    pub(super) fn new(name: impl Into<String>, work: Work) -> Self {
        Self {
            name: name.into(),
            work,
            settings: "",
        }
    }

    /// The same function with an `ol.yaml`.
    pub(super) fn with(self, settings: &'static str) -> Self {
        Self { settings, ..self }
    }

    /// `count` functions `PREFIX-0`, `PREFIX-1`, …
    pub(super) fn several(prefix: &str, count: usize, work: Work) -> Vec<Self> {
        (0..count)
            .map(|index| Self::new(format!("{prefix}-{index}"), work))
            .collect()
    }

    pub(super) fn path(&self) -> String {
        format!("/run/{}", self.name)
    }

    /// The event that it is called with.
    pub(super) fn event(number: u64) -> Vec<u8> {
        format!("{{\"call\": {number}}}").into_bytes()
    }

    /// The answer that it must give.
    pub(super) fn answer(&self, number: u64) -> Vec<u8> {
        format!("{{\"call\": {number}, \"name\": \"{}\"}}", self.name).into_bytes()
    }

    /// Its `f.py`.
    pub(super) fn source(&self) -> String {
        let (before, inside) = match self.work {
            Work::Nothing => ("", ""),
            Work::Sleep => ("import time\n", "    time.sleep(1)\n"),
            Work::Allocate => ("HELD = []\n", "    HELD.append(b\"x\" * 10_000_000)\n"),
        };
        let name = &self.name;
        format!(
            "{before}NAME = \"{name}\"\n\n\ndef f(event):\n{inside}    event[\"name\"] = NAME\n    return event\n"
        )
    }
}

/// Uploads each of `functions`.
pub(super) fn upload(server: &Server, functions: &[Function]) -> Result<()> {
    let mut client = Client::connect(server.address())?;
    for function in functions {
        interrupt::check()?;
        let source = function.source();
        let mut files = vec![("f.py", &*source)];
        if !function.settings.is_empty() {
            files.push(("ol.yaml", function.settings));
        }
        install(&mut client, &function.name, &files)?;
    }
    Ok(())
}

/// Uploads `files` as the function `name`.
pub(super) fn install(client: &mut Client, name: &str, files: &[(&str, &str)]) -> Result<()> {
    // Without a trial, which would already start the function; but its first call is to be measured.
    let path = format!("/registry/{name}?force=1");
    let reply = client.call("POST", &path, &bundle(files)?)?;
    ensure!(
        (200..300).contains(&reply.status),
        "the upload of {name} was answered {}: {}",
        reply.status,
        String::from_utf8_lossy(&reply.body)
    );
    Ok(())
}

/// The bytes of `NAME.tar.gz`.
fn bundle(files: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content.as_bytes())?;
    }
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&archive.into_inner()?)?;
    Ok(packed.finish()?)
}

/// The results of a number of calls.
#[derive(Default)]
pub(super) struct Calls {
    /// The microseconds of each call.
    pub(super) times: Vec<f64>,
    pub(super) ways: Ways,
    /// From the first request to the last answer.
    pub(super) seconds: f64,
}

impl Calls {
    /// Calls per second.
    pub(super) fn rate(&self) -> f64 {
        self.times.len() as f64 / self.seconds
    }

    fn take(&mut self, other: Self) {
        self.times.extend(other.times);
        self.ways.merge(other.ways);
    }
}

/// Calls each of `functions` once, distributed over `clients` clients.
pub(super) fn call_each(server: &Server, functions: &[Function], clients: usize) -> Result<Calls> {
    let next = Mutex::new(functions.iter());
    by_clients(clients, || {
        let (mut client, mut calls) = (Client::connect(server.address())?, Calls::default());
        loop {
            interrupt::check()?;
            let taken = next
                .lock()
                .map_err(|_| anyhow!("a client panicked"))?
                .next();
            let Some(function) = taken else {
                return Ok(calls);
            };
            let (took, timing) = client
                .run(function)
                .with_context(|| format!("the call of {} failed", function.name))?;
            calls.times.push(micros(took));
            calls.ways.add(timing);
        }
    })
}

/// Calls `function` with `clients` clients, again and again for `duration`.
///
/// `pace` is the time from the start of a client's call to the start of its next one; without it, the next call begins when the previous
/// one is answered.
pub(super) fn call_again(
    server: &Server,
    function: &Function,
    clients: usize,
    duration: Duration,
    pace: Option<Duration>,
) -> Result<Calls> {
    by_clients(clients, || {
        let (mut client, mut calls) = (Client::connect(server.address())?, Calls::default());
        let started = Instant::now();
        let mut next = started;
        while started.elapsed() < duration {
            interrupt::check()?;
            let (took, timing) = client.run(function)?;
            calls.times.push(micros(took));
            calls.ways.add(timing);
            if let Some(pace) = pace {
                next += pace;
                // If it is late, it continues at once, and catches up.
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        }
        Ok(calls)
    })
}

/// Runs `client` in `clients` threads at once and merges their results.
fn by_clients(clients: usize, client: impl Fn() -> Result<Calls> + Sync) -> Result<Calls> {
    let started = Instant::now();
    let parts = std::thread::scope(|scope| {
        let client = &client;
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Calls>>| thread.join();
        threads.into_iter().map(join).collect::<Vec<_>>()
    });
    let mut whole = Calls::default();
    for part in parts {
        match part {
            Ok(part) => whole.take(part?),
            Err(_) => bail!("a client panicked"),
        }
    }
    whole.seconds = started.elapsed().as_secs_f64();
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_its_function_and_its_call() {
        let function = Function::new("a-1", Work::Sleep);
        assert_eq!(Function::event(7), b"{\"call\": 7}");
        assert_eq!(function.answer(7), b"{\"call\": 7, \"name\": \"a-1\"}");
        let lines = "import time\nNAME = \"a-1\"\n\n\ndef f(event):\n    time.sleep(1)\n";
        assert!(
            function.source().starts_with(lines),
            "{}",
            function.source()
        );
        assert!(bundle(&[("f.py", &function.source())]).is_ok_and(|packed| packed.len() > 100));
    }
}
