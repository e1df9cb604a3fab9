//! The bounds on what an archive may become: a few kilobytes can unpack to any number of bytes and files.

/// The most that one archive may unpack to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtractLimits {
    /// Bytes of the unpacked archive, its headers included.
    pub bytes: u64,
    /// Limits the number of members, and also of the files and directories made (some have no member of their own).
    pub entries: u64,
    /// The most parts of a member's name, which are separated by slashes.
    pub depth: u32,
    /// The most unpacked bytes for each packed byte, checked once 64 MiB are unpacked. Has no effect on a plain archive.
    pub ratio: u64,
}

impl Default for ExtractLimits {
    fn default() -> Self {
        ExtractLimits {
            bytes: 1 << 30,
            entries: 100_000,
            depth: 64,
            ratio: 200,
        }
    }
}
