//! Passes functions' questions of names on to the host's resolvers, and nothing else.
//!
//! ```text
//!   sandbox ─▶ router 100.127.0.1:53 ─▶ [a socket of this worker's] ─▶ relay ─▶ a resolver of the host's, from the host's network
//! ```
//! A sandbox has no way to these resolvers itself: they may be private, or on the host's loopback. What it sends goes on only if it is
//! one question ([`question`]), under a number of our own; what comes back goes on only if it answers that.
//!
//! - [`resolvers`]: whom to ask
//! - [`question`]: what may be asked
//! - [`turns`]: how many questions are under way, of each sandbox and of all
//! - `datagrams`, `streams`: the two ways of asking

mod datagrams;
mod question;
mod resolvers;
mod streams;
mod turns;

pub(crate) use resolvers::Resolvers;

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

/// How long one resolver may take before the next is asked, and how long the last.
const PATIENCE: Duration = Duration::from_secs(2);

/// The port of DNS.
const PORT: u16 = 53;

/// Answers on sockets in the router.
pub(crate) struct Relay;

impl Relay {
    /// Answers what arrives on `udp` and `tcp`, until the runtime ends.
    ///
    /// # Errors
    /// When the sockets can't be watched.
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
