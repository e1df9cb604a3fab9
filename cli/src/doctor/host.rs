//! Checks what sandboxes need from the machine.

use std::fs;
use std::path::Path;
use std::thread;

use ol_sys::confine::{self, Level};
use ol_warden::cgroup::{self, Layout};
use ol_warden::network;
use ol_worker::directory::{BaseInUse, python};
use rustix::process::geteuid;

use super::{Finding, programs};

/// The oldest kernel (major and minor) that works: the warden needs `cgroup.kill` and mount attributes.
const KERNEL: (u32, u32) = (6, 1);

const NAMESPACES: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];

/// Examines everything; `found` is the base image that sandboxes would have.
pub(super) fn look(found: &BaseInUse) -> Vec<Finding> {
    let mut findings = vec![root(), kernel()];
    findings.extend(cgroups());
    findings.extend([namespaces(), user_namespaces(), seccomp(), landlock()]);
    findings.push(match python(&found.base, &found.source) {
        Ok(version) => {
            let said = format!("{version} in the base image {}", found.source);
            Finding::ok("python", said)
        }
        // The error names the remedy itself.
        Err(error) => Finding::missing("python", error.to_string(), ""),
    });
    findings.push(egress());
    findings.extend(programs::look());
    findings
}

fn egress() -> Finding {
    let name = "network egress";
    match network::find_nft() {
        Some(path) => Finding::ok(name, format!("{}", path.display())),
        None => Finding::optional(
            name,
            "no nft: functions have no network, but for those with the host's",
            network::NFT_MISSING,
        ),
    }
}

fn root() -> Finding {
    let uid = geteuid();
    let found = if uid.is_root() {
        "running as root".to_owned()
    } else {
        format!("running as uid {}", uid.as_raw())
    };
    Finding::judge("root", uid.is_root(), found, "run with sudo")
}

fn kernel() -> Finding {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let version = version(&release);
    let remedy = format!("boot Linux {}.{} or newer", KERNEL.0, KERNEL.1);
    let good = version.is_some_and(|version| version >= KERNEL);
    Finding::judge("kernel", good, format!("Linux {release}"), &remedy)
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn cgroups() -> Vec<Finding> {
    let layout = match cgroup::probe() {
        Ok(layout) => layout,
        Err(error) => {
            let remedy = "mount cgroup2 on /sys/fs/cgroup";
            return vec![Finding::missing("cgroups", error.to_string(), remedy)];
        }
    };
    vec![controllers(&layout), freezer(&layout)]
}

fn controllers(layout: &Layout) -> Finding {
    let missing = layout.missing();
    if missing.is_empty() {
        return Finding::ok("cgroups", layout.to_string());
    }
    Finding::missing(
        "cgroups",
        format!("{layout}, without {}", missing.join(", ")),
        "boot with systemd.unified_cgroup_hierarchy=1 cgroup_enable=memory, or delegate these controllers \
         to the group that the worker runs in",
    )
}

fn freezer(layout: &Layout) -> Finding {
    let found = match (&layout.v2, layout.v1.get("freezer")) {
        (Some(_), _) => "cgroup v2",
        (None, Some(_)) => "cgroup v1",
        (None, None) => "none",
    };
    let remedy = "mount cgroup2 on /sys/fs/cgroup, or the v1 hierarchy freezer";
    Finding::judge("freezer", found != "none", found, remedy)
}

fn namespaces() -> Finding {
    let absent: Vec<&str> = NAMESPACES
        .into_iter()
        .filter(|kind| !Path::new("/proc/self/ns").join(kind).exists())
        .collect();
    if absent.is_empty() {
        return Finding::ok("namespaces", NAMESPACES.join(", "));
    }
    Finding::missing(
        "namespaces",
        format!("the kernel has none of {}", absent.join(", ")),
        "boot a kernel built with CONFIG_NAMESPACES and these kinds (most distributions' is)",
    )
}

fn user_namespaces() -> Finding {
    const FILE: &str = "/proc/sys/user/max_user_namespaces";
    let most: Option<u64> = fs::read_to_string(FILE)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let found = most.map_or_else(|| "none".to_owned(), |most| format!("at most {most}"));
    let remedy = "run `sysctl user.max_user_namespaces=65536`";
    Finding::judge(
        "user namespaces",
        most.is_some_and(|n| n > 0),
        found,
        remedy,
    )
}

fn seccomp() -> Finding {
    const FILE: &str = "/proc/sys/kernel/seccomp/actions_avail";
    let actions = fs::read_to_string(FILE).unwrap_or_default();
    let has = |action: &str| actions.split_whitespace().any(|a| a == action);
    let good = has("errno") && has("kill_process");
    let found = if good { "filters" } else { "no filters" };
    let remedy = "boot a kernel built with CONFIG_SECCOMP_FILTER, or start with -o features.enable_seccomp=false";
    Finding::judge("seccomp", good, found, remedy)
}

/// Tried in a thread of its own, because Landlock restricts the calling thread for good.
fn landlock() -> Finding {
    let level = thread::spawn(|| confine::leaf(&[])).join();
    match level {
        Ok(Ok(Level::Full)) => Finding::ok("landlock", "all rights"),
        Ok(Ok(Level::Partial)) => Finding::optional(
            "landlock",
            "an older version: some rights are not checked",
            "Linux 6.12 or newer has all",
        ),
        _ => Finding::optional(
            "landlock",
            "none: sandboxes do without this layer",
            "boot with lsm=landlock,… to have it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn kernel_releases_are_read_as_distributions_write_them() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(version("5.15-rc3+"), Some((5, 15)));
        assert_eq!(version("plan9"), None);
    }
}
