//! `floor-fork`: the least that starting a function in its own Python could cost.
//!
//! ```text
//! a Python with the runtime's imports ──fork──▶ child: read and compile f.py, f(event), answer, exit
//! ```
//!
//! No namespaces, no limits, no other uid, no HTTP. The parent measures itself, so that the load generator's wake-ups aren't included. The
//! Python program is `floor_fork.py`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::client::next_number;
use super::fleet::{Function, Work};
use super::floor_http::PYTHON;
use super::interrupt;
use super::tied::{self, Helper};

const PROGRAM: &str = include_str!("floor_fork.py");

/// The forking Python, and the folder of its functions.
pub(super) struct FloorFork {
    _python: Helper,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    folder: PathBuf,
    made: usize,
}

/// The cost of one start.
pub(super) struct Start {
    pub(super) micros: f64,
    /// User and system time of parent and child.
    pub(super) cpu_micros: f64,
}

impl FloorFork {
    /// Call it only from the main thread: the child dies with the thread that started it.
    pub(super) fn start() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("ol-bench-{}-floor", std::process::id()));
        std::fs::create_dir(&folder)
            .with_context(|| format!("failed to make {}", folder.display()))?;
        let mut command = tied::command(PYTHON)?;
        command
            .args(["-I", "-S", "-B", "-c", PROGRAM])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut python = Helper::start(command)?;
        let orders = python.process().stdin.take().context("it is piped")?;
        let answers = python.process().stdout.take().context("it is piped")?;
        Ok(Self {
            _python: python,
            orders,
            answers: BufReader::new(answers),
            folder,
            made: 0,
        })
    }

    /// Starts one more function, which wasn't started before.
    pub(super) fn one(&mut self) -> Result<Start> {
        let function = Function::new(format!("floor-{}", self.made), Work::Nothing);
        self.made += 1;
        let folder = self.folder.join(&function.name);
        std::fs::create_dir(&folder)?;
        std::fs::write(folder.join("f.py"), function.source())?;
        let number = next_number();
        let event = String::from_utf8(Function::event(number))?;
        let line = self.exchange(&format!("{} {event}", folder.display()))?;
        let mut parts = line.splitn(3, ' ');
        let mut time = || -> Result<f64> {
            let part = parts.next().context("floor-fork left a time out")?;
            part.parse()
                .with_context(|| format!("floor-fork answered {line:?}"))
        };
        let (nanos, cpu_micros) = (time()?, time()?);
        let answer = parts.next().unwrap_or_default();
        ensure!(
            answer.as_bytes() == function.answer(number),
            "floor-fork answered {line:?}"
        );
        Ok(Start {
            micros: nanos / 1e3,
            cpu_micros,
        })
    }

    /// Makes `count` starts, each some time after a line that only wakes the process; see [`paced`].
    pub(super) fn several(&mut self, count: usize) -> Result<Vec<Start>> {
        (0..count)
            .map(|_| {
                paced(|| self.exchange("").map(drop))?;
                self.one()
            })
            .collect()
    }

    fn exchange(&mut self, order: &str) -> Result<String> {
        writeln!(self.orders, "{order}").context("floor-fork has ended")?;
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        ensure!(read? > 0, "floor-fork has ended");
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for FloorFork {
    fn drop(&mut self) {
        // The process still runs, but no longer reads files.
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            eprintln!(
                "warning: failed to remove {}: {error}",
                self.folder.display()
            );
        }
    }
}

/// Prepares a single start, in the same way on both sides: waits 25 ms, in which everything that the previous start caused comes to its
/// end; makes one call of something warm; waits 5 ms. Thus neither side starts on a core that has slept for long, and a worker has time to
/// prepare the next start.
pub(super) fn paced(warm: impl FnOnce() -> Result<()>) -> Result<()> {
    interrupt::check()?;
    std::thread::sleep(Duration::from_millis(25));
    warm()?;
    std::thread::sleep(Duration::from_millis(5));
    Ok(())
}

/// The mean CPU of these starts, in microseconds.
pub(super) fn mean_cpu(starts: &[Start]) -> f64 {
    starts.iter().map(|start| start.cpu_micros).sum::<f64>() / starts.len().max(1) as f64
}
