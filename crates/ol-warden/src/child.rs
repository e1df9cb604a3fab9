//! What the two kinds of child have in common: named steps, and a report of the one that failed.

use ol_sys::process::{InChild, exit_now, write_failure};
use std::convert::Infallible;
use std::io;
use std::os::fd::RawFd;

/// Which step failed and why, as a text for the operator.
pub(crate) struct Failed(String);

/// Turns the error of a result into a [`Failed`] that names the step.
pub(crate) trait NameStep<T> {
    fn step(self, name: &str) -> Result<T, Failed>;
}

impl<T, E: Into<io::Error>> NameStep<T> for Result<T, E> {
    fn step(self, name: &str) -> Result<T, Failed> {
        self.map_err(|error| Failed(format!("{name}: {}", error.into())))
    }
}

/// Runs the steps; if one fails, writes which to `status` and exits.
///
/// Success is an exec, which closes `status` without a byte written.
pub(crate) fn run<T>(
    child: &InChild,
    status: RawFd,
    steps: impl FnOnce() -> Result<Infallible, Failed>,
) -> T {
    match steps() {
        Ok(never) => match never {},
        Err(Failed(message)) => {
            write_failure(child, status, &message);
            exit_now(127)
        }
    }
}

/// Like [`run`], for a child whose failure only the operator reads: it goes to standard error, as a line that begins with `who`.
pub(crate) fn run_logged<T>(
    child: &InChild,
    who: &str,
    steps: impl FnOnce() -> Result<Infallible, Failed>,
) -> T {
    run(child, libc::STDERR_FILENO, || {
        steps().map_err(|Failed(message)| Failed(line(who, &message)))
    })
}

fn line(who: &str, message: &str) -> String {
    format!("error: {who}: {message}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_for_the_operator_is_a_line() {
        let Err(Failed(message)) = Err::<(), _>(rustix::io::Errno::PIPE).step("receive") else {
            panic!("it failed");
        };
        assert_eq!(
            line("a maker of sandboxes ended", &message),
            "error: a maker of sandboxes ended: receive: Broken pipe (os error 32)\n"
        );
    }
}
