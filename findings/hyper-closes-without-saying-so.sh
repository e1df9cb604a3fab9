#!/usr/bin/env bash
# hyper 1.12.0, HTTP/1.1 server: a service that answers without reading a small body which arrives a moment after the head
# gets its answer sent as if the connection stayed open (no `connection: close`), and then the connection is closed.
# A client that keeps connections sends its next request into nothing. RFC 9112, 9.6: a server that closes SHOULD say so.
# With the body right behind the head, the same exchange leaves the connection open and the second request is answered.
#
# What we do about it: our server reads what is small, and says `connection: close` when it will close.
#
# Needs cargo and crates.io; builds in a temporary folder. Exit status 0: still so. 1: hyper behaves differently now.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"
[dependencies]
hyper = { version = "=1.12.0", features = ["http1", "server"] }
hyper-util = { version = "=0.1.21", features = ["tokio"] }
http-body-util = "=0.1.5"
tokio = { version = "1", features = ["rt", "net", "time", "macros", "io-util"] }
TOML
cat > src/main.rs <<'RUST'
use http_body_util::Full;
use hyper::{body::Bytes, server::conn::http1, service::service_fn, Request, Response};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn answer(_: Request<hyper::body::Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(b"seen"))))
}

/// Two requests on one connection; the body of the first comes so long after its head. Returns the first answer, and the second.
async fn exchange(gap: Duration) -> (String, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let _ = http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service_fn(answer))
            .await;
    });
    let mut client = TcpStream::connect(address).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n";
    if gap.is_zero() {
        client.write_all(&[&head[..], b"body"].concat()).await.unwrap();
    } else {
        client.write_all(head).await.unwrap();
    }
    let mut first = [0; 1024];
    let read = client.read(&mut first).await.unwrap();
    let first = String::from_utf8_lossy(&first[..read]).into_owned();
    if !gap.is_zero() {
        tokio::time::sleep(gap).await;
        let _ = client.write_all(b"body").await;
    }
    let _ = client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let mut second = [0; 1024];
    let reading = tokio::time::timeout(Duration::from_secs(5), client.read(&mut second));
    let read = reading.await.map(|read| read.unwrap_or(0)).unwrap_or(0);
    serving.abort();
    (first, String::from_utf8_lossy(&second[..read]).into_owned())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (first, second) = exchange(Duration::ZERO).await;
    println!("body at once:  says close: {}, second request answered: {}", says_close(&first), !second.is_empty());
    let kept = !says_close(&first) && second.starts_with("HTTP/1.1 200");
    let (first, second) = exchange(Duration::from_millis(50)).await;
    println!("body 50 ms on: says close: {}, second request answered: {}", says_close(&first), !second.is_empty());
    let lost = first.starts_with("HTTP/1.1 200") && !says_close(&first) && second.is_empty();
    std::process::exit(i32::from(!(kept && lost)));
}

fn says_close(head: &str) -> bool {
    head.to_ascii_lowercase().contains("connection: close")
}
RUST
cargo run --quiet
