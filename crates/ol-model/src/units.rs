//! Types for the units in the configuration's key names (`mem_mb`, `cpu_percent`), so that bytes are never mistaken for MiB.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Memory or disk in mebibytes. The configuration calls them "mb" for the original's sake.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct MiB(pub u32);

impl MiB {
    /// The same amount in bytes. Cannot overflow: 2³² MiB are 2⁵² bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        (self.0 as u64) << 20
    }

    /// `bytes` in MiB, rounded up; at most the largest value of the type.
    #[must_use]
    pub fn from_bytes_ceil(bytes: u64) -> Self {
        Self(u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX))
    }
}

impl fmt::Display for MiB {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0)
    }
}

/// A share of processor time: 100 is one core, 250 two and a half.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct CpuPercent(pub u32);

impl CpuPercent {
    /// All of `cores` cores.
    #[must_use]
    pub const fn of_cores(cores: u32) -> Self {
        Self(cores.saturating_mul(100))
    }
}

impl fmt::Display for CpuPercent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_the_largest_amount_do_not_overflow() {
        assert_eq!(MiB(50).bytes(), 52_428_800);
        assert_eq!(MiB(u32::MAX).bytes(), u64::from(u32::MAX) * 1_048_576);
    }

    #[test]
    fn bytes_round_up() {
        assert_eq!(MiB::from_bytes_ceil(0), MiB(0));
        assert_eq!(MiB::from_bytes_ceil(1), MiB(1));
        assert_eq!(MiB::from_bytes_ceil(1 << 20), MiB(1));
        assert_eq!(MiB::from_bytes_ceil(u64::MAX), MiB(u32::MAX));
    }

    #[test]
    fn people_read_the_unit() {
        assert_eq!(MiB(50).to_string(), "50 MiB");
        assert_eq!(CpuPercent::of_cores(1).to_string(), "100 %");
    }
}
