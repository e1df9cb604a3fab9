//! Removes the rules of a worker's network: if something can be reached then, it was refused by the rules.

use super::sh;
use crate::worker::Worker;
use std::process::Command;

/// Lets everything pass that sandboxes of `worker` send, even to the host, and translates addresses as its rules did.
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

/// Runs a script in the router's network namespace. No process is in it, thus it is found through a socket of the worker.
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
