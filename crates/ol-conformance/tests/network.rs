//! What functions reach over the network, and what they don't. Each test makes network namespaces of its own for that.

use ol_testkit::network::{HOST_PORT, PUBLIC_PORT, in_world, rules, sh};
use ol_testkit::{Starts, Worker, eventually, in_place};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Evaluates the expression that it is sent.
const PROBE: &str = r#"
import os, socket, struct, errno
kept = {}

def outcome(what):
    try:
        return what()
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)

def tcp(host, port, said=b'hi'):
    def talk():
        with socket.create_connection((host, port), 2) as s:
            s.sendall(said)
            return s.recv(1000).decode()
    return outcome(talk)

def udp(host, port, said=b'hi'):
    def talk():
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(1)
        s.connect((host, port))
        s.send(said)
        return s.recv(1000).decode()
    return outcome(talk)

def keep(host, port):
    if 's' not in kept:
        kept['s'] = socket.create_connection((host, port), 2)
    kept['s'].sendall(b'again')
    return kept['s'].recv(100).decode()

def listen(port):
    kept['l'] = socket.create_server(('0.0.0.0', port))
    return [socket.inet_ntoa(struct.pack('>I', 0)), address()]

def address():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect(('203.0.113.5', 9))
    return s.getsockname()[0]

def f(event):
    return eval(event)
"#;

const RESOLVER: &str = "network.resolvers=[\"203.0.113.5\"]";

fn install(worker: &Worker<'_>, name: &str, network: &str) {
    let yaml = format!("network: {network}\n");
    worker.install(name, &[("f.py", PROBE), ("ol.yaml", &yaml)]);
}

fn ask(worker: &Worker<'_>, name: &str, what: &str) -> Value {
    worker.call(name, &json!(what)).ok()
}

/// What nobody may reach from `egress`: everything private, and every address of the host.
fn forbidden(worker: &Worker<'_>) -> Vec<(String, u16)> {
    let port = worker.address.rsplit_once(':').expect("host:port").1;
    let port: u16 = port.parse().expect("a number");
    let uplink = sh("ip -4 -o addr show | awk '/ ol-/ {print $4}'");
    let uplink = uplink
        .trim()
        .split('/')
        .next()
        .expect("an address")
        .to_owned();
    assert!(uplink.starts_with("100.127."), "{uplink}");
    let mut all = Vec::new();
    for address in [
        "169.254.169.254",
        "10.9.9.9",
        "10.9.9.10",
        "192.168.7.7",
        "100.70.0.1",
    ] {
        all.push((address.to_owned(), PUBLIC_PORT));
    }
    for address in ["203.0.113.1", "192.0.2.77", &uplink] {
        all.push((address.to_owned(), HOST_PORT));
        all.push((address.to_owned(), port));
    }
    all
}

#[test]
fn egress_reaches_the_outside_however_it_was_started() {
    in_world(|place, _| {
        for starts in [Starts::Fresh, Starts::Fork, Starts::Blank] {
            let worker = place.up_with(starts, &[RESOLVER]);
            install(&worker, "probe", "egress");
            let ask = |what: &str| ask(&worker, "probe", what);
            let public = format!("tcp('203.0.113.5', {PUBLIC_PORT})");
            assert_eq!(ask(&public), "public:hi", "{starts:?}");
            assert_eq!(
                ask(&format!("tcp('public.example', {PUBLIC_PORT})")),
                "public:hi"
            );
            assert_eq!(
                ask(&format!("udp('203.0.113.5', {PUBLIC_PORT})")),
                "public:hi"
            );
            assert_eq!(
                ask("outcome(lambda: socket.gethostbyname('nobody.example'))"),
                "gaierror"
            );
            // A DNS query over TCP, because the answer is too long for a datagram.
            let text = "(lambda s, q: (s.sendall(struct.pack('>H', len(q)) + q), len(s.makefile('rb').read(5000)))[1])(socket.create_connection(('100.127.0.1', 53), 2), bytes.fromhex('000701000001000000000000067075626c6963076578616d706c650000100001'))";
            assert_eq!(ask(text), 5000);
            assert_eq!(
                ask("[name for _, name in socket.if_nameindex()]"),
                json!(["lo", "eth0"])
            );
            assert_eq!(
                ask("outcome(lambda: socket.create_connection(('2606:4700::1', 80), 2))"),
                "ENETUNREACH"
            );
            worker.down();
        }
    });
}

#[test]
fn egress_reaches_nothing_private_and_nothing_of_the_hosts() {
    in_world(|place, _| {
        // The worker listens on every address, so that its port can be tried by each of them.
        let worker = place.up(&[RESOLVER, "worker_url=0.0.0.0"]);
        for name in ["probe", "other"] {
            install(&worker, name, "egress");
        }
        let other = ask(&worker, "other", "listen(7000)")[1].clone();
        let other = other.as_str().expect("an address").to_owned();
        assert!(other.starts_with("100.127.128."), "{other}");
        let mut targets = forbidden(&worker);
        targets.push((other.clone(), 7000));
        let reach = |(host, port): &(String, u16)| {
            let said = ask(
                &worker,
                "probe",
                &format!("tcp({host:?}, {port}, b'GET / HTTP/1.0\\r\\n\\r\\n')"),
            );
            said.as_str().expect("text").to_owned()
        };
        let refused = |said: &str| matches!(said, "EHOSTUNREACH" | "TimeoutError" | "ECONNREFUSED");
        for target in &targets {
            let said = reach(target);
            assert!(refused(&said), "{target:?}: {said}");
        }
        let own = ask(&worker, "probe", "listen(7001)")[1].clone();
        for (from, to, port) in [
            ("probe", other.as_str(), 7000),
            ("other", own.as_str().expect("text"), 7001),
        ] {
            assert_eq!(
                ask(&worker, from, &format!("tcp({to:?}, {port})")),
                "EHOSTUNREACH"
            );
        }
        for host in ["169.254.169.254", "10.9.9.9"] {
            let said = ask(&worker, "probe", &format!("udp({host:?}, {PUBLIC_PORT})"));
            assert!(refused(said.as_str().expect("text")), "{host}: {said}");
        }
        let said = ask(
            &worker,
            "probe",
            &format!("udp('203.0.113.1', {HOST_PORT})"),
        );
        assert!(refused(said.as_str().expect("text")), "{said}");
        // The router itself answers DNS queries and nothing else, and the relay passes on nothing else.
        for what in [
            "tcp('100.127.0.1', 80)",
            "udp('100.127.0.1', 53, b'no question at all, but long enough')",
        ] {
            let said = ask(&worker, "probe", what);
            assert!(refused(said.as_str().expect("text")), "{what}: {said}");
        }
        // No function gets raw sockets.
        for what in [
            "socket.AF_PACKET, socket.SOCK_RAW",
            "socket.AF_INET, socket.SOCK_RAW, 1",
        ] {
            let said = ask(
                &worker,
                "probe",
                &format!("str(outcome(lambda: socket.socket({what})))"),
            );
            assert_eq!(said, "EPERM", "{what}");
        }
        spoofing(&worker, false);

        // Each target was refused by a rule: without the rules they answer.
        rules::flush(&worker);
        for target in &targets {
            let said = reach(target);
            if target.0 == other {
                // The kernel there accepts the connection, but no program answers.
                assert_eq!(said, "TimeoutError", "{target:?}");
                continue;
            }
            assert!(
                !refused(&said),
                "{target:?} can't be reached even without rules: {said}"
            );
        }
        spoofing(&worker, true);
        sh("nft flush ruleset");
        worker.down();
    });
}

/// Sends a datagram from a sandbox's namespace, as root, with another sandbox's source address, and checks whether it gets out.
fn spoofing(worker: &Worker<'_>, arrives: bool) {
    let text = if arrives { "forged2" } else { "forged1" };
    let (leaf, _) = worker.leaves().remove(0);
    let script = format!(
        r#"
import socket, struct
body = b'{text}'
head = struct.pack('>BBHHHBBH4s4s', 0x45, 0, 28 + len(body), 1, 0, 64, 17, 0, socket.inet_aton('198.18.0.9'), socket.inet_aton('203.0.113.5'))
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
s.sendto(head + struct.pack('>HHHH', 1234, {PUBLIC_PORT}, 8 + len(body), 0) + body, ('203.0.113.5', 0))
"#
    );
    sh(&format!(
        "nsenter --net=/proc/{}/ns/net python3 -c \"{script}\"",
        leaf.pid
    ));
    // An honest datagram follows on the same way, so that the forged one would have arrived before it.
    let after = format!("udp('203.0.113.5', {PUBLIC_PORT}, b'{text}-after')");
    let _ = ask(worker, "probe", &after);
    let log = sh(&format!(
        "python3 -c \"import socket; s = socket.create_connection(('203.0.113.5', {PUBLIC_PORT})); s.sendall(b'log'); print(s.recv(5000).decode())\""
    ));
    assert!(log.contains(&format!("{text}-after")), "{log}");
    assert_eq!(
        log.split_whitespace().any(|word| word == text),
        arrives,
        "{log}"
    );
}

#[test]
fn what_is_allowed_is_reached_and_nothing_beside_it() {
    in_world(|place, _| {
        let allow = "network.allow=[\"10.9.9.9\",\"203.0.113.0/24\",\"192.0.2.77\"]";
        let worker = place.up(&[RESOLVER, allow]);
        install(&worker, "probe", "egress");
        let reach =
            |host: &str, port: u16| ask(&worker, "probe", &format!("tcp({host:?}, {port})"));
        assert_eq!(reach("10.9.9.9", PUBLIC_PORT), "public:hi");
        assert_eq!(reach("10.9.9.10", PUBLIC_PORT), "EHOSTUNREACH");
        // An address of the host is allowed if it is configured by itself, not if it only lies in an allowed network.
        assert_eq!(reach("192.0.2.77", HOST_PORT), "host:hi");
        assert_eq!(reach("203.0.113.1", HOST_PORT), "EHOSTUNREACH");
        worker.down();
    });
}

#[test]
fn none_reaches_nothing_and_host_what_the_host_does() {
    in_world(|place, _| {
        let worker = place.up(&[RESOLVER, "network.host=true"]);
        install(&worker, "alone", "none");
        install(&worker, "at_home", "host");
        let public = format!("tcp('203.0.113.5', {PUBLIC_PORT})");
        assert_eq!(ask(&worker, "alone", &public), "ENETUNREACH");
        assert_eq!(
            ask(&worker, "alone", "tcp('100.127.0.1', 53)"),
            "ENETUNREACH"
        );
        assert_eq!(
            ask(&worker, "alone", "[n for _, n in socket.if_nameindex()]"),
            json!(["lo"])
        );
        assert_eq!(ask(&worker, "at_home", &public), "public:hi");
        assert_eq!(
            ask(
                &worker,
                "at_home",
                &format!("tcp('127.0.0.1', {HOST_PORT})")
            ),
            "host:hi"
        );
        let resolvers = std::fs::read_to_string("/etc/resolv.conf").expect("the host has one");
        assert_eq!(
            ask(&worker, "at_home", "open('/etc/resolv.conf').read()"),
            json!(resolvers)
        );
        // The function has the host's network but no privilege over it.
        let raw = "str(outcome(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)))";
        assert_eq!(ask(&worker, "at_home", raw), "EPERM");
        assert_eq!(ask(&worker, "at_home", "os.listdir('/proc').count('1')"), 0);
        worker.down();
    });
}

#[test]
fn a_pause_keeps_connections() {
    in_world(|place, _| {
        let worker = place.up(&[RESOLVER]);
        install(&worker, "probe", "egress");
        let keep = format!("keep('203.0.113.5', {PUBLIC_PORT})");
        for _ in 0..3 {
            assert_eq!(ask(&worker, "probe", &keep), "public:again");
            eventually("a pause", 10.0, || {
                worker.debug().contains("paused").then_some(())
            });
        }
        worker.down();
    });
}

#[test]
fn one_that_opens_too_much_is_stopped_and_others_are_not() {
    in_world(|place, _| {
        let worker = place.up(&[RESOLVER]);
        for name in ["probe", "other"] {
            install(&worker, name, "egress");
        }
        let flood = "sum(1 for port in range(1, 1400) if outcome(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('203.0.113.5', port))) == 1)";
        let _ = ask(&worker, "probe", flood);
        assert_eq!(
            ask(
                &worker,
                "probe",
                &format!("tcp('203.0.113.5', {PUBLIC_PORT})")
            ),
            "EHOSTUNREACH"
        );
        assert_eq!(
            ask(
                &worker,
                "other",
                &format!("tcp('203.0.113.5', {PUBLIC_PORT})")
            ),
            "public:hi"
        );
        worker.down();
    });
}

#[test]
fn a_network_that_can_not_be_had_is_refused_with_the_remedy() {
    in_place(|place| {
        let worker = place.up(&["network.egress=false"]);
        for (network, said) in [
            ("egress", "its operator can set network.egress to true"),
            ("host", "its operator can set network.host to true"),
        ] {
            let yaml = format!("network: {network}\n");
            let bundle = ol_testkit::bundle(&[("f.py", PROBE), ("ol.yaml", &yaml)]);
            let text = worker
                .request("POST", "/registry/probe", &bundle)
                .error(400, "bad-bundle");
            assert!(text.contains(said), "{text}");
        }
        // A function that doesn't ask for a network has none.
        worker.install("probe", &[("f.py", PROBE)]);
        assert_eq!(
            ask(&worker, "probe", "[n for _, n in socket.if_nameindex()]"),
            json!(["lo"])
        );
        worker.down();
    });
}

#[test]
fn nothing_is_left_after_everything_was_killed() {
    in_world(|place, _| {
        let mut worker = place.up(&[RESOLVER]);
        install(&worker, "probe", "egress");
        let _ = ask(&worker, "probe", "1");
        assert_eq!(
            place.census().network.len(),
            2,
            "an uplink and a table: {:?}",
            place.census()
        );
        worker.warden.signal(Signal::KILL);
        worker.process.signal(Signal::KILL);
        let _ = worker.wait();
        drop(worker);
        // The uplink disappears with the router; the table of rules stays.
        eventually("the uplink to go", 10.0, || {
            (place.census().network.len() == 1 && place.census().processes.is_empty()).then_some(())
        });
        let said = place.ol(&["--output", "json", "worker", "force-cleanup"]);
        let said: Value = serde_json::from_str(said.ok()).expect("JSON");
        assert_eq!(said["network"], 1, "{said}");
        place.assert_nothing_left();
    });
}
