//! The operator's connection to a worker: the socket in its directory, which only root may open.
//!
//! Such requests don't take a connection from callers, and work even when the port has none left. Users that may not open the socket use
//! the port, like everybody.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use ol_worker::directory::Directory;
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

/// The most bytes of an answer to [`ask_socket`] that are read.
const ANSWER_BYTES: u64 = 64 << 10;

/// Connects to the socket at this path, or leaves it to the next connector in the chain.
#[derive(Debug)]
pub(crate) struct PrivateSocket(pub(crate) PathBuf);

impl Connector for PrivateSocket {
    type Out = Connected;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _chained: Option<()>,
    ) -> Result<Option<Connected>, Error> {
        use io::ErrorKind::{NotFound, PermissionDenied};
        match UnixStream::connect(&self.0) {
            Ok(stream) => {
                let (input, output) = (
                    details.config.input_buffer_size(),
                    details.config.output_buffer_size(),
                );
                let buffers = LazyBuffers::new(input, output);
                Ok(Some(Connected { stream, buffers }))
            }
            Err(error) if matches!(error.kind(), NotFound | PermissionDenied) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// A connection through the socket.
#[derive(Debug)]
pub(crate) struct Connected {
    stream: UnixStream,
    buffers: LazyBuffers,
}

/// Converts an error: a socket reports a timeout as `WouldBlock`.
fn ended(error: io::Error, timeout: NextTimeout) -> Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        Error::Timeout(timeout.reason)
    } else {
        error.into()
    }
}

impl Transport for Connected {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream
            .set_write_timeout(timeout.not_zero().map(|left| *left))?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        (&self.stream)
            .write_all(output)
            .map_err(|error| ended(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream
            .set_read_timeout(timeout.not_zero().map(|left| *left))?;
        let room = self.buffers.input_append_buf();
        let amount = loop {
            match (&self.stream).read(room) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(|error| ended(error, timeout))?,
            }
        };
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    /// Whether the connection can be reused: only if nothing arrived on it meanwhile, not even its end.
    fn is_open(&mut self) -> bool {
        let look = || {
            self.stream.set_nonblocking(true)?;
            let quiet = matches!(
                (&self.stream).read(&mut [0]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock
            );
            self.stream.set_nonblocking(false)?;
            Ok::<_, io::Error>(quiet)
        };
        look().unwrap_or(false)
    }
}

/// Asks the operator's socket for `path`; returns status and text.
///
/// Written by hand: it must not fall back to the port as [`PrivateSocket`] does, and a request of HTTP/1.0 is two lines.
pub(crate) fn ask_socket(directory: &Directory, path: &str) -> io::Result<(u16, String)> {
    const PATIENCE: Option<Duration> = Some(Duration::from_secs(5));
    let mut stream = UnixStream::connect(directory.socket())?;
    stream.set_read_timeout(PATIENCE)?;
    stream.set_write_timeout(PATIENCE)?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES).read_to_string(&mut answer)?;
    parse_answer(&answer).ok_or_else(|| io::Error::other("the answer is no HTTP"))
}

fn parse_answer(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sockets_answer_is_taken_apart() {
        let answer = "HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\n42\n";
        assert_eq!(parse_answer(answer), Some((200, "42".to_owned())));
        assert_eq!(parse_answer("nonsense"), None);
    }
}
