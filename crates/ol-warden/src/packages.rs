//! The part of the package store that a sandbox sees at `/packages`: its function's packages, and no trace of others.
//!
//! The worker makes a layout directory, whose entries have the names of packages, and sends its number. The warden mounts that
//! directory at `/packages`, and on each entry the package's files from the store. It resolves no path that a tenant wrote: it
//! lists the layout directory and opens an entry of the same name in the store, without following a link.

use crate::protocol::Packages;
use ol_sys::mount;
use rustix::fs::{CWD, Dir, Mode, OFlags, ResolveFlags, openat2};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The most packages of one function; each is a mount and, for a moment, an open file.
const MOST: usize = 1000;

const ATTRIBUTES: u64 = mount::attr::RDONLY | mount::attr::NOSUID | mount::attr::NODEV;
const PLACE: &str = "/packages";
const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// The package store.
pub(crate) struct PackageStore(OwnedFd);

/// Mounts that are not attached yet: each with the place where it belongs.
pub(crate) struct PackageMounts(Vec<(OwnedFd, String)>);

impl PackageStore {
    /// Opens the store at `path`, which the operator chose.
    pub fn open(path: &Path) -> io::Result<Self> {
        let store = rustix::fs::openat(CWD, path, FOLDER | OFlags::PATH, Mode::empty())?;
        Ok(Self(store))
    }

    /// The mounts that show `packages`; `None` if there are none. `layouts` is the directory that holds the layout directories.
    pub fn show(
        &self,
        layouts: BorrowedFd<'_>,
        packages: Packages,
    ) -> io::Result<Option<PackageMounts>> {
        let layout = match packages {
            Packages::None => return Ok(None),
            Packages::All => {
                let all = mount::detached(self.0.as_fd(), "", ATTRIBUTES)?;
                return Ok(Some(PackageMounts(vec![(all, PLACE.to_owned())])));
            }
            Packages::Named(layout) => layout.0.to_string(),
        };
        let listed = openat2(layouts, &layout, FOLDER, Mode::empty(), BENEATH)?;
        let tree = mount::detached(listed.as_fd(), "", ATTRIBUTES)?;
        let mut trees = vec![(tree, PLACE.to_owned())];
        for entry in Dir::new(listed)? {
            let entry = entry?;
            let name = entry.file_name().to_str().map_err(io::Error::other)?;
            if name == "." || name == ".." {
                continue;
            }
            if trees.len() > MOST {
                return Err(io::Error::other(format!("there are more than {MOST}")));
            }
            let path = if name.starts_with('.') {
                name.to_owned()
            } else {
                format!("{name}/files")
            };
            let flags = FOLDER | OFlags::PATH;
            let found = openat2(&self.0, &path, flags, Mode::empty(), BENEATH)?;
            let tree = mount::detached(found.as_fd(), "", ATTRIBUTES)?;
            trees.push((tree, format!("{PLACE}/{path}")));
        }
        Ok(Some(PackageMounts(trees)))
    }
}

impl PackageMounts {
    /// Attaches the mounts in the current mount namespace.
    pub fn attach(&self) -> io::Result<()> {
        let mut trees = self.0.iter();
        trees.try_for_each(|(tree, place)| mount::attach(tree.as_fd(), place))
    }
}
