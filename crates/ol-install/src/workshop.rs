//! The door to whoever makes sandboxes: what this crate asks of the layer above it.
//!
//! ```text
//!   Workshop ──lay_out──▶ Program ──start──▶ Installer ──order──▶ Reply
//! ```

use bytes::Bytes;
use futures_util::Stream;
use ol_model::Limits;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use tokio::net::TcpListener;

/// A future of a method of these traits.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Makes sandboxes for installers.
pub trait Workshop: Send + Sync {
    /// Lays out a program, of which any number of sandboxes can be started then. Blocking.
    ///
    /// # Errors
    /// When it can't be written to this worker's disk.
    fn lay_out(&self, program: &Blueprint<'_>) -> io::Result<Arc<dyn Program>>;
}

/// A program, and the sandboxes that it runs in.
#[derive(Debug)]
pub struct Blueprint<'a> {
    /// What a sandbox may use.
    pub limits: Limits,
    /// A sandbox has a gate: a listener inside it at 127.0.0.1:3128, whose connections are accepted out here. It has no other network.
    pub gate: bool,
    /// The entry of the package store that a sandbox sees.
    pub sees: Option<&'a str>,
    /// The files of `/handler`, by name and content. `f.py` holds the program, a web app.
    pub files: &'a [(String, Vec<u8>)],
    /// More files of `/handler`, which can be executed: by name, and where they lie.
    pub programs: &'a [(&'a str, &'a Path)],
}

/// A program that is laid out. It is removed from the disk when it is dropped and no sandbox needs it.
pub trait Program: Send + Sync {
    /// An installer that runs this program. Its sandbox is made with the first order.
    ///
    /// # Errors
    /// When this worker's disk can't be written to.
    fn start(&self) -> io::Result<Box<dyn Installer>>;
}

/// One installer at work. Its drop ends its sandbox.
pub trait Installer: Send {
    /// Sends a request to the program. If a sandbox had to be made for that, `gate` gets its listener first.
    fn order<'a>(
        &'a mut self,
        path: &'a str,
        body: Bytes,
        gate: &'a mut (dyn FnMut(TcpListener) + Send),
    ) -> Pending<'a, Result<Reply, Trouble>>;
}

/// An installer's answer.
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body, as it arrives.
    pub body: Pin<Box<dyn Stream<Item = Result<Bytes, Trouble>> + Send>>,
}

/// A sandbox failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct Trouble {
    /// What failed, in words.
    pub text: String,
    /// What would help.
    pub cause: Cause,
}

/// What may have made a sandbox fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its time limit.
    Time,
    /// Its memory limit, or that the worker had no memory for it.
    Memory,
    /// Anything else.
    Other,
}
