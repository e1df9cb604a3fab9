//! One client: a blocking socket, kept alive, one call at a time.
//!
//! Exists for latency: a thread that sleeps in `read` is woken by the answer itself, with no event
//! loop between. Also the client for everything that isn't timed.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::fleet::Function;
use super::interrupt;
use super::timing::Timing;
use super::wire::{self, ECHO};

/// Past this, an answer counts as lost. Longer than the worker's own limits (queue 30 s).
const LOST_AFTER: Duration = Duration::from_secs(60);

/// A number that no other call of this benchmark carries.
pub(super) fn next_number() -> u64 {
    // Starts high so that every number has as many digits, hence every body the same size.
    static NEXT: AtomicU64 = AtomicU64::new(1_000_000_000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// One connection.
pub(super) struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    received: Vec<u8>,
}

/// A call whose answer is due.
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

    /// Calls the echo function with `body`; the time from the first byte sent to the last received.
    /// An error when the answer isn't `body`.
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

    /// Calls `function` and checks its answer; how long that took, and by what way if the worker says.
    pub(super) fn run(&mut self, function: &Function) -> Result<(Duration, Timing)> {
        let asked = self.ask(function)?;
        let timing = self.hear(&asked)?;
        Ok((asked.at.elapsed(), timing))
    }

    /// The first half of [`Client::run`], for whoever has more to ask before the answer.
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

    /// For whoever waits for several.
    pub(super) fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// The second half.
    pub(super) fn hear(&mut self, asked: &Asked) -> Result<Timing> {
        self.receive()?;
        let answer = wire::parse(&self.received)?.context("the answer is incomplete")?;
        answer.must_say(&asked.wanted)?;
        Timing::parse(answer.header("x-ol-timing"))
    }

    /// Sends what is in `request`, and receives until one answer is complete.
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
                // A signal: the kernel doesn't resume a read that has a time limit.
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

/// Calls without a pause for `duration`; the microseconds each call took.
pub(super) fn steady(address: SocketAddr, duration: Duration) -> Result<Vec<f64>> {
    let mut client = Client::connect(address)?;
    let (started, mut times) = (Instant::now(), Vec::with_capacity(1 << 17));
    while started.elapsed() < duration {
        interrupt::check()?;
        times.push(micros(client.echo(&wire::echo_body(next_number(), 8))?));
    }
    Ok(times)
}

/// `calls` calls, each `gap` after the answer before it; the microseconds each took.
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
