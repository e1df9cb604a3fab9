//! The settings whose value is one of a few words, and the port, which the file spells as a string.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text_enum::text_enum;

text_enum! {
    /// How sandboxes are made.
    pub enum SandboxKind {
        /// This worker's own kind: namespaces, cgroups and a zygote to fork from.
        Sock = "sock",
        /// Each sandbox is a Docker container.
        Docker = "docker",
    }
}

text_enum! {
    /// What the worker serves.
    pub enum ServerMode {
        /// Functions.
        Lambda = "lambda",
        /// Sandboxes driven directly, for experiments.
        Sock = "sock",
    }
}

text_enum! {
    /// How zygotes are kept.
    pub enum ImportCache {
        /// There are none: every sandbox starts its own interpreter.
        Off = "",
        /// One tree.
        Tree = "tree",
        /// Several identical trees, for machines where one root is a bottleneck.
        Multitree = "multitree",
    }
}

text_enum! {
    /// What the root of a sandbox is mounted from.
    pub enum RootStorage {
        /// A plain folder on the disk.
        Regular = "",
        /// A tmpfs.
        Memory = "memory",
        /// A mount of its own that other sandboxes don't see.
        Private = "private",
    }
}

text_enum! {
    /// What a sandbox's `/tmp` is.
    pub enum ScratchStorage {
        /// The default: a tmpfs of the function's `scratch_mb`, charged to its memory.
        Regular = "",
        /// The same, set explicitly.
        Memory = "memory",
        /// A mount of its own that other sandboxes don't see.
        Private = "private",
        /// A plain folder on the disk, without a size limit of its own.
        Disk = "disk",
    }
}

text_enum! {
    /// What unpacked code is kept in.
    pub enum CodeStorage {
        /// A plain folder on the disk.
        Regular = "",
        /// A tmpfs.
        Memory = "memory",
        /// A mount of its own that other sandboxes don't see.
        Private = "private",
    }
}

text_enum! {
    /// How the number of a function's instances follows its load.
    pub enum ScalingPolicy {
        /// As many instances as needed for at most `target_ms` of outstanding work for each, started at once.
        Work = "work",
        /// The original's policy: at most a second of outstanding work for each, with one step each second.
        Original = "original",
    }
}

text_enum! {
    /// The network of a function whose `ol.yaml` doesn't say.
    pub enum DefaultNetwork {
        /// `egress` if this machine can provide it, else `none`.
        Auto = "auto",
        /// Nothing outside of the sandbox.
        None = "none",
        /// Outbound connections.
        Egress = "egress",
        /// The host's network.
        Host = "host",
    }
}

/// A TCP port. It is a string in the file, as in the original's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Port(pub u16);

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Port {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // Parsing a `u16` would accept a leading plus, which is not valid in a URL.
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits
            .then(|| text.parse().ok())
            .flatten()
            .map(Self)
            .ok_or_else(|| {
                serde::de::Error::custom(format_args!(
                    "{text:?} is no port; use 0 to 65535, where 0 picks a free one"
                ))
            })
    }
}
