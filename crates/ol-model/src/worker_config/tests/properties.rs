//! What holds for every text, not only for the ones people thought of.

use super::*;
use proptest::prelude::*;

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z]{0,4}".prop_map(Value::from),
    ];
    let key = prop::sample::select(vec![
        "limits",
        "LIMITS",
        "mem_mb",
        "runtime_sec",
        "max_runtime_default",
        "worker_port",
        "features",
        "import_cache",
        "kafka",
        "Pkgs_dir",
        "registry",
        "strict_config",
        "other",
    ]);
    leaf.prop_recursive(3, 24, 5, move |inner| {
        prop::collection::hash_map(key.clone().prop_map(str::to_owned), inner, 0..5)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    })
}

proptest! {
    #[test]
    fn any_file_is_survived(json in any_json(), text in any::<String>()) {
        let _ = load(&text);
        if let Ok((config, _)) = load(&json.to_string()) {
            let _ = config.validate();
            let _ = (config.max_limits(), config.installer_limits(), config.registry_path());
        }
    }

    #[test]
    fn any_override_is_survived(text in any::<String>(), near in "([a-z_.]{0,6}|limits|kafka|[.=,\"{}\\[\\]1])*") {
        let _ = defaults().with_overrides(&text);
        let _ = defaults().with_overrides(&near);
    }

    #[test]
    fn overrides_round_trip(quoted in any::<String>(), bare in "[^,\"{\\[][^,]*", n: u32, b: bool) {
        let text = format!(
            "pip_mirror={},limits.mem_mb={n},docker.runtime={bare},trace.memory={b}",
            Value::from(quoted.as_str()),
        );
        let config = defaults()
            .with_overrides(&text)
            .map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(&config.pip_mirror, &quoted);
        prop_assert_eq!(&config.docker.runtime, &bare);
        prop_assert_eq!(config.limits.mem_mb, n);
        prop_assert_eq!(config.trace.memory, b);
        // And through a file.
        let (again, warnings) = load(&config.to_json_pretty())
            .map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(warnings, vec![]);
        prop_assert_eq!(again, config);
    }
}
