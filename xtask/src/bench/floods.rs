//! `cargo xtask bench floods`: whether a function is slower while somebody else floods the worker.
//!
//! ```text
//! in each round, for each kind of flood: 500 calls a second of a warm function
//!     with nothing else    → p99, quiet
//!     beside the flood     → p99, which may be twice that
//! ```
//!
//! The floods come from another address of the loopback device than the calls, like those of a stranger. Unlike a stranger's machine, they
//! share the cores with the worker; thus they are limited in pace and have the lowest priority (nice 19): the effect on the worker is to be
//! measured, not the cost of making a flood.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustix::process::{Resource, getrlimit, setpriority_process, setrlimit};

use super::child::Server;
use super::client::Client;
use super::fleet;
use super::process_tree::Neighbours;
use super::session::{Common, Session, progress};
use super::summary::{Goal, quantile};
use super::tail::timetable;
use super::worker;

/// The time between two new connections of a flood, and how many existing connections are checked in between.
const STEP: Duration = Duration::from_millis(1);
const LOOKS: usize = 8;
/// How many connections a flood tries to hold.
const WANTED: usize = 9000;
/// How long a flood runs before measuring.
const RISE: Duration = Duration::from_secs(5);
/// The local ports of the stranger's connections.
const PORTS: (u16, u16) = (10_000, 60_000);
/// The stranger's address.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Length of one timed stretch, in seconds
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Only the floods of these names
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
}

/// One kind of flood.
struct Flood {
    name: &'static str,
    /// What it does, for the table.
    what: &'static str,
    /// Prepares it before anything is timed.
    prepare: fn(&Server) -> Result<()>,
    /// Floods until told to end; returns a sentence about what it did.
    rage: fn(&Server, &AtomicBool) -> Result<String>,
}

const FLOODS: [Flood; 4] = [
    Flood {
        name: "connections",
        what: "connections that ask nothing",
        prepare: nothing,
        rage: connections,
    },
    Flood {
        name: "heads",
        what: "heads of 60,000 bytes that don't end",
        prepare: nothing,
        rage: heads,
    },
    Flood {
        name: "uploads",
        what: "uploads of 4 GB that stall",
        prepare: nothing,
        rage: uploads,
    },
    Flood {
        name: "lines",
        what: "four functions that print empty lines",
        prepare: install_printers,
        rage: lines,
    },
];

/// Prints nothing but line ends for half a second.
const PRINTER: &str = "
import sys, time

def f(event):
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        sys.stdout.write('\\n' * 4096)
    return None
";
const PRINTERS: [&str; 4] = ["printer0", "printer1", "printer2", "printer3"];

/// Runs the benchmark. Fails only when something can't run or an answer is wrong.
pub(super) fn run(args: &Args) -> Result<()> {
    ensure!(args.seconds > 0.0, "--seconds must be above zero");
    let wanted =
        |flood: &&Flood| args.only.is_empty() || args.only.iter().any(|name| name == flood.name);
    let floods: Vec<&Flood> = FLOODS.iter().filter(wanted).collect();
    ensure!(
        !floods.is_empty(),
        "--only names no flood; there are {}",
        FLOODS.map(|flood| flood.name).join(", ")
    );
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("failed to raise the limit of descriptors")?;
    let mut session = Session::begin("floods", &args.common)?;
    let stretch = Duration::from_secs_f64(args.seconds);
    let neighbours = Neighbours::now()?;
    for flood in floods {
        // A new worker for each flood, unaffected by the previous one.
        let directory = session.roomy("", &[])?;
        let server = directory.up()?;
        worker::install_echo(&server)?;
        (flood.prepare)(&server)?;
        timetable(server.address(), stretch / 4)?;
        let (mut quiet, mut beside) = (Vec::new(), Vec::new());
        for round in 0..args.common.rounds {
            progress(&format!(
                "{}: round {} of {}",
                flood.name,
                round + 1,
                args.common.rounds
            ));
            quiet.push(quantile(&timetable(server.address(), stretch)?, 990));
            let (times, said) = flooded(flood, &server, stretch)?;
            beside.push(quantile(&times, 990));
            if round == 0 {
                session.note(format!("{}: {said}", flood.name));
            }
            // Connections that are still being closed must not affect the next quiet stretch.
            std::thread::sleep(Duration::from_secs(1));
        }
        let what = format!("warm p99 beside {}; beside it, quiet", flood.what);
        let goal = Goal::TimesAtMost(2.0);
        session.report.row(11, what, "µs", &beside, &quiet, goal);
        directory.down(server)?;
    }
    session.note(neighbours.note()?);
    session.end()
}

/// Measures the timetable during `flood`, once it is at its height; also returns the flood's sentence.
fn flooded(flood: &Flood, server: &Server, stretch: Duration) -> Result<(Vec<f64>, String)> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let raging = scope.spawn(|| {
            // The priority of this thread, and of those that it starts.
            setpriority_process(None, 19).context("failed to stand back")?;
            (flood.rage)(server, &over)
        });
        std::thread::sleep(RISE);
        let times = timetable(server.address(), stretch);
        over.store(true, Ordering::Relaxed);
        let said = raging.join().ok().context("the flood panicked")?;
        Ok((times?, said.context("the flood failed")?))
    })
}

fn nothing(_server: &Server) -> Result<()> {
    Ok(())
}

fn connections(server: &Server, over: &AtomicBool) -> Result<String> {
    hold(server, over, b"")
}

fn heads(server: &Server, over: &AtomicBool) -> Result<String> {
    let mut head = b"GET /run/echo HTTP/1.1\r\nHost: localhost\r\nX-Flood: ".to_vec();
    head.resize(60_000, b'a');
    hold(server, over, &head)
}

fn uploads(server: &Server, over: &AtomicBool) -> Result<String> {
    let head =
        b"POST /registry/flood HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000000\r\n\r\n";
    hold(server, over, &[&head[..], &[0x1f; 4096]].concat())
}

fn install_printers(server: &Server) -> Result<()> {
    let mut client = Client::connect(server.address())?;
    for name in PRINTERS {
        fleet::install(&mut client, name, &[("f.py", PRINTER)])?;
    }
    Ok(())
}

/// One caller for each printer, which calls again as soon as it is answered.
fn lines(server: &Server, over: &AtomicBool) -> Result<String> {
    let calls = |name: &str| -> Result<u64> {
        let mut client = Client::connect(server.address())?;
        let mut calls = 0;
        while !over.load(Ordering::Relaxed) {
            let reply = client.call("POST", &format!("/run/{name}"), b"null")?;
            ensure!(reply.status == 200, "{name} was answered {}", reply.status);
            calls += 1;
        }
        Ok(calls)
    };
    std::thread::scope(|scope| {
        let callers = PRINTERS.map(|name| scope.spawn(move || calls(name)));
        let mut all = 0;
        for caller in callers {
            all += caller.join().ok().context("a caller panicked")??;
        }
        Ok(format!("{all} calls printed"))
    })
}

/// Opens connections, sends `first` on each and nothing more, and replaces those that the worker closes or answers.
///
/// It works in steps that are short even compared with a call: the kernel may let a call wait until a long step ends, whatever the worker
/// does.
fn hold(server: &Server, over: &AtomicBool, first: &[u8]) -> Result<String> {
    let mut held: Vec<TcpStream> = Vec::new();
    let (mut opened, mut most, mut answered, mut next) = (0_u64, 0, 0_u64, 0);
    while !over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        if held.len() < WANTED
            && let Ok(mut stream) = open(server.address())
        {
            opened += 1;
            // If not all of it is taken, the worker has closed the connection or doesn't read.
            let _ = stream.write(first);
            held.push(stream);
        }
        most = most.max(held.len());
        for _ in 0..LOOKS.min(held.len()) {
            next = (next + 1) % held.len().max(1);
            let Some(stream) = held.get_mut(next) else {
                break;
            };
            match stream.read(&mut [0; 512]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                said => answered += u64::from(said.is_ok_and(|count| count > 0)),
            }
            held.swap_remove(next);
        }
        std::thread::sleep(STEP.saturating_sub(begun.elapsed()));
    }
    Ok(format!(
        "{opened} connections opened, {most} held at once at most, {answered} answered"
    ))
}

/// Opens a non-blocking connection from the stranger's address.
///
/// Local ports are used in turn: otherwise the kernel would search through all used ones for a free port, using up a core, which would be
/// measured too.
fn open(server: SocketAddr) -> Result<TcpStream> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let port = PORTS.0 + NEXT.fetch_add(1, Ordering::Relaxed) % (PORTS.1 - PORTS.0);
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddrV4::new(STRANGER, port))?;
    connect(&socket, &server)?;
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(true)?;
    Ok(stream)
}
