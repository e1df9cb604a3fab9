//! What can't work is refused at once: with one sentence that names the problem and the remedy, an exit code, and nothing left behind.

use ol_testkit::{in_place, with_worker};
use serde_json::json;
use std::fs;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

#[test]
fn a_second_worker_on_a_directory() {
    with_worker(&[], |worker| {
        let place = worker.place;
        for command in [vec!["worker", "up"], vec!["worker", "up", "-d"]] {
            let said = place.ol(&command);
            assert!(said.refusal().contains("ol worker down"), "{said:?}");
            assert!(
                said.refusal().contains(&worker.warden.pid.to_string()),
                "{said:?}"
            );
        }
        // The first worker isn't affected.
        worker.install("echo", &[("f.py", "def f(event):\n    return event\n")]);
        assert_eq!(worker.call("echo", &json!(1)).ok(), json!(1));
        assert!(place.ol(&["worker", "status"]).ok().contains("ready"));
    });
}

#[test]
fn a_port_that_is_taken() {
    in_place(|place| {
        let _ = place.ol(&["worker", "init"]).ok();
        let taken = TcpListener::bind("localhost:0").expect("a free port");
        let port = taken.local_addr().expect("its address").port();
        let option = format!("worker_port={port}");
        for command in [
            vec!["worker", "up", "-o", &option],
            vec!["worker", "up", "-d", "-o", &option],
        ] {
            let said = place.ol(&command);
            assert!(said.refusal().contains(&port.to_string()), "{said:?}");
            assert!(said.refusal().contains("worker_port"), "{said:?}");
            place.assert_nothing_left();
        }
        place.up(&[]).down();
    });
}

/// A wrong option is refused before a directory is made.
#[test]
fn options_that_are_wrong() {
    in_place(|place| {
        for (option, named, remedy) in [
            ("limits.mem_m=100", "limits.mem_m", "mem_mb"),
            ("wroker_port=0", "wroker_port", "worker_port"),
            ("limits.mem_mb=much", "limits.mem_mb", "much"),
            ("worker_port=70000", "worker_port", "70000"),
            ("limits.mem_mb=4000,mem_pool_mb=5000", "mem_pool_mb", "4000"),
            ("strict_config=maybe", "strict_config", "maybe"),
            ("registry=ftp://somewhere", "registry", "ftp"),
            ("nonsense", "nonsense", "="),
        ] {
            for command in [
                vec!["worker", "up", "-o", option],
                vec!["worker", "up", "-d", "-o", option],
            ] {
                let said = place.ol(&command);
                let sentence = said.refusal();
                assert!(
                    sentence.contains(named) && sentence.contains(remedy),
                    "{option}: {sentence}"
                );
                assert!(!place.dir().exists(), "{option} left a directory");
            }
        }
    });
}

#[test]
fn a_configuration_that_is_wrong() {
    in_place(|place| {
        let _ = place.ol(&["worker", "init"]).ok();
        let path = place.dir().join("config.json");
        let good = fs::read_to_string(&path).expect("config.json");
        for (text, named) in [
            ("{\"worker_port\": [}", "config.json"),
            (
                "{\"worker_port\": \"0\", \"limits\": {\"mem_mb\": -1}}",
                "limits.mem_mb",
            ),
            (
                "{\"worker_port\": \"0\", \"strict_config\": true, \"registri\": \"x\"}",
                "registry",
            ),
        ] {
            fs::write(&path, text).expect("written");
            let said = place.ol(&["worker", "up"]);
            assert!(said.refusal().contains(named), "{said:?}");
            place.assert_nothing_left();
        }
        fs::write(&path, good).expect("written");
        place.up(&[]).down();
    });
}

/// Images that lack Python in various ways.
#[test]
fn a_base_without_python() {
    in_place(|place| {
        let image = place.own("image");
        fs::create_dir_all(image.join("usr/bin")).expect("made");
        let base = format!("dir:{}", image.display());
        let refused = || {
            let said = place.ol(&["worker", "up", "-o", "worker_port=0", "-i", &base]);
            assert!(said.refusal().contains("Python 3.9"), "{said:?}");
            assert!(!place.dir().exists(), "a directory is left");
        };
        refused();
        fs::write(image.join("usr/bin/python3"), "#!/nowhere\n").expect("written");
        refused();
        fs::remove_dir_all(&image).expect("removed");
        let said = place.ol(&["worker", "up", "-i", &base]);
        assert!(said.refusal().contains(&base), "{said:?}");
        let said = place.ol(&["worker", "up", "-i", "windows"]);
        assert_ne!(said.code, Some(0), "{said:?}");
        assert!(
            said.err.contains("windows") && said.err.contains("host"),
            "{said:?}"
        );
    });
}

/// The Python of a base can disappear after `init` has checked it.
#[test]
fn a_base_whose_python_went_away() {
    in_place(|place| {
        let _ = place.ol(&["worker", "init"]).ok();
        let image = place.own("image");
        fs::create_dir_all(image.join("usr/bin")).expect("made");
        let record = json!({"kind": "dir", "path": image});
        fs::write(place.dir().join("lambda/base.json"), record.to_string()).expect("written");
        let said = place.ol(&["worker", "up", "-o", "worker_port=0"]);
        assert_ne!(said.code, Some(0), "{said:?}");
        assert!(
            said.err.contains("Python") || said.err.contains("python3"),
            "{said:?}"
        );
        place.assert_nothing_left();
    });
}

#[test]
fn commands_for_a_worker_that_is_not_there() {
    in_place(|place| {
        let source = place.source("echo", &[("f.py", "def f(event):\n    return event\n")]);
        for command in [
            vec!["worker", "down"],
            vec!["worker", "status"],
            vec!["worker", "force-cleanup"],
            vec!["ls"],
        ] {
            let said = place.ol(&command);
            assert!(
                said.refusal().contains("ol worker init"),
                "{command:?} {said:?}"
            );
        }
        let _ = place.ol(&["worker", "init"]).ok();
        let install = vec!["admin", "install", source.to_str().expect("text")];
        for command in [
            vec!["ls"],
            vec!["invoke", "echo"],
            vec!["rm", "echo"],
            install,
        ] {
            let said = place.ol(&command);
            assert!(
                said.refusal().contains("ol worker up"),
                "{command:?} {said:?}"
            );
        }
    });
}

/// A command for a worker that doesn't run must not reach another program that has its port.
///
/// The port may come from the configuration, or from a file that a crash left.
#[test]
fn commands_do_not_reach_the_worker_of_another_directory() {
    in_place(|place| {
        let _ = place.ol(&["worker", "init"]).ok();
        let other = TcpListener::bind("localhost:0").expect("a free port");
        let address = other.local_addr().expect("its address");
        // The other program accepts connections and closes them. It runs for as long as this process.
        let reached = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&reached);
        thread::spawn(move || {
            for _ in other.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        let config = json!({"worker_dir": place.dir().join("worker"), "worker_port": address.port().to_string()});
        fs::write(place.dir().join("config.json"), config.to_string()).expect("written");
        let left = place.dir().join("worker/worker.url");
        let source = place.source("echo", &[("f.py", "def f(event):\n    return event\n")]);
        for crashed in [false, true] {
            if crashed {
                fs::write(&left, format!("http://{address}\n")).expect("written");
            }
            let install = vec!["admin", "install", source.to_str().expect("text")];
            for command in [
                vec!["ls"],
                vec!["invoke", "echo"],
                vec!["rm", "echo"],
                install,
                vec!["worker", "status"],
            ] {
                let said = place.ol(&command);
                assert!(
                    said.refusal().contains("ol worker up"),
                    "{command:?} {said:?}"
                );
                let reached = reached.load(Ordering::SeqCst);
                assert_eq!(reached, 0, "{command:?} went to another's port");
            }
        }
        assert_eq!(place.ol(&["worker", "force-cleanup"]).code, Some(0));
    });
}

/// What `ol admin install` can check itself is refused without an upload.
#[test]
fn functions_that_cannot_be_installed() {
    with_worker(&[], |worker| {
        let place = worker.place;
        for (name, files, named) in [
            ("empty", vec![("readme", "")], "f.py"),
            (
                "yaml",
                vec![("f.py", ""), ("ol.yaml", "limits: [1\n")],
                "ol.yaml",
            ),
            (
                "greedy",
                vec![("f.py", ""), ("ol.yaml", "limits: {procs: 100000}\n")],
                "procs",
            ),
        ] {
            let source = place.source(name, &files);
            let said = place.ol(&["admin", "install", source.to_str().expect("text")]);
            assert!(said.refusal().contains(named), "{name}: {said:?}");
        }
        assert_eq!(worker.request("GET", "/registry/", b"").ok(), json!([]));
    });
}
