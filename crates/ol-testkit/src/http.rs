//! An HTTP client for one connection. It sends exactly what the test says, byte by byte if wanted; it never retries, follows redirects or
//! decodes anything.

use crate::patience::patience;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};

/// A connection to a worker.
pub struct Client {
    pub(crate) stream: BufReader<TcpStream>,
    pub(crate) host: String,
}

/// An answer, read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Client {
    /// Connects to `address` (`host:port`).
    ///
    /// # Errors
    /// Those of connect(2).
    pub fn connect(address: &str) -> io::Result<Self> {
        Self::of(TcpStream::connect(address)?, address)
    }

    /// Uses an existing connection, with requests to `host`.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn of(stream: TcpStream, host: &str) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience(60.0)))?;
        Ok(Self {
            stream: BufReader::new(stream),
            host: host.to_owned(),
        })
    }

    /// Sends a request and reads its answer. The connection stays open.
    ///
    /// # Errors
    /// When the connection breaks, or the answer is not HTTP.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Reply> {
        self.send(&head(&self.host, method, path, headers, Some(body.len())))?;
        self.send(body)?;
        self.reply()
    }

    /// Like [`Self::request`], with a body in chunks of `Transfer-Encoding: chunked`.
    ///
    /// # Errors
    /// When the connection breaks, or the answer is not HTTP.
    pub fn request_in_chunks(
        &mut self,
        method: &str,
        path: &str,
        chunks: &[&[u8]],
    ) -> io::Result<Reply> {
        self.send(&head(
            &self.host,
            method,
            path,
            &[("Transfer-Encoding", "chunked")],
            None,
        ))?;
        for chunk in chunks {
            self.send(format!("{:x}\r\n", chunk.len()).as_bytes())?;
            self.send(chunk)?;
            self.send(b"\r\n")?;
        }
        self.send(b"0\r\n\r\n")?;
        self.reply()
    }

    /// Sends the head of a request with a body of `length` bytes, but only the part `body` of it.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn send_part(
        &mut self,
        method: &str,
        path: &str,
        length: usize,
        body: &[u8],
    ) -> io::Result<()> {
        self.send(&head(&self.host, method, path, &[], Some(length)))?;
        self.send(body)
    }

    /// Sends bytes unchanged.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Closes the sending side of the connection.
    ///
    /// # Errors
    /// When the connection is already broken.
    pub fn finish_sending(&self) -> io::Result<()> {
        self.stream.get_ref().shutdown(Shutdown::Write)
    }

    /// Waits until the other side closes.
    ///
    /// # Errors
    /// When it doesn't close in time, or sends something.
    pub fn expect_end(&mut self) -> io::Result<()> {
        match self.stream.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(io::Error::other("more was sent")),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads the next answer.
    ///
    /// # Errors
    /// When the connection breaks, or the answer is not HTTP.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut incoming = self.incoming()?;
        let mut body = Vec::new();
        incoming.read_to_end(&mut body)?;
        Ok(Reply {
            body,
            ..incoming.head
        })
    }

    /// Reads only the head of the next answer, which is all of an answer to HEAD.
    ///
    /// # Errors
    /// When the connection breaks, or the answer is not HTTP.
    pub fn reply_head(&mut self) -> io::Result<Reply> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|text| text.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no HTTP: {first:?}")))?;
        let mut reply = Reply {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        };
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(reply);
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| io::Error::other("a header without a colon"))?;
            reply
                .headers
                .push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    pub(crate) fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

impl Reply {
    /// The value of the first header with this name, which must be in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(have, _)| have == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When the body is not JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The answer's JSON, which must have status 200.
    ///
    /// # Panics
    /// When it has another status, or the body is not JSON.
    #[must_use]
    pub fn ok(&self) -> serde_json::Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }

    /// The text of an error with this status and this code in `X-OL-Error`.
    ///
    /// # Panics
    /// When the status or the code differs.
    #[must_use]
    pub fn error(&self, status: u16, code: &str) -> String {
        let text = self.text();
        assert_eq!(
            (self.status, self.header("x-ol-error")),
            (status, Some(code)),
            "{text}"
        );
        text
    }
}

pub(crate) fn head(
    host: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    length: Option<usize>,
) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    if let Some(length) = length {
        text += &format!("Content-Length: {length}\r\n");
    }
    text += "\r\n";
    text.into_bytes()
}
