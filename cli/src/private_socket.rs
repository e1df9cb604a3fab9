//! The operator's connection to a worker: the socket in its directory, which only root may open.
//!
//! Such requests don't take a connection from callers, and work even when the port has none left. Users that may not open the socket use
//! the port, like everybody.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

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
