//! A network environment for a worker: everything that it may or may not reach is in two network namespaces of the test's own, so that a
//! rule that fails harms nobody.
//!
//! ```text
//!   outer: the worker's host          public: everybody else
//!     lo 127.0.0.1, 192.0.2.77          203.0.113.5  HTTP, echo, names
//!     pub0 203.0.113.1 ────────────────  169.254.169.254, 10.9.9.9, 10.9.9.10, 192.168.7.7, 100.70.0.1: the same, forbidden
//!     a service on every address
//! ```
//! The calling thread moves into `outer` and stays there; so do processes that it starts and connections that it makes.
//!
//! - [`rules`]: removes a worker's rules, so that a test can show that it was the rules that refused something

pub mod rules;

use crate::patience::eventually;
use crate::place::{Place, in_place};
use crate::skip::root_or_skip;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::thread;

/// Serves TCP and UDP on every address of its namespace; answers begin with `ROLE`. In the role `public` it also answers DNS questions. On
/// TCP, `log` returns the datagrams that arrived.
const SERVER: &str = r#"
import socket, struct, sys, threading
role, port = sys.argv[1], int(sys.argv[2])
seen = []
def run(what):
    threading.Thread(target=what, daemon=True).start()
def stream(c):
    with c:
        while data := c.recv(1000):
            c.sendall((role + ' ' + ' '.join(seen)).encode() if data == b'log' else role.encode() + b':' + data)
def streams():
    s = socket.create_server(('0.0.0.0', port), backlog=500)
    while True:
        c = s.accept()[0]
        run(lambda c=c: stream(c))
def datagrams():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(('0.0.0.0', port))
    while True:
        data, peer = s.recvfrom(1000)
        seen.append(data.decode())
        s.sendto(role.encode() + b':' + data, peer)
def answer(q, long):
    if len(q) < 17:
        return b''
    head, end = q[:2], 12
    while q[end]:
        end += q[end] + 1
    name, kind = q[12:end], q[end+1:end+3]
    asked = q[12:end+5]
    if name != b'\x06public\x07example':
        return head + b'\x81\x83' + q[4:6] + bytes(6) + asked
    if kind == b'\0\x10':
        if not long:
            return head + b'\x83\x80' + q[4:6] + bytes(6) + asked
        text = (b'\xff' + b'x' * 255) * 20
        return head + b'\x81\x80' + q[4:6] + b'\0\x01' + bytes(4) + asked + b'\xc0\x0c\0\x10\0\x01' + bytes(4) + struct.pack('>H', len(text)) + text
    if kind != b'\0\x01':
        return head + b'\x81\x80' + q[4:6] + bytes(6) + asked
    return head + b'\x81\x80' + q[4:6] + b'\0\x01' + bytes(4) + asked + b'\xc0\x0c\0\x01\0\x01' + bytes(4) + b'\0\x04' + socket.inet_aton('203.0.113.5')
def names():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(('0.0.0.0', 53))
    while True:
        q, peer = s.recvfrom(5000)
        s.sendto(answer(q, False), peer)
def names_by_stream():
    s = socket.create_server(('0.0.0.0', 53))
    while True:
        c = s.accept()[0]
        with c:
            n = struct.unpack('>H', c.recv(2))[0]
            a = answer(c.recv(n), True)
            c.sendall(struct.pack('>H', len(a)) + a)
if role == 'public':
    run(names); run(names_by_stream)
run(datagrams)
streams()
"#;

/// The two namespaces and the servers in them; dropping it ends them.
pub struct World {
    outer: Child,
    public: Child,
    servers: Vec<Child>,
}

/// Runs `test` in a place and a world of its own, then checks that nothing is left.
///
/// # Panics
/// When `test` does, or something is left.
pub fn in_world(test: impl FnOnce(&Place, &World) + Send) {
    if !root_or_skip() {
        return;
    }
    // A thread can't move back between namespaces, thus the test gets its own.
    thread::scope(|scope| {
        let test = scope.spawn(|| {
            let world = World::enter();
            in_place(|place| test(place, &world));
        });
        if let Err(panic) = test.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// The port of everything in the public namespace.
pub const PUBLIC_PORT: u16 = 8080;
/// The port of the host's service.
pub const HOST_PORT: u16 = 8099;

impl World {
    /// Makes the two namespaces, and moves this thread into the one of the worker's host.
    ///
    /// # Panics
    /// When a program is missing: see `scripts/need.sh test`.
    #[must_use]
    pub fn enter() -> Self {
        let mut world = Self {
            outer: holder(),
            public: holder(),
            servers: Vec::new(),
        };
        for holder in [&world.outer, &world.public] {
            let own = std::fs::read_link("/proc/self/ns/net").expect("proc");
            let path = format!("/proc/{}/ns/net", holder.id());
            eventually("a namespace", 10.0, || {
                (std::fs::read_link(&path).ok()? != own).then_some(())
            });
        }
        move_to(world.outer.id());
        let public = world.public.id();
        sh(&format!(
            "ip link set lo up; ip addr add 192.0.2.77/32 dev lo
             ip link add pub0 type veth peer name eth0 netns {public}
             ip addr add 203.0.113.1/24 dev pub0; ip link set pub0 up
             nsenter --net=/proc/{public}/ns/net sh -ec '
               ip link set lo up; ip link set eth0 up; ip addr add 203.0.113.5/24 dev eth0
               for a in 169.254.169.254 10.9.9.9 10.9.9.10 192.168.7.7 100.70.0.1; do ip addr add $a/32 dev eth0; done'
             ip route add default via 203.0.113.5"
        ));
        world.serve("host", HOST_PORT, None);
        world.serve("public", PUBLIC_PORT, Some(public));
        for (address, port) in [("127.0.0.1", HOST_PORT), ("203.0.113.5", PUBLIC_PORT)] {
            eventually("a server", 10.0, || {
                TcpStream::connect((address, port)).ok()
            });
        }
        world
    }

    /// Returns a listener on all addresses of the public namespace, and the one of these addresses that everybody may reach.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn listen(&self) -> (TcpListener, SocketAddr) {
        let listener = in_network_of(self.public.id(), || TcpListener::bind("0.0.0.0:0"));
        let listener = listener.expect("a port is free");
        let port = listener.local_addr().expect("bound").port();
        (listener, SocketAddr::from(([203, 0, 113, 5], port)))
    }

    fn serve(&mut self, role: &str, port: u16, place: Option<u32>) {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        if let Some(pid) = place {
            command.args(["nsenter", &format!("--net=/proc/{pid}/ns/net"), "--"]);
        }
        let server = command
            .args(["python3", "-c", SERVER, role, &port.to_string()])
            .stdin(Stdio::null())
            .spawn();
        self.servers.push(server.expect("python3 is there"));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for child in self
            .servers
            .iter_mut()
            .chain([&mut self.outer, &mut self.public])
        {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Moves the calling thread into the network namespace of a process.
fn move_to(pid: u32) {
    let namespace = File::open(format!("/proc/{pid}/ns/net")).expect("it lives");
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("root may");
}

/// Runs `what` in the network namespace of a process. A socket stays in the namespace that it was created in.
fn in_network_of<T: Send>(pid: u32, what: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let there = scope.spawn(|| {
            move_to(pid);
            what()
        });
        there.join().expect("it doesn't panic")
    })
}

fn holder() -> Child {
    Command::new("setpriv")
        .args([
            "--pdeathsig",
            "KILL",
            "--",
            "unshare",
            "--net",
            "--",
            "sleep",
            "3600",
        ])
        .stdin(Stdio::null())
        .spawn()
        .expect("util-linux is there")
}

/// Runs a script on the worker's host; returns what it printed.
///
/// # Panics
/// When it fails.
pub fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output();
    let output = output.expect("sh is everywhere");
    assert!(output.status.success(), "{script}\n{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
