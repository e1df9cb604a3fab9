//! Forwards DNS questions of functions to the host's resolvers, and nothing else.
//!
//! ```text
//!   sandbox ─▶ router 100.127.0.1:53 ─▶ [a socket of this worker's] ─▶ relay ─▶ a resolver of the host's, from the host's network
//! ```
//! A sandbox can't reach these resolvers itself: they may be private, or on the host's loopback. What it sends is forwarded only if it is
//! exactly one question ([`question`]), with a message number chosen here; what comes back is forwarded only if it answers that question.
//!
//! - [`resolvers`]: which resolvers are asked
//! - [`question`]: which messages are forwarded
//! - [`turns`]: how many questions each sandbox, and all together, may have under way
//! - `datagrams`, `streams`: UDP and TCP

mod datagrams;
mod question;
mod resolvers;
mod streams;
mod turns;

pub(crate) use resolvers::Resolvers;

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

/// How long one resolver may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The port of DNS.
const PORT: u16 = 53;

/// Answers DNS questions on sockets that lie in the network namespace of the sandboxes' router.
pub(crate) struct Relay;

impl Relay {
    /// Answers questions that arrive on `udp` and `tcp`, until the runtime ends.
    ///
    /// # Errors
    /// When the sockets can't be registered with the runtime.
    pub(crate) fn start(udp: UdpSocket, tcp: TcpListener, resolvers: Resolvers) -> io::Result<()> {
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        let udp = tokio::net::UdpSocket::from_std(udp)?;
        let tcp = tokio::net::TcpListener::from_std(tcp)?;
        tokio::spawn(datagrams::serve(udp, resolvers.clone()));
        tokio::spawn(streams::serve(tcp, resolvers));
        Ok(())
    }
}
