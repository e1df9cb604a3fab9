//! Existing directories: a worker's, on which `init` is run again; one that the original OpenLambda made; and one that is neither.

use ol_testkit::{Place, bundle, in_place};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

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
        // `init` stops the worker that runs there.
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

/// A directory that holds anything else is left untouched.
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

/// A base image in `folder`: this host's Python and what it needs, and a few things that a function must not see.
fn make_image(folder: &Path) {
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .output()
            .expect("it can be run");
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {output:?}"
        );
        String::from_utf8(output.stdout).expect("text")
    };
    let python = fs::canonicalize("/usr/bin/python3").expect("this host has a Python");
    let python = python.to_str().expect("text");
    let code = "import encodings, os; print(os.path.dirname(os.__file__))";
    let library = said(python, &["-I", "-S", "-c", code]);
    let needed = said("ldd", &[python]);
    let libraries = needed
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    let mut parts: Vec<String> = libraries.map(str::to_owned).collect();
    parts.push(python.to_owned());
    for entry in fs::read_dir(library.trim()).expect("there") {
        let path = entry.expect("read").path();
        let name = path.file_name().expect("a name").to_string_lossy();
        // Only the modules that every start reads; the rest is large.
        if name.ends_with(".py")
            || [
                "encodings",
                "json",
                "importlib",
                "collections",
                "re",
                "lib-dynload",
            ]
            .contains(&&*name)
        {
            parts.push(path.display().to_string());
        }
    }
    fs::create_dir_all(folder.join("usr/bin")).expect("made");
    let to = folder.display().to_string();
    let mut copy = vec!["-rL", "--parents", "-t", &to];
    copy.extend(parts.iter().map(String::as_str));
    let _ = said("cp", &copy);
    if python != "/usr/bin/python3" {
        symlink(python, folder.join("usr/bin/python3")).expect("linked");
    }
    for (file, content) in [
        ("etc/shadow", "root:secret"),
        ("etc/motd", "hello from the image"),
        ("opt/tool", "tool"),
    ] {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().expect("it has one")).expect("made");
        fs::write(path, content).expect("written");
    }
}

const LOOK: &str = "
import os

def read(path):
    try:
        return open(path).read()
    except PermissionError:
        return ''

def f(event):
    texts = [read(path) for path in ('/etc/motd', '/opt/tool', '/etc/shadow')]
    return texts + [sorted(os.listdir('/usr')), os.path.exists('/base.json')]
";

/// What [`LOOK`] sees in the image of [`make_image`]: the image without its secrets, and nothing of the host.
fn seen() -> Value {
    json!(["hello from the image", "tool", "", ["bin", "lib"], false])
}

/// A directory as the original OpenLambda's `ol worker init` leaves it.
///
/// It has a configuration with the original's keys only, one of which this worker doesn't know; a base image in `lambda/`; and a bundle
/// in the registry.
#[test]
fn a_directory_of_the_originals_is_taken_over() {
    in_place(|place| {
        let dir = place.dir();
        let at = |name: &str| dir.join(name).display().to_string();
        for folder in [
            "lambda/packages",
            "lambda/handler",
            "lambda/host",
            "registry",
            "worker",
        ] {
            fs::create_dir_all(dir.join(folder)).expect("made");
        }
        make_image(&dir.join("lambda"));
        let original = json!({
            "worker_dir": at("worker"), "worker_url": "localhost", "worker_port": "5000", "log_output": true,
            "sandbox": "sock", "server_mode": "lambda", "registry": at("registry"), "registry_cache_ms": 5000,
            "Pkgs_dir": at("lambda/packages"), "pip_index": "", "mem_pool_mb": 1024,
            "import_cache_tree": at("default-zygotes-40.json"), "sock_base_path": at("lambda"),
            "sandbox_config": {}, "docker": {"runtime": "", "base_image": "ol-min"},
            "limits": {"procs": 10, "mem_mb": 50, "cpu_percent": 100, "swappiness": 0, "runtime_sec": 30},
            "installer_limits": {"procs": 0, "mem_mb": 250, "cpu_percent": 0, "swappiness": 0, "runtime_sec": 300},
            "features": {"reuse_cgroups": false, "import_cache": "tree", "downsize_paused_mem": true, "enable_seccomp": true},
            "trace": {"cgroups": false, "memory": false, "evictor": false, "package": false, "latency": false},
            "storage": {"root": "private", "scratch": "", "code": ""}
        });
        fs::write(dir.join("config.json"), original.to_string()).expect("written");
        let tree = r#"{"packages": [], "children": []}"#;
        fs::write(dir.join("default-zygotes-40.json"), tree).expect("written");
        fs::write(dir.join("registry/look.tar.gz"), bundle(&[("f.py", LOOK)])).expect("written");

        let worker = place.up(&[]);
        let log = place.log_text();
        assert!(
            log.contains("warning: ") && log.contains("pip_index"),
            "{log}"
        );
        assert_eq!(worker.call("look", &json!({})).ok(), seen());
        worker.down();
        let kept = fs::read_to_string(dir.join("config.json")).expect("there");
        assert_eq!(kept, original.to_string());
        // Another `init` keeps the image too.
        let said = place.ol(&["worker", "init"]);
        assert!(said.ok().contains("renewed"), "{said:?}");
        let worker = place.up(&[]);
        assert_eq!(worker.call("look", &json!({})).ok(), seen());
        worker.down();
    });
}

#[test]
fn a_directory_can_be_the_base_image() {
    in_place(|place| {
        let image = place.own("image");
        make_image(&image);
        let base = format!("dir:{}", image.display());
        let said = place.ol(&["worker", "init", "-i", &base]);
        assert!(said.ok().contains(&base), "{said:?}");
        let worker = place.up(&[]);
        worker.install("look", &[("f.py", LOOK)]);
        assert_eq!(worker.call("look", &json!({})).ok(), seen());
        worker.down();
        // With -b the base is replaced.
        let _ = place.ol(&["worker", "init", "-b", "-i", "host"]).ok();
        let worker = place.up(&[]);
        let text = worker.call("look", &json!({})).error(500, "raised");
        assert!(text.contains("/etc/motd"), "{text}");
        worker.down();
    });
}
