//! Functions as people install them, right and wrong. Packed ones get the same messages as directories.

use super::super::archive::Archive;
use super::super::pack::Bundle;
use super::*;

fn checked(files: &[(&str, &str)]) -> Result<Vec<String>, String> {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let source = scratch.path().join("function");
    std::fs::create_dir(&source).expect("a directory");
    for (name, content) in files {
        std::fs::write(source.join(name), content).expect("a file");
    }
    let bundle = Bundle::collect(&source).expect("collected");
    let said = |result: Result<_>| result.map_err(|error: anyhow::Error| format!("{error:#}"));
    let unpacked = said(check(&bundle));

    let path = scratch.path().join("function.tar.gz");
    std::fs::write(&path, bundle.write().expect("packed")).expect("written");
    let archive = Archive::read(&path).expect("read");
    assert_eq!(archive.files(), files.len());
    let packed = said(check(&archive));
    assert_eq!(packed.is_ok(), unpacked.is_ok(), "{packed:?} {unpacked:?}");
    if let (Ok(packed), Ok(unpacked)) = (&packed, &unpacked) {
        assert_eq!(packed, unpacked);
    }
    unpacked
}

fn refused(files: &[(&str, &str)]) -> String {
    checked(files).expect_err("it is refused")
}

const NAMED: &str = "environment: {OL_ENTRY_FILE: main.py}";

#[test]
fn the_entry_file_must_be_there() {
    let good: [&[(&str, &str)]; 5] = [
        &[("f.py", "")],
        &[("main.py", ""), ("ol.yaml", NAMED)],
        &[("main.py", ""), (".env", "OL_ENTRY_FILE='main.py'")],
        &[
            ("app.py", ""),
            (
                ".env",
                "export OL_ENTRY_FILE=app.py # it\nOL_WSGI_ENTRY=app",
            ),
        ],
        &[("f.py", ""), ("f.bin", "")],
    ];
    for files in good {
        assert_eq!(checked(files), Ok(vec![]), "{files:?}");
    }
    for (files, named) in [
        (vec![("main.py", "")], "the entry file f.py is missing"),
        (
            vec![("f.py", ""), ("ol.yaml", NAMED)],
            "\"main.py\" that OL_ENTRY_FILE names",
        ),
        (
            vec![("f.py", ""), (".env", "OL_ENTRY_FILE=x.py")],
            "\"x.py\" that OL_ENTRY_FILE names",
        ),
        // Without OL_ENTRY_FILE, a web app must be in f.py too.
        (
            vec![("app.py", ""), (".env", "OL_WSGI_ENTRY=app")],
            "f.py is missing",
        ),
        (
            vec![("f.py", ""), (".env", "OL_ENTRY_FILE=../f.py")],
            "no file of the function",
        ),
        (
            vec![("f.py", ""), (".env", "OL_ENTRY_FILE=")],
            "no file of the function",
        ),
        (vec![("f.bin", "")], "come later"),
    ] {
        let error = refused(&files);
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn the_yaml_is_read_and_so_is_env() {
    let warnings = checked(&[("f.py", ""), ("ol.yaml", "limts: {}")]).expect("it can stand");
    assert!(warnings[0].contains("`limits`"), "{warnings:?}");
    assert!(refused(&[("f.py", ""), ("ol.yaml", "concurrency: 0")]).contains("concurrency"));
    assert!(refused(&[("f.py", ""), (".env", "A=1\nB='")]).starts_with(".env line 2: "));
    let warnings = checked(&[("f.py", ""), (".env", "A=${HOME}")]).expect("it can stand");
    assert!(warnings[0].contains("${HOME} is empty"), "{warnings:?}");
    // If ol.yaml sets an environment, .env is not read, hence its mistakes don't matter.
    let files = [
        ("f.py", ""),
        (".env", "OL_ENTRY_FILE='x.py"),
        ("ol.yaml", "environment: {}"),
    ];
    let warnings = checked(&files).expect("it can stand");
    assert!(warnings[0].starts_with(".env is not read"), "{warnings:?}");
}

#[test]
fn what_looks_wrong_is_said() {
    for (environment, named) in [
        ("OL_ENTRY_FILE: main", "read as Python"),
        ("OL_WSGI_ENTRY: 'f:app'", "names an object"),
        ("OL_ASGI_ENTRY: app.py", "names an object"),
    ] {
        let yaml = format!("environment: {{{environment}}}");
        let files = [("f.py", ""), ("main", ""), ("ol.yaml", yaml.as_str())];
        let warnings = checked(&files).expect("it can stand");
        assert!(
            warnings.len() == 1 && warnings[0].contains(named),
            "{warnings:?}"
        );
    }
    let warnings = checked(&[("f.py", ""), ("requirements.txt", "# none\n\n")]);
    assert_eq!(warnings, Ok(vec![]));
    let warnings = checked(&[("f.py", ""), ("requirements.txt", "flask\n")]);
    assert_eq!(warnings, Ok(vec![]));
    assert!(refused(&[("f.py", ""), ("requirements.txt", "a\0b")]).contains("NUL"));
}
