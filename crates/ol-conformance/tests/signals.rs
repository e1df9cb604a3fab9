//! Sends each signal to the worker and to the warden: the worker drains, or ends at once, or nothing happens.

use ol_testkit::process::Process;
use ol_testkit::{Client, Worker, eventually, in_place, patience, with_worker};
use rustix::process::Signal;
use serde_json::json;
use std::time::Instant;

/// Waits for a child process, which the test sees on the host and ends when the call is to go on.
const WAITER: &str = "
import subprocess

def f(event):
    subprocess.run(['sleep', '600'])
    return event
";

type Which = fn(&Worker<'_>) -> Process;

const BOTH: [(&str, Which); 2] = [
    ("warden", |worker| worker.warden),
    ("worker", |worker| worker.process),
];

/// Begins a call that runs until the process that is returned ends.
fn begin_a_call(worker: &Worker<'_>) -> (Client, Process) {
    worker.install("waiter", &[("f.py", WAITER)]);
    let mut connection = worker.connect();
    connection
        .send_part("POST", "/run/waiter", 4, b"\"me\"")
        .expect("sent");
    (connection, worker.program("sleep"))
}

/// Waits until the worker takes no new connection, which is how draining begins.
fn await_drain(worker: &Worker<'_>) {
    eventually("the worker to take nothing new", 10.0, || {
        Client::connect(&worker.address).is_err().then_some(())
    });
}

#[test]
fn signals_that_stop_let_calls_finish() {
    for (name, which) in BOTH {
        for (signal, times) in [(Signal::HUP, 2), (Signal::INT, 1), (Signal::TERM, 1)] {
            in_place(|place| {
                let mut worker = place.up(&["drain_sec=600"]);
                let (mut connection, sleeper) = begin_a_call(&worker);
                for _ in 0..times {
                    which(&worker).signal(signal);
                    await_drain(&worker);
                }
                sleeper.signal(Signal::KILL);
                let answer = connection.reply();
                assert_eq!(
                    answer.expect(name).ok(),
                    json!("me"),
                    "{signal:?} to the {name}"
                );
                let (status, _) = worker.wait();
                assert!(status.success(), "{signal:?} to the {name}: {status}");
                place.assert_nothing_left();
            });
        }
    }
}

#[test]
fn a_second_signal_and_a_quit_do_not_wait() {
    for (name, which) in BOTH {
        for signals in [
            &[Signal::INT, Signal::INT][..],
            &[Signal::TERM, Signal::INT],
            &[Signal::QUIT],
        ] {
            in_place(|place| {
                let mut worker = place.up(&["drain_sec=600"]);
                let (mut connection, _) = begin_a_call(&worker);
                let begun = Instant::now();
                for signal in signals {
                    which(&worker).signal(*signal);
                    await_drain(&worker);
                }
                assert!(connection.reply().is_err(), "{signals:?} to the {name}");
                let (status, _) = worker.wait();
                assert!(status.success(), "{signals:?} to the {name}: {status}");
                // The drain was allowed to take ten minutes.
                assert!(begun.elapsed() < patience(30.0), "{:?}", begun.elapsed());
                place.assert_nothing_left();
            });
        }
    }
}

/// A service manager signals the whole group: if both processes get the signal, that counts as one signal.
#[test]
fn both_told_is_told_once_and_twice_is_twice() {
    in_place(|place| {
        let mut worker = place.up(&["drain_sec=600"]);
        let (mut connection, sleeper) = begin_a_call(&worker);
        for which in [worker.warden, worker.process] {
            which.signal(Signal::TERM);
        }
        await_drain(&worker);
        // `ol worker down` while the worker drains only waits for its end.
        let mut down = place
            .command(&["worker", "down"])
            .spawn()
            .expect("ol can be run");
        let down_waits = Process::of(i32::try_from(down.id()).expect("a pid")).expect("it runs");
        eventually("ol to wait", 10.0, || {
            let waits = down_waits
                .status("State")
                .is_some_and(|state| state.starts_with('S'));
            (waits && down_waits.number("voluntary_ctxt_switches") > 5).then_some(())
        });
        sleeper.signal(Signal::KILL);
        assert_eq!(connection.reply().expect("an answer").ok(), json!("me"));
        assert!(worker.wait().0.success());
        assert!(down.wait().expect("our own child").success());
        place.assert_nothing_left();
    });
}

#[test]
fn other_signals_mean_nothing() {
    with_worker(&[], |worker| {
        worker.install("echo", &[("f.py", "def f(event):\n    return event\n")]);
        for (name, which) in BOTH {
            for signal in [
                Signal::USR1,
                Signal::USR2,
                Signal::PIPE,
                Signal::ALARM,
                Signal::CONT,
                Signal::WINCH,
            ] {
                which(worker).signal(signal);
                assert_eq!(
                    worker.call("echo", &json!(1)).ok(),
                    json!(1),
                    "{signal:?} to the {name}"
                );
                assert!(which(worker).lives(), "{signal:?} to the {name}");
            }
            // Ctrl-Z and fg. A process with a terminal would stop; here the kernel drops the signal if the process group is orphaned.
            let process = which(worker);
            process.signal(Signal::TSTP);
            process.signal(Signal::CONT);
            eventually("it to run", 10.0, || {
                (!process.status("State")?.starts_with('T')).then_some(())
            });
            assert_eq!(
                worker.call("echo", &json!(2)).ok(),
                json!(2),
                "the {name} after a stop"
            );
        }
        // Both processes got the signals in turn, and a new sandbox can still be made.
        worker.install("other", &[("f.py", "def f(event):\n    return 'new'\n")]);
        assert_eq!(worker.call("other", &json!(1)).ok(), json!("new"));
    });
}
