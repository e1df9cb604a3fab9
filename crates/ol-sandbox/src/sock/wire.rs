//! Translates between this crate's types and those of the warden's protocol, which contains no paths and no names.

use crate::lifecycle::Cause;
use crate::spec::{Content, Network, Packages, Role};
use ol_model::OomScope;
use ol_warden::cgroup;
use ol_warden::protocol::{self, CodeId};

pub(super) fn role(role: Role) -> protocol::Role {
    match role {
        Role::Leaf => protocol::Role::Leaf,
        Role::Zygote { shells } => protocol::Role::Zygote { shells },
    }
}

pub(super) fn content(content: &Content) -> protocol::Content {
    let limits = &content.limits;
    protocol::Content {
        limits: cgroup::GroupLimits {
            memory: limits.mem.bytes(),
            swap: 0,
            pids: limits.procs,
            cpu_percent: limits.cpu.0,
            oom_ends_all: content.oom == OomScope::Sandbox,
        },
        scratch: limits.scratch.bytes(),
        code: content.code.as_ref().map(|folder| CodeId(folder.number)),
        packages: match &content.packages {
            Packages::None => protocol::Packages::None,
            Packages::Named(folder) => protocol::Packages::Named(CodeId(folder.number)),
            Packages::All => protocol::Packages::All,
        },
        network: match content.network {
            Network::None => protocol::Network::None,
            Network::Egress => protocol::Network::Egress,
            Network::Host => protocol::Network::Host,
            Network::Gate => protocol::Network::Gate,
        },
    }
}

pub(super) fn cause(death: protocol::Death) -> Cause {
    match death {
        protocol::Death::Exited(status) => Cause::Exited(status),
        protocol::Death::Signalled(signal) => Cause::Signalled(signal),
        protocol::Death::NotStarted(step) => Cause::NotStarted(step),
    }
}
