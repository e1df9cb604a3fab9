//! Honest packages: each is installed once for all functions that ask for it, in the versions that they ask for.
//!
//! Functions see them as documented, and they are kept over restarts, crashes and replacements. (Broken packages: `package_failures`;
//! hostile ones: `package_harm`.)

use ol_testkit::index::{Gate, uv};
use ol_testkit::{Mischief, PackageIndex, Place, Worker, bundle, eventually, in_place, wheel};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

/// Runs `test` in a place where workers find uv, with an empty index.
fn with_index(test: impl FnOnce(&Place, &PackageIndex)) {
    in_place(|place| {
        place.find_first(&uv(Path::new(env!("CARGO_TARGET_TMPDIR"))));
        test(place, &PackageIndex::start());
    });
}

fn up<'a>(place: &'a Place, index: &PackageIndex, options: &[&str]) -> Worker<'a> {
    let mirror = format!("pip_mirror={}", index.url());
    place.up(&[&[mirror.as_str()][..], options].concat())
}

/// A package with one module of the same name, which has its version.
fn plain(name: &str, version: &str) -> ol_testkit::Dist {
    wheel(name, version)
        .file(&format!("{name}.py"), format!("version = '{version}'\n"))
        .build()
}

/// A function that returns the versions of these modules.
fn versions_of(modules: &[&str]) -> String {
    let list = modules.join(", ");
    let told: Vec<_> = modules
        .iter()
        .map(|name| format!("{name}.version"))
        .collect();
    format!(
        "import {list}\ndef f(event):\n    return [{}]\n",
        told.join(", ")
    )
}

/// The packages in the store, finished or not, and the wheels that are being installed.
fn store(place: &Place) -> Vec<String> {
    let packages = place.dir().join("lambda/packages");
    let names = |folder: PathBuf| {
        let entries = fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| {
            let name = entry.expect("listed").file_name();
            name.to_string_lossy().into_owned()
        })
    };
    let wheels = names(packages.join(".wheels")).map(|name| format!(".wheels/{name}"));
    let mut all: Vec<_> = names(packages.clone())
        .filter(|name| name != ".wheels" && name != ".interpreter")
        .chain(wheels)
        .collect();
    all.sort();
    all
}

/// All that installers have written to their logs; empty if no installer ran.
fn installers_log(place: &Place) -> Vec<(String, u64)> {
    let folder = place.dir().join("worker/logs/worker");
    let files = ol_testkit::place::listing(&folder).into_iter();
    files
        .map(|path| {
            let length = path.metadata().expect("there").len();
            (path.display().to_string(), length)
        })
        .collect()
}

fn call(worker: &Worker<'_>, name: &str) -> Value {
    worker.call(name, &json!(null)).ok()
}

const FIVE: &str = "a==1.0\nb==1.0\nc==1.0\nd==1.0\ne==1.0\n";
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "g"];

/// The counts of functions in `/stats` and `/metrics`: calls, sandboxes made and bound, starts and calls of all kinds.
fn functions_only(worker: &Worker<'_>) -> [u64; 5] {
    let metrics = worker.request("GET", "/metrics", b"").text();
    let total = |counter: &str| {
        let counts = metrics.lines().filter(|line| line.starts_with(counter));
        counts
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
            .sum()
    };
    [
        worker.count("call"),
        worker.count("create"),
        worker.count("bind"),
        total("ol_starts_total"),
        total("ol_calls_total"),
    ]
}

#[test]
fn packages_are_counted_once_and_a_restarted_worker_installs_none() {
    with_index(|place, index| {
        for name in NAMES {
            index.add(plain(name, "1.0"));
        }
        let source = versions_of(&NAMES[..5]);
        let worker = up(place, index, &[]);
        let before = functions_only(&worker);
        let six = format!("{FIVE}g==1.0\n");
        for (name, wanted) in [("one", FIVE), ("two", FIVE), ("three", six.as_str())] {
            worker.install(name, &[("f.py", &source), ("requirements.txt", wanted)]);
        }
        for name in ["one", "two", "three"] {
            assert_eq!(call(&worker, name), json!(vec!["1.0"; 5]));
        }
        // Seven sandboxes of installers came and went: they don't count as calls or starts of functions.
        let after = functions_only(&worker);
        let new: Vec<u64> = after
            .iter()
            .zip(before)
            .map(|(after, before)| after - before)
            .collect();
        assert_eq!(new, [3; 5]);
        let stats = worker.request("GET", "/stats", b"").ok();
        // Fetching and unpacking took a measurable time.
        assert!(
            stats["pull-package.us-avg"].as_u64() > Some(1000),
            "{stats}"
        );
        worker.down();
        assert_eq!(store(place), NAMES.map(|name| format!("{name}==1.0")));

        let (asked, log) = (index.asked().len(), installers_log(place));
        assert!(asked > 0);
        let worker = up(place, index, &[]);
        assert_eq!(worker.count("pull-package"), 0);
        for (name, count) in [("one", 5), ("two", 5), ("three", 6)] {
            assert_eq!(call(&worker, name), json!(vec!["1.0"; 5]));
            assert_eq!(worker.count("pull-package"), count, "{name}");
        }
        worker.down();
        assert_eq!(index.asked().len(), asked, "{:?}", index.asked());
        assert_eq!(installers_log(place), log);
    });
}

#[test]
fn twenty_first_calls_at_once_install_each_package_once() {
    with_index(|place, index| {
        index.tell_metadata();
        for name in NAMES {
            index.add(plain(name, "1.0"));
        }
        let source = versions_of(&NAMES[..5]);
        let files = [("f.py", source.as_str()), ("requirements.txt", FIVE)];
        let worker = up(place, index, &[]);
        let names: Vec<_> = (0..20).map(|number| format!("f{number}")).collect();
        thread::scope(|scope| {
            for name in &names {
                let (worker, files) = (&worker, &files);
                scope.spawn(move || {
                    worker.install(name, files);
                    assert_eq!(call(worker, name), json!(vec!["1.0"; 5]));
                });
            }
        });
        for name in &NAMES[..5] {
            assert_eq!(index.requests(&format!("{name}-1.0-py3-none-any.whl")), 1);
            assert_eq!(
                index.requests(&format!("{name}-1.0-py3-none-any.whl.metadata")),
                1
            );
        }
        let (asked, log) = (index.asked(), installers_log(place));
        worker.install("another", &files);
        assert_eq!(call(&worker, "another"), json!(vec!["1.0"; 5]));
        assert_eq!(index.asked(), asked);
        assert_eq!(installers_log(place), log);
        worker.down();
    });
}

#[test]
fn two_versions_of_a_package_live_side_by_side_and_are_seen_as_told() {
    let looks = "
import importlib.metadata, importlib.resources, os, sys
import m

def f(event):
    folder = os.path.dirname(m.__file__)
    refused = []
    for path in (m.__file__, folder + '/new.py', os.path.dirname(folder) + '/new.py', '/packages/new'):
        try:
            open(path, 'a').close()
        except OSError:
            refused.append(path)
    kinds = []
    for entry in sys.path:
        kind = 'packages' if entry.startswith('/packages/') else 'handler' if entry == '/handler' else 'python'
        if kinds[-1:] != [kind]:
            kinds.append(kind)
    return {'version': m.version, 'metadata': importlib.metadata.version('m'), 'refused': len(refused),
            'data': (importlib.resources.files('m') / 'data.txt').read_text(), 'owned': hasattr(sys, 'owned'), 'path': kinds}
";
    with_index(|place, index| {
        for version in ["1.0", "2.0"] {
            let made = wheel("m", version)
                .file("m/__init__.py", format!("version = '{version}'\n"))
                .file("m/data.txt", format!("data of {version}"))
                .file("owned.pth", "import sys; sys.owned = True\n/tmp\n");
            index.add(made.build());
        }
        let worker = up(place, index, &[]);
        for (name, wanted) in [("one", "m==1.0\n"), ("two", "m==2.0\n")] {
            worker.install(name, &[("f.py", looks), ("requirements.txt", wanted)]);
        }
        for (name, version) in [("one", "1.0"), ("two", "2.0"), ("one", "1.0")] {
            let data = format!("data of {version}");
            let seen = json!({"version": version, "metadata": version, "refused": 4, "data": data, "owned": false,
                "path": ["packages", "python", "handler"]});
            assert_eq!(call(&worker, name), seen);
        }
        assert_eq!(store(place), ["m==1.0", "m==2.0"]);
        worker.down();
    });
}

#[test]
fn a_python_that_a_function_starts_finds_its_packages() {
    let starts = "
import subprocess, sys
import m

def f(event):
    script = 'import m, sys; print(m.version, [p for p in sys.path if p in (\"/tmp/own\", m.__file__[:-5])])'
    told = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    return told.stdout + told.stderr
";
    with_index(|place, index| {
        index.add(plain("m", "1.0"));
        let worker = up(place, index, &[]);
        let files = [("f.py", starts), ("requirements.txt", "m\n")];
        worker.install("child", &files);
        let seen = "1.0 ['/packages/m==1.0/files']\n";
        assert_eq!(call(&worker, "child"), seen);
        // The function's own PYTHONPATH is kept, and comes first.
        let own = "environment:\n  PYTHONPATH: /tmp/own\n";
        worker.install("own", &[&files[..], &[("ol.yaml", own)]].concat());
        let seen = "1.0 ['/tmp/own', '/packages/m==1.0/files']\n";
        assert_eq!(call(&worker, "own"), seen);
        worker.down();
    });
}

#[test]
fn requirements_are_understood_in_all_their_forms() {
    with_index(|place, index| {
        index.add(plain("m", "1.0"));
        index.add(plain("m", "2.0"));
        index.add(plain("e", "1.0"));
        index.add(plain("needed", "3.0"));
        let extras = wheel("x", "1.0")
            .file("x.py", "version = '1.0'\n")
            .requires("needed>=1")
            .requires("e; extra == 'more'")
            .metadata("Provides-Extra: more");
        index.add(extras.build());
        let hash = plain("m", "1.0").sha256();
        let hashed = format!("m==1.0 --hash=sha256:{hash}\n");
        let compiled = format!(
            "#\n# This file is autogenerated by pip-compile with Python 3.11\n#\nm==1.0 \\\n    --hash=sha256:{} \\\n    --hash=sha256:{hash}\n    # via -r requirements.in\n",
            "0".repeat(64)
        );
        let project = "[project]\nname = 'f'\nversion = '1'\ndependencies = ['m<2', 'needed']\n";
        let none = "gone==1.0; python_version < '3'\nm\n";
        let all: [(&str, &str, &str, &[&str], Value); 9] = [
            (
                "unpinned",
                "requirements.txt",
                "m\n",
                &["m"],
                json!(["2.0"]),
            ),
            (
                "pinned",
                "requirements.txt",
                "m==1.0\n",
                &["m"],
                json!(["1.0"]),
            ),
            (
                "dependency",
                "requirements.txt",
                "x\n",
                &["x", "needed"],
                json!(["1.0", "3.0"]),
            ),
            (
                "extra",
                "requirements.txt",
                "x[more]\n",
                &["x", "e"],
                json!(["1.0", "1.0"]),
            ),
            ("marker", "requirements.txt", none, &["m"], json!(["2.0"])),
            (
                "hashed",
                "requirements.txt",
                &hashed,
                &["m"],
                json!(["1.0"]),
            ),
            (
                "compiled",
                "requirements.txt",
                &compiled,
                &["m"],
                json!(["1.0"]),
            ),
            ("in", "requirements.in", "m>1.5\n", &["m"], json!(["2.0"])),
            (
                "project",
                "pyproject.toml",
                project,
                &["m", "needed"],
                json!(["1.0", "3.0"]),
            ),
        ];
        let worker = up(place, index, &[]);
        for (name, file, wanted, modules, _) in &all {
            worker.install(name, &[("f.py", &versions_of(modules)), (file, wanted)]);
        }
        for (name, _, _, _, answer) in &all {
            assert_eq!(call(&worker, name), *answer, "{name}");
        }
        let asked = index.asked();
        for (line, remedy) in [
            ("--index-url http://evil.example/simple", "pip_mirror"),
            ("--extra-index-url=http://evil.example/simple", "pip_mirror"),
            ("-r other.txt", "put that file's lines here"),
            ("-e .", "bundle"),
            ("./m", "bundle"),
            ("../m-1.0-py3-none-any.whl", "bundle"),
            ("/etc/passwd", "bundle"),
            ("m @ http://evil.example/m-1.0-py3-none-any.whl", "index"),
            ("git+https://evil.example/m", "index"),
            ("file:///etc/passwd", "index"),
        ] {
            let wanted = format!("# first\nm\n{line}\n");
            let files = [
                ("f.py", "def f(e): return e\n"),
                ("requirements.txt", wanted.as_str()),
            ];
            let reply = worker.request("POST", "/registry/refused", &bundle(&files));
            let text = reply.text();
            assert_eq!(reply.status, 400, "{line}: {text}");
            assert!(text.contains("line 3"), "{line}: {text}");
            assert!(text.contains(remedy), "{line}: {text}");
            assert_eq!(worker.call("refused", &json!(null)).status, 404);
        }
        assert_eq!(index.asked(), asked);
        worker.down();
    });
}

#[test]
fn a_worker_killed_while_it_installs_leaves_nothing_by_halves() {
    with_index(|place, index| {
        index.tell_metadata();
        index.add(plain("a", "1.0"));
        index.add(plain("b", "1.0"));
        let worker = up(place, index, &[]);
        // The index serves the metadata and the page, but the file only when the gate opens.
        let gate = Gate::closed();
        index.misbehave_for_files("b", Mischief::Waits(gate.clone()));
        worker.install(
            "f",
            &[
                ("f.py", &versions_of(&["a", "b"])),
                ("requirements.txt", "a\nb\n"),
            ],
        );
        gate.until_waiting(1);
        worker.process.signal(Signal::KILL);
        worker.warden.signal(Signal::KILL);
        let mut worker = worker;
        worker.wait();
        drop(worker);
        gate.open();
        index.behave("b");

        let worker = up(place, index, &[]);
        let unfinished = |name: &String| name.starts_with('.') || name.starts_with("b=");
        assert!(!store(place).iter().any(unfinished), "{:?}", store(place));
        assert_eq!(call(&worker, "f"), json!(["1.0", "1.0"]));
        assert_eq!(store(place), ["a==1.0", "b==1.0"]);
        worker.down();
    });
}

#[test]
fn a_function_can_be_deleted_or_replaced_while_it_is_prepared() {
    with_index(|place, index| {
        for name in ["a", "b", "c"] {
            index.add(plain(name, "1.0"));
        }
        let gate = Gate::closed();
        index.misbehave("a", Mischief::Waits(gate.clone()));
        let worker = up(place, index, &[]);
        let of_a = versions_of(&["a"]);
        for name in ["deleted", "replaced"] {
            worker.install(name, &[("f.py", &of_a), ("requirements.txt", "a\n")]);
        }
        gate.until_waiting(1);
        assert_eq!(
            worker.request("DELETE", "/registry/deleted", b"").status,
            200
        );
        assert_eq!(worker.call("deleted", &json!(null)).status, 404);
        worker.install(
            "replaced",
            &[("f.py", &versions_of(&["b"])), ("requirements.txt", "b\n")],
        );
        assert_eq!(call(&worker, "replaced"), json!(["1.0"]));
        worker.install(
            "replaced",
            &[("f.py", "def f(event):\n    return 'newest'\n")],
        );
        assert_eq!(call(&worker, "replaced"), json!("newest"));
        gate.open();
        eventually("what was asked for first", 20.0, || {
            store(place).contains(&"a==1.0".to_owned()).then_some(())
        });
        assert_eq!(call(&worker, "replaced"), json!("newest"));
        assert_eq!(worker.call("deleted", &json!(null)).status, 404);
        worker.down();
        // The result of an attempt that nobody waits for isn't kept for a restart, by which time another function may have the name.
        let locks = place.dir().join("worker/packages/locks");
        let kept = |name: &str| fs::read_to_string(locks.join(name)).unwrap_or_default();
        assert_eq!(kept("deleted.json"), "");
        assert!(
            kept("replaced.json").contains(r#"\"b\""#),
            "{}",
            kept("replaced.json")
        );
    });
}

/// If the packages of a new version can't be had, the log tells of it, and callers don't notice.
#[test]
fn a_version_whose_packages_fail_leaves_the_one_before_in_service() {
    with_index(|place, index| {
        index.add(plain("a", "1.0"));
        index.add(plain("a", "2.0"));
        let worker = up(place, index, &["registry_cache_ms=50"]);
        let source = versions_of(&["a"]);
        worker.install("f", &[("f.py", &source), ("requirements.txt", "a==1.0\n")]);
        assert_eq!(call(&worker, "f"), json!(["1.0"]));
        worker.install("f", &[("f.py", &source), ("requirements.txt", "a==3.0\n")]);
        eventually("the failure to be told", 20.0, || {
            assert_eq!(call(&worker, "f"), json!(["1.0"]));
            let log = place.log_text();
            log.contains("the version before stays in service")
                .then_some(())
        });
        index.add(plain("a", "3.0"));
        eventually("the version that failed", 20.0, || {
            let version = call(&worker, "f");
            (version == json!(["3.0"])).then_some(())
        });
        worker.down();
    });
}

/// A function can't see which packages others have installed, nor when they used them last.
#[test]
fn a_function_sees_its_own_packages_and_no_others() {
    const LOOK: &str = "
import os

def f(event):
    return [sorted(os.listdir('/packages')), [os.listdir('/packages/' + name) for name in sorted(os.listdir('/packages'))],
            [os.path.lexists('/packages/' + name) for name in event]]
";
    with_index(|place, index| {
        index.add(plain("m", "1.0"));
        index.add(plain("n", "1.0"));
        let worker = up(place, index, &[]);
        let guesses = json!(["m==1.0", "n==1.0", ".wheels", ".interpreter"]);
        for (name, wanted, own) in [
            ("both", "m\nn\n", &["m==1.0", "n==1.0"][..]),
            ("one", "m\n", &["m==1.0"]),
            ("none", "", &[]),
        ] {
            // Also with a second version: each has its own packages, in whatever way its sandbox is started.
            for version in ["first", "second"] {
                let files = [
                    ("f.py", LOOK),
                    ("requirements.txt", wanted),
                    ("version", version),
                ];
                worker.install(name, &files);
                let there = [
                    own.contains(&"m==1.0"),
                    own.contains(&"n==1.0"),
                    false,
                    false,
                ];
                let folders = vec![["files"]; own.len()];
                let seen = worker.call(name, &guesses).ok();
                assert_eq!(seen, json!([own, folders, there]), "{name}, {version}");
            }
        }
        worker.down();
    });
}

/// Each package is a mount; prints how much a hundred of them slow down a start.
#[test]
#[ignore = "installs 120 packages; run it with `make test-long`"]
fn a_function_of_many_packages() {
    with_index(|place, index| {
        let names: Vec<String> = (0..120).map(|n| format!("many{n}")).collect();
        for name in &names {
            index.add(plain(name, "1.0"));
        }
        let worker = up(place, index, &[]);
        let source = "import importlib\n\ndef f(names):\n    return sum(importlib.import_module(n).version == '1.0' for n in names)\n";
        let wanted = names.join("\n");
        worker.install("many", &[("f.py", source), ("requirements.txt", &wanted)]);
        worker.install("none", &[("f.py", source)]);
        assert_eq!(worker.call("many", &json!(names)).ok(), json!(120));
        // Each call is of a new version, so that it starts a sandbox; no module of the packages is imported.
        for version in 0..5 {
            for (name, wanted) in [("many", wanted.as_str()), ("none", "")] {
                let version = version.to_string();
                let files = [
                    ("f.py", source),
                    ("requirements.txt", wanted),
                    ("v", &version),
                ];
                worker.install(name, &files);
                let begun = Instant::now();
                assert_eq!(worker.call(name, &json!([])).ok(), json!(0));
                ol_testkit::measured(&format!("{name}: {:?}", begun.elapsed()));
            }
        }
        worker.down();
    });
}
