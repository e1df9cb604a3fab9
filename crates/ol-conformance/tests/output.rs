//! What functions print: each line in the log bears the invocation that printed it.
//!
//! That holds for every process, thread or task in the sandbox, and for any number of calls at once.

use ol_testkit::{Worker, eventually, with_worker};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::thread;

/// The lines of each invocation, as `ol logs` shows them.
fn printed(worker: &Worker<'_>, name: &str) -> BTreeMap<String, Vec<String>> {
    let said = worker
        .place
        .ol(&["--output", "json", "logs", name, "-n", "100000"]);
    let mut lines = BTreeMap::<_, Vec<String>>::new();
    for line in said.out.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let id = line["invocation"].as_str().unwrap_or("nobody");
        let text = line["text"].as_str().expect("text");
        lines
            .entry(id.to_owned())
            .or_default()
            .push(text.to_owned());
    }
    lines
}

/// Waits until the log has all of `expected`, per invocation and in order, and nothing else.
fn expect(worker: &Worker<'_>, name: &str, expected: &BTreeMap<String, Vec<String>>) {
    let mut last = BTreeMap::new();
    let deadline = std::time::Instant::now() + ol_testkit::patience(10.0);
    while last != *expected && std::time::Instant::now() < deadline {
        last = printed(worker, name);
    }
    assert_eq!(last, *expected);
}

/// As [`expect`], for lines that are printed in no fixed order; `expected` is sorted.
fn expect_in_any_order(worker: &Worker<'_>, name: &str, expected: &BTreeMap<String, Vec<String>>) {
    let mut last = BTreeMap::new();
    let deadline = std::time::Instant::now() + ol_testkit::patience(10.0);
    while last != *expected && std::time::Instant::now() < deadline {
        last = printed(worker, name);
        last.values_mut().for_each(|lines| lines.sort());
    }
    assert_eq!(last, *expected);
}

fn lines(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// One call after the other: print, standard error, a child, a thread, bytes, lines without an end.
#[test]
fn lines_of_calls_one_after_the_other() {
    let source = r#"
import logging, os, subprocess, sys, threading

print("imported")
logging.basicConfig(format="%(levelname)s %(message)s")

def f(event):
    print("begin", event)
    print("to stderr", file=sys.stderr)
    subprocess.run(["echo", "by a child"])
    subprocess.run(["sh", "-c", "echo by its stderr >&2"])
    thread = threading.Thread(target=print, args=("by a thread",))
    thread.start()
    thread.join()
    logging.warning("logged")
    os.write(1, b"written\n")
    print("a line", end=" ")
    print("in parts")
    print("without end", event, end="")
"#;
    with_worker(&[], |worker| {
        worker.install("f", &[("f.py", source)]);
        let mut expected = BTreeMap::from([("nobody".to_owned(), lines(&["imported"]))]);
        for number in 0..5 {
            let reply = worker.call("f", &json!(number));
            assert_eq!(reply.ok(), json!(null));
            let id = reply
                .header("x-ol-invocation")
                .expect("every answer has it");
            let mut texts = lines(&[
                &format!("begin {number}"),
                "to stderr",
                "by a child",
                "by its stderr",
                "by a thread",
                "WARNING logged",
                "written",
                "a line in parts",
            ]);
            texts.push(format!("without end {number}"));
            expected.insert(id.to_owned(), texts);
        }
        expect(worker, "f", &expected);
    });
}

/// What a call starts goes on while the next call runs: threads, a forked process, a pool's work, a logger, another program.
const OUTLIVING: &str = r#"
import concurrent.futures, logging, os, subprocess, sys, threading

logging.basicConfig(stream=sys.stdout, format="%(message)s")
pool = concurrent.futures.ThreadPoolExecutor(1)
go, done = threading.Event(), threading.Event()
kept = {}

def work():
    go.wait()
    print("late by a thread")
    logging.warning("late by a logger")
    done.set()

def first():
    pool.submit(print, "first by the pool").result()
    threading.Thread(target=work).start()
    there, here = os.pipe()
    child = os.fork()
    if not child:
        os.close(here)
        os.read(there, 1)
        print("late by a fork")
        os._exit(0)
    kept.update(here=here, child=child)
    kept["program"] = subprocess.Popen(["sh", "-c", "read word; echo late by a program"], stdin=subprocess.PIPE)

def second():
    go.set()
    done.wait()
    os.write(kept["here"], b".")
    os.waitpid(kept["child"], 0)
    subprocess.run(["echo", "whose?"])
    pool.submit(print, "second by the pool").result()
    kept["program"].communicate(b"go\n")

def third():
    subprocess.run(["echo", "third by a program"])

def f(event):
    print("called", event)
    globals()[event]()
"#;

#[test]
fn lines_of_what_outlives_its_call() {
    with_worker(&[], |worker| {
        let limits = ("ol.yaml", "limits: {procs: 40, mem_mb: 100}\n");
        worker.install("f", &[("f.py", OUTLIVING), limits]);
        let mut expected = BTreeMap::new();
        for (name, texts) in [
            (
                "first",
                &[
                    "called first",
                    "first by the pool",
                    "late by a fork",
                    "late by a logger",
                    "late by a thread",
                ][..],
            ),
            ("second", &["called second", "second by the pool"]),
            ("third", &["called third", "third by a program"]),
        ] {
            let reply = worker.call("f", &json!(name));
            let id = reply
                .header("x-ol-invocation")
                .expect("every answer has it");
            expected.insert(id.to_owned(), lines(texts));
            let _ = reply.ok();
        }
        // Two programs wrote to one pipe, so nobody can tell which of them wrote which line.
        let nobody = lines(&["late by a program", "whose?"]);
        expected.insert("nobody".to_owned(), nobody);
        expect_in_any_order(worker, "f", &expected);
        // All of it was one process: this one.
        let _ = worker.leaf();
    });
}

/// An app that takes one call at a time, whose calls and whose startup leave tasks that go on, and whose import leaves a program.
const TASKS: &str = r#"
import asyncio, os, subprocess

program = subprocess.Popen(["sh", "-c", "read word; echo late by the import"], stdin=subprocess.PIPE)
go = {}

async def late(name):
    go[name] = asyncio.Event()
    await go[name].wait()
    print("late by", name)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        go["startup's"] = asyncio.create_task(late("the startup"))
        return await send({"type": "lifespan.startup.complete"})
    print("called")
    if "a task" not in go:
        go["task's"] = asyncio.create_task(late("a task"))
    else:
        for name in ("a task", "the startup"):
            go[name].set()
        await go["task's"], await go["startup's"]
        program.communicate(b"go\n")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"1"})
"#;

#[test]
fn lines_of_tasks_that_outlive_their_call() {
    with_worker(&[], |worker| {
        let limits = ("ol.yaml", "instances: {max: 1}\n");
        worker.install("web", &[("f.py", TASKS), limits]);
        let mut expected = BTreeMap::new();
        for texts in [&["called", "late by a task"][..], &["called"]] {
            let reply = worker.request("GET", "/run/web/", b"");
            let id = reply
                .header("x-ol-invocation")
                .expect("every answer has it");
            expected.insert(id.to_owned(), lines(texts));
            assert_eq!(reply.ok(), json!(1));
        }
        let nobody = lines(&["late by the import", "late by the startup"]);
        expected.insert("nobody".to_owned(), nobody);
        expect_in_any_order(worker, "web", &expected);
    });
}

/// Four calls at once in one process: tasks, threads and half lines that interleave.
const TOGETHER: &str = r#"
import asyncio, sys

meeting = None

async def app(scope, receive, send):
    global meeting
    name = scope["query_string"].decode()
    if meeting is None or meeting[0] == 4:
        meeting = [0, asyncio.Event()]
    mine = meeting
    mine[0] += 1
    if mine[0] == 4:
        mine[1].set()
    await mine[1].wait()

    async def task(number):
        for line in range(3):
            sys.stdout.write("%s task %d " % (name, number))
            await asyncio.sleep(0)
            sys.stdout.write("line %d\n" % line)
            await asyncio.sleep(0)

    def work():
        for line in range(3):
            print(name, "thread", line, file=sys.stderr)

    for number in range(2):
        await task(number)
    await asyncio.gather(asyncio.create_task(task(2)), asyncio.to_thread(work))
    print(name, "end", end="")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"1"})
"#;

#[test]
fn lines_of_calls_at_once_in_one_process() {
    with_worker(&[], |worker| {
        let yaml = "concurrency: 4\ninstances: {max: 1}\n";
        worker.install("web", &[("f.py", TOGETHER), ("ol.yaml", yaml)]);
        let mut expected = BTreeMap::new();
        for round in 0..5 {
            let calls: Vec<_> = thread::scope(|scope| {
                let call = |letter: char| {
                    let name = format!("{letter}{round}");
                    scope.spawn(move || {
                        let path = format!("/run/web/?{name}");
                        let reply = worker.request("GET", &path, b"");
                        assert_eq!(reply.ok(), json!(1));
                        let id = reply
                            .header("x-ol-invocation")
                            .expect("every answer has it");
                        (id.to_owned(), name)
                    })
                };
                let calls: Vec<_> = "abcd".chars().map(call).collect();
                calls
                    .into_iter()
                    .map(|call| call.join().expect("answered"))
                    .collect()
            });
            for (id, name) in calls {
                let mut texts = Vec::new();
                for task in 0..3 {
                    texts.extend((0..3).map(|line| format!("{name} task {task} line {line}")));
                }
                texts.extend((0..3).map(|line| format!("{name} thread {line}")));
                texts.push(format!("{name} end"));
                texts.sort();
                expected.insert(id, texts);
            }
        }
        expect_in_any_order(worker, "web", &expected);
        // All of it was one process: this one.
        let _ = worker.leaf();
    });
}

/// `ol logs -f --invocation` shows one call's lines as they come.
#[test]
fn one_invocation_is_followed() {
    let source = r#"
import asyncio

go = {}

async def app(scope, receive, send):
    name, _, said = scope["query_string"].decode().partition("=")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if said:
        go[name].put_nowait(said)
        return await send({"type": "http.response.body"})
    go[name] = asyncio.Queue()
    await send({"type": "http.response.body", "body": b".", "more_body": True})
    while (word := await go[name].get()) != "end":
        print(name, word)
    await send({"type": "http.response.body"})
"#;
    with_worker(&[], |worker| {
        let yaml = "concurrency: 4\ninstances: {max: 1}\n";
        worker.install("web", &[("f.py", source), ("ol.yaml", yaml)]);
        let mut one = worker.connect();
        one.send_part("GET", "/run/web/?one", 0, b"").expect("sent");
        let one = one.incoming().expect("an answer");
        let mut two = worker.connect();
        two.send_part("GET", "/run/web/?two", 0, b"").expect("sent");
        let two = two.incoming().expect("an answer");
        let tell = |what: &str| {
            let reply = worker.request("GET", &format!("/run/web/?{what}"), b"");
            assert_eq!(reply.status, 200);
        };
        tell("one=early");
        eventually("the first line", 10.0, || {
            worker.log_of("web").contains("one early").then_some(())
        });
        let id = one
            .head
            .header("x-ol-invocation")
            .expect("every answer has it");
        let arguments = ["logs", "web", "-f", "--invocation", id];
        let mut command = worker.place.command(&arguments);
        let mut follower = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("ol can be run");
        let mut lines = BufReader::new(follower.stdout.take().expect("piped")).lines();
        let mut next = || {
            let line = lines.next().expect("it goes on").expect("text");
            line.split_once("] ").expect("a source").1.to_owned()
        };
        assert_eq!(next(), "one early");
        for word in ["a", "b", "c"] {
            tell(&format!("two={word}"));
            tell(&format!("one={word}"));
            assert_eq!(next(), format!("one {word}"));
        }
        follower.kill().expect("our own child");
        follower.wait().expect("our own child");
        tell("one=end");
        tell("two=end");
        for mut answer in [one, two] {
            assert_eq!(answer.count().expect("its end"), 1);
        }
    });
}
