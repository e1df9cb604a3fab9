//! Functions that print, fail and answer in ways that cost the worker more than the number of their bytes suggests.
//!
//! How much they get through is bounded by what it costs, and no other function waits for it.

use ol_testkit::{Worker, measured, with_worker};
use serde_json::json;
use std::thread;
use std::time::{Duration, Instant};

/// Writes newlines for a time; returns how many were accepted.
const NEWLINES: &str = "
import os, time

def f(seconds):
    end, written = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        written += os.write(1, b'\\n' * 4096)
    return written
";

/// How many bytes a function's log has, rotated files included.
fn logged(worker: &Worker<'_>, name: &str) -> u64 {
    let logs = worker.place.dir().join("worker/logs");
    let files = std::fs::read_dir(logs).expect("a worker's own");
    let files = files.map(|file| file.expect("readable"));
    files
        .filter(|file| file.file_name().to_string_lossy().starts_with(name))
        .map(|file| file.metadata().expect("there").len())
        .sum()
}

/// An empty line takes some fifty bytes of the log, and as much of the worker's time as a long one.
#[test]
fn an_empty_line_costs_as_much_as_one_with_words() {
    let options = ["log_file_mb=1000", "limits.runtime_sec=30"];
    with_worker(&options, |worker| {
        worker.install("newlines", &[("f.py", NEWLINES)]);
        let begun = Instant::now();
        let reply = worker.call("newlines", &json!(2));
        let lines = reply.ok().as_u64().expect("a number");
        let seconds = begun.elapsed().as_secs_f64();
        // 2 MiB at once and 2 MiB more each second, where a line costs 64 bytes plus its own; and in addition what is in pipes and buffers.
        let most = (f64::from(2 << 20) * (1.0 + seconds) / 65.0).ceil();
        let most = most + f64::from(512 << 10);
        measured(&format!(
            "{lines} empty lines in {seconds:.1} s, at most {most}"
        ));
        #[expect(clippy::cast_precision_loss, reason = "some hundred thousands")]
        let lines = lines as f64;
        assert!(lines <= most, "{lines} lines in {seconds} s");
    });
}

/// A pipe can be set to keep separate writes apart (`O_DIRECT`): then each of the worker's reads gets a single byte.
#[test]
fn bytes_that_are_read_one_by_one_cost_a_read_each() {
    let source = "
import fcntl, os, time

def f(seconds):
    fcntl.fcntl(1, fcntl.F_SETFL, os.O_WRONLY | os.O_DIRECT)
    end, written = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for _ in range(100):
            written += os.write(1, b'x')
    return written
";
    with_worker(&["limits.runtime_sec=30"], |worker| {
        worker.install("bytes", &[("f.py", source)]);
        let begun = Instant::now();
        let bytes = worker.call("bytes", &json!(2)).ok();
        let seconds = begun.elapsed().as_secs_f64();
        let bytes = bytes.as_f64().expect("a number");
        let most = f64::from(2 << 20) * (1.0 + seconds) / 64.0 + 4096.0;
        measured(&format!(
            "{bytes} single bytes in {seconds:.1} s, at most {most:.0}"
        ));
        assert!(bytes <= most, "{bytes} bytes in {seconds} s");
    });
}

/// Calls that print and end at once don't wait for the log.
///
/// What the log can't take is counted instead of written, and nothing is lost without being counted.
#[test]
fn what_short_calls_print_beyond_measure_is_counted() {
    const CALLS: usize = 100;
    let source = "import os\n\ndef f(event):\n    os.write(1, (b'x' * 99 + b'\\n') * 600)\n";
    with_worker(&["log_file_mb=1000"], |worker| {
        worker.install("short", &[("f.py", source)]);
        let mut client = worker.connect();
        for _ in 0..CALLS {
            let reply = client.request("POST", "/run/short", &[], b"");
            assert_eq!(reply.expect("an answer").ok(), json!(null));
        }
        let (kept, told) = ol_testkit::eventually("every line, written or counted", 30.0, || {
            let text = worker.log_of("short");
            let (told, kept): (Vec<_>, Vec<_>) =
                text.lines().partition(|l| l.contains(" are missing here"));
            let number = |line: &str| -> usize {
                let words = line.split_once("[worker] ").expect("the worker says so").1;
                words
                    .split(' ')
                    .next()
                    .and_then(|n| n.parse().ok())
                    .expect("a number of lines")
            };
            let missing: usize = told.iter().map(|line| number(line)).sum();
            let told: Vec<String> = told.into_iter().map(str::to_owned).collect();
            (kept.len() + missing == CALLS * 600).then_some((kept.len(), told))
        });
        assert!((1..=CALLS).contains(&told.len()), "{told:?}");
        measured(&format!("{kept} of {} lines; {}", CALLS * 600, told[0]));
    });
}

/// The log also tells why a call failed, in a text that the function chooses.
#[test]
fn failures_of_many_lines_are_cut() {
    let source = "def f(event):\n    raise ValueError('\\n' * 15000)\n";
    with_worker(&["log_file_mb=1000"], |worker| {
        worker.install("fails", &[("f.py", source)]);
        for _ in 0..20 {
            let _ = worker.call("fails", &json!(null)).error(500, "raised");
        }
        let bytes = logged(worker, "fails");
        measured(&format!("{bytes} bytes for 20 failures"));
        assert!(bytes < 20 * (64 << 10), "{bytes} bytes");
    });
}

/// Four functions print empty lines all the time while another is called.
///
/// The measured times are printed; the bound is so wide that only a worker that is blocked by the floods exceeds it (before lines had a
/// cost of their own, the median call took more than a second).
#[test]
fn a_neighbour_of_four_floods() {
    let options = ["log_file_mb=100", "limits.runtime_sec=30"];
    with_worker(&options, |worker| {
        worker.install("victim", &[("f.py", "def f(event):\n    return event\n")]);
        for flood in 0..4 {
            worker.install(&format!("flood{flood}"), &[("f.py", NEWLINES)]);
        }
        let calls = |seconds: u64| {
            let mut client = worker.connect();
            let mut took = Vec::new();
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(seconds) {
                let call = Instant::now();
                let reply = client
                    .request("POST", "/run/victim", &[], b"1")
                    .expect("an answer");
                assert_eq!(reply.ok(), json!(1));
                took.push(call.elapsed());
            }
            took.sort();
            took
        };
        let _ = calls(1);
        let quiet = calls(2);
        let beside = thread::scope(|scope| {
            for flood in 0..4 {
                scope.spawn(move || worker.call(&format!("flood{flood}"), &json!(4)).ok());
            }
            thread::sleep(Duration::from_secs(1));
            calls(2)
        });
        let at = |took: &[Duration], part: usize| took[(took.len() - 1) * part / 100];
        let [quiet, beside] =
            [quiet, beside].map(|took| [50, 99].map(|part| at(&took, part).as_micros()));
        measured(&format!(
            "victim's p50 and p99 in µs: {quiet:?} quiet, {beside:?} beside four floods of lines"
        ));
        let limit = ol_testkit::patience(0.1).as_micros();
        assert!(beside[0] < limit, "{beside:?} µs");
    });
}
