//! Makes parts of a worker directory readable only for root: functions' secrets are in bundles, in their unpacked code, in their output,
//! and in what is known of their packages.
//!
//! When a worker starts, it restricts directories that an older worker or a script left open. Modes are only reduced, only on root's own
//! files, and no link is followed. Sandboxes, whose uids aren't root's, still read their code: it is mounted from within the closed
//! directory, hence reaching it doesn't pass that directory.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fchmod, fstat};
use rustix::process::geteuid;

use super::Directory;
use super::error::DirectoryError;

/// All permissions of group and others.
const OTHERS: u32 = 0o077;

impl Directory {
    /// Creates the directories that only root may look into, and restricts existing ones and their files. `registry` is the configured
    /// registry; one outside of this directory keeps its mode.
    ///
    /// # Errors
    /// [`DirectoryError::Write`] with the path.
    pub(crate) fn make_private(&self, registry: &Path) -> Result<(), DirectoryError> {
        let within = registry
            .starts_with(&self.root)
            .then(|| registry.to_owned());
        let folders = [
            self.logs(),
            self.uploads(),
            self.template(),
            self.code(),
            self.packages_state(),
        ];
        for folder in folders.into_iter().chain(within) {
            let closed = DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .and_then(|()| close(&folder))
                .and_then(|()| close_files_in(&folder));
            closed.map_err(unwritten(folder))?;
        }
        for file in [self.stats_file(), self.output()] {
            close(&file).map_err(unwritten(file))?;
        }
        Ok(())
    }
}

fn unwritten(path: PathBuf) -> impl FnOnce(io::Error) -> DirectoryError {
    move |source| DirectoryError::Write { path, source }
}

fn close_files_in(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            close(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes the permissions of group and others from the file or directory at `path`. Missing files, links, devices and other users' files
/// are left alone.
fn close(path: &Path) -> io::Result<()> {
    // NONBLOCK: opening a named pipe would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(opened) => File::from(opened),
        // It doesn't exist, is a link, or a socket.
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => {
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let stat = fstat(&opened)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let ours = stat.st_uid == geteuid().as_raw()
        && matches!(kind, FileType::Directory | FileType::RegularFile);
    if ours && stat.st_mode & OTHERS != 0 {
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777 & !OTHERS);
        fchmod(opened.as_fd(), mode)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o7777
    }

    #[test]
    fn what_is_open_is_closed_and_nothing_is_followed() {
        let place = tempfile::tempdir().expect("a directory");
        let at = |name: &str| place.path().join(name);
        let open = |path: &Path, bits| {
            fs::set_permissions(path, fs::Permissions::from_mode(bits)).expect("ours");
        };
        fs::write(at("file"), "x").expect("written");
        fs::write(at("elsewhere"), "x").expect("written");
        fs::create_dir(at("folder")).expect("made");
        open(&at("file"), 0o664);
        open(&at("elsewhere"), 0o644);
        open(&at("folder"), 0o755);
        symlink(at("elsewhere"), at("link")).expect("made");
        for name in ["file", "folder", "link", "none"] {
            close(&at(name)).expect(name);
        }
        assert_eq!(
            (
                mode(&at("file")),
                mode(&at("folder")),
                mode(&at("elsewhere"))
            ),
            (0o600, 0o700, 0o644)
        );
        open(&at("file"), 0o400);
        close(&at("file")).expect("closed");
        assert_eq!(mode(&at("file")), 0o400, "nothing is given");
    }
}
