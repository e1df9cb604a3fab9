//! What a worker tells its operator: lines on standard error, which may be gone.

use std::io::{self, Write as _};

/// Prints a line for the operator; if standard error is closed, it is lost.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
