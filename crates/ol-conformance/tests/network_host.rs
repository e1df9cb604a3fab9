//! Functions' networks on a host that lacks something or is set up unusually: no nft, a resolver on the host's loopback.

use ol_testkit::network::{HOST_PORT, PUBLIC_PORT, in_world};
use ol_testkit::{Place, Worker};
use serde_json::{Value, json};
use std::fs;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Returns what it receives from a name or address.
const PROBE: &str = r#"
import errno, socket

def f(event):
    if event is None:
        return [name for _, name in socket.if_nameindex()]
    try:
        with socket.create_connection(event, 2) as s:
            s.sendall(b'hi')
            return s.recv(100).decode()
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)
"#;

const REMEDY: &str = "there is no nft: install nftables (apt-get install nftables)";

fn bundle(network: &str) -> Vec<u8> {
    let yaml = format!("network: {network}\n");
    ol_testkit::bundle(&[("f.py", PROBE), ("ol.yaml", &yaml)])
}

fn install(worker: &Worker<'_>, name: &str, network: &str) {
    let reply = worker.request("POST", &format!("/registry/{name}"), &bundle(network));
    assert_eq!(reply.status, 201, "{}", reply.text());
}

fn ask(worker: &Worker<'_>, name: &str, what: &Value) -> Value {
    worker.call(name, what).ok()
}

fn without_nft(place: &Place) {
    let empty = place.own("sbin");
    fs::create_dir(&empty).expect("made");
    // Nothing else in that folder is needed here.
    place.cover(&[(empty, "/usr/sbin")]);
}

#[test]
fn without_nft_there_is_no_egress_and_everything_else() {
    in_world(|place, _| {
        without_nft(place);
        let doctor = place.ol(&["doctor"]);
        assert!(
            doctor.out.contains("no nft: functions have no network"),
            "{doctor:?}"
        );
        assert!(
            doctor.out.contains("apt-get install nftables"),
            "{doctor:?}"
        );

        // A function that was installed before.
        let registry = place.dir().join("registry");
        let worker = place.up(&["network.host=true"]);
        let log = place.log_text();
        assert!(log.contains(REMEDY), "{log}");
        fs::write(registry.join("before.tar.gz"), bundle("egress")).expect("written");
        let text = worker.call("before", &json!(null)).text();
        assert!(text.contains(REMEDY), "{text}");
        // A function that is uploaded.
        let text = worker
            .request("POST", "/registry/probe", &bundle("egress"))
            .error(400, "bad-bundle");
        assert!(text.contains(REMEDY), "{text}");

        install(&worker, "alone", "none");
        assert_eq!(ask(&worker, "alone", &json!(null)), json!(["lo"]));
        assert_eq!(
            ask(&worker, "alone", &json!(["203.0.113.5", PUBLIC_PORT])),
            "ENETUNREACH"
        );
        install(&worker, "at_home", "host");
        assert_eq!(
            ask(&worker, "at_home", &json!(["127.0.0.1", HOST_PORT])),
            "host:hi"
        );
        // A function that doesn't ask for a network has none.
        worker.install("whatever", &[("f.py", PROBE)]);
        assert_eq!(ask(&worker, "whatever", &json!(null)), json!(["lo"]));
        worker.down();
    });
}

#[test]
fn without_nft_an_egress_that_was_asked_for_outright_is_no_silent_none() {
    in_world(|place, _| {
        without_nft(place);
        let worker = place.up(&["network.default=egress"]);
        let plain = ol_testkit::bundle(&[("f.py", PROBE)]);
        let text = worker
            .request("POST", "/registry/probe", &plain)
            .error(400, "bad-bundle");
        assert!(text.contains(REMEDY), "{text}");
        worker.down();
    });
}

/// A resolver on the host's loopback, like systemd-resolved's, which asks the one outside; returns the count of its queries.
fn stub() -> Arc<AtomicUsize> {
    let at_home = UdpSocket::bind("127.0.0.53:53").expect("nobody else is there");
    let out = UdpSocket::bind("0.0.0.0:0").expect("a port is free");
    out.connect("203.0.113.5:53").expect("it is in the world");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    // The thread ends with the test's process.
    thread::spawn(move || {
        let mut text = [0; 1500];
        while let Ok((length, from)) = at_home.recv_from(&mut text) {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = out.send(&text[..length]);
            if let Ok(length) = out.recv(&mut text) {
                let _ = at_home.send_to(&text[..length], from);
            }
        }
    });
    asked
}

#[test]
fn a_resolver_on_the_hosts_loopback_is_asked_for_functions_and_not_reached_by_them() {
    in_world(|place, _| {
        let asked = stub();
        let file = place.own("resolv.conf");
        let text = "# Do not edit.\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n";
        fs::write(&file, text).expect("written");
        place.cover(&[(file, "/etc/resolv.conf")]);
        let worker = place.up(&["network.host=true"]);
        install(&worker, "probe", "egress");
        let by_name = json!(["public.example", PUBLIC_PORT]);
        assert_eq!(ask(&worker, "probe", &by_name), "public:hi");
        assert!(asked.load(Ordering::SeqCst) > 0, "it was asked");
        assert_eq!(
            ask(&worker, "probe", &json!(["nobody.example", 80])),
            "gaierror"
        );
        // In the sandbox that address is its own loopback, where nothing listens.
        assert_eq!(
            ask(&worker, "probe", &json!(["127.0.0.53", 53])),
            "ECONNREFUSED"
        );
        // A function with the host's network asks that resolver itself.
        install(&worker, "at_home", "host");
        let before = asked.load(Ordering::SeqCst);
        assert_eq!(ask(&worker, "at_home", &by_name), "public:hi");
        assert!(asked.load(Ordering::SeqCst) > before, "it was asked");
        worker.down();
    });
}
