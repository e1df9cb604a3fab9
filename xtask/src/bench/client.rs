//! One client: a blocking socket, kept alive, one call at a time.
//!
//! Exists for latency: the answer itself wakes the thread that sleeps in `read`, without an event loop in between. Also used for requests
//! that aren't timed.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::fleet::Function;
use super::interrupt;
use super::timing::Timing;
use super::wire::{self, ECHO};

/// After this time an answer counts as lost. Longer than the worker's own limits (queue 30 s).
const LOST_AFTER: Duration = Duration::from_secs(60);

/// Returns a number that no other call of this benchmark has.
pub(super) fn next_number() -> u64 {
    // Starts high, so that every number has as many digits and every body the same size.
    static NEXT: AtomicU64 = AtomicU64::new(1_000_000_000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// One connection.
pub(super) struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    received: Vec<u8>,
}

/// A call whose answer is awaited.
pub(super) struct Asked {
    at: Instant,
    wanted: Vec<u8>,
}

/// An answer that owns its body.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Client {
    pub(super) fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).context("failed to connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOST_AFTER))?;
        Ok(Self {
            stream,
            request: Vec::with_capacity(4096),
            received: Vec::with_capacity(64 * 1024),
        })
    }

    pub(super) fn get(&mut self, path: &str) -> Result<Reply> {
        self.call("GET", path, b"")
    }

    pub(super) fn call(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Reply> {
        wire::write_request(&mut self.request, method, path, body);
        self.exchange()?;
        let answer = wire::parse(&self.received)?.context("the answer is incomplete")?;
        Ok(Reply {
            status: answer.status,
            body: answer.body.into_owned(),
        })
    }

    /// Calls the echo function with `body`; returns the time from the first byte sent to the last received. Fails if the answer isn't
    /// `body`.
    pub(super) fn echo(&mut self, body: &[u8]) -> Result<Duration> {
        wire::write_request(&mut self.request, "POST", ECHO, body);
        let sent = Instant::now();
        self.exchange()?;
        let took = sent.elapsed();
        wire::parse(&self.received)?
            .context("the answer is incomplete")?
            .must_say(body)?;
        Ok(took)
    }

    /// Calls `function` and checks its answer; returns how long that took, and how the call got its sandbox if the worker says so.
    pub(super) fn run(&mut self, function: &Function) -> Result<(Duration, Timing)> {
        let asked = self.ask(function)?;
        let timing = self.hear(&asked)?;
        Ok((asked.at.elapsed(), timing))
    }

    /// The first half of [`Client::run`], for callers that send more calls before waiting for the answer.
    pub(super) fn ask(&mut self, function: &Function) -> Result<Asked> {
        let number = next_number();
        let lines = "X-OL-Timing: 1\r\n";
        let body = Function::event(number);
        wire::write_request_with(&mut self.request, "POST", &function.path(), lines, &body);
        let at = Instant::now();
        self.send()?;
        let wanted = function.answer(number);
        Ok(Asked { at, wanted })
    }

    /// The socket, for callers that wait for several clients.
    pub(super) fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// The second half of [`Client::run`].
    pub(super) fn hear(&mut self, asked: &Asked) -> Result<Timing> {
        self.receive()?;
        let answer = wire::parse(&self.received)?.context("the answer is incomplete")?;
        answer.must_say(&asked.wanted)?;
        Timing::parse(answer.header("x-ol-timing"))
    }

    /// Sends `request`, and receives until one answer is complete.
    fn exchange(&mut self) -> Result<()> {
        self.send()?;
        self.receive()
    }

    fn send(&mut self) -> Result<()> {
        let sent = self.stream.write_all(&self.request);
        sent.context("failed to send")
    }

    fn receive(&mut self) -> Result<()> {
        let Self {
            stream, received, ..
        } = self;
        received.clear();
        let mut room = [0; 16 * 1024];
        loop {
            let count = match stream.read(&mut room) {
                // A signal came: the kernel doesn't resume a read that has a timeout.
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    interrupt::check()?;
                    continue;
                }
                read => read.context("no answer came")?,
            };
            ensure!(count > 0, "the connection was closed without an answer");
            received.extend_from_slice(&room[..count]);
            if let Some(answer) = wire::parse(received)? {
                let length = answer.length;
                ensure!(length == received.len(), "bytes after the answer");
                return Ok(());
            }
        }
    }
}

/// Calls without pause for `duration`; returns the microseconds of each call.
pub(super) fn steady(address: SocketAddr, duration: Duration) -> Result<Vec<f64>> {
    let mut client = Client::connect(address)?;
    let (started, mut times) = (Instant::now(), Vec::with_capacity(1 << 17));
    while started.elapsed() < duration {
        interrupt::check()?;
        times.push(micros(client.echo(&wire::echo_body(next_number(), 8))?));
    }
    Ok(times)
}

/// Makes `calls` calls, each `gap` after the previous answer; returns the microseconds of each.
pub(super) fn spaced(address: SocketAddr, gap: Duration, calls: usize) -> Result<Vec<f64>> {
    let mut client = Client::connect(address)?;
    client.echo(&wire::echo_body(next_number(), 8))?;
    let mut times = Vec::with_capacity(calls);
    for _ in 0..calls {
        interrupt::check()?;
        std::thread::sleep(gap);
        times.push(micros(client.echo(&wire::echo_body(next_number(), 8))?));
    }
    Ok(times)
}

pub(super) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
