//! Shared by the proxy's tests: servers behind the proxy, the proxy itself, and one connection to it.

#![allow(dead_code, reason = "each test program uses some of it")]

use std::net::SocketAddr;
use std::time::Duration;

use ol_packages::index::{Destination, Reach, Upstream};
use ol_packages::proxy::{Proxy, ProxyLimits, ProxyRules, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A server that answers each connection's first request with `answer`, and passes on what it was asked.
pub struct Server {
    pub at: SocketAddr,
    pub asked: tokio::sync::mpsc::UnboundedReceiver<String>,
}

impl Server {
    pub async fn start(answer: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let at = listener.local_addr().expect("bound");
        let (tell, asked) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let tell = tell.clone();
                tokio::spawn(async move {
                    let _ = tell.send(head(&mut stream).await);
                    let _ = stream.write_all(answer).await;
                });
            }
        });
        Self { at, asked }
    }
}

/// Reads until the end of a request's head.
pub async fn head(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => read.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&read).into_owned()
}

pub fn own(at: SocketAddr) -> Destination {
    Destination {
        host: at.ip().to_string(),
        port: at.port(),
        reach: Reach::Own,
    }
}

pub fn public(host: &str, port: u16) -> Destination {
    Destination {
        host: host.to_owned(),
        port,
        reach: Reach::Public,
    }
}

pub fn quick() -> ProxyLimits {
    ProxyLimits {
        idle: Duration::from_millis(200),
        head_bytes: 8 << 10,
        ..ProxyLimits::default()
    }
}

pub async fn proxy(
    destinations: Vec<Destination>,
    upstream: Upstream,
    limits: ProxyLimits,
) -> (Proxy, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let at = listener.local_addr().expect("bound");
    let policy = ProxyRules {
        destinations,
        upstream,
        limits,
    };
    (serve(listener, policy), at)
}

/// Sends bytes, closes the sending side, and reads until the proxy closes the connection.
pub async fn say(at: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(at).await.expect("connected");
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

pub fn connect(target: &str) -> String {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")
}

pub const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-Kept: 2\r\n\r\nhello";
