//! What the warden was told by signals, and what it passes on to the worker.

use super::Ending;
use rustix::process::Signal;

/// The number of the signal by which the warden tells the worker to drain (SIGPWR). One that nobody else sends: a terminal and a
/// service manager tell the worker as well, and the same news must not count twice there.
pub const PASSED_ON: i32 = Signal::POWER.as_raw();

/// What was heard so far.
#[derive(Debug, Default)]
pub(super) struct Stopping {
    told: bool,
    stopped: bool,
}

impl Stopping {
    /// What the worker is to hear of a signal that came here.
    pub fn hear(&mut self, signal: i32) -> Option<Signal> {
        let passed_on = match signal {
            // Ctrl-C again: don't wait.
            libc::SIGINT | libc::SIGTERM if self.stopped => Signal::QUIT,
            libc::SIGINT | libc::SIGTERM => {
                self.stopped = true;
                Signal::POWER
            }
            // A terminal that closes says so twice, by itself and by its shell.
            libc::SIGHUP => Signal::POWER,
            libc::SIGQUIT => Signal::QUIT,
            _ => return None,
        };
        self.told = true;
        Some(passed_on)
    }

    /// A worker that was told to stop before it could listen has ended as it was told.
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
