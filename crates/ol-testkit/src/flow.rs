//! Answers that are read as they come, and requests that are sent meanwhile.

use crate::http::{Client, Reply, head};
use std::io::{self, BufRead as _, Read, Write as _};
use std::net::TcpStream;

/// An answer of which the head was read. Its body is what is read from here; the end of a body that is incomplete is an
/// error, as it is for any client worth its name.
pub struct Incoming<'c> {
    client: &'c mut Client,
    /// The head; its `body` is empty.
    pub head: Reply,
    left: Left,
}

/// What is left of a body.
enum Left {
    /// This much of a chunk, and then more chunks.
    Chunks(usize),
    /// This much.
    Bytes(usize),
    /// All until the connection ends.
    Open,
}

impl Client {
    /// Reads the head of the next answer.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is no HTTP.
    pub fn incoming(&mut self) -> io::Result<Incoming<'_>> {
        let head = self.reply_head()?;
        let chunked = head
            .header("transfer-encoding")
            .is_some_and(|coding| coding.contains("chunked"));
        let length = head
            .header("content-length")
            .and_then(|text| text.parse().ok());
        let left = match length {
            _ if chunked => Left::Chunks(0),
            Some(length) => Left::Bytes(length),
            None => Left::Open,
        };
        Ok(Incoming {
            client: self,
            head,
            left,
        })
    }

    /// Begins a request whose body is sent in chunks by what is returned, from another thread if need be.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn outgoing(&mut self, method: &str, path: &str) -> io::Result<Outgoing> {
        let coding = [("Transfer-Encoding", "chunked")];
        let head = head(&self.host, method, path, &coding, None);
        self.send(&head)?;
        Ok(Outgoing(self.stream.get_ref().try_clone()?))
    }

    /// Begins a request with a body of `length` bytes; they are to be written to what is returned.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn outgoing_of(
        &mut self,
        method: &str,
        path: &str,
        length: usize,
    ) -> io::Result<TcpStream> {
        self.send_part(method, path, length, b"")?;
        self.stream.get_ref().try_clone()
    }
}

impl Incoming<'_> {
    /// Reads the body to its end and returns how long it was.
    ///
    /// # Errors
    /// When it is incomplete.
    pub fn count(&mut self) -> io::Result<u64> {
        io::copy(self, &mut io::sink())
    }

    fn chunk_size(&mut self) -> io::Result<usize> {
        let line = self.client.line()?;
        usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)
    }
}

impl Read for Incoming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Left::Chunks(0) = self.left {
            let size = self.chunk_size()?;
            if size == 0 {
                self.client.line()?;
                self.left = Left::Bytes(0);
            } else {
                self.left = Left::Chunks(size);
            }
        }
        let (Left::Chunks(left) | Left::Bytes(left)) = &mut self.left else {
            return self.client.stream.read(buffer);
        };
        if *left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let most = buffer.len().min(*left);
        let got = self.client.stream.read(&mut buffer[..most])?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *left -= got;
        if let Left::Chunks(0) = self.left {
            self.client.stream.read_line(&mut String::new())?;
        }
        Ok(got)
    }
}

/// The body of a request, in chunks.
pub struct Outgoing(TcpStream);

impl Outgoing {
    /// Sends a chunk.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.0.write_all(&chunk)
    }

    /// Says that this was all.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn end(mut self) -> io::Result<()> {
        self.0.write_all(b"0\r\n\r\n")
    }
}
