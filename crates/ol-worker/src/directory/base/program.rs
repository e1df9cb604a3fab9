//! Programs that make an archive, which is unpacked as it comes.
//!
//! They end with us, however we end: setpriv(1) has the kernel kill them with their parent.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};

use super::unpack::UnpackError;

/// Why nothing came of it.
#[derive(Debug)]
pub(super) enum ProgramError {
    /// It could not be run.
    Start(io::Error),
    /// It said no; what it wrote to standard error.
    Failed(String),
    /// It made something else than an image.
    Unpack(UnpackError),
}

/// A command that is killed when this process ends.
pub(super) fn mortal(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]);
    command
}

/// Runs `command` to its end. `take` gets what it prints; what it complains of goes into `log`.
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
    // One whose output was refused may write on: it finds the pipe closed.
    let status = child.wait().map_err(ProgramError::Start)?;
    match taken {
        // The archive that it broke off is not the cause.
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

/// Where `$PATH` has a program of this name.
#[must_use]
pub fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}
