//! Directories that exist: one of ours made anew, one that the original worker made, and what is neither.

use ol_testkit::{Place, bundle, in_place};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;

const ECHO: &str = "def f(event):\n    return event\n";

fn config(place: &Place) -> Value {
    let text = fs::read_to_string(place.dir().join("config.json")).expect("config.json");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn init_keeps_bundles_and_settings() {
    in_place(|place| {
        let _ = place.ol(&["worker", "init"]).ok();
        let mut changed = config(place);
        changed["limits"]["mem_mb"] = json!(77);
        fs::write(place.dir().join("config.json"), changed.to_string()).expect("written");
        fs::write(
            place.dir().join("registry/echo.tar.gz"),
            bundle(&[("f.py", ECHO)]),
        )
        .expect("written");
        let package = place.dir().join("lambda/packages/mine==1/files");
        fs::create_dir_all(&package).expect("made");

        let mut worker = place.up(&[]);
        assert_eq!(
            worker.request("GET", "/registry/echo/config", b"").ok()["Granted"]["mem_mb"],
            77
        );
        // It stops the worker that runs there.
        let _ = place.ol(&["worker", "init"]).ok();
        let (status, _) = worker.wait();
        assert!(status.success(), "{status}");
        drop(worker);

        let backup =
            fs::read_to_string(place.dir().join("config.json.bak")).expect("the old configuration");
        assert_eq!(backup, changed.to_string());
        assert_eq!(config(place)["limits"]["mem_mb"], 50);
        assert!(package.is_dir());
        let worker = place.up(&[]);
        assert_eq!(worker.call("echo", &json!("kept")).ok(), json!("kept"));
        worker.down();
    });
}

/// Nothing is done to a directory in which something else lies.
#[test]
fn what_is_no_workers_directory_stays_as_it_is() {
    in_place(|place| {
        fs::create_dir(place.dir()).expect("made");
        fs::write(place.dir().join("foo"), "mine").expect("written");
        let named = place.dir().display().to_string();
        for command in [
            vec!["worker", "up"],
            vec!["worker", "up", "-d"],
            vec!["worker", "init"],
            vec!["worker", "down"],
            vec!["worker", "status"],
            vec!["worker", "force-cleanup"],
        ] {
            let said = place.ol(&command);
            assert!(said.refusal().contains(&named), "{command:?} {said:?}");
            assert!(
                said.refusal().contains("ol worker init"),
                "{command:?} {said:?}"
            );
        }
        let files: Vec<_> = fs::read_dir(place.dir())
            .expect("there")
            .map(|e| e.expect("read").file_name())
            .collect();
        assert_eq!(files, ["foo"]);
        assert_eq!(
            fs::read_to_string(place.dir().join("foo")).expect("there"),
            "mine"
        );
    });
}

#[test]
fn an_empty_directory_is_taken() {
    in_place(|place| {
        fs::create_dir(place.dir()).expect("made");
        place.up(&[]).down();
    });
}

/// As `ol worker init` of the original leaves it (its configuration has keys that we don't know, and lacks ours), with a
/// base image in `lambda/` and a bundle in the registry.
#[test]
fn a_directory_of_the_originals_is_taken_over() {
    in_place(|place| {
        let dir = place.dir();
        let at = |name: &str| dir.join(name).display().to_string();
        for folder in [
            "lambda/usr",
            "lambda/etc",
            "lambda/tmp",
            "lambda/packages",
            "registry",
            "worker",
        ] {
            fs::create_dir_all(dir.join(folder)).expect("made");
        }
        // A base image needs a Python. To copy one would take long, so this one borrows the host's through links, and
        // is refused for what it is: an image whose Python can't run in it.
        fs::remove_dir(dir.join("lambda/usr")).expect("removed");
        symlink("/usr", dir.join("lambda/usr")).expect("linked");
        let original = json!({
            "worker_dir": at("worker"), "worker_url": "localhost", "worker_port": "0", "log_output": true,
            "sandbox": "sock", "server_mode": "lambda", "registry": at("registry"), "registry_cache_ms": 5000,
            "Pkgs_dir": at("lambda/packages"), "pip_index": "", "mem_pool_mb": 1024,
            "import_cache_tree": at("default-zygotes-40.json"), "sock_base_path": at("lambda"),
            "sandbox_config": {}, "docker": {"runtime": "", "base_image": "ol-min"},
            "limits": {"procs": 10, "mem_mb": 50, "cpu_percent": 100, "max_runtime_default": 30, "swappiness": 0},
            "features": {"reuse_cgroups": false, "import_cache": "tree", "downsize_paused_mem": true,
                "enable_seccomp": true},
            "trace": {"cgroups": false, "memory": false, "evictor": false, "package": false, "latency": false},
            "storage": {"root": "private", "scratch": "", "code": ""}
        });
        fs::write(dir.join("config.json"), original.to_string()).expect("written");
        fs::write(
            dir.join("default-zygotes-40.json"),
            r#"{"packages": [], "children": []}"#,
        )
        .expect("written");
        fs::write(dir.join("registry/echo.tar.gz"), bundle(&[("f.py", ECHO)])).expect("written");

        // With the host as its base, which is one command.
        let init = place.ol(&["worker", "init", "-b", "-i", "host"]);
        assert!(init.ok().contains("renewed"), "{init:?}");
        let backup =
            fs::read_to_string(dir.join("config.json.bak")).expect("the original's configuration");
        assert_eq!(backup, original.to_string());
        // Its own configuration serves too.
        fs::write(dir.join("config.json"), original.to_string()).expect("written");
        let worker = place.up(&[]);
        let log = place.log_text();
        assert!(
            log.contains("warning: ") && log.contains("pip_index"),
            "{log}"
        );
        assert_eq!(
            worker.call("echo", &json!("old friend")).ok(),
            json!("old friend")
        );
        worker.down();
    });
}
