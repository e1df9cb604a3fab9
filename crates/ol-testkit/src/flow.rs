//! Answers that are read while they arrive, and requests whose body is sent in parts.

use crate::http::{Client, Reply, head};
use std::io::{self, BufRead as _, Read, Write as _};
use std::net::TcpStream;

/// An answer whose head was read. Reading from it gives the body; an incomplete body ends in an error, as for any proper client.
pub struct Incoming<'c> {
    client: &'c mut Client,
    /// The head; its `body` is empty.
    pub head: Reply,
    left: Left,
}

/// What is left of the body.
enum Left {
    /// This many bytes of a chunk, and then more chunks.
    Chunks(usize),
    /// This many bytes.
    Bytes(usize),
    /// Everything until the connection ends.
    Open,
}

impl Client {
    /// Reads the head of the next answer.
    ///
    /// # Errors
    /// When the connection breaks, or the answer is not HTTP.
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

    /// Begins a request with a chunked body, which is sent with the returned value, possibly from another thread.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn outgoing(&mut self, method: &str, path: &str) -> io::Result<Outgoing> {
        let coding = [("Transfer-Encoding", "chunked")];
        let head = head(&self.host, method, path, &coding, None);
        self.send(&head)?;
        Ok(Outgoing(self.stream.get_ref().try_clone()?))
    }

    /// Begins a request with a body of `length` bytes, which are to be written to the returned stream.
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

    /// Ends the body.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn end(mut self) -> io::Result<()> {
        self.0.write_all(b"0\r\n\r\n")
    }
}
