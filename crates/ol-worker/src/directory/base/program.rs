//! Runs programs that print an archive, which is unpacked as it arrives.
//!
//! They end with this process, however it ends: setpriv(1) makes the kernel kill them with their parent.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};

use super::unpack::UnpackError;

/// Why no image was made.
#[derive(Debug)]
pub(super) enum ProgramError {
    /// It could not be run.
    Start(io::Error),
    /// It failed; holds what it wrote to standard error.
    Failed(String),
    /// Its output is not an image.
    Unpack(UnpackError),
}

/// A command that is killed when this process ends.
pub(super) fn mortal(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]);
    command
}

/// Runs `command` to its end. `take` reads its standard output; its standard error goes into `log`.
pub(super) fn stream<T>(
    mut command: Command,
    log: &Path,
    take: impl FnOnce(ChildStdout) -> Result<T, UnpackError>,
) -> Result<T, ProgramError> {
    let complaints = File::create(log).map_err(ProgramError::Start)?;
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(complaints)
        .spawn();
    let mut child = child.map_err(ProgramError::Start)?;
    let stdout = child.stdout.take().expect("it is piped");
    let taken = take(stdout);
    // If its output was refused, the program may still be writing; it then finds the pipe closed.
    let status = child.wait().map_err(ProgramError::Start)?;
    match taken {
        // The program failed: that is the cause, not its incomplete archive.
        Err(UnpackError::NotTar(_) | UnpackError::CutShort(_)) if !status.success() => {}
        Err(error) => return Err(ProgramError::Unpack(error)),
        Ok(taken) if status.success() => return Ok(taken),
        Ok(_) => {}
    }
    let said = fs::read(log).map_err(ProgramError::Start)?;
    Err(ProgramError::Failed(
        String::from_utf8_lossy(&said).into_owned(),
    ))
}

/// The path of a program in `$PATH`.
#[must_use]
pub fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}
