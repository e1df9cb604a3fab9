//! `ol` shows a function's output and errors on a terminal with control characters escaped, so that the terminal doesn't obey them.

use ol_testkit::{eventually, with_worker};
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::Write as _;

/// Clears the screen, reverses the direction of text, hides a letter, rings the bell; and has harmless letters that aren't ASCII.
const HARM: &str = "\u{1b}[2J\u{202e}gro.live\u{2066}\u{200b}\u{9b}31m\u{7}Grüße";

const SHOWN: &str = r"\u{1b}[2J\u{202e}gro.live\u{2066}\u{200b}\u{9b}31m\u{7}Grüße";

fn obeyed(text: &str) -> Vec<char> {
    let harmful = |c: &char| {
        c.is_control() && *c != '\n' && *c != '\t' || "\u{202e}\u{2066}\u{200b}".contains(*c)
    };
    text.chars().filter(harmful).collect()
}

#[test]
fn what_a_function_prints_or_raises_can_not_drive_a_terminal() {
    let source = "
def f(event):
    print(event)
    raise ValueError(event)
";
    with_worker(&[], |worker| {
        worker.install("loud", &[("f.py", source)]);
        let said = worker
            .place
            .ol(&["invoke", "loud", "-d", &json!(HARM).to_string()]);
        assert_eq!(obeyed(&said.err), [], "{said:?}");
        assert!(said.err.contains(SHOWN), "{said:?}");
        eventually("it to be in the log", 10.0, || {
            worker.log_of("loud").contains("gro.live").then_some(())
        });
        assert_eq!(obeyed(&worker.log_of("loud")), []);
        // A line as an older worker, or something else, may have written it.
        let path = worker.place.dir().join("worker/logs/loud.log");
        let mut file = OpenOptions::new().append(true).open(path).expect("the log");
        writeln!(
            file,
            "2026-11-24T17:30:00.123Z [3] old {HARM}\nstrange {HARM}"
        )
        .expect("written");
        let said = worker.place.ol(&["logs", "loud"]);
        assert_eq!(obeyed(said.ok()), [], "{said:?}");
        assert!(
            said.out
                .contains(&format!("old {SHOWN}\nstrange {SHOWN}\n")),
            "{said:?}"
        );
        let said = worker.place.ol(&["--output", "json", "logs", "loud"]);
        assert_eq!(obeyed(said.ok()), [], "{said:?}");
        let texts: Vec<Value> = said
            .out
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        // In JSON, for programs, the text is as it was written.
        assert!(
            texts
                .iter()
                .any(|line| line["text"] == format!("strange {HARM}")
                    || line["text"] == format!("2026-11-24T17:30:00.123Z [3] old {HARM}")),
            "{texts:?}"
        );
    });
}

/// A function's answer is data: a program that reads it from a pipe gets it unchanged.
#[test]
fn an_answer_in_a_pipe_stays_as_it_is() {
    with_worker(&[], |worker| {
        worker.install("echo", &[("f.py", "def f(event):\n    return event\n")]);
        let event = format!("\"{}\"", "\u{202e}Grüße\u{200b}");
        let said = worker.place.ol(&["invoke", "echo", "-d", &event]);
        let answer: Value = serde_json::from_str(said.ok()).expect("JSON");
        assert_eq!(answer, "\u{202e}Grüße\u{200b}");
    });
}
