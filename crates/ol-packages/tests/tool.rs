//! Fetching uv from an index: completely or not at all, and the error for each failure.

mod common;

use std::fs;
use std::iter::empty;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Barrier;
use std::thread;

use common::mirror;
use ol_packages::tool::{Progress, Release, ToolError, Uv};
use ol_testkit::{Dist, Mischief, PackageIndex, wheel};
use tempfile::TempDir;

/// A wheel like uv's that contains `program` instead.
fn uv_wheel(version: &str, tag: &str, program: &[u8]) -> Dist {
    wheel("uv", version)
        .tag(&format!("py3-none-{tag}"))
        .file_with_mode(&format!("uv-{version}.data/scripts/uv"), program, 0o100_755)
        .build()
}

fn musl() -> String {
    format!("musllinux_1_1_{}", std::env::consts::ARCH)
}

fn fetch(index: &PackageIndex, dir: &Path) -> Result<Uv, ToolError> {
    Uv::find_in(empty(), dir, &mirror(&index.url()), &mut |_| {})
}

/// The names in `dir`, to see that nothing half-made is left.
fn left(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("there");
    entries
        .map(|entry| {
            entry
                .expect("read")
                .file_name()
                .into_string()
                .expect("plain")
        })
        .filter(|name| name != "uv.lock")
        .collect()
}

#[test]
fn the_real_one_is_fetched_once_by_many_and_found_again() {
    let packages = PackageIndex::passing_pypi(common::kept());
    let dir = TempDir::new().expect("made");
    let together = Barrier::new(2);
    thread::scope(|scope| {
        let fetchers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    together.wait();
                    fetch(&packages, dir.path()).expect("fetched")
                })
            })
            .collect();
        let found: Vec<Uv> = fetchers
            .into_iter()
            .map(|thread| thread.join().expect("it returns"))
            .collect();
        assert_eq!(found[0], found[1]);
        assert!(found[0].release.is_known());
        let file = packages
            .asked()
            .into_iter()
            .find(|path| path.ends_with(".whl"))
            .expect("asked for");
        assert_eq!(packages.requests(&file), 1);
    });
    let asked = packages.asked().len();
    let again = fetch(&packages, dir.path()).expect("found");
    assert_eq!(packages.asked().len(), asked, "nothing is asked for again");
    assert_eq!(left(dir.path()), [format!("uv-{}", again.release)]);

    // On PATH it comes first; a script of that name or another program named uv doesn't count.
    let path = TempDir::new().expect("made");
    let script = path.path().join("script");
    let other = path.path().join("other");
    let real = path.path().join("real");
    for folder in [&script, &other, &real] {
        fs::create_dir(folder).expect("made");
    }
    fs::write(
        script.join("uv"),
        format!("#!/bin/sh\nexec {} \"$@\"\n", again.path.display()),
    )
    .expect("written");
    fs::set_permissions(script.join("uv"), fs::Permissions::from_mode(0o755)).expect("set");
    fs::copy("/bin/true", other.join("uv")).expect("copied");
    std::os::unix::fs::symlink(&again.path, real.join("uv")).expect("linked");
    let nowhere = PackageIndex::start();
    let empty_dir = path.path().join("dir");
    let mut told = Vec::new();
    let folders = [script, other, real.clone()].into_iter();
    let found = Uv::find_in(
        folders,
        &empty_dir,
        &mirror(&nowhere.url()),
        &mut |progress| told.push(progress),
    )
    .expect("found");
    assert_eq!(found, again);
    assert!(matches!(&told[..], [Progress::Found(_)]), "{told:?}");
    assert!(nowhere.asked().is_empty());
}

#[test]
fn each_failure_by_its_name() {
    let dir = TempDir::new().expect("made");
    let packages = PackageIndex::start();
    let said = |error: &ToolError| {
        let text = error.to_string();
        assert!(
            left(dir.path()).is_empty(),
            "{text}: {:?}",
            left(dir.path())
        );
        text
    };
    let error = fetch(&packages, dir.path()).expect_err("no project");
    assert!(
        matches!(error, ToolError::NoProject { .. }),
        "{}",
        said(&error)
    );

    packages.add(uv_wheel("0.13.1", "win_amd64", b"x"));
    packages.add(uv_wheel("0.12.1", &musl(), b"x"));
    let error = fetch(&packages, dir.path()).expect_err("no wheel");
    assert!(
        matches!(error, ToolError::NoWheel { .. }) && said(&error).contains("(it has 0.12.1)"),
        "{}",
        said(&error)
    );

    packages.add(uv_wheel("0.13.2", &musl(), b"\x7fELF nonsense"));
    for (mischief, is_it) in [
        (
            Mischief::WrongHash,
            (|error| matches!(error, ToolError::WrongHash { .. })) as fn(&ToolError) -> bool,
        ),
        (Mischief::NoHash, |error| {
            matches!(error, ToolError::NoHash { .. })
        }),
        (Mischief::CutsFiles, |error| {
            matches!(error, ToolError::BrokeOff { .. })
        }),
        (Mischief::GarbageFile, |error| {
            matches!(error, ToolError::NotUv { .. })
        }),
        (Mischief::GarbagePage, |error| {
            matches!(error, ToolError::Index(_))
        }),
        (Mischief::Status(500), |error| {
            matches!(error, ToolError::Index(_))
        }),
        (Mischief::HangsUp, |error| {
            matches!(error, ToolError::Index(_))
        }),
    ] {
        let name = format!("{mischief:?}");
        packages.misbehave("uv", mischief);
        let error = fetch(&packages, dir.path()).expect_err(&name);
        assert!(is_it(&error), "{name}: {error:?}");
        said(&error);
    }
    packages.behave("uv");
    packages.html_only();
    packages.add(uv_wheel(
        "0.13.3",
        &musl(),
        b"#!/bin/sh\ntouch /tmp/uv-was-run\n",
    ));
    let error = fetch(&packages, dir.path()).expect_err("a script");
    assert!(
        matches!(&error, ToolError::NotAProgram { why, .. } if why.contains("native")),
        "{error}"
    );

    let url = packages.url();
    drop(packages);
    let error = Uv::find_in(empty(), &dir.path().join("new"), &mirror(&url), &mut |_| {})
        .expect_err("down");
    assert!(
        error.to_string().contains("can't be reached") && matches!(error, ToolError::Index(_)),
        "{error}"
    );
    assert_eq!(Release::parse("0.13"), None);
}
