//! Prepares a shell for a function from outside: mounts its code and packages, and sets the size of its scratch.
//!
//! The warden enters the shell's mount namespace, attaches the mounts and returns. A leaf that waits there already sees the code
//! appear and can't undo it: the mount is locked for every process in a user namespace below the warden's.

use crate::packages::{PackageMounts, PackageStore};
use crate::protocol::{Content, Network};
use ol_sys::process::exit_now;
use ol_sys::{mount, namespaces};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, mount_remount};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Prepares shells, see [`Fitter::fit`].
pub(crate) struct Fitter {
    /// The directory whose numbered children are code.
    code: OwnedFd,
    store: PackageStore,
    /// The warden's own mount namespace, and its working directory there (`template`), to return to.
    home: OwnedFd,
    template: OwnedFd,
    /// The size in bytes of the scratch that shells are made with.
    scratch: u64,
}

impl Fitter {
    /// Opens what fitting needs. `code` is the worker's directory of code, `store` the package store.
    ///
    /// Call it in the mount namespace and the working directory (the template) that each fit is to return to.
    pub fn new(code: &Path, store: &Path, scratch: u64) -> io::Result<Self> {
        let open = |path: &Path, flags| {
            rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty())
        };
        Ok(Self {
            code: open(code, OFlags::PATH | OFlags::DIRECTORY)?,
            store: PackageStore::open(store)?,
            home: open("/proc/self/ns/mnt".as_ref(), OFlags::RDONLY)?,
            template: open(".".as_ref(), OFlags::PATH | OFlags::DIRECTORY)?,
            scratch,
        })
    }

    /// Prepares the shell of `keeper`, which has no code yet.
    ///
    /// # Errors
    /// The step that failed; the shell can't be used any more then.
    pub fn fit(&self, keeper: BorrowedFd<'_>, content: &Content) -> io::Result<()> {
        let with_context =
            |what: &str, e: io::Error| io::Error::new(e.kind(), format!("{what}: {e}"));
        let attributes = mount::attr::RDONLY | mount::attr::NOSUID | mount::attr::NODEV;
        let code = content.code.map(|code| {
            mount::detached(self.code.as_fd(), &code.0.to_string(), attributes)
                .map_err(|e| with_context("take the code", e))
        });
        let code = code.transpose()?;
        let packages = self
            .store
            .show(self.code.as_fd(), content.packages)
            .map_err(|e| with_context("take the packages", e))?;
        let resolver = (content.network == Network::Host).then(host_resolver);
        let resolver = resolver
            .transpose()
            .map_err(|e| with_context("take the resolver's file", e))?;
        if code.is_none()
            && packages.is_none()
            && resolver.is_none()
            && content.scratch == self.scratch
        {
            return Ok(());
        }
        let options = CString::new(format!(
            "size={},nr_inodes={}",
            content.scratch,
            crate::shell::inodes(content.scratch)
        ))?;
        namespaces::join(keeper, libc::CLONE_NEWNS)
            .map_err(|e| with_context("enter the shell", e))?;
        let done = code
            .map_or(Ok(()), |code| mount::attach(code.as_fd(), "/handler"))
            .map_err(|e| with_context("move the code in", e))
            .and_then(|()| {
                packages
                    .as_ref()
                    .map_or(Ok(()), PackageMounts::attach)
                    .map_err(|e| with_context("move the packages in", e))
            })
            .and_then(|()| {
                // A base may have no such file; then there is nothing to mount over.
                let there = resolver.filter(|_| Path::new(RESOLVER).is_file());
                there
                    .map_or(Ok(()), |file| mount::attach(file.as_fd(), RESOLVER))
                    .map_err(|e| with_context("show the host's resolvers", e))
            })
            .and_then(|()| {
                if content.scratch == self.scratch {
                    return Ok(());
                }
                let quiet = MountFlags::NOSUID | MountFlags::NODEV;
                mount_remount("/host", quiet, options.as_c_str())
                    .map_err(|e| with_context("resize the scratch", e.into()))
            });
        let home = namespaces::join(self.home.as_fd(), libc::CLONE_NEWNS)
            .and_then(|()| Ok(rustix::process::fchdir(&self.template)?));
        if home.is_err() {
            // Still in a sandbox's mount namespace, the warden would do everything in the wrong place. When it exits, the kernel ends
            // all sandboxes.
            exit_now(70);
        }
        done
    }
}

/// The file that names the DNS resolvers, on the host and inside.
const RESOLVER: &str = "/etc/resolv.conf";

/// A detached mount of the host's file, for sandboxes in the host's network.
fn host_resolver() -> io::Result<OwnedFd> {
    let path = Path::new(RESOLVER).canonicalize()?;
    let path = path.to_str().ok_or(io::ErrorKind::InvalidData)?;
    let attributes = mount::attr::RDONLY | mount::attr::NOSUID | mount::attr::NODEV;
    mount::detached(CWD, path, attributes)
}
