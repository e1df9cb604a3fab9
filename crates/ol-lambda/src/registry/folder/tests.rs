//! The folder registry: changes by other programs are seen, and a put is never half seen.

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ol_model::FunctionName;
use tempfile::TempDir;

use crate::registry::{Bundle, FolderRegistry, Registry, RegistryError, Stamp};

fn name(text: &str) -> FunctionName {
    FunctionName::parse(text).expect("a valid name")
}

fn fresh() -> (TempDir, FolderRegistry) {
    let root = tempfile::tempdir().expect("a temporary directory");
    let registry = FolderRegistry::open(&root.path().join("deep/registry")).expect("a new folder");
    (root, registry)
}

fn folder(root: &TempDir) -> std::path::PathBuf {
    root.path().join("deep/registry")
}

fn upload(root: &TempDir, contents: &[u8]) -> std::path::PathBuf {
    let path = root.path().join("upload");
    fs::write(&path, contents).expect("a file");
    path
}

async fn contents(registry: &FolderRegistry, function: &str) -> Option<(Stamp, Vec<u8>)> {
    let opened = registry.read(&name(function)).await.expect("opens")?;
    let Bundle { stamp, mut content } = opened;
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).expect("reads");
    assert_eq!(content.stamp().expect("examines"), stamp);
    Some((stamp, bytes))
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let mut names: Vec<_> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn put_look_read_delete() {
    let (root, registry) = fresh();
    let f = name("f");
    assert_eq!(registry.look(&f).await.expect("looks"), None);
    assert!(registry.read(&f).await.expect("opens").is_none());
    assert!(!registry.delete(&f).await.expect("deletes"));

    // Larger than the buffer that it is copied with.
    let large = vec![7; (2 << 20) + 1];
    let first = registry
        .put(&f, &upload(&root, &large))
        .await
        .expect("puts");
    assert_eq!(registry.look(&f).await.expect("looks"), Some(first.clone()));
    assert_eq!(
        contents(&registry, "f").await,
        Some((first.clone(), large.clone()))
    );

    let second = registry
        .put(&f, &upload(&root, &large))
        .await
        .expect("puts");
    assert_ne!(first, second, "the same bytes again are a new version");
    assert_eq!(
        registry.list().await.expect("lists"),
        std::slice::from_ref(&f)
    );
    assert_eq!(names_in(&folder(&root)), ["f.tar.gz"]);

    let empty = registry.put(&f, &upload(&root, b"")).await.expect("puts");
    assert_eq!(contents(&registry, "f").await, Some((empty, vec![])));
    assert!(registry.delete(&f).await.expect("deletes"));
    assert_eq!(registry.look(&f).await.expect("looks"), None);
    assert!(registry.list().await.expect("lists").is_empty());
}

#[tokio::test]
async fn what_a_script_does_shows_in_the_stamp() {
    let (root, registry) = fresh();
    let path = folder(&root).join("f.tar.gz");
    fs::write(&path, "one").expect("writes");
    let time = fs::metadata(&path)
        .and_then(|m| m.modified())
        .expect("a time");
    let look = async || {
        registry
            .look(&name("f"))
            .await
            .expect("looks")
            .expect("is there")
    };
    let first = look().await;
    assert_eq!(first, look().await);

    // As after `cp -p` of a reproducible build: same inode, size and modification time. Sleep longer than the file
    // system's time step, which only waiting can pass.
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::write(&path, "two").expect("writes");
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("opens");
    file.set_modified(time).expect("sets the time");
    let second = look().await;
    assert_ne!(first, second);

    fs::write(folder(&root).join("tmp"), "two").expect("writes");
    fs::rename(folder(&root).join("tmp"), &path).expect("renames");
    assert_ne!(second, look().await);
}

#[tokio::test]
async fn only_bundles_are_listed() {
    let (root, registry) = fresh();
    let folder = folder(&root);
    for file in [
        "b.tar.gz",
        "a.tar.gz",
        ".hidden.tar.gz",
        "x.tar.gz.tar.gz",
        "README",
        "f.py",
        ".tar.gz",
        "..tar.gz",
        "...tar.gz",
        "sp ace.tar.gz",
        "b.tar.gz#1",
        "b.tar.gz#x",
        "c.tgz",
        "d.tar.gz.part",
    ] {
        fs::write(folder.join(file), "x").expect("writes");
    }
    use std::os::unix::ffi::OsStrExt;
    fs::write(
        folder.join(std::ffi::OsStr::from_bytes(b"\xff.tar.gz")),
        "x",
    )
    .expect("writes");
    fs::create_dir(folder.join("dir.tar.gz")).expect("creates");
    symlink("a.tar.gz", folder.join("link.tar.gz")).expect("links");
    symlink("nowhere", folder.join("broken.tar.gz")).expect("links");
    let listed = registry.list().await.expect("lists");
    let listed: Vec<_> = listed.iter().map(FunctionName::as_str).collect();
    assert_eq!(listed, [".hidden", "a", "b", "x.tar.gz"]);
}

#[tokio::test]
async fn what_is_no_file_is_refused_everywhere_and_never_waited_for() {
    let (root, registry) = fresh();
    let folder = folder(&root);
    fs::create_dir(folder.join("dir.tar.gz")).expect("creates");
    symlink("/etc/passwd", folder.join("link.tar.gz")).expect("links");
    symlink("nowhere", folder.join("broken.tar.gz")).expect("links");
    let pipe = folder.join("pipe.tar.gz");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .expect("makes a pipe");
    let _socket =
        std::os::unix::net::UnixListener::bind(folder.join("socket.tar.gz")).expect("binds");
    let upload = upload(&root, b"bundle");
    for function in ["dir", "link", "broken", "pipe", "socket"] {
        let f = name(function);
        let results = [
            registry.look(&f).await.err(),
            registry.read(&f).await.err(),
            registry.put(&f, &upload).await.err(),
        ];
        for error in results {
            let error = error.expect("not a bundle");
            assert!(
                matches!(&error, RegistryError::NotAFile { name } if *name == f),
                "{error:?}"
            );
            assert!(!error.to_string().contains(&*root.path().to_string_lossy()));
        }
    }
    // Nothing was replaced, nothing was left behind.
    assert_eq!(names_in(&folder).len(), 5);
}

#[tokio::test]
async fn a_cut_upload_is_unseen_and_swept() {
    let (root, registry) = fresh();
    let folder = folder(&root);
    let f = name("f");
    registry
        .put(&f, &upload(&root, b"whole"))
        .await
        .expect("puts");
    for file in [
        "f.tar.gz#1",
        "f.tar.gz#27",
        "g.tar.gz#1",
        "notes#1",
        "f.tar.gz#",
    ] {
        fs::write(folder.join(file), "half").expect("writes");
    }
    assert_eq!(
        registry.list().await.expect("lists"),
        std::slice::from_ref(&f)
    );
    assert_eq!(registry.look(&name("g")).await.expect("looks"), None);
    // Uploads that were left behind don't hinder new ones either.
    registry
        .put(&f, &upload(&root, b"newer"))
        .await
        .expect("puts");

    let registry = FolderRegistry::open(&folder).expect("opens again");
    assert_eq!(names_in(&folder), ["f.tar.gz", "f.tar.gz#", "notes#1"]);
    let (_, bytes) = contents(&registry, "f").await.expect("is there");
    assert_eq!(bytes, b"newer");
}

#[tokio::test]
async fn a_put_that_fails_changes_nothing() {
    let (root, registry) = fresh();
    let f = name("f");
    let stamp = registry
        .put(&f, &upload(&root, b"old"))
        .await
        .expect("puts");
    for bad in [root.path().join("missing"), root.path().to_owned()] {
        let error = registry.put(&f, &bad).await.expect_err("nothing to read");
        assert!(matches!(error, RegistryError::Put { .. }));
    }
    assert_eq!(
        contents(&registry, "f").await,
        Some((stamp, b"old".to_vec()))
    );
    assert_eq!(names_in(&folder(&root)), ["f.tar.gz"]);
}

#[tokio::test]
async fn every_name_is_a_file_of_that_name() {
    let (root, registry) = fresh();
    let longest = "n".repeat(240);
    for function in ["...", "..a", "-", "_", "a.tar.gz", "A-b_c.9", &longest] {
        let f = name(function);
        let upload = upload(&root, function.as_bytes());
        registry.put(&f, &upload).await.expect("puts");
        assert_eq!(names_in(&folder(&root)), [format!("{function}.tar.gz")]);
        assert_eq!(
            registry.list().await.expect("lists"),
            std::slice::from_ref(&f)
        );
        assert!(registry.delete(&f).await.expect("deletes"));
    }
}

#[test]
fn a_folder_that_can_not_be_one() {
    let root = tempfile::tempdir().expect("a temporary directory");
    fs::write(root.path().join("file"), "x").expect("writes");
    let error = FolderRegistry::open(&root.path().join("file/registry")).expect_err("under a file");
    assert!(matches!(&error, RegistryError::Open { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_sees_one_whole_version_while_others_put() {
    let (root, registry) = fresh();
    let f = name("f");
    let versions: Vec<_> = (0..3_u8)
        .map(|version| {
            let path = root.path().join(format!("v{version}"));
            fs::write(&path, vec![version; 300_000 + usize::from(version)]).expect("writes");
            path
        })
        .collect();
    registry.put(&f, &versions[0]).await.expect("puts");
    let done = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn({
        let (registry, done) = (registry.clone(), Arc::clone(&done));
        async move {
            let mut seen = std::collections::HashMap::new();
            while !done.load(Ordering::Relaxed) {
                let opened = registry.read(&name("f")).await.expect("opens");
                let mut file = opened.expect("is there").content;
                let stamp = file.stamp().expect("examines");
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).expect("reads");
                let version = bytes[0];
                assert_eq!(bytes, vec![version; 300_000 + usize::from(version)]);
                // One stamp never stands for two versions.
                if file.stamp().expect("examines") == stamp {
                    assert_eq!(*seen.entry(stamp).or_insert(version), version);
                }
            }
            seen.len()
        }
    });
    let writers: Vec<_> = versions
        .into_iter()
        .map(|path| {
            let registry = registry.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    registry.put(&name("f"), &path).await.expect("puts");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no panic");
    }
    done.store(true, Ordering::Relaxed);
    assert!(reader.await.expect("no panic") > 1);
    assert_eq!(names_in(&folder(&root)), ["f.tar.gz"]);
}

#[tokio::test]
async fn what_served_before_is_kept_until_it_is_forgotten() {
    let (root, registry) = fresh();
    let f = name("f");
    let put = async |contents: &[u8]| {
        let path = upload(&root, contents);
        registry.put(&f, &path).await.expect("stored");
    };
    let before = async || {
        let mut file = registry.read_before(&f).await.expect("opens")?.content;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("reads");
        Some(bytes)
    };
    put(b"one").await;
    assert_eq!(before().await, None);
    registry.keep_before(&f).await.expect("kept");
    put(b"two").await;
    assert_eq!(before().await.as_deref(), Some(&b"one"[..]));
    assert_eq!(contents(&registry, "f").await.expect("there").1, b"two");
    assert_eq!(
        registry.list().await.expect("lists"),
        std::slice::from_ref(&f)
    );
    let again = FolderRegistry::open(&folder(&root)).expect("opened again");
    assert!(again.read_before(&f).await.expect("opens").is_some());
    registry.forget_before(&f).await.expect("forgotten");
    registry.forget_before(&f).await.expect("nothing to forget");
    assert_eq!(before().await, None);
    registry.keep_before(&f).await.expect("kept");
    assert!(registry.delete(&f).await.expect("deleted"));
    assert_eq!(before().await, None);
}
