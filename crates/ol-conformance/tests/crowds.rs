//! Many uploads and connections at once: one client can't take all places, and the operator always gets one by the worker's own socket.

use ol_testkit::{Client, Worker, bundle, eventually, measured, with_worker};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde_json::json;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, ToSocketAddrs as _};
use std::time::Instant;

const ECHO: &str = "def f(event):\n    return event\n";

/// A connection from another address of the loopback device.
fn from_elsewhere(worker: &Worker<'_>, last: u8) -> Client {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(
        &socket,
        &SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, last), 0),
    )
    .expect("bound");
    let mut servers = worker.address.to_socket_addrs().expect("resolved");
    let server = servers.find(SocketAddr::is_ipv4).expect("an IPv4 address");
    connect(&socket, &server).expect("the worker listens");
    Client::of(TcpStream::from(socket), &worker.address).expect("a connection")
}

/// Begins an upload that announces `length` bytes, and sends `part` of it.
fn begin_upload(mut client: Client, length: usize, part: &[u8]) -> Client {
    client
        .send_part("POST", "/registry/slow", length, part)
        .expect("sent");
    client
}

fn uploads_in(worker: &Worker<'_>) -> usize {
    let folder = worker.place.dir().join("worker/uploads");
    fs::read_dir(folder).expect("it is there").count()
}

#[test]
fn uploads_that_stall_shut_nobody_out() {
    with_worker(&["max_uploads=4"], |worker| {
        worker.install("echo", &[("f.py", ECHO)]);
        let stalled: Vec<Client> = (0..2)
            .map(|_| begin_upload(worker.connect(), 1 << 30, b"\x1f\x8b"))
            .collect();
        eventually("both to be taken", 10.0, || {
            (uploads_in(worker) >= 2).then_some(())
        });
        // Refused by the head alone: none of the body has to be sent.
        let mut third = begin_upload(worker.connect(), 1 << 30, b"");
        let text = third.reply().expect("an answer").error(429, "uploads-full");
        assert!(text.contains("max_uploads"), "{text}");
        // A client from another address gets a place, and the operator gets one whatever the others do.
        let mine = bundle(&[("f.py", ECHO)]);
        let mut elsewhere = from_elsewhere(worker, 2);
        let reply = elsewhere.request("POST", "/registry/mine", &[], &mine);
        assert_eq!(reply.expect("an answer").status, 201);
        let _more: Vec<Client> = (0..2)
            .map(|_| begin_upload(from_elsewhere(worker, 2), 1 << 30, b"\x1f\x8b"))
            .collect();
        eventually("these too", 10.0, || {
            (uploads_in(worker) >= 4).then_some(())
        });
        let mut other = begin_upload(from_elsewhere(worker, 3), 1 << 30, b"");
        let text = other.reply().expect("an answer").error(429, "uploads-full");
        assert!(text.contains("4, max_uploads"), "{text}");
        let said = worker.place.ol(&["worker", "status"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(worker.call("echo", &json!(1)).ok(), json!(1));
        // A place is free again when its upload is gone.
        drop(stalled);
        eventually("a place", 10.0, || {
            let reply = worker.request("POST", "/registry/mine", &mine);
            (reply.status == 201).then_some(())
        });
    });
}

#[test]
fn what_uploads_hold_together_is_bounded() {
    with_worker(&["max_uploads_mb=2"], |worker| {
        let part = vec![0; (1 << 20) + (1 << 19)];
        let held = begin_upload(worker.connect(), 1 << 30, &part);
        eventually("all of it to arrive", 10.0, || {
            let files = fs::read_dir(worker.place.dir().join("worker/uploads"));
            let mut files = files.expect("it is there").flatten();
            let whole = |file: fs::DirEntry| file.metadata().ok().map(|about| about.len());
            (files.next().and_then(whole) == Some(part.len() as u64)).then_some(())
        });
        let mut second = begin_upload(worker.connect(), 1 << 30, &part);
        let text = second
            .reply()
            .expect("an answer")
            .error(429, "uploads-full");
        assert!(text.contains("2 MiB, max_uploads_mb"), "{text}");
        drop(held);
        eventually("room", 10.0, || {
            let reply = worker.request("POST", "/registry/mine", &bundle(&[("f.py", ECHO)]));
            (reply.status == 201).then_some(())
        });
    });
}

#[test]
fn one_address_leaves_connections_for_others() {
    with_worker(&["max_connections_per_address=30"], |worker| {
        worker.install("echo", &[("f.py", ECHO)]);
        // Thirty clients hold connections, each within the head of a request.
        let mut held: Vec<Client> = (0..30)
            .map(|_| {
                let mut client = from_elsewhere(worker, 2);
                client.send(b"GET /").expect("sent");
                client
            })
            .collect();
        for _ in 0..20 {
            let mut more = from_elsewhere(worker, 2);
            let reply = more.reply().expect("an answer");
            let text = reply.error(429, "connections-full");
            assert!(
                text.contains("30") && text.contains("max_connections_per_address"),
                "{text}"
            );
            more.expect_end().expect("closed");
        }
        assert_eq!(worker.call("echo", &json!(1)).ok(), json!(1));
        assert_eq!(worker.request("GET", "/healthz", b"").text(), "ok\n");
        let said = worker.place.ol(&["worker", "status"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let log = worker.place.log_text();
        assert_eq!(
            log.matches("max_connections_per_address").count(),
            1,
            "{log}"
        );
        held.truncate(20);
        eventually("room for the stranger", 10.0, || {
            let reply = from_elsewhere(worker, 2).request("GET", "/healthz", &[], b"");
            reply.is_ok_and(|reply| reply.status == 200).then_some(())
        });
    });
}

/// When all connections are taken, clients are still told whether the worker is well, and the operator gets through.
#[test]
fn a_full_house_tells_that_it_is_well() {
    let few = Rlimit {
        current: Some(1024),
        maximum: Some(1024),
    };
    setrlimit(Resource::Nofile, few).expect("it is less than before");
    with_worker(&["max_connections_per_address=400"], |worker| {
        worker.install("echo", &[("f.py", ECHO)]);
        let mut inside: Vec<Client> = Vec::new();
        let refused = loop {
            let last = if inside.len() < 300 { 2 } else { 3 };
            let mut client = from_elsewhere(worker, last);
            let reply = client.request("POST", "/run/echo", &[], b"1");
            let reply = reply.expect("an answer");
            if reply.status != 200 {
                break reply;
            }
            inside.push(client);
            assert!(inside.len() < 600, "no end of places");
        };
        let text = refused.error(503, "connections-full");
        assert!(text.contains("try again later"), "{text}");
        assert_eq!(refused.header("retry-after"), Some("1"));
        for path in ["/healthz", "/readyz", "/status"] {
            assert_eq!(worker.request("GET", path, b"").status, 200, "{path}");
        }
        let said = worker.place.ol(&["worker", "status"]);
        assert!(said.ok().contains("ready at"), "{said:?}");
        // The operator gets through by the worker's own socket.
        assert_eq!(worker.place.ol(&["ls"]).ok().trim(), "echo");
        let source = worker.place.source("second", &[("f.py", ECHO)]);
        let source = source.to_str().expect("UTF-8");
        let said = worker.place.ol(&["admin", "install", source]);
        assert!(said.ok().contains("installed second"), "{said:?}");
        assert!(worker.place.ol(&["rm", "echo"]).ok().contains("echo"));
        drop(inside);
        eventually("a place", 10.0, || {
            let reply = worker.connect().request("POST", "/run/second", &[], b"1");
            reply.ok().filter(|reply| reply.status == 200)
        });
    });
}

#[test]
#[ignore = "takes half a minute; run by make test-long"]
fn an_upload_that_stops_is_cut_off() {
    with_worker(&[], |worker| {
        let begun = Instant::now();
        let mut stalled = begin_upload(worker.connect(), 1 << 30, b"\x1f\x8b");
        let mut call = worker.connect();
        call.send_part("POST", "/run/slow", 1 << 30, b"x")
            .expect("sent");
        let _ = call
            .reply()
            .expect("an answer")
            .error(404, "unknown-function");
        let reply = stalled.reply().expect("an answer");
        let text = reply.error(400, "bad-request");
        assert!(text.contains("send it faster"), "{text}");
        assert_eq!(reply.header("connection"), Some("close"));
        measured(&format!(
            "the upload was cut off after {:?}",
            begun.elapsed()
        ));
    });
    with_worker(&["server_mode=sock"], |worker| {
        let mut stalled = worker.connect();
        stalled
            .send_part("POST", "/create", 100, b"{")
            .expect("sent");
        let text = stalled
            .reply()
            .expect("an answer")
            .error(400, "bad-request");
        assert!(text.contains("send it faster"), "{text}");
    });
}
