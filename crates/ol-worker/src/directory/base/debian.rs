//! Makes a small base image of a Debian release with mmdebstrap(1).
//!
//! The variant `essential` is the smallest that dpkg still understands. It has no apt, which isn't needed after the image is made. (The
//! variant `custom` would also leave out the shell's tools, which packages and functions use.)
//!
//! Scripts of Debian packages run as root in their own root directory. They have namespaces of their own: processes that they start end
//! with them, and the host doesn't see their mounts.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::super::error::DirectoryError;
use super::program::{ProgramError, in_path, mortal, stream};
use super::staging::Staging;
use super::unpack::unpack;

/// Debian 13, with Python 3.13: the newest stable release, hence the one supported for longest, and the newest Python that the worker's
/// tests run on.
pub(super) const DEFAULT_SUITE: &str = "trixie";

const PROGRAM: &str = "mmdebstrap";

/// The packages in the image. `python3` includes ssl and sqlite3. The others are small, and much of Python needs them: trusted
/// certificates, time zones, names of media types and of services.
const PACKAGES: &str = "python3,ca-certificates,tzdata,media-types,netbase";

/// Folders of `/usr/share` that nobody reads in a sandbox; half of the size.
const WITHOUT: [&str; 6] = ["doc", "info", "lintian", "locale", "man", "bug"];

/// A hook that prepares the directories such that Debian 12 needs only a package of some bytes instead of one that depends on all of Perl.
/// Does nothing for other releases.
const MERGED_USR: &str = "/usr/share/mmdebstrap/hooks/maybe-merged-usr";

/// Debian's keys. On other distributions apt doesn't trust them by default.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where apt gets packages: the archive of releases, and that of security updates.
struct Mirror {
    main: String,
    security: String,
    /// Whether it holds releases that are no longer supported, whose package lists have expired.
    old: bool,
}

/// Checks that mmdebstrap is installed.
pub(super) fn check() -> Result<(), DirectoryError> {
    match in_path(PROGRAM) {
        Some(_) => Ok(()),
        None => Err(DirectoryError::NoMmdebstrap),
    }
}

/// Makes an image of the release `suite`; returns how many devices and pipes were left out.
pub(super) fn make(suite: &str, staging: &Staging) -> Result<u64, DirectoryError> {
    check()?;
    staging.say(&format!(
        "making the base image debian:{suite} with mmdebstrap: half a minute, or what the downloads take"
    ));
    let first = run(suite, &Mirror::of_this_host(), staging);
    // A release that left the mirrors is in Debian's archive of old releases.
    let made = match &first {
        Err(ProgramError::Failed(said)) if said.contains("does not have a Release file") => {
            run(suite, &Mirror::archive(), staging).or(first)
        }
        _ => first,
    };
    made.map_err(|error| match error {
        ProgramError::Unpack(why) => DirectoryError::Unpack {
            base: format!("debian:{suite}"),
            why,
        },
        ProgramError::Start(error) => failed(suite, &error.to_string()),
        ProgramError::Failed(said) => failed(suite, &complaints(&said)),
    })
}

fn failed(suite: &str, said: &str) -> DirectoryError {
    DirectoryError::BaseProgram {
        program: PROGRAM,
        base: format!("debian:{suite}"),
        said: said.to_owned(),
        remedy: "check the release's name, and that its mirror can be reached from here",
    }
}

fn run(suite: &str, mirror: &Mirror, staging: &Staging) -> Result<u64, ProgramError> {
    let mut command = mortal("unshare");
    command
        .args(["--mount", "--pid", "--ipc", "--uts", "--mount-proc"])
        .args(["--fork", "--kill-child=KILL", "--", PROGRAM])
        .args(["--mode=root", "--variant=essential", "--format=tar"])
        .arg(format!("--include={PACKAGES}"))
        // Syncing each file isn't needed: the image is synced as a whole when it is unpacked.
        .arg("--dpkgopt=force-unsafe-io");
    for folder in WITHOUT {
        command.arg(format!("--dpkgopt=path-exclude=/usr/share/{folder}/*"));
    }
    if Path::new(MERGED_USR).is_dir() {
        command.arg(format!("--hook-dir={MERGED_USR}"));
    }
    for option in proxies() {
        command.arg(format!("--aptopt={option}"));
    }
    if mirror.old {
        command.arg("--aptopt=Acquire::Check-Valid-Until \"false\"");
    }
    command.args([suite, "-"]).args(mirror.sources(suite));
    command
        .env("TMPDIR", staging.scratch())
        .env("LC_ALL", "C.UTF-8")
        .env_remove("APT_CONFIG");
    stream(command, &staging.log(), |archive| {
        unpack(archive, &staging.root())
    })
}

/// The first line of apt's or mmdebstrap's output that names a cause, not merely a failure.
fn complaints(said: &str) -> String {
    let of_what = |line: &&str| {
        line.starts_with("E: ") && !line.ends_with(" failed") && !line.contains("failed to run")
    };
    let line = said.lines().find(of_what).or(said.lines().last());
    line.unwrap_or("it said nothing").to_owned()
}

/// The proxy settings of the host's apt.
fn proxies() -> Vec<String> {
    let keys = ["http::Proxy", "https::Proxy", "http::Proxy-Auto-Detect"];
    let output = Command::new("apt-config")
        .args(["dump", "--format", "%f \"%v\"%n"])
        .args(keys.map(|key| format!("Acquire::{key}")))
        .output();
    let said = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&said)
        .lines()
        .filter(|line| !line.ends_with(" \"\""))
        .map(str::to_owned)
        .collect()
}

impl Mirror {
    /// The mirror that the host itself uses, if it is a Debian.
    fn of_this_host() -> Self {
        let mut configured = Vec::new();
        let parts = fs::read_dir("/etc/apt/sources.list.d")
            .into_iter()
            .flatten();
        let mut files: Vec<_> = parts.flatten().map(|part| part.path()).collect();
        files.sort();
        files.insert(0, "/etc/apt/sources.list".into());
        for file in files {
            configured.push(fs::read_to_string(file).unwrap_or_default());
        }
        Self::among(&configured.join("\n"))
    }

    /// Finds a mirror in apt's sources. By convention a mirror of Debian's archive lies in a directory `debian`.
    fn among(sources: &str) -> Self {
        let find = |name: &str| {
            let lines = sources
                .lines()
                .filter(|line| !line.trim_start().starts_with('#'));
            lines
                .flat_map(str::split_whitespace)
                .filter(|word| word.starts_with("http://") || word.starts_with("https://"))
                .map(|word| word.trim_end_matches('/'))
                .find(|word| word.rsplit('/').next() == Some(name))
                .map_or_else(|| format!("http://deb.debian.org/{name}"), str::to_owned)
        };
        Self {
            main: find("debian"),
            security: find("debian-security"),
            old: false,
        }
    }

    fn archive() -> Self {
        Self {
            main: "http://archive.debian.org/debian".to_owned(),
            security: "http://archive.debian.org/debian-security".to_owned(),
            old: true,
        }
    }

    /// The lines of a sources.list for `suite`.
    fn sources(&self, suite: &str) -> Vec<String> {
        let signed = if Path::new(KEYRING).is_file() {
            format!("[signed-by={KEYRING}] ")
        } else {
            String::new()
        };
        let line = |uri: &str, suite: String| format!("deb {signed}{uri} {suite} main");
        let mut lines = vec![line(&self.main, suite.to_owned())];
        // unstable is never released; it has no archives of updates.
        if !["sid", "unstable"].contains(&suite) {
            lines.push(line(&self.main, format!("{suite}-updates")));
            lines.push(line(&self.security, format!("{suite}-security")));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_mirror_is_found_in_either_format() {
        let old = "# deb http://old.example/debian x main\ndeb [arch=amd64] https://a.example/mirror/debian/ bookworm main\n";
        assert_eq!(Mirror::among(old).main, "https://a.example/mirror/debian");
        let new = "Types: deb\nURIs: http://b.example/debian-security\nSuites: x\n";
        let found = Mirror::among(new);
        assert_eq!(found.security, "http://b.example/debian-security");
        assert_eq!(found.main, "http://deb.debian.org/debian");
        let other = Mirror::among("deb http://archive.example/ubuntu noble main");
        assert_eq!(other.main, "http://deb.debian.org/debian");
    }

    #[test]
    fn complaints_name_the_matter() {
        let said = "I: running apt-get update...\nE: The repository 'x' does not have a Release file.\n\
                    E: apt-get update --error-on=any failed\nE: mmdebstrap failed to run\n";
        let matter = "E: The repository 'x' does not have a Release file.";
        assert_eq!(complaints(said), matter);
        assert_eq!(complaints("unshare: no\n"), "unshare: no");
    }
}
