//! Builds the template from its plan, in the warden's own mount namespace.

use super::plan::{Base, BuildStep, Entry, Runtime, plan};
use ol_sys::mount::{attach, attr, detached, set_attributes};
use ol_sys::namespaces;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

const READ_ONLY: u64 = attr::RDONLY | attr::NOSUID | attr::NODEV;

/// Enters a private mount namespace and builds the template for `base` at `at`, an empty directory.
///
/// `resolver` is the address of the DNS server, if there is one.
///
/// # Errors
/// The step that failed, with its paths (for the operator; never sent on to a tenant).
pub(crate) fn build(
    base: &Base,
    at: &Path,
    runtime: Runtime,
    resolver: Option<Ipv4Addr>,
) -> io::Result<()> {
    namespaces::leave(libc::CLONE_NEWNS)?;
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    mount(
        "tmpfs",
        at,
        "tmpfs",
        MountFlags::NOSUID,
        c"mode=0755,size=1m,nr_inodes=4k",
    )
    .map_err(|e| with_context("mount the template", at, e.into()))?;

    let root = base.root().to_owned();
    let look = |name: &str| entry(&root.join(name));
    let mut top: Vec<String> = fs::read_dir(&root)?
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    top.sort();
    let text = resolver.map_or_else(String::new, |address| format!("nameserver {address}\n"));
    for step in plan(base, &top, &look, runtime, &text) {
        apply(&step, at)?;
    }
    // Last, the template's own files become read-only: from here on nothing in it can change, and a copy in a user namespace
    // can't undo these flags.
    let template = rustix::fs::open(at, rustix::fs::OFlags::PATH, Mode::empty())?;
    set_attributes(template.as_fd(), attr::RDONLY | attr::NOSUID, false)
}

fn entry(path: &Path) -> Option<Entry> {
    let kind = path.symlink_metadata().ok()?.file_type();
    if kind.is_symlink() {
        let target = fs::read_link(path)
            .ok()?
            .into_os_string()
            .into_string()
            .ok()?;
        Some(Entry::Link(target))
    } else if kind.is_dir() {
        Some(Entry::Directory)
    } else if kind.is_file() {
        Some(Entry::File)
    } else {
        None
    }
}

fn apply(step: &BuildStep, template: &Path) -> io::Result<()> {
    match step {
        BuildStep::Directory(at) => make_dir(&template.join(at)),
        BuildStep::File(at, text) => {
            let path = template.join(at);
            fs::write(&path, text).map_err(|e| with_context("write", &path, e))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
        }
        BuildStep::Link(at, target) => {
            let path = template.join(at);
            std::os::unix::fs::symlink(target, &path).map_err(|e| with_context("link", &path, e))
        }
        BuildStep::Cover { with, at } => {
            let [from, target] = [with, at].map(|path| template.join(path));
            bind(&from, &target, READ_ONLY).map_err(|e| with_context("cover", &target, e))
        }
        BuildStep::Device { at, number } => device(&template.join(at), *number),
        BuildStep::Bind { from, at } => {
            let target = template.join(at);
            // A target inside a directory bound before (a masked file) exists already; others are made.
            if target.symlink_metadata().is_err() {
                if from.is_dir() {
                    make_dir(&target)?;
                } else {
                    fs::File::create(&target).map_err(|e| with_context("create", &target, e))?;
                }
            }
            bind(from, &target, READ_ONLY).map_err(|e| with_context("bind", from, e))
        }
    }
}

fn device(target: &Path, (major, minor): (u32, u32)) -> io::Result<()> {
    let everybody = Mode::from_raw_mode(0o666);
    let number = makedev(major, minor);
    match mknodat(CWD, target, FileType::CharacterDevice, everybody, number) {
        Ok(()) => fs::set_permissions(target, fs::Permissions::from_mode(0o666)),
        // In a container, root may not be allowed to make devices; the host's own device serves as well.
        Err(Errno::PERM) => {
            fs::File::create(target).map_err(|e| with_context("create", target, e))?;
            let host = Path::new("/dev").join(target.file_name().unwrap_or_default());
            let usable = READ_ONLY & !attr::NODEV | attr::NOEXEC;
            bind(&host, target, usable).map_err(|e| with_context("bind", &host, e))
        }
        Err(error) => Err(with_context("make", target, error.into())),
    }
}

fn bind(from: &Path, target: &Path, attributes: u64) -> io::Result<()> {
    // The operator chose the path (a base, a directory of the worker), so its links are meant to be followed.
    let from: PathBuf = from.canonicalize()?;
    let not_text = || io::Error::other("its name is not UTF-8");
    let tree = detached(CWD, from.to_str().ok_or_else(not_text)?, attributes)?;
    attach(tree.as_fd(), target.to_str().ok_or_else(not_text)?)
}

fn make_dir(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o755).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(with_context("make", path, error))
        }
        _ => Ok(()),
    }
}

fn with_context(what: &str, path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}
