//! The examples with packages, run with the real ones from PyPI (each file is fetched once per machine).
//!
//! Also, what their owner is told when they need more memory than they ask for.

use ol_testkit::{PackageIndex, Place, Reply, Worker, wheel, with_worker};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

fn example(name: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let repository = here.ancestors().nth(2).expect("crates/ol-conformance");
    repository.join("examples").join(name)
}

/// Runs `test` with a worker whose index passes on PyPI's packages.
fn with_pypi(test: impl FnOnce(&Worker<'_>)) {
    let index = PackageIndex::passing_pypi(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let mirror = format!("pip_mirror={}", index.url());
    with_worker(&[&mirror, "mem_pool_mb=2000"], test);
}

/// Installs an example; its first call waits for its packages.
fn prepare(worker: &Worker<'_>, name: &str) {
    install(worker.place, &example(name));
}

fn install(place: &Place, folder: &Path) {
    let said = place.ol(&["admin", "install", folder.to_str().expect("text")]);
    let _ = said.ok();
}

/// A copy of an example, to be changed.
fn copy(place: &Place, name: &str) -> PathBuf {
    let copy = place.source(name, &[]);
    for path in ol_testkit::place::listing(&example(name)) {
        fs::copy(&path, copy.join(path.file_name().expect("a name"))).expect("copied");
    }
    copy
}

/// Posts JSON with its content type, which web frameworks require.
fn post(worker: &Worker<'_>, path: &str, body: &Value) -> Reply {
    let (kind, body) = ([("content-type", "application/json")], body.to_string());
    let reply = worker
        .connect()
        .request("POST", path, &kind, body.as_bytes());
    reply.expect("an answer")
}

fn call(worker: &Worker<'_>, name: &str, event: Value) -> Value {
    worker.call(name, &event).ok()
}

#[test]
fn flask() {
    with_pypi(|worker| {
        prepare(worker, "flask");
        let home = worker.request("GET", "/run/flask/", b"").ok();
        assert_eq!(home, json!({"items": [], "add": "/run/flask/items"}));
        let reply = post(worker, "/run/flask/items", &json!({"item": "bread"}));
        assert_eq!(
            (reply.status, reply.json()),
            (201, json!({"items": ["bread"]}))
        );
        assert_eq!(worker.request("GET", "/run/flask/items", b"").status, 405);
    });
}

#[test]
fn fastapi() {
    with_pypi(|worker| {
        prepare(worker, "fastapi");
        let area = |body: Value| post(worker, "/run/fastapi/area", &body);
        assert_eq!(
            area(json!({"width": 2, "height": 3.5})).ok(),
            json!({"area": 7.0})
        );
        let refused = area(json!({"width": 2, "height": -1}));
        assert_eq!(refused.status, 422, "{}", refused.text());
        assert_eq!(
            refused.json()["detail"][0]["loc"],
            json!(["body", "height"])
        );
        let described = worker.request("GET", "/run/fastapi/openapi.json", b"").ok();
        assert_eq!(described["info"]["title"], "Area");
    });
}

#[test]
fn requests() {
    with_pypi(|worker| {
        prepare(worker, "requests");
        let said = call(worker, "requests", json!({}));
        assert_eq!(
            (&said["status"], &said["text"]),
            (&json!(200), &json!("hello from the loopback"))
        );
        // This worker's sandboxes have no network, so they don't reach this port of the host either.
        let url = format!("http://{}/status", worker.address);
        let said = call(worker, "requests", json!({"url": url}));
        assert_eq!(said, json!({"url": url, "error": "ConnectionError"}));
    });
}

#[test]
fn two_versions_of_numpy_side_by_side() {
    with_pypi(|worker| {
        for (name, version) in [("numpy-2.1", "2.1.3"), ("numpy-2.2", "2.2.6")] {
            prepare(worker, name);
            let said = call(worker, name, json!({"numbers": [1, 2, 6]}));
            assert_eq!(said, json!({"numpy": version, "sum": 9.0, "mean": 3.0}));
        }
        // Neither version has replaced the other.
        assert_eq!(call(worker, "numpy-2.1", json!({}))["numpy"], "2.1.3");
    });
}

#[test]
fn pandas() {
    with_pypi(|worker| {
        prepare(worker, "pandas");
        let said = call(worker, "pandas", json!({}));
        assert_eq!(said, json!({"Brno": 4, "Prague": 8}));
        let csv = "kind,n\na,1.5\nb,1\na,1\n";
        let said = call(
            worker,
            "pandas",
            json!({"csv": csv, "by": "kind", "of": "n"}),
        );
        assert_eq!(said, json!({"a": 2.5, "b": 1.0}));
    });
}

#[test]
fn too_little_memory_for_a_package_is_said_with_the_limit() {
    with_pypi(|worker| {
        let folder = copy(worker.place, "pandas");
        fs::write(folder.join("ol.yaml"), "limits:\n  mem_mb: 24\n").expect("written");
        let said = worker
            .place
            .ol(&["admin", "install", folder.to_str().expect("text")]);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.err.contains("limits.mem_mb is 24"), "{said:?}");
        for _ in 0..2 {
            let reply = worker.call("pandas", &json!({}));
            let text = reply.error(502, "cannot-start");
            assert!(text.contains("limits.mem_mb is 24"), "{text}");
        }
        // The remedy that the error names helps.
        install(worker.place, &example("pandas"));
        let _ = call(worker, "pandas", json!({}));
    });
}

#[test]
fn wsgi_templates() {
    with_pypi(|worker| {
        prepare(worker, "wsgi-templates");
        let page = worker.request("GET", "/run/wsgi-templates/?name=%3CAda%3E", b"");
        assert_eq!(page.status, 200, "{}", page.text());
        let expected = "<!doctype html>\n<title>Greeting</title>\n<h1>Hello, &lt;Ada&gt;!</h1>";
        assert_eq!(page.text(), expected);
    });
}

#[test]
fn pip_compile() {
    with_pypi(|worker| {
        // The unchanged example needs a network, which these sandboxes don't have, and says so.
        prepare(worker, "pip-compile");
        let wanted = json!({"requirements": ["front>=1", "back<2"]});
        let said = call(worker, "pip-compile", wanted.clone());
        let error = said["error"].as_str().expect("an error");
        assert!(error.contains("https://pypi.org/simple/"), "{error}");

        // The copy has its own index: a folder of the bundle.
        let folder = copy(worker.place, "pip-compile");
        let wheels = folder.join("wheels");
        fs::create_dir(&wheels).expect("made");
        for dist in [
            wheel("front", "1.2").requires("back>=1.1").build(),
            wheel("back", "1.1").build(),
            wheel("back", "1.4").build(),
            wheel("back", "2.0").build(),
        ] {
            fs::write(wheels.join(&dist.filename), &dist.bytes).expect("written");
        }
        let settings = fs::read_to_string(folder.join("ol.yaml")).expect("there");
        let own = "  UV_CONFIG_FILE: /handler/uv.toml\n";
        let uv = "no-index = true\nfind-links = [\"/handler/wheels\"]\n";
        fs::write(folder.join("uv.toml"), uv).expect("written");
        fs::write(folder.join("ol.yaml"), settings + own).expect("written");
        install(worker.place, &folder);
        let said = call(worker, "pip-compile", wanted);
        assert_eq!(said, json!({"pinned": ["back==1.4", "front==1.2"]}));
        let nothing = json!({"requirements": ["front>=1", "back<1"]});
        let said = call(worker, "pip-compile", nothing);
        let error = said["error"].as_str().expect("an error");
        assert!(error.contains("unsatisfiable"), "{error}");
    });
}
