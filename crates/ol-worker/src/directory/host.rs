//! What the machine has, for the defaults that depend on it.

use std::fs;
use std::io;
use std::path::Path;

use ol_model::HostFacts;
use ol_warden::cgroup;

/// The memory and cores that sandboxes could use: the machine's, or less if a cgroup above theirs has a limit (in a container, or under a
/// service manager that delegates a cgroup).
///
/// # Errors
/// When `/proc` can't be read.
pub fn host_facts() -> io::Result<HostFacts> {
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let total = total_kb(&meminfo)
        .ok_or_else(|| io::Error::other("/proc/meminfo has no line MemTotal"))?
        .saturating_mul(1024);
    let layout = cgroup::probe()?;
    let bound = layout
        .parents()
        .filter_map(memory_bound)
        .min()
        .unwrap_or(u64::MAX);
    // This takes CPU affinity and cgroup quotas into account.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(HostFacts {
        memory_mb: total.min(bound) >> 20,
        cores: u32::try_from(cores).unwrap_or(u32::MAX),
    })
}

fn total_kb(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The smallest memory limit, in bytes, of `group` and the groups above it. Where none is set, v2 has `max` and v1 a huge number.
fn memory_bound(group: &Path) -> Option<u64> {
    group
        .ancestors()
        .filter_map(|group| {
            let text = fs::read_to_string(group.join("memory.max"))
                .or_else(|_| fs::read_to_string(group.join("memory.limit_in_bytes")));
            text.ok()?.trim().parse::<u64>().ok()
        })
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_in_its_unit() {
        assert_eq!(
            total_kb("MemTotal:       16307396 kB\nMemFree: 1 kB\n"),
            Some(16_307_396)
        );
        assert_eq!(total_kb("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn the_tightest_group_above_counts() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let inner = root.path().join("a/b");
        fs::create_dir_all(&inner).expect("directories");
        fs::write(root.path().join("a/memory.max"), "1048576\n").expect("a file");
        fs::write(inner.join("memory.max"), "max\n").expect("a file");
        assert_eq!(memory_bound(&inner), Some(1_048_576));
    }

    #[test]
    fn this_host_has_memory_and_cores() {
        let facts = host_facts().expect("facts");
        assert!(facts.memory_mb > 0 && facts.cores > 0, "{facts:?}");
    }
}
