//! `floor-http`: the least that any worker with Python behind HTTP could cost.
//!
//! ```text
//! client ──HTTP/1.1──▶ hyper, one thread ──socketpair──▶ /usr/bin/python3: loads, f(event), dumps
//! ```
//!
//! Exists so that "fast" is a ratio to something that anyone can reproduce. It is honest (every request really goes to another process and
//! its JSON is really parsed) and minimal (no routing, no sandbox, no queue, no limits). Each Python process handles one request at a time;
//! idle ones wait on a stack, thus a single client always gets the same warm process.
//!
//! It runs as a separate process, `xtask __floor-http N`, so that its CPU can be measured separately from the load generator's. It has one
//! thread instead of one per core: on two cores, that was faster with one client and no slower with 32 (see `docs/contributing/benchmarks.md`).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::Semaphore;

use super::tied;

pub(super) const PYTHON: &str = "/usr/bin/python3";
const PROGRAM: &str = include_str!("floor.py");

/// The command that starts this floor with `pythons` Python processes, as a child of the benchmark.
pub(super) fn command(pythons: usize) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["__floor-http", &pythons.to_string()]);
    Ok(command)
}

/// The body of `xtask __floor-http`: serves until it is killed or its parent dies.
pub(crate) fn serve(pythons: usize) -> Result<()> {
    tied::die_with_parent()?;
    ensure!(pythons > 0, "floor-http needs at least one Python process");
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?
        .block_on(accept(pythons))
}

async fn accept(count: usize) -> Result<()> {
    let pythons = Arc::new(Pythons::start(count)?);
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    println!("floor-http: http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let pythons = Arc::clone(&pythons);
        tokio::spawn(async move {
            let answer = service_fn(|request| answer(Arc::clone(&pythons), request));
            // If the client leaves, only this connection ends.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

async fn answer(
    pythons: Arc<Pythons>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == "/readyz" {
        return Ok(Response::new(Full::default()));
    }
    let answered = match request.into_body().collect().await {
        Ok(body) => pythons.call(&body.to_bytes()).await,
        Err(error) => Err(error.into()),
    };
    Ok(match answered {
        Ok(body) => Response::new(Full::new(body)),
        Err(error) => {
            let mut response = Response::new(Full::new(format!("{error:#}").into()));
            *response.status_mut() = http::StatusCode::BAD_GATEWAY;
            response
        }
    })
}

/// The Python processes. Each permit stands for one entry on the stack of idle ones.
struct Pythons {
    idle: Mutex<Vec<Python>>,
    permits: Semaphore,
}

struct Python {
    socket: UnixStream,
    frame: Vec<u8>,
    /// Ends by itself when `socket` closes; kept so that this process can reap it.
    _child: Child,
}

impl Pythons {
    fn start(count: usize) -> Result<Self> {
        let idle = (0..count)
            .map(|_| Python::start())
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            idle: Mutex::new(idle),
            permits: Semaphore::new(count),
        })
    }

    /// Sends `body` to an idle process, waiting for one if necessary, and returns its answer.
    async fn call(&self, body: &[u8]) -> Result<Bytes> {
        let _permit = self.permits.acquire().await?;
        let mut python = self
            .stack()
            .pop()
            .context("every Python process of the floor has died")?;
        let answer = python.call(body).await?;
        self.stack().push(python);
        Ok(answer)
    }

    fn stack(&self) -> std::sync::MutexGuard<'_, Vec<Python>> {
        // Push and pop can't leave the stack half changed, thus a poisoned lock is fine.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Python {
    fn start() -> Result<Self> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let child = Command::new(PYTHON)
            .args(["-I", "-c", PROGRAM])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("failed to start {PYTHON}"))?;
        Ok(Self {
            socket: UnixStream::from_std(ours)?,
            frame: Vec::with_capacity(64 * 1024),
            _child: child,
        })
    }

    async fn call(&mut self, body: &[u8]) -> Result<Bytes> {
        let Self { socket, frame, .. } = self;
        frame.clear();
        frame.extend_from_slice(&u32::try_from(body.len())?.to_le_bytes());
        frame.extend_from_slice(body);
        socket.write_all(frame).await?;

        frame.clear();
        loop {
            let read = socket.read_buf(frame).await?;
            ensure!(read > 0, "the Python process went away");
            if let Some((length, answer)) = frame.split_first_chunk::<4>()
                && answer.len() >= usize::try_from(u32::from_le_bytes(*length))?
            {
                return Ok(Bytes::copy_from_slice(answer));
            }
        }
    }
}
