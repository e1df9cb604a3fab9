//! `ol bench`: the original OpenLambda's benchmarks, with its names and flags, really run, but only for a moment.
//!
//! No test here depends on how fast anything is.

use ol_testkit::{Said, Worker, in_place, with_worker};
use serde_json::{Value, json};
use std::fs;

/// The keys of the result that scripts for the original OpenLambda read.
const KEYS: [&str; 5] = ["benchmark", "seconds", "successes", "errors", "ops/s"];

fn init(worker: &Worker<'_>, functions: &str) -> Value {
    let command = [
        "bench",
        "init",
        "--functions",
        functions,
        "--output",
        "json",
    ];
    let said = worker.place.ol(&command);
    serde_json::from_str(said.ok()).expect("JSON")
}

fn result(said: &Said) -> Value {
    let line = said.ok();
    assert_eq!(line.lines().count(), 1, "{said:?}");
    let value: Value = serde_json::from_str(line).expect("JSON");
    for key in KEYS {
        assert!(value.get(key).is_some(), "{key}: {value}");
    }
    value
}

/// The sentence of a refused command: the last line of its standard error.
fn refusal(said: &Said) -> &str {
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{said:?}");
    let last = said.err.lines().last().unwrap_or_default();
    last.strip_prefix("error: ")
        .unwrap_or_else(|| panic!("no error: {said:?}"))
}

#[test]
fn init_puts_both_kinds_into_the_registry_once() {
    with_worker(&[], |worker| {
        assert_eq!(init(worker, "3"), json!({"functions": 3, "written": 6}));
        let names = worker.request("GET", "/registry/", b"").ok();
        let expected = ["bench-pd-0", "bench-pd-1", "bench-pd-2"];
        assert_eq!(names.as_array().expect("a list")[..3], expected);
        assert_eq!(names[5], "bench-py-2");
        assert_eq!(worker.call("bench-py-2", &json!(null)).ok(), json!(2));
        assert_eq!(init(worker, "4"), json!({"functions": 4, "written": 2}));
        // A file of that name that something else put there is replaced.
        let file = worker.place.dir().join("registry/bench-py-1.tar.gz");
        fs::write(&file, "broken").expect("written");
        assert_eq!(init(worker, "4"), json!({"functions": 4, "written": 1}));
        assert_eq!(worker.call("bench-py-1", &json!(null)).ok(), json!(1));
        let staged = ol_testkit::place::listing(file.parent().expect("the registry"));
        let staged: Vec<_> = staged
            .iter()
            .filter(|path| !path.to_string_lossy().ends_with(".tar.gz"))
            .collect();
        assert!(staged.is_empty(), "{staged:?}");
    });
}

#[test]
fn one_after_the_other_then_by_many_at_once() {
    with_worker(&[], |worker| {
        let _ = init(worker, "64");
        let before = worker.count("invoke");
        let file = worker.place.own("result.json");
        let file_text = file.to_str().expect("text");
        let seq = ["bench", "py64-seq", "-s", "0.5", "-o", file_text];
        let said = worker.place.ol(&seq);
        let value = result(&said);
        assert_eq!(value["benchmark"], "py64-seq");
        assert_eq!(
            (&value["errors"], &value["seconds"]),
            (&json!(0), &json!(0.5))
        );
        let successes = value["successes"].as_u64().expect("a number");
        assert!(successes > 0, "{value}");
        assert_eq!(value["ops/s"].as_f64(), Some(successes as f64 / 0.5));
        assert_eq!(fs::read_to_string(&file).expect("there"), said.out);
        // Each function is called once before, then come the successful calls, and at most one that was too late to count.
        let calls = worker.count("invoke") - before;
        let expected = 64 + successes..=64 + successes + 1;
        assert!(expected.contains(&calls), "{calls}, not {expected:?}");

        let par = [
            "bench",
            "py64-par",
            "--tasks=4",
            "--warmup=false",
            "--seconds=0.5",
            "--output",
            file_text,
        ];
        let said = worker.place.ol(&par);
        let value = result(&said);
        assert_eq!(value["benchmark"], "py64-par");
        assert_eq!(fs::read_to_string(&file).expect("there"), said.out);
        let more = worker.count("invoke") - calls - before;
        let successes = value["successes"].as_u64().expect("a number");
        let expected = successes..=successes + 4;
        assert!(expected.contains(&more), "{more}, not {expected:?}");
    });
}

/// How many calls the sandboxes of a function have served, by `/debug`.
fn calls(worker: &Worker<'_>, name: &str) -> u64 {
    let debug = worker.debug();
    let lines = debug.lines().skip_while(|line| *line != name).skip(1);
    let lines = lines.take_while(|line| line.starts_with(' '));
    let counts = lines.filter_map(|line| line.strip_suffix(" calls so far")?.rsplit(' ').next());
    counts
        .map(|count| count.parse::<u64>().expect("a number"))
        .sum()
}

#[test]
fn a_trace_is_played_in_its_order() {
    with_worker(&[], |worker| {
        let order = "def f(event):\n    assert event is None\n";
        for name in ["first", "second", "never"] {
            worker.install(name, &[("f.py", order)]);
        }
        let trace = worker.place.own("trace.txt");
        fs::write(&trace, "first\n\nfirst\nsecond\n").expect("written");
        let path = trace.to_str().expect("text");
        let said = worker
            .place
            .ol(&["bench", "play", "--trace", path, "-s", "0.5"]);
        let value = result(&said);
        assert_eq!(value["benchmark"], "play");
        assert!(value["successes"].as_u64() > Some(2), "{value}");
        let [first, second, never] = ["first", "second", "never"].map(|name| calls(worker, name));
        assert!(
            (2 * second..=2 * second + 2).contains(&first),
            "{first}, {second}"
        );
        assert_eq!(never, 0);

        fs::write(&trace, "first\nnobody\n").expect("written");
        let said = worker
            .place
            .ol(&["bench", "play", "-f", path, "-s", "0.5", "-t", "2"]);
        assert!(refusal(&said).contains("more than 5 %"), "{said:?}");
        assert!(said.err.contains("nobody failed: 404"), "{said:?}");
        fs::write(&trace, "../x\n").expect("written");
        let said = worker.place.ol(&["bench", "play", "-f", path]);
        assert!(said.refusal().contains("line 1"), "{said:?}");
    });
}

#[test]
fn what_is_missing_is_named_with_its_remedy() {
    // Nothing listens at that address.
    with_worker(&["pip_mirror=http://127.0.0.1:9/simple"], |worker| {
        let place = worker.place;
        for more in ["--warmup=true", "-w=false"] {
            let said = place.ol(&["bench", "py64-par", "-s", "20", more]);
            let why = refusal(&said);
            assert!(why.contains("ol bench init --functions 64"), "{said:?}");
        }
        let _ = init(worker, "64");
        for more in ["--warmup", "-w=false"] {
            let said = place.ol(&["bench", "pd64-seq", "-s", "20", more]);
            let why = refusal(&said);
            assert!(
                why.contains("pandas") && why.contains("docs/howto/private-index.md"),
                "{why}"
            );
        }
        let said = place.ol(&["bench", "py64-seq", "-o", "/nowhere/result.json"]);
        assert!(refusal(&said).contains("/nowhere/result.json"), "{said:?}");
        let said = place.ol(&["ls", "--output", "result.json"]);
        assert_eq!(said.code, Some(2), "{said:?}");
    });
    in_place(|place| {
        let _ = place.ol(&["worker", "init"]).ok();
        let said = place.ol(&["bench", "py64-seq"]);
        assert!(said.refusal().contains("ol worker up"), "{said:?}");
    });
}

/// A benchmark of a function that always fails ends soon instead of failing for its whole time.
#[test]
fn what_only_fails_ends_soon() {
    with_worker(&[], |worker| {
        worker.install("bad", &[("f.py", "def f(event):\n    raise ValueError\n")]);
        let trace = worker.place.own("trace.txt");
        fs::write(&trace, "bad\n").expect("written");
        let path = trace.to_str().expect("text");
        let said = worker.place.ol(&["bench", "play", "-f", path, "-s", "600"]);
        let why = refusal(&said);
        assert!(why.contains("the first 100 calls all failed"), "{said:?}");
        let shown = "bad failed: 500 Internal Server Error: ValueError\n";
        assert_eq!(said.err.matches(shown).count(), 6, "{said:?}");
    });
}
