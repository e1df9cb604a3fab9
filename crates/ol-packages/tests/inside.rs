//! The installer program in `inside/`, with uv and pip, through the proxy, using an index of the tests' own and PyPI.

mod common;

use std::process::Command;

use common::{Inside, kept, mirror, pins, unpack, uv};
use ol_packages::wheels::{Libc, Tags};
use ol_testkit::{Hostile, Mischief, PackageIndex, measured, sdist, wheel};
use serde_json::json;

/// The output of a Python program with these folders on its path.
fn python(folders: &[std::path::PathBuf], program: &str) -> String {
    let path = std::env::join_paths(folders).expect("plain");
    let said = Command::new("/usr/bin/python3")
        .args(["-S", "-B", "-c", program])
        .env("PYTHONPATH", path)
        .output()
        .expect("Python is needed");
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    String::from_utf8_lossy(&said.stdout).trim().to_owned()
}

#[test]
fn real_packages_are_resolved_installed_and_imported() {
    let packages = PackageIndex::passing_pypi(kept());
    let index = mirror(&packages.url());
    let inside = Inside::new(&index, Some(&uv().path));
    let lock = inside
        .resolve("flask\nrequests\nnumpy\npandas\n")
        .expect("resolved");
    let pins = pins(&lock);
    let mut folders = Vec::new();
    for (pin, order) in &pins {
        let tar = inside
            .install(order)
            .unwrap_or_else(|why| panic!("{pin}: {why:?}"));
        folders.push(unpack(&tar, &inside.place.path().join("store").join(pin)));
    }
    let said = python(
        &folders,
        "import flask, requests, numpy, pandas; print(pandas.DataFrame({'a': numpy.arange(4)}).a.sum(), flask.__name__, pandas.__cached__[-4:])",
    );
    assert_eq!(said, "6 flask .pyc");
    let report = inside.proxy.as_ref().expect("it serves").report();
    measured(&format!(
        "{} packages, {} MiB through the proxy",
        pins.len(),
        report.bytes >> 20
    ));
    assert!(
        report.refused.is_empty() && report.bytes > 20 << 20,
        "{report:?}"
    );
}

#[test]
fn a_tar_is_the_same_each_time_and_compiled_for_good() {
    let packages = PackageIndex::start();
    let dist = wheel("m", "1.0")
        .file("m/__init__.py", "value = 7\n")
        .file("m/template.py", "this {{ is }} no Python\n")
        .file_with_mode("m/tool.sh", "#!/bin/sh\n", 0o100_755)
        .command("mtool", "m:main")
        .build();
    let order = json!({ "pin": "m==1.0", "hashes": [format!("sha256:{}", dist.sha256())] });
    packages.add(dist);
    let index = mirror(&packages.url());
    let uv = uv();
    let tars: Vec<Vec<u8>> = (0..2)
        .map(|_| {
            Inside::new(&index, Some(&uv.path))
                .install(&order)
                .expect("installed")
        })
        .collect();
    assert!(tars[0] == tars[1], "two tars differ");
    let mut archive = tar::Archive::new(&tars[0][..]);
    let names: Vec<String> = archive
        .entries()
        .expect("a tar")
        .map(|entry| {
            let entry = entry.expect("whole");
            format!(
                "{:o} {}",
                entry.header().mode().expect("a mode"),
                entry.path().expect("a path").display()
            )
        })
        .collect();
    let has = |name: &str| names.iter().any(|entry| entry == name);
    assert!(
        has("755 m/tool.sh") && has("644 m/__init__.py"),
        "{names:?}"
    );
    assert!(
        !names
            .iter()
            .any(|name| name.contains("bin") || name.contains(".lock")),
        "{names:?}"
    );
    // The compiled file is used even though the source has changed meanwhile.
    let place = tempfile::TempDir::new().expect("made");
    let folder = unpack(&tars[0], place.path());
    std::fs::write(folder.join("m/__init__.py"), "value = 8\n").expect("written");
    assert_eq!(python(&[folder], "import m; print(m.value)"), "7");
}

#[test]
fn what_uv_learned_of_the_interpreter_serves_others() {
    let packages = PackageIndex::start();
    let dist = wheel("m", "1.0").file("m.py", "").build();
    let order = json!({ "pin": "m==1.0", "hashes": [format!("sha256:{}", dist.sha256())] });
    packages.add(dist);
    let index = mirror(&packages.url());
    let uv = uv();
    let inside = Inside::new(&index, Some(&uv.path));
    let (status, told) = inside.ask("/interpreter", &json!({}));
    assert_eq!(status, 200);
    let told = unpack(&told, &inside.place.path().join("told"));
    let about = std::fs::read(told.join("about.json")).expect("unpacked");
    let tags: Tags = serde_json::from_slice(&about).expect("tags");
    assert!(
        tags.minor > 8 && matches!(tags.libc, Some(Libc::Glibc(2, 20..))),
        "{tags:?}"
    );
    let folder = told.join("seed");
    let learned = std::fs::read_dir(&folder).expect("unpacked").count();
    assert_eq!(learned, 1, "the interpreter's folder");
    let plain = inside.install(&order).expect("installed");
    let mut seeded = order.clone();
    seeded["seed"] = folder.to_str().into();
    assert!(
        inside.install(&seeded).expect("installed") == plain,
        "another tar"
    );
}

#[test]
fn each_failure_has_its_code() {
    let packages = PackageIndex::start();
    let good = wheel("good", "1.0").file("good.py", "").build();
    let hash = json!([format!("sha256:{}", good.sha256())]);
    for name in ["down", "garbagepage", "garbagefile", "lies", "cut", "gone"] {
        packages.add(wheel(name, "1.0").file("x.py", "").build());
    }
    packages.misbehave("down", Mischief::HangsUp);
    packages.misbehave("gone", Mischief::Status(503));
    packages.misbehave("garbagepage", Mischief::GarbagePage);
    packages.misbehave("garbagefile", Mischief::GarbageFile);
    packages.misbehave("lies", Mischief::WrongHash);
    packages.misbehave("cut", Mischief::CutsFiles);
    packages.add(good);
    packages.add(wheel("elsewhere", "1.0").tag("cp27-cp27m-win32").build());
    packages.add(wheel("picky", "1.0").requires("good>=2").build());
    packages.add(sdist("sources", "1.0").backend_in_tree().build());
    let away = wheel("away", "1.0").file("away.py", "").build();
    packages.add(away);
    packages.misbehave("away", Mischief::LinksFrom("evil.example:80".into()));
    let index = mirror(&packages.url());
    let inside = Inside::new(&index, Some(&uv().path));
    let mut wrong = Vec::new();
    for (requirements, code) in [
        ("absent", "unsatisfiable"),
        ("good>=2", "unsatisfiable"),
        ("picky", "unsatisfiable"),
        ("good==1.0 nonsense", "bad-requirement"),
        ("elsewhere", "no-matching-wheel"),
        ("sources", "no-matching-wheel"),
        ("down", "index-unreachable"),
        ("gone", "index-unreachable"),
        ("garbagepage", "garbage-index"),
        ("garbagefile", "bad-wheel"),
        ("away", "index-unreachable"),
    ] {
        match inside.resolve(requirements) {
            Err((found, _)) if found == code => {}
            other => wrong.push(format!("{requirements}: not {code}: {other:?}")),
        }
    }
    for (pin, code) in [
        ("good==1.0", ""),
        ("lies==1.0", "hash-mismatch"),
        ("cut==1.0", "index-unreachable"),
        ("absent==1.0", "unsatisfiable"),
    ] {
        match inside.install(&json!({ "pin": pin, "hashes": hash })) {
            Ok(_) if code.is_empty() => {}
            Err((found, _)) if found == code => {}
            other => wrong.push(format!(
                "install {pin}: not {code}: {:?}",
                other.map(|_| ())
            )),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    let refused = inside.proxy.as_ref().expect("it serves").report().refused;
    assert!(
        refused.iter().any(|refused| refused.host == "evil.example"),
        "{refused:?}"
    );
}

#[test]
fn hostile_wheels_stay_within_bounds() {
    let packages = PackageIndex::start();
    let dists = [
        (
            "many",
            "too-large",
            wheel("many", "1.0").many_files(3000).build(),
        ),
        (
            "bomb",
            "too-large",
            wheel("bomb", "1.0").bomb("zeros.bin", 64).build(),
        ),
        (
            "upward",
            "",
            wheel("upward", "1.0")
                .file("ok.py", "")
                .file("../../escaped.py", "x = 1")
                .build(),
        ),
    ];
    let index = mirror(&packages.url());
    let inside = Inside::new(&index, Some(&uv().path));
    for (name, code, dist) in dists {
        let hash = format!("sha256:{}", dist.sha256());
        packages.add(dist);
        let order = json!({ "pin": format!("{name}==1.0"), "hashes": [hash], "max_files": 1000, "max_bytes": 32 << 20 });
        match inside.install(&order) {
            Err((found, words)) => {
                assert!(code.is_empty() || found == code, "{name}: {found}: {words}")
            }
            Ok(tar) => {
                assert!(code.is_empty(), "{name} was installed");
                let mut archive = tar::Archive::new(&tar[..]);
                let names = archive
                    .entries()
                    .expect("a tar")
                    .map(|entry| entry.expect("whole").path().expect("a path").into_owned());
                assert!(
                    names
                        .into_iter()
                        .all(|name| !name.to_string_lossy().contains("escaped"))
                );
            }
        }
    }
    assert!(!inside.place.path().join("escaped.py").exists());
}

#[test]
fn sources_are_built_without_a_network() {
    let packages = PackageIndex::start();
    let tell = "import os\nopen(os.path.join(os.environ['TMPDIR'], 'ran'), 'a').write('x')\n";
    let good = sdist("good", "1.0").first(tell).backend_in_tree().build();
    let forever = sdist("forever", "1.0")
        .hostile(Hostile::RunsForever)
        .backend_in_tree()
        .build();
    let talker = sdist("talker", "1.0")
        .hostile(Hostile::OpensSockets)
        .first("raise SystemExit(1)\n")
        .backend_in_tree()
        .build();
    let order = |dist: &ol_testkit::Dist, pin: &str| json!({ "pin": pin, "hashes": [format!("sha256:{}", dist.sha256())], "allow_sdist": true, "seconds": 5 });
    let orders = [
        order(&good, "good==1.0"),
        order(&forever, "forever==1.0"),
        order(&talker, "talker==1.0"),
    ];
    for dist in [good, forever, talker] {
        packages.add(dist);
    }
    let index = mirror(&packages.url());
    let uv = uv();
    let build = |order: &serde_json::Value| {
        let mut inside = Inside::new(&index, Some(&uv.path));
        let (code, words) = inside.install(order).expect_err("there is no wheel");
        assert_eq!(code, "no-matching-wheel", "{words}");
        let (status, said) = inside.ask("/fetch", order);
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&said));
        assert!(
            !inside.place.path().join("install/ran").exists(),
            "fetching ran it"
        );
        inside.proxy.take().expect("it serves").close();
        let mut offline = order.clone();
        offline["fetched"] = true.into();
        let done = inside.install(&offline);
        let ran = inside.place.path().join("install/ran").exists();
        (done, ran)
    };
    let (done, ran) = build(&orders[0]);
    assert!(
        ran && done.as_ref().is_ok_and(|tar| !tar.is_empty()),
        "{:?}",
        done.map(|_| ())
    );
    let (code, _) = build(&orders[1]).0.expect_err("it never ends");
    assert_eq!(code, "timeout");
    let (code, words) = build(&orders[2]).0.expect_err("it says no");
    assert_eq!(code, "build-failed", "{words}");
    assert!(
        words.contains("not connected to ('127.0.0.1', 3128)")
            || !words.contains("connected to ('127.0.0.1', 3128)"),
        "{words}"
    );
}

#[test]
fn pip_does_it_where_uv_can_t_be_had() {
    let has_pip = Command::new("/usr/bin/python3")
        .args(["-m", "pip", "--version"])
        .output();
    if !has_pip.is_ok_and(|said| said.status.success()) {
        measured("/usr/bin/python3 has no pip: not tested");
        return;
    }
    let packages = PackageIndex::start();
    packages.add(wheel("m", "1.0").file("m.py", "").requires("n").build());
    packages.add(wheel("n", "2.0").file("n.py", "").build());
    let inside = Inside::new(&mirror(&packages.url()), None);
    let lock = inside.resolve("m").expect("resolved");
    let pins = pins(&lock);
    assert_eq!(
        pins.iter().map(|(pin, _)| pin.as_str()).collect::<Vec<_>>(),
        ["m==1.0", "n==2.0"]
    );
    for (_, order) in &pins {
        inside.install(order).expect("installed");
    }
    assert_eq!(
        inside.resolve("absent").expect_err("absent").0,
        "unsatisfiable"
    );
}

/// With uv and with pip.
#[test]
fn what_a_build_is_refused_is_told() {
    let packages = PackageIndex::start();
    for (name, program) in [
        ("killed", "import os\nos.kill(os.getpid(), 9)\n"),
        (
            "swarm",
            "raise BlockingIOError(11, 'Resource temporarily unavailable')\n",
        ),
        ("full", "raise OSError(28, 'No space left on device')\n"),
    ] {
        packages.add(sdist(name, "1.0").first(program).backend_in_tree().build());
    }
    let (index, uv) = (mirror(&packages.url()), uv());
    for tool in [Some(uv.path.as_path()), None] {
        let inside = Inside::new(&index, tool);
        for (name, expected) in [
            ("killed", "killed"),
            ("swarm", "too-many-processes"),
            ("full", "too-large"),
        ] {
            let order = json!({ "requirements": name, "allow_sdist": true });
            let (code, words) = inside.resolve_with(&order).expect_err("it fails");
            assert_eq!(code, expected, "{tool:?}: {words}");
        }
    }
}

#[test]
fn passwords_are_masked_in_words() {
    let packages = PackageIndex::start();
    packages.misbehave("m", Mischief::HangsUp);
    let url = packages.url().replace("http://", "http://me:se%2Dcret@");
    let inside = Inside::new(&mirror(&url), Some(&uv().path));
    let (_, words) = inside.resolve("m").expect_err("it hangs up");
    assert!(!words.contains("cret"), "{words}");
}
