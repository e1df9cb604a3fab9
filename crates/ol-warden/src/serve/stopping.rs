//! The signals that the warden received, and the signal that it passes on to the worker for each.

use super::Ending;
use rustix::process::Signal;

/// The signal by which the warden tells the worker to drain (SIGPWR).
///
/// Nobody else sends this signal. A terminal or a service manager signals the worker as well, and the worker must not count the same
/// event twice.
pub const PASSED_ON: i32 = Signal::POWER.as_raw();

/// Which signals came so far.
#[derive(Debug, Default)]
pub(super) struct Stopping {
    told: bool,
    stopped: bool,
}

impl Stopping {
    /// The signal to pass on to the worker for one that the warden received; `None` if there is none.
    pub fn hear(&mut self, signal: i32) -> Option<Signal> {
        let passed_on = match signal {
            // Ctrl-C for the second time: the worker must not wait for running calls.
            libc::SIGINT | libc::SIGTERM if self.stopped => Signal::QUIT,
            libc::SIGINT | libc::SIGTERM => {
                self.stopped = true;
                Signal::POWER
            }
            // A closed terminal sends SIGHUP twice, once itself and once through its shell, so a second one means nothing more.
            libc::SIGHUP => Signal::POWER,
            libc::SIGQUIT => Signal::QUIT,
            _ => return None,
        };
        self.told = true;
        Some(passed_on)
    }

    /// Turns the death of a worker by a signal that the warden passed on into an orderly end.
    ///
    /// That happens when the signal comes before the worker has installed its handlers.
    pub fn as_told(&self, ending: Ending) -> Ending {
        let ours = [Signal::POWER, Signal::QUIT].map(Signal::as_raw);
        match ending {
            Ending::WorkerKilled(signal) if self.told && ours.contains(&signal) => {
                Ending::WorkerExited(0)
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_time_hurries_and_a_closed_terminal_does_not() {
        let (int, term, hup, quit) = (libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT);
        let (drain, hurry) = (Signal::POWER, Signal::QUIT);
        for (signals, passed_on) in [
            (vec![int, term, int], vec![drain, hurry, hurry]),
            (vec![hup, hup, term], vec![drain, drain, drain]),
            (vec![quit], vec![hurry]),
            (
                vec![libc::SIGCHLD, libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM],
                vec![],
            ),
        ] {
            let mut stopping = Stopping::default();
            let heard: Vec<_> = signals.iter().filter_map(|s| stopping.hear(*s)).collect();
            assert_eq!(heard, passed_on, "{signals:?}");
        }
    }

    #[test]
    fn only_what_was_told_is_an_orderly_end() {
        let killed = Ending::WorkerKilled(PASSED_ON);
        assert_eq!(Stopping::default().as_told(killed), killed);
        let mut stopping = Stopping::default();
        let _ = stopping.hear(libc::SIGINT);
        assert_eq!(stopping.as_told(killed), Ending::WorkerExited(0));
        let crash = Ending::WorkerKilled(libc::SIGSEGV);
        assert_eq!(stopping.as_told(crash), crash);
    }
}
