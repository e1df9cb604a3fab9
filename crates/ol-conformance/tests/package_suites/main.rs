//! Runs the test suites of numpy, pandas and requests in a function, and at the same time without a sandbox.
//!
//! Both use the same Python and the same packages. A test whose outcome differs inside shows a fault of the worker: it has to be mended, or
//! listed in docs/contributing/package-suites.md with its reason.
//!
//! ```text
//!   order (package, paths, options) ─┬─▶ POST /run/suite ─▶ f.py in a sandbox ───────▶ outcomes ─┐
//!                                    └─▶ unshare, setpriv ─▶ f.py, an ordinary user ─▶ outcomes ─┴▶ compared
//! ```
//!
//! - `places`: runs tests in the function, and without a sandbox
//! - `outcomes`: counts and compares the outcomes of the tests

mod outcomes;
mod places;

use ol_testkit::index::Dist;
use ol_testkit::{Client, PackageIndex, Worker, measured, with_worker};
use serde_json::json;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

/// The function that runs the tests; its own comments describe it.
const RUNNER: &str = include_str!("f.py");
const SETTINGS: &str = include_str!("ol.yaml");

/// Tests that are run together.
struct Part {
    package: &'static str,
    paths: &'static [&'static str],
    options: &'static [&'static str],
    /// Whether the tests expect to be run in the package's folder.
    there: bool,
    /// How many tests must pass at least: fewer would mean that something else was tested than intended.
    passing: usize,
}

/// Compares `parts` on a worker with the function `suite`, which has these packages and files.
fn with_suite(requirements: &str, prepare: impl FnOnce(&PackageIndex, &Path), parts: &[Part]) {
    let index = PackageIndex::passing_pypi(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let mirror = format!("pip_mirror={}", index.url());
    with_worker(&[&mirror, "mem_pool_mb=3000"], |worker| {
        let files = [
            ("f.py", RUNNER),
            ("ol.yaml", SETTINGS),
            ("requirements.txt", requirements),
        ];
        let folder = worker.place.source("suite", &files);
        prepare(&index, &folder);
        let path = folder.to_str().expect("text");
        let _ = worker.place.ol(&["admin", "install", path]).ok();
        let differences: Vec<String> = parts
            .iter()
            .flat_map(|part| compare(worker, &folder, part))
            .collect();
        assert!(
            differences.is_empty(),
            "{} differences are to be mended, or told in docs/contributing/package-suites.md:\n{}",
            differences.len(),
            differences.join("\n")
        );
    });
}

/// Runs `part` in both places at once; returns a text for each difference that isn't listed, and for each listed one that isn't there.
fn compare(worker: &Worker<'_>, folder: &Path, part: &Part) -> Vec<String> {
    let order = json!({
        "package": part.package,
        "paths": part.paths,
        "options": part.options,
        "there": part.there,
    });
    let order = order.to_string();
    let (inside, outside) = thread::scope(|scope| {
        let outside = scope.spawn(|| places::outside(worker, folder, &order));
        let inside = places::inside(worker, &order);
        (inside, outside.join().expect("run"))
    });
    let name = part.paths.join(" ");
    measured(&format!("{name}: inside {inside}"));
    measured(&format!("{name}: outside {outside}"));
    for (test, why) in inside.failed() {
        measured(&format!("failed inside: {test}: {why}"));
    }
    assert!(
        outside.count("passed") >= part.passing,
        "{name}: fewer than {} pass",
        part.passing
    );
    inside.differences(&outside)
}

/// numpy and what its tests need. The main part of numpy's suite is a test of its own here.
const NUMPY: &str = "numpy==2.2.6\npytest==8.4.2\nhypothesis==6.170.17\npytest-timeout==2.4.0\n";

const fn part_of_numpy(paths: &'static [&'static str], passing: usize) -> Part {
    Part {
        package: "numpy",
        paths,
        options: &["-m", "not slow"],
        there: false,
        passing,
    }
}

#[test]
#[ignore = "a minute and a half; run by make test-long"]
fn numpy() {
    let part = part_of_numpy;
    let parts = [
        part(&["numpy/linalg", "numpy/fft", "numpy/polynomial"], 1000),
        part(&["numpy/random", "numpy/testing", "numpy/tests"], 1000),
        part(&["numpy/lib", "numpy/ma", "numpy/matrixlib"], 8000),
    ];
    with_suite(NUMPY, |_, _| (), &parts);
}

#[test]
#[ignore = "three minutes; run by make test-long"]
fn numpy_core() {
    let parts = [part_of_numpy(&["numpy/_core"], 30_000)];
    with_suite(NUMPY, |_, _| (), &parts);
}

/// Excludes tests that need a network or take long, and skips those that need files which the wheel doesn't have.
const PANDAS: &[&str] = &[
    "--no-strict-data-files",
    "-m",
    "not slow and not network and not db and not single_cpu",
];

#[test]
#[ignore = "three minutes; run by make test-long"]
fn pandas() {
    let part = |paths, passing| Part {
        package: "pandas",
        paths,
        options: PANDAS,
        there: false,
        passing,
    };
    // Version 4 of dateutil is newer than this pandas: 200 of these tests fail with it, inside and outside of a sandbox.
    let requirements = "pandas==2.3.3\nnumpy==2.2.6\npython-dateutil==2.9.0.post0\n\
                        pytest==8.4.2\nhypothesis==6.170.17\n";
    let parts = [
        part(&["pandas/tests/scalar", "pandas/tests/tslibs"], 4000),
        part(
            &[
                "pandas/tests/io/parser",
                "pandas/tests/io/json",
                "pandas/tests/io/test_common.py",
                "pandas/tests/io/test_compression.py",
                "pandas/tests/io/test_pickle.py",
                "pandas/tests/io/test_sql.py",
            ],
            4000,
        ),
        part(&["pandas/tests/series/methods"], 3000),
        part(&["pandas/tests/frame/methods"], 4000),
    ];
    with_suite(requirements, |_, _| (), &parts);
}

/// The source archive of requests, which holds the tests that the wheel doesn't, and its SHA-256.
const REQUESTS: (&str, &str) = (
    "requests-2.34.2.tar.gz",
    "f288924cae4e29463698d6d60bc6a4da69c89185ad1e0bcc4104f584e960b9ed",
);

#[test]
#[ignore = "a minute and a half; run by make test-long"]
fn requests() {
    let requirements = "requests[socks]==2.34.2\npytest==8.4.2\npytest-httpbin==2.1.0\n\
                        pytest-mock==3.17.0\nhttpbin==0.10.4\ntrustme==1.2.1\n";
    let parts = [Part {
        package: "tests",
        paths: &["tests"],
        options: &[],
        there: true,
        passing: 600,
    }];
    with_suite(requirements, fetch_tests_of_requests, &parts);
}

fn fetch_tests_of_requests(index: &PackageIndex, folder: &Path) {
    let get = |path: &str| {
        let client = Client::connect(&index.address().to_string());
        let reply = client.and_then(|mut client| client.request("GET", path, &[], b""));
        reply.expect("the index answers")
    };
    // The index knows where a file is only after it has fetched the package's page.
    let _ = get("/simple/requests/");
    let (name, expected) = REQUESTS;
    let sources = get(&format!("/files/{name}"));
    assert_eq!(sources.status, 200, "{name} can't be had");
    let dist = Dist {
        project: "requests".to_owned(),
        filename: name.to_owned(),
        bytes: sources.body,
    };
    assert_eq!(dist.sha256(), expected);
    let mut tar = Command::new("tar")
        .args(["-xz", "--no-same-owner", "--strip-components=1", "-C"])
        .arg(folder)
        .args([
            "requests-2.34.2/tests",
            "requests-2.34.2/requirements-dev.txt",
        ])
        .stdin(Stdio::piped())
        .spawn()
        .expect("tar is there");
    let mut stdin = tar.stdin.take().expect("piped");
    stdin.write_all(&dist.bytes).expect("taken");
    drop(stdin);
    assert!(tar.wait().expect("our own child").success());
}
