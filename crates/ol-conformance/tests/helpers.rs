//! Programs that a function starts find the same modules as the function, and behave as under a plain `python3` in the same environment.
//!
//! Tested with `multiprocessing` in each of its start methods, executors, `sys.executable`, and joblib's loky from PyPI.

use ol_testkit::{PackageIndex, Worker, wheel, with_worker};
use serde_json::{Value, json};
use std::path::Path;

const ROOMY: &str = "limits: {procs: 60, mem_mb: 400}\n";

/// A process that isn't forked imports the function's module to find what it is to run.
const WAYS: &str = r#"
import concurrent.futures, multiprocessing, os, sys
import beside, shared

def look(number):
    import shared
    return [number + beside.ONE, shared.NAME, __name__]

def told_by(context):
    with context.Pool(2) as pool:
        answers = pool.map(look, [1, 2])
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        return answers + list(executor.map(look, [3]))

def f(event):
    os.chdir(event)
    return {way: told_by(multiprocessing.get_context(way)) for way in ("fork", "spawn", "forkserver")}
"#;

/// Tells the interpreter's options as this process and the ones that it starts see them.
const OPTIONS: &str = r#"
import json, os, subprocess, sys

SEE = """
import json, os, sys
print(json.dumps([list(sys.flags), sys.path[1:], sys.warnoptions, sys._xoptions, type(exit).__name__, os.getcwd(),
    "site" in sys.modules and sys.modules["site"].ENABLE_USER_SITE]))
"""

def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=True, **options).stdout

def f(event):
    from subprocess import _args_from_interpreter_flags
    handed_on = _args_from_interpreter_flags()
    use = "import beside, shared; print(beside.ONE, shared.NAME)"
    again = getattr(sys, "orig_argv", ["python3"])[:1]
    return {
        "handed on": handed_on,
        "flags": list(sys.flags),
        "as handed on": json.loads(run(sys.executable, *handed_on, "-c", SEE)),
        "as at the prompt": json.loads(run("python3", "-c", SEE)),
        "as this was started": json.loads(run(*again, "-c", SEE)),
        "uses": run(sys.executable, "-c", use),
        "main": sorted(vars(sys.modules["__main__"])),
        "exit": outcome(),
    }

def outcome():
    try:
        exit(3)
    except SystemExit as error:
        return error.code
"#;

/// A worker with a package `shared` in its index, and a function of this source that asks for it.
fn with_function(source: &str, test: impl FnOnce(&Worker<'_>)) {
    let shared = wheel("shared", "1.0").file("shared/__init__.py", "NAME = 'shared'\n");
    let index = PackageIndex::start();
    index.add(shared.build());
    let mirror = format!("pip_mirror={}", index.url());
    with_worker(&[&mirror, "mem_pool_mb=2000"], |worker| {
        let files = [
            ("f.py", source),
            ("beside.py", "ONE = 1\n"),
            ("requirements.txt", "shared\n"),
            ("ol.yaml", ROOMY),
        ];
        worker.install("f", &files);
        test(worker);
    });
}

#[test]
fn every_way_of_multiprocessing_finds_the_function_and_its_packages() {
    with_function(WAYS, |worker| {
        for folder in ["/handler", "/tmp"] {
            let told = worker.call("f", &json!(folder)).ok();
            for way in ["fork", "spawn", "forkserver"] {
                let answers: Vec<Value> = (2..=4).map(|n| json!([n, "shared", "f"])).collect();
                assert_eq!(told[way], json!(answers), "{way} in {folder}");
            }
        }
    });
}

#[test]
fn a_python_that_a_function_starts_is_as_under_a_plain_one() {
    with_function(OPTIONS, |worker| {
        let told = worker.call("f", &json!({})).ok();
        assert_eq!(told["handed on"], json!([]), "{told}");
        assert_eq!(told["as handed on"], told["as at the prompt"]);
        assert_eq!(told["as this was started"], told["as at the prompt"]);
        assert_eq!(told["flags"], told["as at the prompt"][0]);
        assert_eq!(told["uses"], "1 shared\n");
        assert_eq!(told["exit"], 3);
        // If `__main__` had a file, each process that multiprocessing starts would run it again.
        let main = told["main"].to_string();
        assert!(!main.contains("__file__"), "{main}");
    });
}

/// No variable in the worker's or the function's environment makes the function's Python run code before the function's own.
#[test]
fn no_environment_brings_code_into_the_start() {
    let source = "
import sys

def f(event):
    return sorted(name for name in sys.modules if name in ('sitecustomize', 'usercustomize', 'intruder'))
";
    let settings = "
environment: {PYTHONPATH: /handler/own, PYTHONSTARTUP: /handler/own/intruder.py, PYTHONHOME: /handler, PYTHONINSPECT: '1'}
";
    with_worker(&[], |worker| {
        let own = "print('an intruder')\n";
        let files = [
            ("f.py", source),
            ("own/sitecustomize.py", own),
            ("own/usercustomize.py", own),
            ("own/intruder.py", own),
            ("ol.yaml", settings),
        ];
        worker.install("f", &files);
        assert_eq!(worker.call("f", &json!({})).ok(), json!([]));
        assert_eq!(worker.log_of("f"), "");
    });
}

/// loky starts its processes, and a tracker of what they share, as programs of their own.
#[test]
fn joblib_s_processes_find_joblib() {
    let index = PackageIndex::passing_pypi(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let mirror = format!("pip_mirror={}", index.url());
    let source = r#"
import os, warnings
from joblib import Parallel, delayed

def square(number):
    return [number * number, os.getpid() != PARENT]

PARENT = 2

def f(event):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        squares = Parallel(n_jobs=2, backend="loky")(delayed(square)(n) for n in range(4))
    return {"squares": squares, "warned": [str(w.message) for w in caught if "resource_tracker" in str(w.message)]}
"#;
    with_worker(&[&mirror, "mem_pool_mb=2000"], |worker| {
        let files = [
            ("f.py", source),
            ("requirements.txt", "joblib==1.5.2\n"),
            ("ol.yaml", ROOMY),
        ];
        worker.install("f", &files);
        let told = worker.call("f", &json!({})).ok();
        let squares: Vec<Value> = [0, 1, 4, 9].map(|n| json!([n, true])).to_vec();
        assert_eq!(told, json!({"squares": squares, "warned": []}));
        let log = worker.log_of("f");
        assert!(
            !log.contains("Error") && !log.contains("No module named"),
            "{log}"
        );
    });
}
