//! Tests of `config.json`: files, overrides and refusals.

use std::time::Duration;

use super::*;
use crate::units::{CpuPercent, MiB};
use serde_json::json;

mod network;
mod overrides;
mod properties;

const HOST: HostFacts = HostFacts {
    memory_mb: 16_000,
    cores: 8,
};

fn defaults() -> WorkerConfig {
    WorkerConfig::defaults(Path::new("/srv/ol"), &HOST)
}

fn load(text: &str) -> Result<(WorkerConfig, Vec<Warning>), WorkerConfigError> {
    WorkerConfig::from_json(text, Path::new("/srv/ol"), &HOST)
}

fn ok(text: &str) -> WorkerConfig {
    let (config, warnings) = load(text).expect("the text is valid");
    assert_eq!(warnings, []);
    config
}

fn load_error(text: &str) -> String {
    load(text).expect_err("the text is invalid").to_string()
}

fn over(overrides: &str) -> WorkerConfig {
    defaults()
        .with_overrides(overrides)
        .expect("the overrides are valid")
}

fn invalid(overrides: &str) -> String {
    over(overrides)
        .validate()
        .expect_err("the configuration contradicts itself")
        .to_string()
}

/// A file as the original writes it: Go's key names and order, tabs, every field present.
const FROM_THE_ORIGINAL: &str = r#"{
	"worker_dir": "/home/me/default-ol/worker",
	"worker_url": "localhost",
	"worker_port": "5001",
	"log_output": false,
	"sandbox": "sock",
	"server_mode": "lambda",
	"registry": "file:///home/me/default-ol/registry",
	"registry_cache_ms": 5000,
	"Pkgs_dir": "/home/me/default-ol/lambda/packages",
	"pip_mirror": "",
	"mem_pool_mb": 7000,
	"import_cache_tree": "/home/me/default-ol/default-zygotes-40.json",
	"sock_base_path": "/home/me/default-ol/lambda",
	"sandbox_config": {},
	"docker": { "runtime": "", "base_image": "ol-min" },
	"limits": {
		"procs": 10, "mem_mb": 50, "cpu_percent": 100, "swappiness": 0,
		"max_runtime_default": 45, "runtime_sec": 0
	},
	"installer_limits": {
		"procs": 10, "mem_mb": 500, "cpu_percent": 100, "swappiness": 0,
		"max_runtime_default": 300, "runtime_sec": 0
	},
	"features": {
		"reuse_cgroups": false, "import_cache": "tree",
		"downsize_paused_mem": true, "enable_seccomp": true
	},
	"trace": { "cgroups": false, "memory": false, "evictor": false, "package": false, "latency": true },
	"storage": { "root": "private", "scratch": "", "code": "" }
}"#;

#[test]
fn a_file_of_the_original_loads_without_a_warning() {
    let config = ok(FROM_THE_ORIGINAL);
    assert_eq!(config.validate(), Ok(()));
    let mut expected = defaults();
    expected.worker_dir = "/home/me/default-ol/worker".into();
    expected.worker_port = Port(5001);
    expected.log_output = false;
    expected.registry = "file:///home/me/default-ol/registry".to_owned();
    expected.pkgs_dir = "/home/me/default-ol/lambda/packages".into();
    expected.mem_pool_mb = 7000;
    expected.import_cache_tree = json!("/home/me/default-ol/default-zygotes-40.json");
    expected.sock_base_path = "/home/me/default-ol/lambda".into();
    expected.limits.runtime_sec = 45;
    expected.installer_limits.procs = 10;
    expected.installer_limits.mem_mb = 500;
    expected.installer_limits.cpu_percent = 100;
    expected.trace.latency = true;
    assert_eq!(config, expected);
    assert_eq!(
        config.registry_path(),
        Ok("/home/me/default-ol/registry".into())
    );
    assert_eq!(
        config.import_cache_tree(),
        ImportCacheTree::File(Path::new("/home/me/default-ol/default-zygotes-40.json"))
    );
}

#[test]
fn what_it_writes_it_reads() {
    let config = over("limits.mem_mb=77,features.import_cache=,kafka.group=g,worker_port=0");
    assert_eq!(ok(&config.to_json_pretty()), config);
    assert_eq!(ok("{}"), defaults());
}

#[test]
fn unset_values_of_the_original_fall_back() {
    let config = ok(r#"{
        "worker_dir": "", "Pkgs_dir": "", "sock_base_path": "", "registry": "", "mem_pool_mb": 0,
        "sandbox_config": null, "kafka": null, "limits": {"procs": null, "runtime_sec": 7},
        "installer_limits": null
    }"#);
    let mut expected = defaults();
    expected.limits.runtime_sec = 7;
    assert_eq!(config, expected);
}

#[test]
fn keys_differing_in_case_are_read_as_go_does() {
    let (config, warnings) =
        load(r#"{"pkgs_dir": "/p", "Limits": {"Max_runtime_default": 9}}"#).expect("valid");
    assert_eq!(config.pkgs_dir, Path::new("/p"));
    assert_eq!(config.limits.runtime_sec, 9);
    let lines: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "config.json: key `Limits` is read as `limits`; spell it so",
            "config.json: key `pkgs_dir` is read as `Pkgs_dir`; spell it so",
        ]
    );
}

#[test]
fn unknown_keys_warn_or_are_refused() {
    let text = r#"{"memory_pool_mb": 1, "limits": {"max_mem_mb": 1}, "strict_config": STRICT}"#;
    let (_, warnings) = load(&text.replace("STRICT", "false")).expect("valid");
    let lines: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "config.json: unknown key `limits.max_mem_mb` is ignored; the nearest known key is `limits.mem_mb`",
            "config.json: unknown key `memory_pool_mb` is ignored; the nearest known key is `mem_pool_mb`",
        ]
    );
    assert_eq!(
        load_error(&text.replace("STRICT", "true")),
        "unknown configuration key `limits.max_mem_mb`; the nearest known key is `limits.mem_mb`"
    );
    let strict = over("strict_config=true");
    assert!(strict.enforce_strict(&warnings).is_err());
    assert!(defaults().enforce_strict(&warnings).is_ok());
}

#[test]
fn bad_files_are_refused_with_the_key() {
    let cases = [
        (
            "{\n  \"limits\": }",
            "config.json line 2, column 13: expected value; mend it, or restore config.json.bak",
        ),
        (
            "[]",
            "config.json holds a list where an object of keys was expected; run `ol worker init` to write a new one",
        ),
        (
            r#"{"worker_port": 5000}"#,
            "configuration key `worker_port` takes a string, not 5000; write for example worker_port=\"5000\"",
        ),
        (
            r#"{"worker_port": "65536"}"#,
            "configuration key `worker_port`: \"65536\" is no port; use 0 to 65535, where 0 picks a free one",
        ),
        (
            r#"{"limits": {"mem_mb": -1}}"#,
            "configuration key `limits.mem_mb` takes a whole number from 0 to 4294967295, not -1; write for example limits.mem_mb=50",
        ),
        (
            r#"{"limits": {"mem_mb": "50"}}"#,
            "configuration key `limits.mem_mb` takes a whole number from 0 to 4294967295, not the string \"50\"; write for example limits.mem_mb=50",
        ),
        (
            r#"{"features": {"reuse_cgroups": 1}}"#,
            "configuration key `features.reuse_cgroups` takes true or false, not 1; write for example features.reuse_cgroups=true",
        ),
        (
            r#"{"docker": "ol-min"}"#,
            "configuration key `docker` takes a JSON object, not the string \"ol-min\"; write for example docker={\"base_image\":\"ol-min\"}",
        ),
        (
            r#"{"sandbox": "podman"}"#,
            "configuration key `sandbox`: \"podman\" is not one of \"sock\", \"docker\"",
        ),
        (
            r#"{"storage": {"root": "disk"}}"#,
            "configuration key `storage.root`: \"disk\" is not one of \"\", \"memory\", \"private\"",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(load_error(text), expected, "{text}");
    }
}

#[test]
fn contradictions_are_refused() {
    assert_eq!(defaults().validate(), Ok(()));
    assert_eq!(over("mem_pool_mb=100,limits.mem_mb=50").validate(), Ok(()));
    let cases = [
        (
            "mem_pool_mb=99",
            "mem_pool_mb 99 is below twice limits.mem_mb 50; raise mem_pool_mb to at least 100 or lower limits.mem_mb",
        ),
        (
            "limits.procs=0",
            "configuration key `limits.procs`: 0 would let nothing run; use at least 1, or leave the key out for its default",
        ),
        (
            "worker_dir=here",
            "configuration key `worker_dir`: \"here\" is not absolute; begin it with /",
        ),
        (
            "limits.swappiness=201",
            "configuration key `limits.swappiness`: 201 is above what the kernel takes; use 0 to 200",
        ),
        (
            "import_cache_tree=[1]",
            "configuration key `import_cache_tree`: a list is no zygote tree; use a path, a JSON object or \"\"",
        ),
        (
            "kafka=x",
            "configuration key `kafka`: a string holds no settings; use a JSON object",
        ),
        (
            "sandbox=docker",
            "configuration key `features.import_cache`: docker sandboxes can't be forked from zygotes; set it to \"\"",
        ),
        (
            "registry=s3://bucket/x",
            "registry \"s3://bucket/x\" comes later; use a path or file://",
        ),
        (
            "registry=http://x",
            "registry \"http://x\" has a scheme that no registry is served by; use a path or file:///path",
        ),
        (
            "registry=file://host/x",
            "registry \"file://host/x\" names a host where a path from the root belongs; use a path or file:///path",
        ),
        (
            "registry=",
            "registry \"\" is empty; use a path or file:///path",
        ),
    ];
    for (overrides, expected) in cases {
        assert_eq!(invalid(overrides), expected, "{overrides}");
    }
}

#[test]
fn registries() {
    let path = |registry: &str| over(&format!("registry={registry}")).registry_path();
    assert_eq!(defaults().registry_path(), Ok("/srv/ol/registry".into()));
    assert_eq!(path("/a b"), Ok("/a b".into()));
    assert_eq!(path("file:///a%20b%zz?create_dir=1"), Ok("/a b%zz".into()));
    assert_eq!(path("FILE://localhost/a"), Ok("/a".into()));
    assert_eq!(path("rel/ative"), Ok("rel/ative".into()));
}

#[test]
fn limits_derive_from_the_host_and_from_each_other() {
    let config = over("limits.swappiness=7,limits.scratch_mb=32,mem_pool_mb=400");
    let installer = config.installer_limits();
    assert_eq!(
        (installer.procs, installer.mem, installer.swappiness),
        (64, MiB(250), 7)
    );
    assert_eq!(installer.runtime, Duration::from_secs(300));
    assert_eq!(installer.scratch, MiB(512));
    assert_eq!(config.zygote_limits().mem, MiB(400));
    let max = config.max_limits();
    assert_eq!(
        (max.procs, max.mem, max.scratch),
        (512, MiB(200), MiB(1024))
    );
    assert_eq!(max.cpu, CpuPercent(800));
    assert_eq!(max.runtime, Duration::from_secs(900));

    let generous = over("limits.procs=600,limits.runtime_sec=1000,max_limits.mem_mb=99999");
    let max = generous.max_limits();
    assert_eq!((max.procs, max.mem), (600, MiB(15_500)));
    assert_eq!(max.runtime, Duration::from_secs(1000));
}

#[test]
fn a_small_machine_gets_the_least_pool() {
    let host = HostFacts {
        memory_mb: 256,
        cores: 1,
    };
    let config = WorkerConfig::defaults(Path::new("/srv/ol"), &host);
    assert_eq!(config.mem_pool_mb, 500);
    assert_eq!(config.validate(), Ok(()));
}

#[cfg(unix)]
#[test]
fn a_directory_that_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let dir = Path::new(std::ffi::OsStr::from_bytes(b"/srv/\xff"));
    let config = WorkerConfig::defaults(dir, &HOST);
    assert!(config.validate().is_err());
    let through_json = config.with_overrides("limits.mem_mb=60").expect("valid");
    assert!(through_json.validate().is_err());
}

/// The documentation must name every key with its default.
#[test]
fn every_key_and_its_default_is_on_the_page() {
    const PAGE: &str = include_str!("../../../../docs/reference/config-json.md");
    let value: Value = serde_json::from_str(&defaults().to_json_pretty()).expect("JSON");
    let mut leaves = Vec::new();
    for (key, value) in value.as_object().expect("an object") {
        match value.as_object().filter(|inner| !inner.is_empty()) {
            None => leaves.push((key.clone(), value.clone())),
            Some(inner) => leaves.extend(
                inner
                    .iter()
                    .map(|(leaf, v)| (format!("{key}.{leaf}"), v.clone())),
            ),
        }
    }
    assert!(leaves.len() > 50, "{leaves:?}");
    for (key, default) in leaves {
        let cells: Vec<&str> = PAGE
            .lines()
            .map(|line| line.split(" | ").collect::<Vec<_>>())
            .find(|cells| cells[0].contains(&format!("`{key}`")))
            .unwrap_or_else(|| panic!("docs/reference/config-json.md has no row for {key}"));
        // Defaults that depend on the directory or the machine are described in words there.
        if (default.is_number() || default.is_boolean()) && key != "mem_pool_mb" {
            assert_eq!(
                cells[2],
                default.to_string(),
                "the default of {key} in docs/reference/config-json.md"
            );
        }
    }
}
