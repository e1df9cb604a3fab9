//! Kills the processes in a group, by pidfds and never by numbers alone.

use super::probe::write;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Kills every process in the group at `top` and beneath it, and waits until they have left.
pub(super) fn kill_all(top: &Path) -> io::Result<()> {
    let kill = top.join("cgroup.kill");
    if kill.exists() {
        write(&kill, "1")?;
    }
    let mut pids = Vec::new();
    collect_pids(top, &mut pids)?;
    for pid in pids {
        let look = |still: &mut Vec<i32>| collect_pids(top, still);
        let Some(pidfd) = kill_if(pid, look)? else {
            continue;
        };
        let mut poll = [rustix::event::PollFd::new(
            &pidfd,
            rustix::event::PollFlags::IN,
        )];
        let limit = rustix::time::Timespec {
            tv_sec: 5,
            tv_nsec: 0,
        };
        rustix::event::poll(&mut poll, Some(&limit))?;
    }
    Ok(())
}

/// Kills every process in the group at `path`.
pub(super) fn kill_in(path: &Path) -> io::Result<()> {
    let mut pids = Vec::new();
    members(path, &mut pids);
    for pid in pids {
        kill_if(pid, |still| {
            members(path, still);
            Ok(())
        })?;
    }
    Ok(())
}

/// Kills process `pid` if `look` still finds it after a pidfd was opened.
///
/// Without the second look, the number could have been reused and another process would be killed.
fn kill_if(
    pid: i32,
    look: impl FnOnce(&mut Vec<i32>) -> io::Result<()>,
) -> io::Result<Option<OwnedFd>> {
    let handle = rustix::process::Pid::from_raw(pid).and_then(|pid| {
        rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
    });
    let Some(pidfd) = handle else {
        return Ok(None);
    };
    let mut still = Vec::new();
    look(&mut still)?;
    if still.contains(&pid) {
        let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
    }
    Ok(Some(pidfd))
}

fn members(group: &Path, into: &mut Vec<i32>) {
    // Reading `cgroup.procs` fails in a threaded group, which lists threads only.
    let read = |file: &str| fs::read_to_string(group.join(file));
    let procs = read("cgroup.procs")
        .or_else(|_| read("cgroup.threads"))
        .unwrap_or_default();
    into.extend(procs.lines().filter_map(|l| l.parse::<i32>().ok()));
}

/// Collects the processes in the group at `top` and beneath it, without thawing anything.
pub(super) fn all_members(top: &Path, into: &mut Vec<i32>) {
    members(top, into);
    let groups = fs::read_dir(top)
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    for group in groups.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        all_members(&group.path(), into);
    }
}

fn collect_pids(group: &Path, into: &mut Vec<i32>) -> io::Result<()> {
    let thaw = group.join("freezer.state");
    if thaw.exists() {
        // Only the top of a v1 hierarchy lacks this file. If thawing fails, that shows when the processes don't die.
        let _ = write(&thaw, "THAWED");
    }
    members(group, into);
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect_pids(&entry.path(), into)?;
        }
    }
    Ok(())
}
