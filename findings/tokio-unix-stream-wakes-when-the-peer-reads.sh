#!/usr/bin/env bash
# tokio 1.54.1 on Linux: a task that waits for an answer on a `UnixStream` has its thread woken twice for each exchange: once when
# the peer takes the request out of the socket, and once when the answer comes. The first finds nothing to do. A stream is always
# registered with epoll for reading and writing; on a Unix socket the kernel reports room to write whenever the peer reads, also if the
# socket was never full (TCP reports it only after it was). The same exchange over the same kind of socket, watched for reading only
# by an `AsyncFd`, has one wake-up each.
#
# A service that sends small requests to a process beside it pays a wake-up per request, at the moment in which that process begins to
# work. It can't be seen in a profile of the code, only by counting what epoll_wait(2) returns.
#
# What we do about it: nothing. Watching for arrivals only saved the wake-up, and made a call of a lone client 6% slower on our two
# cores: the one that would have been awake had fallen asleep by the time the answer came. Measure before you mend it.
#
# Needs cargo and crates.io; builds in a temporary folder. Exit status 0: still so. 1: tokio or the kernel behaves differently now.
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
tokio = { version = "=1.54.1", features = ["rt", "net", "time", "io-util"] }
TOML
cat > src/main.rs <<'RUST'
use std::io::{Read, Write};
use std::os::unix::net::UnixStream as StdStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

const EXCHANGES: usize = 200;

/// Answers each byte by a byte, some time after it was read: in between, its reader has nothing to hear of.
fn peer(mut socket: StdStream) {
    std::thread::spawn(move || {
        let mut byte = [0];
        while socket.read_exact(&mut byte).is_ok() {
            std::thread::sleep(Duration::from_millis(3));
            if socket.write_all(&byte).is_err() {
                return;
            }
        }
    });
}

/// How often the thread of a runtime was woken, per exchange, while `exchanges` ran.
fn wakes<F: std::future::Future<Output = ()>>(exchanges: impl FnOnce(StdStream) -> F) -> f64 {
    let count = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&count);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .on_thread_unpark(move || {
            counting.fetch_add(1, Ordering::Relaxed);
        })
        .build()
        .unwrap();
    let (ours, theirs) = StdStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    peer(theirs);
    runtime.block_on(exchanges(ours));
    count.load(Ordering::Relaxed) as f64 / EXCHANGES as f64
}

fn main() {
    let stream = wakes(|socket| async {
        let mut socket = UnixStream::from_std(socket).unwrap();
        let mut byte = [0];
        for _ in 0..EXCHANGES {
            socket.write_all(b"x").await.unwrap();
            socket.read_exact(&mut byte).await.unwrap();
        }
    });
    let reading_only = wakes(|socket| async {
        // Sound: the `AsyncFd` owns the stream, which stays the same descriptor.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }.unwrap();
        let mut byte = [0];
        for _ in 0..EXCHANGES {
            (&*socket.get_ref()).write_all(b"x").unwrap();
            loop {
                let mut ready = socket.readable().await.unwrap();
                if let Ok(read) = ready.try_io(|socket| (&*socket.get_ref()).read(&mut byte)) {
                    assert_eq!(read.unwrap(), 1);
                    break;
                }
            }
        }
    });
    println!("wake-ups per exchange: UnixStream {stream:.2}, watched for reading only {reading_only:.2}");
    let as_seen = (1.8..2.3).contains(&stream) && (0.9..1.2).contains(&reading_only);
    println!("{}", if as_seen { "as seen" } else { "different" });
    std::process::exit(i32::from(!as_seen));
}
RUST
cargo --version
uname -sr
cargo run --quiet --release
