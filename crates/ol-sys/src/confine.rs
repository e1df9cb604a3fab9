//! Landlock rulesets (landlock(7)): what a leaf may touch, and where the worker may write.
//!
//! Best effort by design: an older kernel enforces the rights that it knows, and the functions return how much that is.

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, RestrictionStatus,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};
use std::io;
use std::path::Path;

/// The newest ABI whose rights are asked for (Linux 6.12: scopes for signals and abstract sockets).
const WANTED: ABI = ABI::V6;

/// How much of a ruleset the kernel enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Everything that was asked for.
    Full,
    /// Only part of it: the kernel has an older ABI and doesn't check some rights.
    Partial,
    /// The kernel has no Landlock.
    None,
}

impl From<RestrictionStatus> for Level {
    fn from(status: RestrictionStatus) -> Self {
        match status.ruleset {
            RulesetStatus::FullyEnforced => Self::Full,
            RulesetStatus::PartiallyEnforced => Self::Partial,
            RulesetStatus::NotEnforced => Self::None,
        }
    }
}

/// The rights of [`leaf`] as the kernel's bit masks, for a process that can't use this code (a zygote's child).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// All rights that this kernel checks; 0 if it has no Landlock.
    pub handled: u64,
    /// The rights to read and to execute.
    pub reading: u64,
    /// The rights that a rule for a file, not a directory, can have.
    pub of_a_file: u64,
    /// The scopes for signals and abstract sockets; 0 if the kernel knows no scopes.
    pub scoped: u64,
}

/// The rights that this kernel enforces for a leaf.
pub fn rights() -> Rights {
    const ASK_VERSION: libc::c_long = 1;
    // SAFETY: with a null pointer and this flag the call only returns a number.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0_usize,
            ASK_VERSION,
        )
    };
    let abi = match version {
        ..1 => return Rights::default(),
        1 => ABI::V1,
        2 => ABI::V2,
        3 => ABI::V3,
        4 => ABI::V4,
        5 => ABI::V5,
        _ => WANTED,
    };
    Rights {
        handled: AccessFs::from_all(abi).bits(),
        reading: AccessFs::from_read(abi).bits(),
        of_a_file: AccessFs::from_file(abi).bits(),
        scoped: if version >= 6 {
            (Scope::AbstractUnixSocket | Scope::Signal).bits()
        } else {
            0
        },
    }
}

/// Confines this process and its descendants as a leaf.
///
/// It can read and execute anywhere, write only beneath `writable`, and use no signal and no abstract socket beyond the sandbox.
/// Paths that don't exist are skipped.
///
/// # Errors
/// When the kernel refuses a rule that it should know.
pub fn leaf(writable: &[&str]) -> io::Result<Level> {
    let all = AccessFs::from_all(WANTED);
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)
        .and_then(|r| r.scope(Scope::AbstractUnixSocket | Scope::Signal))
        .and_then(Ruleset::create)
        .map_err(io::Error::other)?;
    restrict(
        ruleset,
        Some(AccessFs::from_read(WANTED)),
        all,
        writable.iter().map(Path::new),
    )
}

/// Confines this process (the worker) to write only beneath `writable`, and to signal no other process; reading is not
/// restricted.
///
/// # Errors
/// When the kernel refuses a rule that it should know.
pub fn writer<'a>(writable: impl Iterator<Item = &'a Path>) -> io::Result<Level> {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_write(WANTED))
        .and_then(|r| r.scope(Scope::AbstractUnixSocket | Scope::Signal))
        .and_then(Ruleset::create)
        .map_err(io::Error::other)?;
    restrict(ruleset, None, AccessFs::from_write(WANTED), writable)
}

fn restrict<'a>(
    ruleset: landlock::RulesetCreated,
    everywhere: Option<landlock::BitFlags<AccessFs>>,
    beneath: landlock::BitFlags<AccessFs>,
    writable: impl Iterator<Item = &'a Path>,
) -> io::Result<Level> {
    let of_a_file = AccessFs::from_file(WANTED);
    let mut ruleset = ruleset;
    if let Some(access) = everywhere {
        let root = PathFd::new("/").map_err(io::Error::other)?;
        ruleset = ruleset
            .add_rule(PathBeneath::new(root, access))
            .map_err(io::Error::other)?;
    }
    for path in writable {
        let Ok(metadata) = path.metadata() else {
            continue;
        };
        let Ok(fd) = PathFd::new(path) else { continue };
        // The kernel refuses a rule for a file if it has rights that only a directory can have.
        let access = if metadata.is_dir() {
            beneath
        } else {
            beneath & of_a_file
        };
        ruleset = ruleset
            .add_rule(PathBeneath::new(fd, access))
            .map_err(io::Error::other)?;
    }
    ruleset
        .restrict_self()
        .map(Level::from)
        .map_err(io::Error::other)
}
