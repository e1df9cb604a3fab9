//! A function sees the same, in whatever way its sandbox was started.
//!
//! A probe tells everything that a program can see of itself, at import and in a call. The kinds of start are compared byte for byte,
//! except for a list of allowed differences ([`differences`]).

use ol_testkit::{Place, Starts, Worker, bases, eventually, in_place};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

mod differences;
mod functions;

/// What the probe told: name → value.
type Told = BTreeMap<String, Value>;

/// Collects each function's answers for the kinds of start that `starts` leads to: that of the first call, and of one after a pause.
fn ask(place: &Place, starts: Starts, told: &mut BTreeMap<(String, String), Told>) {
    let worker = place.up_with(starts, &["mem_pool_mb=1000"]);
    for (name, files) in functions::all() {
        worker.install_untried(name, &files);
        let kind = starts.kind();
        let first = call(&worker, name, kind);
        told.insert((name.to_owned(), kind.to_owned()), first);
        eventually("the pause", 10.0, || {
            let paused = worker.debug().contains(": paused, ");
            paused.then_some(())
        });
        let later = call(&worker, name, "resume");
        told.insert((name.to_owned(), format!("resume of {kind}")), later);
        let gone = worker.request("DELETE", &format!("/registry/{name}"), b"");
        assert_eq!(gone.status, 200, "{}", gone.text());
        worker.prepare(starts);
    }
    worker.down();
}

/// Calls `name`, which must be served by `kind`.
fn call(worker: &Worker<'_>, name: &str, kind: &str) -> Told {
    let path = format!("/run/{name}");
    let timing = [("x-ol-timing", "1")];
    let reply = worker.connect().request("POST", &path, &timing, b"{}");
    let reply = reply.expect("an answer");
    let how = reply.header("x-ol-timing").unwrap_or_default().to_owned();
    let answer = reply.ok();
    assert!(how.contains(&format!("kind={kind}")), "{name}: {how}");
    let mut told = Told::new();
    for when in ["import", "call"] {
        let part = answer[when].as_object().expect("an object");
        told.extend(
            part.iter()
                .map(|(key, value)| (format!("{when}.{key}"), value.clone())),
        );
    }
    told
}

/// The names whose values differ although they may not.
fn differing(one: &Told, other: &Told) -> Vec<String> {
    let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let may = |name: &str| {
        let name = name.split_once('.').map_or(name, |(_, name)| name);
        differences::ALLOWED
            .iter()
            .any(|(allowed, _)| *allowed == name)
    };
    let differ = |name: &&&String| one.get(**name) != other.get(**name) && !may(name);
    let line = |name: &String| {
        let value = |told: &Told| told.get(name).unwrap_or(&Value::Null).to_string();
        format!("{name}:\n    {}\n    {}", value(one), value(other))
    };
    names.iter().filter(differ).map(|name| line(name)).collect()
}

/// Compares all kinds of start on the base of `place`.
fn compare(place: &Place, python: &str) {
    let mut told = BTreeMap::new();
    for starts in [Starts::Fresh, Starts::Fork, Starts::Blank] {
        ask(place, starts, &mut told);
    }
    let mut found = Vec::new();
    for ((name, kind), seen) in &told {
        assert_eq!(
            seen["call.folder.data"],
            json!("found"),
            "{python} {name} {kind}"
        );
        // A resumed instance is compared with its own first call, so that each difference is reported once.
        let with = kind.strip_prefix("resume of ").unwrap_or("fresh");
        for line in differing(&told[&(name.clone(), with.to_owned())], seen) {
            found.push(format!(
                "Python {python}, {name}, {with} and {kind} differ in {line}"
            ));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn starts_alike_on_the_host_s_python() {
    in_place(|place| compare(place, "of the host"));
}

#[test]
fn starts_alike_on_every_python() {
    for (python, root) in bases() {
        in_place(|place| {
            let dir = format!("dir:{}", root.display());
            let _ = place.ol(&["worker", "init", "-i", &dir]).ok();
            compare(place, &python);
        });
    }
}
