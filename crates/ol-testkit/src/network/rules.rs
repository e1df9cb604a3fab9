//! The rules of a worker's network, taken away: what can be reached then was refused by them.

use super::sh;
use crate::worker::Worker;
use std::process::Command;

/// Lets everything pass that is sent from `worker`'s sandboxes, to the host too, and translates addresses as its rules did.
///
/// # Panics
/// When there is no `nft`, or no router.
pub fn flush(worker: &Worker<'_>) {
    in_router(
        worker,
        "nft flush ruleset; nft 'table ip t { chain c { type nat hook postrouting priority srcnat; oifname up masquerade; }; }'",
    );
    sh(
        "nft flush ruleset; nft 'table ip t { chain c { type nat hook postrouting priority srcnat; masquerade; }; }'",
    );
}

/// Runs a script in the router's namespace, in which no process is: it is that of a socket of the worker's.
fn in_router(worker: &Worker<'_>, script: &str) {
    let find = format!(
        r#"
import ctypes, fcntl, os, socket, sys
pid, libc = {}, ctypes.CDLL(None, use_errno=True)
pidfd = os.pidfd_open(pid)
for fd in map(int, os.listdir(f'/proc/{{pid}}/fd')):
    if not os.readlink(f'/proc/{{pid}}/fd/{{fd}}').startswith('socket:'):
        continue
    copy = libc.syscall(438, pidfd, fd, 0)
    s = socket.socket(fileno=copy)
    if s.family == socket.AF_INET and s.getsockname() == ('100.127.0.1', 53):
        assert libc.setns(fcntl.ioctl(copy, 0x894C), 0) == 0
        os.execvp('sh', ['sh', '-ec', sys.argv[1]])
sys.exit('no socket in the router')
"#,
        worker.process.pid
    );
    let output = Command::new("python3")
        .args(["-c", &find, script])
        .output()
        .expect("python3 is there");
    assert!(output.status.success(), "{output:?}");
}
