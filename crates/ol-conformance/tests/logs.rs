//! `ol logs`: shows what a function wrote, in order, from all files of its log, or what one invocation wrote.

use ol_testkit::{Place, eventually, in_place, with_worker};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

/// A log as a worker writes it.
struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    fn make(place: &Place, name: &str) -> Self {
        let folder = place.dir().join("worker/logs");
        fs::create_dir_all(&folder).expect("made");
        let path = folder.join(format!("{name}.log"));
        let file = File::create(&path).expect("made");
        Self { path, file }
    }

    fn line(&mut self, source: &str, text: &str) {
        let line = format!("2026-11-24T17:30:00.123Z [{source}] {text}\n");
        self.file.write_all(line.as_bytes()).expect("written");
    }

    fn rotate(&mut self) {
        let numbered = |n: u32| PathBuf::from(format!("{}.{n}", self.path.display()));
        for n in (1..9).rev().filter(|n| numbered(*n).exists()) {
            fs::rename(numbered(n), numbered(n + 1)).expect("renamed");
        }
        fs::rename(&self.path, numbered(1)).expect("renamed");
        self.file = File::create(&self.path).expect("made");
    }
}

/// Puts a file into the registry's folder, so that `name` counts as a function.
fn register(place: &Place, name: &str) {
    let bundle = place.dir().join(format!("registry/{name}.tar.gz"));
    fs::write(bundle, "").expect("written");
}

/// What each line says, after its time and source.
fn texts(said: &str) -> Vec<&str> {
    said.lines()
        .map(|line| line.split_once("] ").map_or(line, |(_, text)| text))
        .collect()
}

fn ol(place: &Place, arguments: &[&str]) -> String {
    let said = place.ol(&[&["logs", "f"], arguments].concat());
    assert_eq!(said.err, "");
    said.ok().to_owned()
}

#[test]
fn all_files_of_a_log_in_order() {
    in_place(|place| {
        let _ = place.ol(&["worker", "init"]).ok();
        register(place, "f");
        let none = place.ol(&["logs", "f"]);
        assert!(none.refusal().contains("ol invoke f"), "{none:?}");

        let mut log = Log::make(place, "f");
        log.line("3 6743a1f0-10", "one");
        log.line("3", "two");
        log.rotate();
        log.line("worker 6743a1f0-10", "three");
        log.line("4 6743a1f0-100", "four");
        log.rotate();
        log.line("worker", "five");
        log.line("4 6743a1f0-10", "six [3 other] x");
        log.file.write_all(b"nobody's\n").expect("written");
        // Another function's log must not be shown.
        Log::make(place, "f.log").line("1", "other");

        let all = [
            "one",
            "two",
            "three",
            "four",
            "five",
            "six [3 other] x",
            "nobody's",
        ];
        assert_eq!(texts(&ol(place, &[])), all);
        assert_eq!(texts(&ol(place, &["-n", "3"])), all[4..]);
        assert_eq!(texts(&ol(place, &["-n", "99"])), all);
        assert_eq!(ol(place, &["-n", "0"]), "");
        let one = ol(place, &["--invocation", "6743a1f0-10"]);
        assert_eq!(texts(&one), ["one", "three", "six [3 other] x"]);
        let one = ol(place, &["--invocation", "6743a1f0-10", "-n", "1"]);
        assert_eq!(texts(&one), ["six [3 other] x"]);
        for unknown in ["6743a1f0-1", "other", "3"] {
            let said = place.ol(&["logs", "f", "--invocation", unknown]);
            assert!(said.refusal().contains(unknown), "{said:?}");
        }
        assert_eq!(place.ol(&["logs", "f", "--invocation", ""]).code, Some(2));

        let values: Vec<Value> = ol(place, &["--output", "json", "-n", "3"])
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        let time = "2026-11-24T17:30:00.123Z";
        assert_eq!(
            values,
            [
                json!({"time": time, "sandbox": "worker", "invocation": null, "text": "five"}),
                json!({"time": time, "sandbox": 4, "invocation": "6743a1f0-10", "text": "six [3 other] x"}),
                json!({"time": null, "sandbox": null, "invocation": null, "text": "nobody's"}),
            ]
        );
    });
}

/// `ol logs -f`, and the lines that it prints as they come. Ended when dropped.
struct Following {
    child: Child,
    lines: Receiver<String>,
}

impl Following {
    fn start(place: &Place, arguments: &[&str]) -> Self {
        let mut command = place.command(&[&["logs", "f", "-f"], arguments].concat());
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("ol can be run");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // Fails only when the test has ended and nobody receives.
                let _ = sender.send(line);
            }
        });
        Self { child, lines }
    }

    fn next(&self) -> String {
        let line = eventually("a line", 20.0, || self.lines.try_recv().ok());
        texts(&line).concat()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_log_is_followed_across_its_rotation() {
    in_place(|place| {
        let _ = place.ol(&["worker", "init"]).ok();
        register(place, "f");
        // `ol logs -f` may be started before the log exists.
        let early = Following::start(place, &[]);
        let mut log = Log::make(place, "f");
        log.line("3 a-1", "one");
        assert_eq!(early.next(), "one");
        log.line("3 a-2", "two");
        let all = Following::start(place, &["-n", "1"]);
        let some = Following::start(place, &["--invocation", "a-2"]);
        assert_eq!([all.next(), some.next()], ["two", "two"]);
        // Half a line isn't shown until the rest comes.
        log.file
            .write_all(b"2026-11-24T17:30:00.123Z [3 a-2] th")
            .expect("written");
        log.file.write_all(b"ree\n").expect("written");
        assert_eq!([all.next(), some.next()], ["three", "three"]);
        // Lines are written just before a rotation, and the log is rotated twice before `ol` looks again.
        for n in 0..4 {
            log.line("3 a-1", &format!("x{n}"));
            log.line("worker a-2", &format!("y{n}"));
            log.rotate();
        }
        log.line("4 a-2", "last");
        for n in 0..4 {
            assert_eq!([all.next(), all.next()], [format!("x{n}"), format!("y{n}")]);
            assert_eq!(some.next(), format!("y{n}"));
        }
        assert_eq!([all.next(), some.next()], ["last", "last"]);
    });
}

#[test]
fn what_a_function_printed() {
    with_worker(&[], |worker| {
        let source =
            "def f(event):\n    print('hello', event)\n    print(1 / event)\n    return 1\n";
        worker.install("f", &[("f.py", source)]);
        let _ = worker.call("f", &json!(2)).ok();
        assert_eq!(worker.call("f", &json!(0)).status, 500);
        // The sandbox's output reaches the log independently of the call's answer, so it may be late.
        let said = eventually("both calls' lines", 10.0, || {
            let said = ol(worker.place, &["--output", "json"]);
            let seen = ["hello 2", "0.5", "hello 0"]
                .iter()
                .all(|text| said.contains(text));
            (seen && said.contains("ZeroDivisionError")).then_some(said)
        });
        for line in said.lines() {
            let value: Value = serde_json::from_str(line).expect("JSON");
            assert!(value["time"].is_string(), "{line}");
            let source = &value["sandbox"];
            assert!(source.is_u64() || source == "worker", "{line}");
        }
    });
}

/// For a name that isn't registered, `ol logs` says so, with or without a worker, and with or without `-f`.
#[test]
fn an_unknown_function_has_no_log() {
    with_worker(&[], |worker| {
        for arguments in [&["logs", "nobody"][..], &["logs", "nobody", "-f"]] {
            let said = worker.place.ol(arguments);
            assert!(
                said.refusal().contains("there is no function nobody"),
                "{said:?}"
            );
        }
        // Calling the unknown function doesn't make a log.
        assert_eq!(worker.call("nobody", &json!(1)).status, 404);
        let said = worker.place.ol(&["logs", "nobody"]);
        assert!(
            said.refusal().contains("there is no function nobody"),
            "{said:?}"
        );
        worker.install("f", &[("f.py", "def f(event): pass\n")]);
        let said = worker.place.ol(&["logs", "f"]);
        assert!(said.refusal().contains("has printed nothing"), "{said:?}");
    });
    in_place(|place| {
        let _ = place.ol(&["worker", "init"]).ok();
        let said = place.ol(&["logs", "nobody"]);
        assert!(
            said.refusal().contains("there is no function nobody"),
            "{said:?}"
        );
    });
}

/// However a function is removed, its log is removed with all rotated files, and a new function of that name begins with an empty one.
#[test]
fn a_log_ends_with_its_function() {
    let prints = |what: &str| format!("def f(event):\n    print('{what}')\n");
    let options = ["registry_cache_ms=0", "log_file_mb=1"];
    with_worker(&options, |worker| {
        let logs = worker.place.dir().join("worker/logs");
        let files = || {
            let mut names: Vec<_> = ol_testkit::place::listing(&logs)
                .iter()
                .filter(|path| path.is_file())
                .map(|path| path.file_name().expect("a name").to_owned())
                .collect();
            names.sort();
            names
        };
        worker.install("ff", &[("f.py", &prints("another"))]);
        let _ = worker.call("ff", &json!(1)).ok();
        let another = || {
            eventually("its log", 10.0, || {
                worker.log_of("ff").contains("another").then_some(())
            })
        };
        another();
        let bundle = worker.place.dir().join("registry/f.tar.gz");
        let removals: [(&str, &dyn Fn()); 3] = [
            ("by ol rm", &|| {
                drop(worker.place.ol(&["rm", "f"]).ok().to_owned())
            }),
            ("from the folder, then called", &|| {
                fs::remove_file(&bundle).expect("removed");
                assert_eq!(worker.call("f", &json!(1)).status, 404);
            }),
            ("from the folder, then uploaded", &|| {
                fs::remove_file(&bundle).expect("removed");
            }),
        ];
        for (way, remove) in removals {
            worker.install("f", &[("f.py", &prints("old"))]);
            let _ = worker.call("f", &json!(1)).ok();
            eventually("its line", 10.0, || {
                worker.log_of("f").contains("old").then_some(())
            });
            // A second file, as a rotation would leave it.
            fs::copy(logs.join("f.log"), logs.join("f.log.1")).expect("copied");
            remove();
            let said = worker.place.ol(&["logs", "f"]);
            assert!(
                said.refusal().contains("there is no function f"),
                "{way}: {said:?}"
            );

            worker.install("f", &[("f.py", &prints("new"))]);
            let _ = worker.call("f", &json!(1)).ok();
            eventually("its line", 10.0, || {
                worker.log_of("f").contains("new").then_some(())
            });
            assert_eq!(texts(&ol(worker.place, &[])), ["new"], "{way}");
            assert_eq!(files(), ["f.log", "ff.log"], "{way}");
            let _ = worker.place.ol(&["rm", "f"]).ok();
            assert_eq!(files(), ["ff.log"], "{way}");
        }
        another();
    });
}

/// What a call prints after its function was removed is dropped, and doesn't get into the log of the next function of that name.
#[test]
fn a_call_that_outlives_its_function_writes_to_no_log() {
    let slow = "import subprocess\n\ndef f(event):\n    print('begun')\n    subprocess.run(['sleep', '600'])\n    print('late')\n";
    with_worker(&[], |worker| {
        worker.install("f", &[("f.py", slow)]);
        thread::scope(|scope| {
            let call = scope.spawn(|| worker.call("f", &json!(1)));
            let sleeping = worker.program("sleep");
            let _ = worker.place.ol(&["rm", "f"]).ok();
            worker.install("f", &[("f.py", "def f(event):\n    print('new')\n")]);
            let _ = worker.call("f", &json!(1)).ok();
            sleeping.signal(rustix::process::Signal::KILL);
            assert_eq!(call.join().expect("no panic").status, 200);
        });
        eventually("the new one's line", 10.0, || {
            worker.log_of("f").contains("new").then_some(())
        });
        assert_eq!(texts(&ol(worker.place, &[])), ["new"]);
    });
}
