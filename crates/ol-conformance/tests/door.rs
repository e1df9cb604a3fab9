//! Who may ask the worker for what, while it doesn't authenticate anybody.
//!
//! Tested is what a browser can be tricked into, and what other local users can read.

use ol_testkit::{Reply, Worker, bundle, in_place, with_worker};
use serde_json::json;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Command;

const ECHO: &str = "def f(event):\n    return event\n";

/// Sends a request whose head is the line `first` followed by `lines`.
fn ask(worker: &Worker<'_>, first: &str, lines: &[&str], body: &[u8]) -> Reply {
    let mut client = worker.connect();
    let mut head = format!("{first}\r\n");
    for line in lines {
        head += &format!("{line}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", body.len());
    client.send(head.as_bytes()).expect("sent");
    client.send(body).expect("sent");
    client.reply().expect("an answer")
}

#[test]
fn pages_can_not_use_control_routes_and_programs_can() {
    with_worker(&[], |worker| {
        let host = format!("Host: {}", worker.address);
        let own = format!("Origin: http://{}", worker.address);
        let page = format!("Referer: http://{}/run/page", worker.address);
        let tar = bundle(&[("f.py", ECHO)]);
        worker.install("echo", &[("f.py", ECHO)]);
        for line in [
            "Origin: https://evil.example",
            "Origin: null",
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Site: same-site",
            "Sec-Fetch-Site: same-origin",
            "Referer: https://evil.example/",
            &own,
            &page,
        ] {
            for first in [
                "POST /registry/planted HTTP/1.1",
                "DELETE /registry/echo HTTP/1.1",
                "GET /registry/echo/config HTTP/1.1",
                "GET /registry/ HTTP/1.1",
                "GET /packages HTTP/1.1",
                "POST /packages/gc HTTP/1.1",
                "DELETE /packages/a==1 HTTP/1.1",
                "GET /debug HTTP/1.1",
                "GET /stats HTTP/1.1",
                "GET /metrics HTTP/1.1",
                "OPTIONS /registry/planted HTTP/1.1",
            ] {
                let reply = ask(worker, first, &[&host, line], &tar);
                assert_eq!(reply.status, 403, "{first} {line}: {}", reply.text());
                assert_eq!(
                    reply.header("x-ol-error"),
                    Some("from-a-page"),
                    "{first} {line}"
                );
            }
            // Functions decide themselves whom they answer, and whether the worker is well is no secret.
            let reply = ask(worker, "POST /run/echo HTTP/1.1", &[&host, line], b"[1]");
            assert_eq!(reply.ok(), json!([1]), "{line}");
            assert_eq!(
                ask(worker, "GET /healthz HTTP/1.1", &[&host, line], b"").status,
                200
            );
        }
        assert_eq!(
            worker.request("GET", "/registry/", b"").ok(),
            json!(["echo"])
        );

        // What a browser sends for an address that was typed in, and what programs send.
        let typed = [
            "Sec-Fetch-Site: none",
            "Sec-Fetch-Mode: navigate",
            "Sec-Fetch-User: ?1",
        ];
        let reply = ask(
            worker,
            "GET /debug HTTP/1.1",
            &[&[host.as_str()], &typed[..]].concat(),
            b"",
        );
        assert_eq!(reply.status, 200, "{}", reply.text());
        let packed = worker.place.own("echo.tar.gz");
        fs::write(&packed, &tar).expect("written");
        let said = Command::new("curl")
            .args(["-sS", "--data-binary"])
            .arg(format!("@{}", packed.display()))
            .arg(format!("http://{}/registry/curled", worker.address))
            .output()
            .expect("curl");
        assert_eq!(
            String::from_utf8_lossy(&said.stdout),
            "curled is installed\n"
        );
    });
}

#[test]
fn a_name_that_is_not_the_workers_gets_nothing() {
    with_worker(&["allowed_hosts=[\"app.example.com\"]"], |worker| {
        worker.install("echo", &[("f.py", ECHO)]);
        let port = worker.address.rsplit(':').next().expect("a port");
        for first in [
            "GET /run/echo HTTP/1.1",
            "GET /registry/echo/config HTTP/1.1",
            "GET /healthz HTTP/1.1",
            "GET /nowhere HTTP/1.1",
        ] {
            for host in [
                "evil.example",
                &format!("evil.example:{port}"),
                "localhost.evil.example",
            ] {
                let reply = ask(worker, first, &[&format!("Host: {host}")], b"");
                assert_eq!(reply.status, 421, "{first} {host}: {}", reply.text());
                assert!(reply.text().contains("allowed_hosts"), "{}", reply.text());
            }
        }
        let odd = ask(
            worker,
            "GET /run/echo HTTP/1.1",
            &["Host: localhost@evil.example"],
            b"",
        );
        assert_eq!(odd.status, 400, "no host at all: {}", odd.text());
        let target = "GET http://evil.example/run/echo HTTP/1.1";
        assert_eq!(ask(worker, target, &["Host: localhost"], b"").status, 421);
        for host in [
            "localhost",
            "LOCALHOST.",
            "127.0.0.1:1",
            "[::1]:5000",
            "10.1.2.3",
            "app.example.com",
            "App.Example.Com.:80",
        ] {
            let reply = ask(
                worker,
                "GET /run/echo HTTP/1.1",
                &[&format!("Host: {host}")],
                b"",
            );
            assert_eq!(reply.status, 200, "{host}: {}", reply.text());
        }
        // HTTP/1.0 needs no Host; load balancers ask that way.
        assert_eq!(ask(worker, "GET /healthz HTTP/1.0", &[], b"").status, 200);
    });
}

/// The answer to a curl on the worker's own socket.
fn ask_privately(worker: &Worker<'_>, path: &str) -> String {
    let socket = worker.place.dir().join("worker/ol.sock");
    let mut stream = UnixStream::connect(socket).expect("it listens");
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("text");
    text
}

#[test]
fn values_of_variables_are_shown_on_the_private_socket_only() {
    with_worker(&[], |worker| {
        let yaml = "environment: {TOKEN: swordfish}\n";
        worker.install("inline", &[("f.py", ECHO), ("ol.yaml", yaml)]);
        worker.install("dotenv", &[("f.py", ECHO), (".env", "TOKEN=swordfish\n")]);
        for name in ["inline", "dotenv"] {
            assert_eq!(worker.call(name, &json!(1)).ok(), json!(1));
            for query in ["", "?values=1", "?wait=0&values=1"] {
                let path = format!("/registry/{name}/config{query}");
                let reply = worker.request("GET", &path, b"");
                assert_eq!(reply.ok()["Environment"], json!({"TOKEN": "***"}), "{path}");
                assert!(!reply.text().contains("swordfish"), "{path}");
            }
            let path = format!("/registry/{name}/config");
            assert!(!ask_privately(worker, &path).contains("swordfish"));
            assert!(
                ask_privately(worker, &format!("{path}?values=1"))
                    .contains("\"TOKEN\":\"swordfish\"")
            );
        }
    });
}

/// Runs `sh` as the user nobody, without any supplementary group.
fn as_nobody(script: &str) -> String {
    let said = Command::new("setpriv")
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "sh",
            "-c",
            script,
        ])
        .output()
        .expect("setpriv is part of util-linux");
    String::from_utf8_lossy(&said.stdout).into_owned()
}

#[test]
fn other_users_of_the_host_read_nothing_of_functions() {
    use std::os::unix::fs::PermissionsExt as _;
    in_place(|place| {
        // The test's own directory is closed to others, so it is opened: the test is about the files that the worker makes in it.
        let top = place.dir().parent().expect("a place").to_owned();
        fs::set_permissions(&top, fs::Permissions::from_mode(0o755)).expect("ours");
        let _ = place.ol(&["worker", "init"]).ok();
        // Wide permissions, as an older worker or a script may have left them.
        let wide = |path: &str, mode| {
            let path = place.dir().join(path);
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
        };
        let secret = bundle(&[("f.py", ECHO), (".env", "TOKEN=swordfish\n")]);
        for (file, content) in [
            ("registry/old.tar.gz", &secret[..]),
            ("worker/logs/old.log", b"swordfish\n"),
            ("worker/stats.json", b"{}"),
            ("worker.out", b"swordfish\n"),
        ] {
            fs::write(place.dir().join(file), content).expect("written");
            wide(file, 0o664);
        }
        for folder in ["registry", "worker/logs"] {
            wide(folder, 0o777);
        }
        let _ = place
            .ol(&["worker", "up", "-d", "-o", "worker_port=0"])
            .ok();
        let worker = place.attach();
        worker.install(
            "new",
            &[
                ("f.py", "def f(event):\n    print(event)\n"),
                (".env", "TOKEN=swordfish\n"),
            ],
        );
        for name in ["old", "new"] {
            assert_eq!(worker.call(name, &json!("swordfish")).status, 200);
        }
        let dir = place.dir().display().to_string();
        let search = format!(
            "cd {dir} && for f in $(find . -type f 2>/dev/null); do cat $f 2>/dev/null; done"
        );
        let read = as_nobody(&search);
        assert!(
            read.contains(&worker.address),
            "the search itself works: {read:.200}"
        );
        assert!(!read.contains("swordfish"));
        let open = as_nobody(&format!(
            "cd {dir} && ls -d registry/* worker/logs/* worker/code/* worker/uploads/* worker/packages/* 2>/dev/null"
        ));
        assert!(
            !open.contains(".tar.gz") && !open.contains(".log") && !open.contains("code/1"),
            "{open}"
        );
        // Files in closed directories are closed themselves too, in case somebody moves them.
        for path in [
            "registry/old.tar.gz",
            "registry/new.tar.gz",
            "worker/logs/new.log",
            "worker/logs/old.log",
            "worker.out",
        ] {
            let mode = fs::metadata(place.dir().join(path))
                .expect(path)
                .permissions()
                .mode();
            assert_eq!(mode & 0o7777, 0o600, "{path}");
        }
        for path in [
            "registry",
            "worker/logs",
            "worker/code",
            "worker/uploads",
            "worker/packages",
        ] {
            let mode = fs::metadata(place.dir().join(path))
                .expect(path)
                .permissions()
                .mode();
            assert_eq!(mode & 0o7777, 0o700, "{path}");
        }
        worker.down();
        let mode = fs::metadata(place.dir().join("worker/stats.json"))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o600);
        fs::set_permissions(&top, fs::Permissions::from_mode(0o700)).expect("ours");
    });
}

#[test]
fn an_address_that_others_reach_draws_a_warning() {
    in_place(|place| {
        let _ = place.ol(&["worker", "init"]).ok();
        assert!(!place.ol(&["doctor"]).out.contains("worker_url"));
        let worker = place.up(&["worker_url=0.0.0.0"]);
        let log = place.log_text();
        assert!(
            log.contains("warning: ") && log.contains("worker_url"),
            "{log}"
        );
        worker.down();
        let path = place.dir().join("config.json");
        let text = fs::read_to_string(&path).expect("there");
        fs::write(&path, text.replace("\"localhost\"", "\"0.0.0.0\"")).expect("written");
        assert!(place.ol(&["doctor"]).out.contains("worker_url"));
    });
}
