//! Many clients in one thread: for throughput, where the load generator's own CPU must be small.
//!
//! With a thread for each client, threads would be switched at every answer; one epoll loop handles all answers that are there. Each
//! connection has one call in flight and makes the next as soon as its answer was checked.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::client::next_number;
use super::interrupt;
use super::wire::{self, ECHO};

/// If no answer at all comes for this long, the calls in flight count as lost.
const LOST_AFTER: Timespec = Timespec {
    tv_sec: 60,
    tv_nsec: 0,
};

/// Connections that stay open between runs.
pub(super) struct Crowd {
    epoll: OwnedFd,
    clients: Vec<Connection>,
}

/// The result of one run.
pub(super) struct Run {
    pub(super) seconds: f64,
    /// The microseconds of each call.
    pub(super) times: Vec<f64>,
}

struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    body: Vec<u8>,
    received: Vec<u8>,
    sent: Instant,
}

impl Crowd {
    pub(super) fn connect(address: SocketAddr, clients: usize) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let clients = (0..clients)
            .map(|index| {
                let stream = TcpStream::connect(address).context("failed to connect")?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                let tag = epoll::EventData::new_u64(index as u64);
                epoll::add(&epoll, &stream, tag, epoll::EventFlags::IN)?;
                Ok(Connection {
                    stream,
                    request: Vec::with_capacity(1024),
                    body: Vec::new(),
                    received: Vec::with_capacity(4096),
                    sent: Instant::now(),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { epoll, clients })
    }

    /// Keeps every connection busy for `duration`, then waits for the remaining answers.
    pub(super) fn run(&mut self, duration: Duration) -> Result<Run> {
        let (started, mut times) = (Instant::now(), Vec::with_capacity(1 << 18));
        for client in &mut self.clients {
            client.ask()?;
        }
        let mut due = self.clients.len();
        let mut events = Vec::with_capacity(due);
        while due > 0 {
            interrupt::check()?;
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&LOST_AFTER)) {
                Err(Errno::INTR) => continue,
                waited => waited.context("failed to wait for answers")?,
            };
            ensure!(!events.is_empty(), "{due} answers never came");
            let go_on = started.elapsed() < duration;
            for event in &events {
                let client = usize::try_from(event.data.u64())
                    .ok()
                    .and_then(|index| self.clients.get_mut(index))
                    .context("an event of no client")?;
                let Some(micros) = client.receive()? else {
                    continue;
                };
                times.push(micros);
                if go_on {
                    client.ask()?;
                } else {
                    due -= 1;
                }
            }
        }
        Ok(Run {
            seconds: started.elapsed().as_secs_f64(),
            times,
        })
    }
}

impl Connection {
    fn ask(&mut self) -> Result<()> {
        self.body = wire::echo_body(next_number(), 8);
        wire::write_request(&mut self.request, "POST", ECHO, &self.body);
        self.received.clear();
        self.sent = Instant::now();
        // Such a short request always fits into an empty socket buffer: one write suffices.
        let written = self.stream.write(&self.request).context("failed to send")?;
        ensure!(written == self.request.len(), "a short request didn't fit");
        Ok(())
    }

    /// Reads what has arrived; returns the call's time in microseconds once the answer is complete and right.
    fn receive(&mut self) -> Result<Option<f64>> {
        let mut room = [0; 4096];
        match self.stream.read(&mut room) {
            Ok(0) => bail!("the connection was closed without an answer"),
            Ok(count) => self.received.extend_from_slice(&room[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error).context("failed to receive"),
        }
        let took = self.sent.elapsed();
        let Some(answer) = wire::parse(&self.received)? else {
            return Ok(None);
        };
        answer.must_say(&self.body)?;
        ensure!(
            answer.length == self.received.len(),
            "bytes after the answer"
        );
        Ok(Some(took.as_secs_f64() * 1e6))
    }
}
