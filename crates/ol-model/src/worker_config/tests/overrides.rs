//! Tests of `-o`.

use super::*;

fn over_error(overrides: &str) -> String {
    defaults()
        .with_overrides(overrides)
        .expect_err("the overrides are invalid")
        .to_string()
}

#[test]
fn overrides_of_every_type() {
    let config = over(
        "limits.mem_mb=100,features.import_cache=,worker_port=0,log_output=False,\
         pip_mirror=http://index/?a=b&c=d,worker_url=\"a,b\",,limits.max_runtime_default=9,\
         import_cache_tree={\"packages\":[],\"children\":[]},kafka.brokers=[\"a\",\"b\"],\
         kafka.tls.on=true,Pkgs_dir=/p q,limits={\"procs\":3,\"cpu_percent\":50}",
    );
    let mut expected = defaults();
    expected.limits.mem_mb = 100;
    expected.limits.procs = 3;
    expected.limits.cpu_percent = 50;
    expected.limits.runtime_sec = 9;
    expected.features.import_cache = ImportCache::Off;
    expected.worker_port = Port(0);
    expected.log_output = false;
    expected.pip_mirror = "http://index/?a=b&c=d".to_owned();
    expected.worker_url = "a,b".to_owned();
    expected.import_cache_tree = json!({"packages": [], "children": []});
    expected.kafka = json!({"brokers": ["a", "b"], "tls": {"on": true}});
    expected.pkgs_dir = "/p q".into();
    assert_eq!(config, expected);
    assert_eq!(over(""), defaults());
}

#[test]
fn bad_overrides_say_what_would_do() {
    let cases = [
        (
            "limits.memory=5",
            "unknown configuration key `limits.memory`; the nearest known key is `limits.mem_mb`",
        ),
        (
            "mem_mb=5",
            "unknown configuration key `mem_mb`; the nearest known key is `limits.mem_mb`",
        ),
        (
            "limits={\"procz\":5}",
            "unknown configuration key `limits.procz`; the nearest known key is `limits.procs`",
        ),
        (
            "worker_port.x=5",
            "unknown configuration key `worker_port.x`; the nearest known key is `worker_port`",
        ),
        (
            "limits.mem_mb=lots",
            "configuration key `limits.mem_mb` takes a whole number from 0 to 4294967295, not \"lots\"; write for example limits.mem_mb=50",
        ),
        (
            "log_output=yes",
            "configuration key `log_output` takes true or false, not \"yes\"; write for example log_output=true",
        ),
        (
            "server_mode=web",
            "configuration key `server_mode`: \"web\" is not one of \"lambda\", \"sock\"",
        ),
        (
            "limits",
            "override \"limits\" has no '='; write key=value, as in limits.mem_mb=100",
        ),
        (
            "=5",
            "override \"=5\" has no key; write key=value, as in limits.mem_mb=100",
        ),
        (
            "worker_url=\"a",
            "override \"worker_url=\\\"a\" begins like JSON but is none; write key=value, as in limits.mem_mb=100",
        ),
        (
            "worker_url=\"a\"b,x=1",
            "override \"worker_url=\\\"a\\\"b\" goes on after its JSON value; write key=value, as in limits.mem_mb=100",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(over_error(text), expected, "{text}");
    }
}
