//! The steps that build the template, in order. Pure: what exists on the host is passed in.

use std::path::{Path, PathBuf};

/// What a sandbox's root file system is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// The host's own `/usr` and what belongs to it, with a minimal `/etc` that the warden writes.
    Host,
    /// A directory that holds a root file system.
    Directory(PathBuf),
}

impl Base {
    /// Where the base lies on the host.
    pub fn root(&self) -> &Path {
        match self {
            Self::Host => Path::new("/"),
            Self::Directory(path) => path,
        }
    }
}

/// Where a base's Python may be, in order of preference, without the leading slash.
pub const PYTHONS: [&str; 2] = ["usr/bin/python3", "usr/local/bin/python3"];

/// Size of a sandbox's `/dev/shm` in bytes; its pages count towards the sandbox's memory limit.
pub(crate) const SHM_BYTES: u64 = 64 << 20;

/// One step of building the template. Paths are relative to the template's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BuildStep {
    /// An empty directory.
    Directory(String),
    /// A file with this content.
    File(String, Vec<u8>),
    /// A symbolic link to this target.
    Link(String, String),
    /// A read-only bind of a host path (file or directory), without set-user-id and devices.
    Bind { from: PathBuf, at: String },
    /// A character device of the template's own, which everybody may use. Locks on it, and queries who has it open, don't reach the
    /// host's device.
    Device { at: String, number: (u32, u32) },
    /// A file of the template, mounted over a file of the base.
    Cover { with: String, at: String },
}

/// The kind of an entry at the top of a base, or in the host's `/etc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Directory,
    File,
    Link(String),
}

const HOST_TOP: [&str; 6] = ["usr", "bin", "sbin", "lib", "lib64", "lib32"];

/// The entries of the host's `/etc` that programs need to start, and that are not secret.
const HOST_ETC: [&str; 10] = [
    "alternatives",
    "ca-certificates.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "protocols",
    "services",
    "ssl/certs",
];

/// The directories that the warden makes itself in every sandbox, whatever the base has there.
pub const OURS: [&str; 8] = [
    "dev", "handler", "host", "packages", "proc", "runtime", "sys", "tmp",
];

/// The devices in `/dev`, with their numbers (Linux's admin-guide/devices.txt).
const DEVICES: [(&str, (u32, u32)); 5] = [
    ("null", (1, 3)),
    ("zero", (1, 5)),
    ("full", (1, 7)),
    ("random", (1, 8)),
    ("urandom", (1, 9)),
];

/// The files of the program that serves inside: name and content of each.
pub type Runtime = &'static [(&'static str, &'static [u8])];

const RESOLVER: &str = "etc/resolv.conf";

/// The plan for `base`.
///
/// `top` names the entries at the base's top; `look` tells the kind of an entry by its path relative to the base's root; `resolver`
/// is the text of `/etc/resolv.conf`.
pub(super) fn plan(
    base: &Base,
    top: &[String],
    look: &dyn Fn(&str) -> Option<Entry>,
    runtime: Runtime,
    resolver: &str,
) -> Vec<BuildStep> {
    let mut steps: Vec<BuildStep> = OURS
        .iter()
        .map(|d| BuildStep::Directory((*d).to_owned()))
        .collect();
    match base {
        Base::Host => {
            steps.extend(HOST_TOP.iter().filter_map(|name| take(base, name, look)));
            steps.push(BuildStep::Directory("etc".to_owned()));
            steps.push(BuildStep::Directory("etc/ssl".to_owned()));
            steps.extend(etc_files(resolver));
            steps.extend(
                HOST_ETC
                    .iter()
                    .filter_map(|name| take(base, &format!("etc/{name}"), look)),
            );
        }
        Base::Directory(_) => {
            let theirs = top
                .iter()
                .filter(|name| !OURS.contains(&name.as_str()) && name.as_str() != "base.json");
            steps.extend(theirs.filter_map(|name| take(base, name, look)));
            // An image's password hashes are of no use to a function.
            for secret in ["etc/shadow", "etc/gshadow", "etc/shadow-", "etc/gshadow-"] {
                if look(secret) == Some(Entry::File) {
                    steps.push(BuildStep::Bind {
                        from: "/dev/null".into(),
                        at: secret.to_owned(),
                    });
                }
            }
        }
    }
    if matches!(base, Base::Directory(_)) && look(RESOLVER) == Some(Entry::File) {
        let with = "runtime/resolv.conf".to_owned();
        steps.push(BuildStep::File(with.clone(), resolver.as_bytes().to_vec()));
        let at = RESOLVER.to_owned();
        steps.push(BuildStep::Cover { with, at });
    }
    // The files are written, not bound: a bind mount would show in mountinfo where they lie on the host.
    for (name, text) in runtime {
        steps.push(BuildStep::File(format!("runtime/{name}"), text.to_vec()));
    }
    steps.push(BuildStep::Directory("dev/shm".to_owned()));
    for (device, number) in DEVICES {
        let at = format!("dev/{device}");
        steps.push(BuildStep::Device { at, number });
    }
    for (at, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        steps.push(BuildStep::Link(format!("dev/{at}"), to.to_owned()));
    }
    steps
}

fn take(base: &Base, name: &str, look: &dyn Fn(&str) -> Option<Entry>) -> Option<BuildStep> {
    match look(name)? {
        Entry::Link(target) => Some(BuildStep::Link(name.to_owned(), target)),
        Entry::Directory | Entry::File => Some(BuildStep::Bind {
            from: base.root().join(name),
            at: name.to_owned(),
        }),
    }
}

/// A leaf's uid as seen inside; the uid map says which one it is on the host.
pub(crate) const INNER_LEAF: u32 = 1000;
/// The keeper's uid as seen inside a leaf's sandbox.
pub(crate) const INNER_KEEPER: u32 = 1001;

fn etc_files(resolver: &str) -> Vec<BuildStep> {
    let file =
        |name: &str, text: &str| BuildStep::File(format!("etc/{name}"), text.as_bytes().to_vec());
    vec![
        file(
            "passwd",
            "root:x:0:0:root:/:/usr/sbin/nologin\nuser:x:1000:1000:user:/tmp:/bin/sh\n\
             nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
        ),
        file("group", "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n"),
        file("hosts", "127.0.0.1 localhost sandbox\n::1 localhost\n"),
        file("hostname", "sandbox\n"),
        file("resolv.conf", resolver),
        file(
            "nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files dns\n",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNTIME: Runtime = &[("guest.py", b"print()")];

    fn plan_for(base: &Base, entries: &[(&str, Entry)]) -> Vec<BuildStep> {
        let top: Vec<String> = entries
            .iter()
            .filter(|(n, _)| !n.contains('/'))
            .map(|(n, _)| (*n).to_owned())
            .collect();
        let look = |name: &str| {
            entries
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, e)| e.clone())
        };
        plan(base, &top, &look, RUNTIME, "nameserver 10.9.8.7\n")
    }

    #[test]
    fn the_host_lends_usr_and_little_of_etc() {
        let steps = plan_for(
            &Base::Host,
            &[
                ("usr", Entry::Directory),
                ("bin", Entry::Link("usr/bin".to_owned())),
                ("home", Entry::Directory),
                ("etc/shadow", Entry::File),
                ("etc/ssl/certs", Entry::Directory),
            ],
        );
        let binds: Vec<&str> = steps
            .iter()
            .filter_map(|s| {
                if let BuildStep::Bind { at, .. } = s {
                    Some(at.as_str())
                } else {
                    None
                }
            })
            .collect();
        assert_eq!(binds, ["usr", "etc/ssl/certs"]);
        assert!(steps.contains(&BuildStep::Device {
            at: "dev/null".to_owned(),
            number: (1, 3),
        }));
        assert!(steps.contains(&BuildStep::Link("bin".to_owned(), "usr/bin".to_owned())));
    }

    #[test]
    fn a_directory_base_keeps_its_top_but_not_what_is_ours_nor_its_hashes() {
        let base = Base::Directory("/images/debian".into());
        let steps = plan_for(
            &base,
            &[
                ("opt", Entry::Directory),
                ("proc", Entry::Directory),
                ("etc", Entry::Directory),
                ("etc/shadow", Entry::File),
                ("etc/resolv.conf", Entry::File),
            ],
        );
        assert!(steps.contains(&BuildStep::Cover {
            with: "runtime/resolv.conf".to_owned(),
            at: "etc/resolv.conf".to_owned(),
        }));
        let bind = |from: &str, at: &str| BuildStep::Bind {
            from: from.into(),
            at: at.to_owned(),
        };
        assert!(steps.contains(&bind("/images/debian/opt", "opt")));
        assert!(steps.contains(&bind("/dev/null", "etc/shadow")));
        assert!(!steps.contains(&bind("/images/debian/proc", "proc")));
    }
}
