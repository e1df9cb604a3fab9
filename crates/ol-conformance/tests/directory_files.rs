//! Each file of a worker's directory is damaged, and then repaired by the worker, or refused in words that name it.
//!
//! A file may be missing, empty, garbage, another user's, read-only, another kind of file, or replaced while a worker runs.
//! docs/howto/operating.md has the table.

use ol_testkit::{Place, Said, eventually, in_place};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

const ECHO: &[(&str, &str)] = &[("f.py", "def f(event):\n    return event\n")];

const GARBAGE: &[u8] = b"\xff\xfe{\0[}\n\x1b[2J";

/// What is done to a file while no worker runs.
const HARM: [&str; 7] = [
    "missing",
    "empty",
    "garbage",
    "other",
    "readonly",
    "directory",
    "link",
];

fn remove(path: &Path) {
    let is_folder = path.symlink_metadata().is_ok_and(|known| known.is_dir());
    let _ = if is_folder {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
}

fn harm(path: &Path, how: &str) {
    match how {
        "missing" => remove(path),
        "empty" => fs::write(path, "").expect("written"),
        "garbage" => fs::write(path, GARBAGE).expect("written"),
        // A file that belongs to another user, who alone may read it.
        "other" => {
            chown(path, Some(65534), Some(65534)).expect("root may");
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("root may");
        }
        "readonly" => fs::set_permissions(path, fs::Permissions::from_mode(0o400)).expect("ours"),
        "directory" => {
            remove(path);
            fs::create_dir(path).expect("made");
            fs::write(path.join("inside"), "x").expect("written");
        }
        "link" => {
            remove(path);
            symlink("/nonexistent/elsewhere", path).expect("made");
        }
        other => panic!("{other}?"),
    }
}

/// Checks that a worker starts, serves what is installed, and ends (true); or is refused in words that name the file (false).
fn up_or_words(place: &Place, file: &str, what: &str) -> bool {
    let up = place.ol(&["worker", "up", "-d", "-o", "worker_port=0"]);
    if up.code == Some(0) {
        let worker = place.attach();
        assert_eq!(
            worker.call("echo", &json!(what)).ok(),
            json!(what),
            "{what}"
        );
        worker.down();
        return true;
    }
    assert!(names(&up, file), "{what}: {up:?}");
    false
}

fn names(said: &Said, file: &str) -> bool {
    // Without `base.json`, which says where the image is, `lambda` counts as a folder without an image, and is what the error names.
    let file = if file == "lambda/base.json" {
        "w/lambda"
    } else {
        file
    };
    let error = said
        .err
        .lines()
        .find_map(|line| line.strip_prefix("error: "));
    error.is_some_and(|error| error.contains(file))
}

#[test]
fn a_harmed_file_is_repaired_or_named_when_a_worker_starts() {
    in_place(|place| {
        let _ = place.ol(&["worker", "init"]).ok();
        let at = |name: &str| place.dir().join(name);
        fs::write(at("registry/echo.tar.gz"), ol_testkit::bundle(ECHO)).expect("written");
        // A first run, since some files are only made by a run.
        assert!(up_or_words(place, "", "a first run"));
        let config = fs::read(at("config.json")).expect("there");
        // Each file, with the kinds of harm that are refused rather than repaired.
        let table: [(&str, &[&str]); 12] = [
            (
                "config.json",
                &["missing", "empty", "garbage", "directory", "link"],
            ),
            ("config.json.bak", &[]),
            ("default-zygotes-40.json", &[]),
            (
                "lambda/base.json",
                &["missing", "empty", "garbage", "directory", "link"],
            ),
            (
                "lambda/packages/.interpreter",
                &["directory", "link", "other"],
            ),
            ("worker/lock", &["directory", "link"]),
            ("worker/worker.pid", &[]),
            ("worker/worker.url", &[]),
            ("worker/ol.sock", &[]),
            ("worker/stats.json", &[]),
            ("worker/logs/echo.log", &[]),
            ("worker.out", &["directory", "link"]),
        ];
        for (file, refused) in table {
            for how in HARM {
                let path = at(file);
                if !path.exists() && !path.is_symlink() {
                    fs::write(&path, "").expect("written");
                }
                let before = fs::read(&path).expect("a file");
                harm(&path, how);
                let what = format!("{file} {how}");
                let started = up_or_words(place, file, &what);
                assert_eq!(started, !refused.contains(&how), "{what}");
                // Restored for the next kind of harm.
                remove(&path);
                fs::write(&path, before).expect("written");
            }
        }
        assert_eq!(fs::read(at("config.json")).expect("there"), config);
    });
}

#[test]
fn a_harmed_folder_is_repaired_or_named_when_a_worker_starts() {
    in_place(|place| {
        let _ = place.ol(&["worker", "init"]).ok();
        let at = |name: &str| place.dir().join(name);
        let bundle = ol_testkit::bundle(ECHO);
        for folder in [
            "worker/logs",
            "worker/code",
            "worker/uploads",
            "worker/root",
            "worker/packages",
            "lambda/packages",
            "lambda/packages/.wheels",
            "registry",
            "worker",
        ] {
            for how in ["missing", "file", "other"] {
                fs::create_dir_all(at("registry")).expect("made");
                fs::write(at("registry/echo.tar.gz"), &bundle).expect("written");
                let path = at(folder);
                fs::create_dir_all(&path).expect("made");
                match how {
                    "missing" => remove(&path),
                    "file" => {
                        remove(&path);
                        fs::write(&path, GARBAGE).expect("written");
                    }
                    _ => chown(&path, Some(65534), Some(65534)).expect("root may"),
                }
                if folder == "registry" && how == "missing" {
                    fs::create_dir_all(&path).expect("made");
                    fs::write(at("registry/echo.tar.gz"), &bundle).expect("written");
                }
                let _ = up_or_words(place, folder, &format!("{folder} {how}"));
                remove(&path);
            }
        }
    });
}

/// Whatever happens to the lock and the files that say which worker runs: a second worker is refused, and the running one can be stopped.
#[test]
fn what_runs_stays_alone_and_can_be_stopped() {
    in_place(|place| {
        let at = |name: &str| place.dir().join(name);
        for (harmed, how) in [
            (&["worker/lock"][..], "missing"),
            (&["worker/lock"], "empty"),
            (&["worker/lock"], "garbage"),
            (&["worker/lock"], "link"),
            (&["worker/lock", "worker/worker.pid"], "missing"),
            (
                &["worker/lock", "worker/worker.pid", "worker/ol.sock"],
                "missing",
            ),
            (&["worker/worker.pid"], "garbage"),
            (&["worker/worker.pid"], "directory"),
            (&["config.json"], "missing"),
            (&["config.json"], "garbage"),
            (&["config.json"], "directory"),
            (&["config.json", "worker/lock"], "missing"),
            (&["lambda/base.json"], "missing"),
        ] {
            let mut worker = place.up(&[]);
            worker.install("echo", ECHO);
            let kept: Vec<_> = harmed
                .iter()
                .map(|file| fs::read(at(file)).unwrap_or_default())
                .collect();
            let what = format!("{harmed:?} {how}");
            for file in harmed {
                harm(&at(file), how);
            }
            for detach in [
                &["worker", "up", "-o", "worker_port=0"][..],
                &["worker", "up", "-d", "-o", "worker_port=0"],
            ] {
                let second = place.ol(detach);
                assert_eq!(second.code, Some(1), "{what}: {second:?}");
                let words = second.err.contains("already runs")
                    || harmed.iter().any(|file| names(&second, file));
                assert!(words, "{what}: {second:?}");
            }
            assert_eq!(worker.call("echo", &json!(1)).ok(), json!(1), "{what}");
            let said = place.ol(&["worker", "down"]);
            assert_eq!(said.code, Some(0), "{what}: {said:?}");
            let (status, _) = worker.wait();
            assert!(status.success(), "{what}: {status}");
            place.assert_nothing_left();
            // The files that don't belong to a single run are restored for the next one.
            let lasting = |file: &str| !file.starts_with("worker/");
            for (file, content) in harmed.iter().zip(kept).filter(|(file, _)| lasting(file)) {
                remove(&at(file));
                fs::write(at(file), content).expect("written");
            }
            remove(&at("worker/lock"));
        }
    });
}

/// Another program's lock on the directory isn't taken for a worker's, and that program gets no signal.
#[test]
fn a_lock_of_somebody_else_is_not_taken_for_a_worker() {
    in_place(|place| {
        let _ = place.ol(&["worker", "init"]).ok();
        for locked in [place.dir(), place.dir().join("worker/lock")] {
            let mut other = std::process::Command::new("flock")
                .arg(&locked)
                .args(["sleep", "600"])
                .spawn()
                .expect("flock is part of util-linux");
            let said = eventually("the lock", 10.0, || {
                let said = place.ol(&["worker", "up", "-d", "-o", "worker_port=0"]);
                said.err.contains("already runs").then_some(said)
            });
            let named = locked.display().to_string();
            assert!(
                said.refusal().contains(&named) && said.refusal().contains("lslocks"),
                "{said:?}"
            );
            let said = place.ol(&["worker", "down"]);
            assert!(said.refusal().contains(&named), "{said:?}");
            assert!(
                other.try_wait().expect("our own child").is_none(),
                "it lives"
            );
            // `flock` waits for its child, which holds the lock as well.
            for process in
                ol_testkit::process::descendants(i32::try_from(other.id()).expect("a pid"))
            {
                process.signal(rustix::process::Signal::KILL);
            }
            let _ = other.wait();
        }
    });
}

#[test]
fn a_worker_dir_elsewhere_is_refused_by_name() {
    in_place(|place| {
        let elsewhere = place.own("elsewhere").display().to_string();
        let set = format!("worker_dir={elsewhere}");
        let refused = |place: &Place| {
            for arguments in [
                &["worker", "up", "-o", &set][..],
                &["worker", "up", "-d", "-o", &set],
            ] {
                let said = place.ol(arguments);
                let words = said.refusal();
                assert!(
                    words.contains("worker_dir") && words.contains("-p"),
                    "{said:?}"
                );
            }
            assert!(!Path::new(&elsewhere).exists());
        };
        refused(place);
        assert!(!place.dir().exists(), "nothing is made for a mistake");
        let _ = place.ol(&["worker", "init"]).ok();
        refused(place);
    });
}

/// A folder that is removed under a running worker is made again when it is needed, or named in an error.
#[test]
fn folders_that_go_while_a_worker_runs() {
    in_place(|place| {
        let worker = place.up(&[]);
        let print = &[(
            "f.py",
            "def f(event):\n    print('printed', event)\n    return event\n",
        )];
        worker.install("one", print);
        assert_eq!(worker.call("one", &json!(1)).ok(), json!(1));
        for folder in ["worker/logs", "worker/uploads"] {
            remove(&place.dir().join(folder));
        }
        // Functions that serve go on; the folders for uploads and logs are made again.
        worker.install("two", print);
        assert_eq!(worker.call("two", &json!(2)).ok(), json!(2));
        eventually("what it printed", 10.0, || {
            worker.log_of("two").contains("printed 2").then_some(())
        });
        let mode = fs::metadata(place.dir().join("worker/logs"))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
        worker.down();
    });
}

#[test]
fn a_damaged_note_of_the_store_is_written_anew() {
    in_place(|place| {
        let _ = place.ol(&["worker", "init"]).ok();
        let note = place.dir().join("lambda/packages/.interpreter");
        for garbage in [GARBAGE, b"", b"x\n"] {
            fs::create_dir_all(note.parent().expect("a folder")).expect("made");
            fs::write(&note, garbage).expect("written");
            let worker = place.up(&[]);
            let log = place.log_text();
            assert!(
                log.contains(&format!("{} is damaged", note.display())),
                "{log}"
            );
            worker.down();
            let text = fs::read_to_string(&note).expect("text");
            assert!(text.contains("python"), "{text}");
        }
    });
}

/// The whole directory moves while its worker runs: a new one in its place must not take that worker's sandboxes away.
#[test]
fn a_directory_that_is_moved_away_keeps_its_sandboxes() {
    in_place(|place| {
        let mut worker = place.up(&[]);
        worker.install("echo", ECHO);
        assert_eq!(worker.call("echo", &json!(1)).ok(), json!(1));
        let moved = place.own("moved");
        fs::rename(place.dir(), &moved).expect("moved");
        let said = place.ol(&["worker", "up", "-o", "worker_port=0"]);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(names(&said, &moved.display().to_string()), "{said:?}");
        assert_eq!(worker.call("echo", &json!(2)).ok(), json!(2));
        remove(&place.dir());
        fs::rename(&moved, place.dir()).expect("moved back");
        let said = place.ol(&["worker", "down"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(worker.wait().0.success());
    });
}
