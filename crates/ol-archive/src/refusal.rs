//! The errors for a bundle that is refused.
//!
//! Every sentence is for the person who packed the bundle: it names the member and what to do, and never a path of this host.

use std::io;

use thiserror::Error;

/// Why a bundle could not be unpacked. The directory is left as it is, for the caller to remove.
#[derive(Debug, Error)]
pub enum ExtractError {
    /// The bundle holds something it must not.
    #[error("member \"{member}\" of the bundle is refused: {why}")]
    Refused {
        /// The member's name, escaped and cut at 200 characters.
        member: String,
        /// What is wrong with it.
        why: Refusal,
    },
    /// The gzip stream or the archive in it ends too early.
    #[error("the bundle ends too early, {place}; pack it and upload it again")]
    CutShort {
        /// `at its start`, or after which member.
        place: String,
    },
    /// Not gzip, or damaged.
    #[error(
        "the bundle is not sound gzip data, {place}; pack it with 'tar -czf' and upload it again"
    )]
    NotGzip {
        /// `at its start`, or after which member.
        place: String,
    },
    /// Sound gzip, but no tar archive inside, or a damaged one.
    #[error(
        "the bundle is not a sound tar archive, {place}; pack it with 'tar -czf' and upload it again"
    )]
    NotTar {
        /// `at its start`, or after which member.
        place: String,
    },
    /// The archive ended and something follows.
    #[error("the bundle goes on after the end of its archive, {place}; upload one archive only")]
    TrailingData {
        /// After which member.
        place: String,
    },
    /// The stored bundle could not be read: nothing is known of its contents.
    #[error("failed to read the stored bundle; check the disk that holds the registry")]
    Read {
        /// What the reader said.
        source: io::Error,
    },
    /// A file of the bundle could not be written on this host.
    #[error("failed to write member \"{member}\"; check the space where bundles are unpacked")]
    Write {
        /// The member's name, escaped and cut at 200 characters.
        member: String,
        /// What the file system said.
        source: io::Error,
    },
    /// The directory to unpack into could not be opened.
    #[error("failed to open the directory to unpack into; check the worker's scratch directory")]
    Into {
        /// What the file system said.
        source: io::Error,
    },
}

impl ExtractError {
    /// Whether the bundle is at fault, so that every other try fails as well: tell its owner, don't retry.
    ///
    /// Otherwise this host has a problem, and the bundle may be fine.
    #[must_use]
    pub fn is_the_bundles_fault(&self) -> bool {
        !matches!(
            self,
            ExtractError::Read { .. } | ExtractError::Write { .. } | ExtractError::Into { .. }
        )
    }
}

/// Why a member is refused, each with the remedy for the person who packed the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// `..` in its name.
    #[error("its name climbs with '..'; pack from inside the function's directory")]
    Climbs,
    /// A name that starts at `/`.
    #[error("its name is absolute; pack with 'tar -C DIRECTORY .'")]
    Absolute,
    /// An empty name.
    #[error("it has no name; pack the bundle again")]
    Nameless,
    /// A NUL inside the name.
    #[error("its name holds a NUL byte; rename it")]
    Nul,
    /// A component of the name longer than a directory can hold.
    #[error("a part of its name is over {0} bytes; shorten it")]
    LongPart(usize),
    /// A name longer than programs can open.
    #[error("its name is over {0} bytes; shorten it")]
    LongName(usize),
    /// More directories deep than allowed.
    #[error("it lies over {0} directories deep; flatten the bundle")]
    Deep(u32),
    /// A symbolic link.
    #[error("it is a symbolic link; pack what it points to with 'tar --dereference'")]
    Symlink,
    /// A hard link.
    #[error("it is a hard link; pack a copy with 'tar --hard-dereference'")]
    HardLink,
    /// A character or block device.
    #[error("it is a device; leave it out")]
    Device,
    /// A named pipe.
    #[error("it is a named pipe; leave it out")]
    Fifo,
    /// A sparse file, in any of the three encodings.
    #[error("it is stored as a sparse file; pack without 'tar --sparse'")]
    Sparse,
    /// A kind of member that we don't know.
    #[error("it is of kind 0x{0:02x}; bundles hold files and directories only")]
    Kind(u8),
    /// The same file a second time.
    #[error("it is in the bundle twice; pack every file once")]
    Twice,
    /// A file where a directory stands, or the other way around.
    #[error("a file and a directory share its name; rename one of them")]
    FileAndDirectory,
    /// A directory that says it has contents. Readers differ on whether these follow in the stream, so
    /// what one of them checks another may not see.
    #[error("it is a directory with contents of its own; pack the bundle again with GNU tar")]
    DirectoryWithContents,
    /// The header and its extension give two different sizes, which readers also treat differently.
    #[error("its size is given twice and differs; pack the bundle again with GNU tar")]
    TwoSizes,
    /// The header and two extensions give two names.
    #[error("its name is given twice; pack the bundle again with GNU tar")]
    TwoNames,
    /// Extension headers over their limit.
    #[error("its extension headers are over {0} bytes; pack without extended attributes")]
    LongExtension(u64),
    /// An extension header that doesn't parse.
    #[error("its extension header is damaged; pack the bundle again")]
    BadExtension,
    /// A global extension header that renames or resizes what follows.
    #[error("it is a global header that changes other members; pack with GNU tar")]
    GlobalExtension,
    /// Too much comes out of the bundle.
    #[error("the bundle unpacks to over {0} bytes; leave out what the function doesn't need")]
    Bytes(u64),
    /// Too many files and directories.
    #[error("the bundle holds over {0} entries; leave out what the function doesn't need")]
    Entries(u64),
    /// It unpacks to suspiciously many times its size.
    #[error("the bundle unpacks to over {0} times its size; leave out files of padding")]
    Ratio(u64),
}

impl Refusal {
    /// What is wrong, without the advice, for archives that were not packed by a person.
    #[must_use]
    pub fn fact(&self) -> String {
        let text = self.to_string();
        let fact = text
            .split_once("; ")
            .map_or(text.as_str(), |(fact, _)| fact);
        fact.replace("the bundle", "the archive")
    }
}
