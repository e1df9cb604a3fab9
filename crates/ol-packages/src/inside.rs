//! What runs in the sandbox that installs: a web app of one file, which needs nothing but Python and the installer.
//!
//! It is laid out as a function (`f.py` with an `app`), so that a sandbox for it is made as any other is. What it answers is
//! never trusted: it ran where strangers' code may have run.

/// The app. Its own text says what it takes and answers.
pub const PROGRAM: &str = include_str!("inside/f.py");
