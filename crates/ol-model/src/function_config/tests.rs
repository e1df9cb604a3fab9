//! Tests of `ol.yaml`: each reads a whole text and compares the whole result.

use std::time::Instant;

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn ok(yaml: &str) -> FunctionConfig {
    let (config, warnings) = FunctionConfig::parse(yaml).expect("the text is valid");
    assert_eq!(warnings, []);
    config
}

fn error(yaml: &str) -> String {
    FunctionConfig::parse(yaml)
        .expect_err("the text is invalid")
        .to_string()
}

fn warned(yaml: &str) -> Vec<String> {
    let (_, warnings) = FunctionConfig::parse(yaml).expect("the text is valid");
    warnings.iter().map(ToString::to_string).collect()
}

fn map(pairs: &[(&str, &str)]) -> Option<BTreeMap<String, String>> {
    let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
    Some(pairs.iter().map(owned).collect())
}

#[test]
fn a_schedule_that_can_not_be_read_is_refused_with_its_line() {
    let why = error("triggers:\n  cron:\n    - {schedule: this is no schedule}\n");
    assert!(
        why.starts_with("ol.yaml line") && why.contains("\"this is no schedule\" is no schedule"),
        "{why}"
    );
    let why = error("triggers: {cron: [\"@hourly\"]}");
    assert!(why.contains("write one such as {schedule:"), "{why}");
}

#[test]
fn a_whole_file() {
    let yaml = r#"
triggers:
  http: [{method: GET}, {method: post}]
  cron: [{schedule: "*/5 * * * *"}]
  kafka: [{topics: [a, b], group_id: g}]
environment: {KEY: "value", PORT: 8080, DEBUG: true, RATIO: 1.50, EMPTY: , NIL: null, YES: yes}
reuse-sandbox: false
limits: {mem_mb: 128, cpu_percent: 200, procs: 32, runtime_sec: 60, scratch_mb: 64}
concurrency: 4
instances: {min: 1, max: 8}
network: egress
oom: sandbox
errors: short
"#;
    let (config, warnings) = FunctionConfig::parse(yaml).expect("the text is valid");
    let effectless = ["triggers.cron", "triggers.kafka"].map(|key| Warning::NoEffectYet { key });
    assert_eq!(warnings, effectless);
    let expected = FunctionConfig {
        triggers: Triggers {
            http: Some(vec!["GET".to_owned(), "POST".to_owned()]),
            cron: vec![json!({"schedule": "*/5 * * * *"})],
            kafka: vec![json!({"topics": ["a", "b"], "group_id": "g"})],
        },
        environment: map(&[
            ("KEY", "value"),
            ("PORT", "8080"),
            ("DEBUG", "true"),
            ("RATIO", "1.50"),
            ("EMPTY", ""),
            ("NIL", ""),
            ("YES", "yes"),
        ]),
        reuse_sandbox: false,
        limits: LimitsRequest {
            procs: Some(32),
            mem_mb: Some(128),
            cpu_percent: Some(200),
            runtime_sec: Some(60),
            scratch_mb: Some(64),
        },
        concurrency: 4,
        instances: Instances { min: 1, max: 8 },
        network: Some(Network::Egress),
        oom: OomScope::Sandbox,
        errors: Some(ErrorDetail::Short),
    };
    assert_eq!(config, expected);
}

#[test]
fn nothing_said_is_all_defaults() {
    for yaml in [
        "",
        "# only a comment\n",
        "---\n",
        "~",
        "{}",
        "\u{feff}",
        "triggers:\nlimits:\nenvironment:\ninstances:\noom:\n",
    ] {
        assert_eq!(ok(yaml), FunctionConfig::default(), "{yaml:?}");
    }
}

#[test]
fn methods() {
    let all = ok("triggers: {http: [{method: GET}, {method: '*'}]}");
    assert_eq!(all.allowed_methods(), None);
    assert!(all.allows("BREW"));

    let some = ok("triggers: {http: [{method: get}, {method: POST}]}");
    assert_eq!(
        some.allowed_methods(),
        Some(&["GET".to_owned(), "POST".to_owned()][..])
    );
    assert!(some.allows("GET") && some.allows("POST"));
    assert!(!some.allows("PUT") && !some.allows("get") && !some.allows("HEAD"));

    assert!(!ok("triggers: {http: []}").allows("GET"));
    assert!(ok("triggers: {cron: []}").allows("GET"));
}

#[test]
fn an_empty_environment_is_not_an_absent_one() {
    assert_eq!(ok("environment: {}").environment, map(&[]));
    assert_eq!(ok("environment:").environment, None);
}

#[test]
fn many_at_least_needs_no_word_about_the_most() {
    let asked = ok("instances: {min: 100}").instances;
    assert_eq!(asked, Instances { min: 100, max: 100 });
}

#[test]
fn unknown_keys_warn_with_the_nearest_known_one() {
    let warnings = warned(
        "limts: {}\nmem_mb: 5\nreuse_sandbox: false\nlimits: {memory_mb: 5}\n\
         triggers: {http: [{methods: GET, method: GET}]}\nenvironment: {ANY: x}\n",
    );
    let expect = [
        ("limits.memory_mb", "limits.mem_mb"),
        ("limts", "limits"),
        ("mem_mb", "limits.mem_mb"),
        ("reuse_sandbox", "reuse-sandbox"),
        ("triggers.http.methods", "triggers.http.method"),
    ]
    .map(|(key, near)| {
        format!("ol.yaml: unknown key `{key}` is ignored; the nearest known key is `{near}`")
    });
    assert_eq!(warnings, expect);
}

#[test]
fn what_is_hardly_meant_draws_a_warning() {
    let methods =
        "triggers: {http: [{method: gett}, {method: PSOT}, {method: GET}, {method: PROPFIND}]}\n";
    let expected = [("GETT", "GET"), ("PSOT", "POST")].map(|(method, near)| {
        format!("ol.yaml: no standard knows the HTTP method {method}; the nearest that one knows is {near}")
    });
    assert_eq!(warned(methods), expected);
    // They are not refused.
    let (config, _) = FunctionConfig::parse(methods).expect("the text is valid");
    assert!(config.allows("GETT"));

    let little =
        "ol.yaml: limits.mem_mb 8 may be too little for Python to start; ask for at least 16";
    assert_eq!(warned("limits: {mem_mb: 8}"), [little]);
    for enough in ["limits: {mem_mb: 0}", "limits: {mem_mb: 16}", "limits: {}"] {
        assert_eq!(warned(enough), [""; 0], "{enough}");
    }
    let many = format!("triggers: {{http: [{}]}}", "{method: A},".repeat(1000));
    assert_eq!(warned(&many).len(), 20);
}

#[test]
fn errors_name_line_key_and_remedy() {
    let cases = [
        (
            "a: [",
            "ol.yaml line 1, column 4, key `a`: unclosed bracket '['",
        ),
        (
            "- 1",
            "ol.yaml line 1, column 1: takes a mapping, as in {key: value}",
        ),
        (
            "limits:\n  mem_mb: lots\n",
            "ol.yaml line 2, column 11, key `limits.mem_mb`: takes a whole number from 0 to 4294967295",
        ),
        (
            "concurrency: 0",
            "ol.yaml line 1, column 14, key `concurrency`: 0 is out of range; use 1 to 1024",
        ),
        (
            "oom: process\noom: sandbox",
            "ol.yaml line 2, column 1: duplicate mapping key `oom` is not allowed here; keep one of them",
        ),
        (
            "x: 1\nx: 2",
            "ol.yaml line 2, column 1: duplicate mapping key `x` is not allowed here; keep one of them",
        ),
        (
            "limits: {mem_mb: 1, mem_mb: 2}",
            "ol.yaml line 1, column 21, key `limits`: duplicate mapping key `mem_mb` is not allowed here; keep one of them",
        ),
        (
            "environment: {'A=B': x}",
            "ol.yaml line 1, column 14, key `environment`: variable name \"A=B\" is empty or holds '=' or NUL; rename it",
        ),
        (
            "environment: {A: \"\\0\"}",
            "ol.yaml line 1, column 14, key `environment`: the value of \"A\" holds NUL, which no environment can carry; encode it",
        ),
        (
            "environment: {A: [1]}",
            "ol.yaml line 1, column 18, key `environment.A`: takes text",
        ),
        (
            "instances: {min: 3, max: 2}",
            "ol.yaml line 1, column 12, key `instances`: `min` 3 is above `max` 2; swap or raise",
        ),
        (
            "instances: {max: 0}",
            "ol.yaml line 1, column 12, key `instances`: `max` is 0, so that nothing could run; use at least 1",
        ),
        (
            "network: wifi",
            "ol.yaml line 1, column 10, key `network`: \"wifi\" is not one of \"none\", \"egress\", \"host\"",
        ),
        (
            "triggers: {http: [{method: 'a b'}]}",
            "ol.yaml line 1, column 28, key `triggers.http[0].method`: \"a b\" is no HTTP method; use one such as GET, or * for all",
        ),
        (
            "triggers: {http: [{}]}",
            "ol.yaml line 1, column 19, key `triggers.http[0]`: missing field `method`; add it",
        ),
        (
            "oom: process\n---\noom: sandbox",
            "ol.yaml line 3, column 1: more than one document; keep one and drop the --- between them",
        ),
        (
            "x: *y",
            "ol.yaml line 1, column 4: an alias names no anchor; define it, or quote the *",
        ),
    ];
    for (yaml, expected) in cases {
        assert_eq!(error(yaml), expected, "{yaml:?}");
    }
}

#[test]
fn bombs_are_refused_at_once() {
    let started = Instant::now();
    let mut laughs = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (name, of) in [("b", "a"), ("c", "b"), ("d", "c"), ("e", "d"), ("f", "e")] {
        let ten = vec![format!("*{of}"); 10].join(",");
        laughs.push_str(&format!("{name}: &{name} [{ten}]\n"));
    }
    let deep_flow = format!("x: {}", "[".repeat(100_000));
    let deep_block = (0..300).map(|n| format!("{}- \n", " ".repeat(n))).collect();
    let many_nodes = format!("x: [{}]", "1,".repeat(100_000));
    let many_aliases = format!("a: &a x\nb: [{}]", "*a,".repeat(50_000));
    for bomb in [laughs, deep_flow, deep_block, many_nodes, many_aliases] {
        assert!(FunctionConfig::parse(&bomb).is_err(), "{:.40}", bomb);
    }
    assert_eq!(
        error(&"#".repeat(256 * 1024 + 1)),
        "ol.yaml has 262145 bytes; shorten it to at most 262144"
    );
    assert!(started.elapsed().as_secs() < 5);
}

#[test]
fn an_anchor_used_in_earnest_works() {
    let config = ok("environment: {A: &v one, B: *v}\n");
    assert_eq!(config.environment, map(&[("A", "one"), ("B", "one")]));
}

/// The documentation must name every key.
#[test]
fn every_key_is_on_the_page() {
    const PAGE: &str = include_str!("../../../../docs/reference/ol-yaml.md");
    for key in unknown::KNOWN {
        let inner = format!("{key}.");
        let section = unknown::KNOWN.iter().any(|other| other.starts_with(&inner));
        assert!(section || PAGE.contains(&format!("| `{key}` |")), "{key}");
    }
}

#[test]
fn shown_with_the_names_of_the_original() {
    let shown = serde_json::to_value(FunctionConfig::default()).ok();
    let expected = json!({
        "Triggers": {"HTTP": [{"Method": "*"}], "Cron": [], "Kafka": []},
        "Environment": null,
        "ReuseSandbox": true,
        "Limits": {
            "procs": null, "mem_mb": null, "cpu_percent": null,
            "runtime_sec": null, "scratch_mb": null,
        },
        "Concurrency": 1,
        "Instances": {"Min": 0, "Max": 64},
        "Network": null,
        "Oom": "process",
        "Errors": null,
    });
    assert_eq!(shown, Some(expected));
}

proptest! {
    #[test]
    fn any_text_is_survived(text in any::<String>()) {
        let _ = FunctionConfig::parse(&text);
    }

    #[test]
    fn any_near_yaml_is_survived_and_its_error_is_one_line(
        text in "([a-c]: |- |limits: |triggers: |http: |environment: |[\\[\\]{},:&*|>!#%'\"~?]|[ab01.]|\n|\n  ){0,60}"
    ) {
        if let Err(error) = FunctionConfig::parse(&text) {
            prop_assert!(!error.to_string().contains('\n'), "{}", error);
        }
    }

    #[test]
    fn a_config_never_has_a_forbidden_value(
        concurrency: u16, min: u16, max: u16,
    ) {
        let yaml = format!("concurrency: {concurrency}\ninstances: {{min: {min}, max: {max}}}");
        let lawful = (1..=1024).contains(&concurrency) && min <= max && max >= 1;
        match FunctionConfig::parse(&yaml) {
            Err(_) => prop_assert!(!lawful),
            Ok((config, _)) => {
                prop_assert!(lawful);
                prop_assert_eq!(config.concurrency, u32::from(concurrency));
                prop_assert_eq!(config.instances.max, u32::from(max));
            }
        }
    }
}
