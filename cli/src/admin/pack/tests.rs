//! Directories as people have them, and the bundles made from them.

use std::os::unix::fs::symlink;

use flate2::read::GzDecoder;
use tempfile::TempDir;

use super::*;

fn directory(files: &[(&str, &str)]) -> TempDir {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    for (name, content) in files {
        let path = scratch.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, content).expect("a file");
    }
    scratch
}

/// Name, mode and content of each member, in order.
fn members(packed: &[u8]) -> Vec<(String, u32, String)> {
    let mut archive = tar::Archive::new(GzDecoder::new(packed));
    let entries = archive.entries().expect("an archive");
    entries
        .map(|entry| {
            let mut entry = entry.expect("a member");
            let name = entry.path().expect("a name").display().to_string();
            let mode = entry.header().mode().expect("a mode");
            let mut content = String::new();
            entry.read_to_string(&mut content).expect("text");
            (name, mode, content)
        })
        .collect()
}

fn pack(directory: &TempDir) -> Vec<u8> {
    let bundle = Bundle::collect(directory.path()).expect("collected");
    bundle.write().expect("packed")
}

#[test]
fn files_come_in_order_without_what_is_the_developers() {
    let deep = format!("{}/leaf.py", ["part-of-a-long-name"; 12].join("/"));
    let directory = directory(&[
        ("z.py", "last"),
        ("f.py", "first"),
        ("lib/a.py", "inner"),
        (&deep, "deep"),
        (".git/config", "x"),
        ("lib/__pycache__/a.pyc", "x"),
        (".venv/bin/python", "x"),
        (".env", "A=1"),
    ]);
    fs::create_dir(directory.path().join("empty")).expect("a directory");
    let tool = directory.path().join("z.py");
    fs::set_permissions(tool, fs::Permissions::from_mode(0o700)).expect("made executable");

    let found: Vec<(String, u32, String)> = members(&pack(&directory))
        .into_iter()
        .filter(|(name, ..)| !name.starts_with("part-of") || name.ends_with(".py"))
        .collect();
    let member = |name: &str, mode, content: &str| (name.to_owned(), mode, content.to_owned());
    assert_eq!(
        found,
        [
            member(".env", 0o644, "A=1"),
            member("empty", 0o755, ""),
            member("f.py", 0o644, "first"),
            member("lib", 0o755, ""),
            member("lib/a.py", 0o644, "inner"),
            member(&deep, 0o644, "deep"),
            member("z.py", 0o755, "last"),
        ]
    );
}

#[test]
fn the_same_files_make_the_same_bytes() {
    let one = directory(&[("b.py", "2"), ("f.py", "1"), ("d/x", "3")]);
    let two = directory(&[("d/x", "3"), ("f.py", "1"), ("b.py", "2")]);
    let old = std::time::SystemTime::UNIX_EPOCH;
    let file = File::options().write(true).open(two.path().join("f.py"));
    file.and_then(|file| file.set_modified(old)).expect("aged");
    assert_eq!(pack(&one), pack(&two));
}

#[test]
fn links_are_refused_by_name_wherever_they_lead() {
    for target in ["/etc/passwd", "f.py", "."] {
        let directory = directory(&[("f.py", ""), ("lib/x", "")]);
        symlink(target, directory.path().join("lib/link")).expect("a link");
        let error = Bundle::collect(directory.path()).expect_err("a link");
        assert!(
            error.to_string().starts_with("lib/link is a symbolic link"),
            "{error}"
        );
    }
}

#[test]
fn a_file_that_became_a_link_is_not_followed() {
    let directory = directory(&[("f.py", "")]);
    let bundle = Bundle::collect(directory.path()).expect("collected");
    let file = directory.path().join("f.py");
    fs::remove_file(&file).expect("removed");
    symlink("/etc/passwd", &file).expect("a link");
    bundle
        .write()
        .expect_err("what it leads to is not the function's");
}

#[test]
fn a_directory_that_became_a_link_is_not_followed() {
    let directory = directory(&[("lib/f.py", "mine")]);
    let secret = self::directory(&[("f.py", "secret")]);
    let bundle = Bundle::collect(directory.path()).expect("collected");
    fs::rename(directory.path().join("lib"), directory.path().join("moved")).expect("moved");
    symlink(secret.path(), directory.path().join("lib")).expect("a link");
    bundle
        .write()
        .expect_err("what it leads to is not the function's");
}

#[test]
fn a_file_that_shrinks_is_an_error_and_one_that_grows_is_cut() {
    let directory = directory(&[("f.py", "12345")]);
    for (left, read) in [(9, None), (2, Some("12"))] {
        let mut text = String::new();
        let file = open_regular(&directory.path().join("f.py")).expect("opened");
        let result = Exactly { file, left }.read_to_string(&mut text);
        assert_eq!(result.ok().map(|_| text.as_str()), read);
    }
}

#[test]
fn a_named_file_takes_its_place() {
    let directory = directory(&[("f.py", ""), ("ol.yaml", "old")]);
    let other = self::directory(&[("any.yaml", "new")]);
    let mut bundle = Bundle::collect(directory.path()).expect("collected");
    let file = other.path().join("any.yaml");
    bundle.replace("ol.yaml", &file).expect("replaced");
    bundle.replace("requirements.txt", &file).expect("added");
    assert_eq!(bundle.files(), 3);
    assert_eq!(
        bundle.text("ol.yaml").expect("text").as_deref(),
        Some("new")
    );
    bundle
        .replace("ol.yaml", other.path())
        .expect_err("a directory is no file");
}
