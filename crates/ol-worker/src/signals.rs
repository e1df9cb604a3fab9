//! What a signal means to the worker.
//!
//! ```text
//!   terminal, kill, service manager ──▶ warden ── PWR: drain, QUIT: don't wait ──▶ worker
//!                                  └──────────── HUP, INT, TERM, QUIT ──────────────▶
//! ```
//! A signal to a whole process group reaches both processes, and the warden also passes it on to the worker. To not count one Ctrl-C twice,
//! the warden uses a signal of its own (`ol_warden::PASSED_ON`), which never counts as a second one.

use ol_sys::process::is_ignored;
use std::future::poll_fn;
use std::io;
use std::task::Poll;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What to do on a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Accept no new calls, let those in flight finish.
    Drain,
    /// Stop without waiting for calls in flight.
    Hurry,
}

/// What was received before, which decides what the next signal means.
#[derive(Debug, Default)]
struct Meaning {
    stopped: bool,
}

impl Meaning {
    /// `None` for a signal without a meaning here: it is handled only because the kernel's default would end the worker.
    fn of(&mut self, number: i32) -> Option<Told> {
        match number {
            // Never counts as a second signal: when a terminal closes, it comes twice, from the terminal and from its shell.
            libc::SIGHUP => Some(Told::Drain),
            ol_warden::PASSED_ON => Some(Told::Drain),
            libc::SIGINT | libc::SIGTERM => {
                let again = std::mem::replace(&mut self.stopped, true);
                Some(if again { Told::Hurry } else { Told::Drain })
            }
            libc::SIGQUIT => Some(Told::Hurry),
            _ => None,
        }
    }
}

/// The handlers of all signals that a worker handles.
pub(crate) struct Signals {
    heard: Vec<(i32, Signal)>,
    meaning: Meaning,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// Those of sigaction(2).
    pub(crate) fn handle() -> io::Result<Self> {
        let numbers = [
            libc::SIGHUP,
            libc::SIGINT,
            libc::SIGTERM,
            libc::SIGQUIT,
            ol_warden::PASSED_ON,
            libc::SIGUSR1,
            libc::SIGUSR2,
            libc::SIGALRM,
        ];
        let mut heard = Vec::new();
        for number in numbers {
            // Under nohup, SIGHUP stays ignored.
            if number != libc::SIGHUP || !is_ignored(number)? {
                heard.push((number, signal(SignalKind::from_raw(number))?));
            }
        }
        Ok(Self {
            heard,
            meaning: Meaning::default(),
        })
    }

    /// Resolves when a signal with a meaning comes.
    pub(crate) async fn next(&mut self) -> Told {
        poll_fn(|context| {
            for (number, signal) in &mut self.heard {
                while let Poll::Ready(Some(())) = signal.poll_recv(context) {
                    if let Some(told) = self.meaning.of(*number) {
                        return Poll::Ready(told);
                    }
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Resolves when a signal says not to wait.
    pub(crate) async fn hurry(&mut self) {
        while self.next().await != Told::Hurry {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Told::{Drain, Hurry};

    #[test]
    fn the_second_time_hurries_and_what_is_passed_on_never_does() {
        let (int, term, hup, quit) = (libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT);
        let passed = ol_warden::PASSED_ON;
        for (signals, meaning) in [
            (vec![int], vec![Drain]),
            (vec![term, term], vec![Drain, Hurry]),
            (vec![int, term, int], vec![Drain, Hurry, Hurry]),
            // One Ctrl-C, and one `kill` of both.
            (vec![int, passed], vec![Drain, Drain]),
            (vec![passed, term], vec![Drain, Drain]),
            (
                vec![int, passed, int, quit],
                vec![Drain, Drain, Hurry, Hurry],
            ),
            // A terminal that closes.
            (vec![hup, hup, passed], vec![Drain, Drain, Drain]),
            (vec![hup, term], vec![Drain, Drain]),
            (vec![quit], vec![Hurry]),
            (vec![libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM], vec![]),
        ] {
            let mut state = Meaning::default();
            let told: Vec<_> = signals
                .iter()
                .filter_map(|number| state.of(*number))
                .collect();
            assert_eq!(told, meaning, "{signals:?}");
        }
    }
}
