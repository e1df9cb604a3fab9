//! Which wheel is chosen: compared with pip's own choice, and for pages that lie.

use std::process::Command;

use proptest::prelude::*;

use super::choose::{Choice, choose};
use super::tags::{Libc, Tags, WheelName};
use crate::index::{FileLink, Page};
use crate::pin::{PackageName, Pin, Sha256, Version};

fn debian() -> Tags {
    Tags {
        minor: 11,
        abi: "cp311".into(),
        machine: "x86_64".into(),
        libc: Some(Libc::Glibc(2, 36)),
    }
}

fn fits(tags: &Tags, ending: &str) -> bool {
    let name = format!("m-1.0-{ending}.whl");
    tags.fit(&WheelName::parse(&name).expect("a wheel's name"))
        .is_some()
}

#[test]
fn what_an_interpreter_can_use() {
    let debian = debian();
    let alpine = Tags {
        libc: Some(Libc::Musl(1, 2)),
        ..debian.clone()
    };
    let free = Tags {
        minor: 13,
        abi: "cp313t".into(),
        ..debian.clone()
    };
    for (ending, wanted) in [
        ("py3-none-any", [true; 3]),
        ("py2.py3-none-any", [true; 3]),
        ("py2-none-any", [false; 3]),
        ("py312-none-any", [false, false, true]),
        (
            "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64",
            [true, false, false],
        ),
        ("cp311-cp311-musllinux_1_2_x86_64", [false, true, false]),
        ("cp311-cp311-musllinux_1_3_x86_64", [false; 3]),
        ("cp311-cp311-manylinux_2_37_x86_64", [false; 3]),
        ("cp311-cp311-manylinux2014_aarch64", [false; 3]),
        ("cp311-cp311-win_amd64", [false; 3]),
        ("cp311-cp311-linux_x86_64", [true, true, false]),
        ("cp313-cp313t-manylinux_2_28_x86_64", [false, false, true]),
        ("cp313-cp313-manylinux_2_28_x86_64", [false; 3]),
        ("cp38-abi3-manylinux1_x86_64", [true, false, false]),
        ("cp312-abi3-manylinux1_x86_64", [false; 3]),
        ("cp311-none-any", [true, true, false]),
        ("cp310-none-any", [false; 3]),
        ("pp311-pypy311_pp73-manylinux_2_17_x86_64", [false; 3]),
    ] {
        assert_eq!(
            [&debian, &alpine, &free].map(|tags| fits(tags, ending)),
            wanted,
            "{ending}"
        );
    }
}

/// Every tag in pip's list for this machine's Python fits, in an equally good order, and no other tag does.
#[test]
fn pip_says_the_same() {
    let program = "import sys; from pip._vendor.packaging.tags import sys_tags; print('\\n'.join(map(str, sys_tags())))";
    let said = Command::new("/usr/bin/python3")
        .args(["-c", program])
        .output()
        .expect("Python is needed");
    assert!(
        said.status.success(),
        "pip is needed: {}",
        String::from_utf8_lossy(&said.stderr)
    );
    let program = "import json, sys; sys.path.insert(0, sys.argv[1]); import about; print(json.dumps({'minor': sys.version_info[1], 'abi': about.abi(), 'machine': about.machine(), 'libc': about.libc()}))";
    let about = Command::new("/usr/bin/python3")
        .args([
            "-B",
            "-c",
            program,
            concat!(env!("CARGO_MANIFEST_DIR"), "/src/inside"),
        ])
        .output()
        .expect("Python is needed");
    let tags: Tags = serde_json::from_slice(&about.stdout).expect("tags");
    let said = String::from_utf8_lossy(&said.stdout);
    let known: Vec<&str> = said.lines().collect();
    assert!(known.len() > 100, "{known:?}");
    for ending in &known {
        assert!(fits(&tags, ending), "{tags:?} {ending}");
    }
    let libc: Vec<&str> = known
        .iter()
        .filter(|tag| tag.contains("manylinux_2_"))
        .copied()
        .collect();
    let next = libc.iter().filter_map(|tag| {
        let minor: u32 = tag
            .split("manylinux_2_")
            .nth(1)?
            .split('_')
            .next()?
            .parse()
            .ok()?;
        Some(minor)
    });
    let beyond = next.max().expect("glibc") + 1;
    assert!(!fits(
        &tags,
        &format!("py3-none-manylinux_2_{beyond}_{}", tags.machine)
    ));
}

fn pin(hash: &Sha256) -> Pin {
    let name = PackageName::parse("some-thing").expect("a name");
    Pin::new(name, Version::parse("1.0").expect("a version"), vec![*hash])
}

fn file(name: &str, hash: Option<&Sha256>) -> FileLink {
    FileLink {
        filename: name.into(),
        url: "https://h/f".parse().expect("a URL"),
        sha256: hash.map(Sha256::to_string),
        yanked: false,
    }
}

#[test]
fn the_best_of_those_whose_hash_is_wanted() {
    let (good, bad) = (Sha256::of(b"good"), Sha256::of(b"bad"));
    let native = "some_thing-1.0-cp311-cp311-manylinux_2_17_x86_64.whl";
    let any = "Some.Thing-1.0.0-py3-none-any.whl";
    let chosen = |files: &[FileLink]| {
        let page = Page {
            files: files.to_vec(),
        };
        match choose(&page, &pin(&good), &debian()) {
            Choice::This(file) => file.filename.clone(),
            Choice::OtherHash(_, hash) => format!("other {}", hash == bad),
            Choice::Nothing(names) => format!("nothing {names:?}"),
        }
    };
    let (good, bad) = (Some(&good), Some(&bad));
    assert_eq!(chosen(&[file(any, good), file(native, good)]), native);
    // A page without hashes is acceptable, because the downloaded file is hashed anyway.
    assert_eq!(chosen(&[file(any, good), file(native, None)]), native);
    assert_eq!(chosen(&[file(native, bad), file(any, good)]), any);
    assert_eq!(chosen(&[file(native, bad)]), "other true");
    for other in [
        "some_thing-1.1-py3-none-any.whl",
        "other-1.0-py3-none-any.whl",
        "../some_thing-1.0-py3-none-any.whl",
        "some_thing-1.0-py3-none-any.whl.exe",
    ] {
        assert_eq!(chosen(&[file(other, good)]), "nothing []", "{other}");
    }
    assert_eq!(
        chosen(&[file(native, bad), file("some_thing-1.0.tar.gz", good)]),
        format!("nothing {:?}", ["some_thing-1.0.tar.gz"]),
        "the sources are what was locked"
    );
    let (windows, source) = (
        "some_thing-1.0-cp311-cp311-win32.whl",
        "some-thing-1.0.tar.gz",
    );
    assert_eq!(
        chosen(&[file(windows, good), file(source, good)]),
        format!("nothing {:?}", [windows, source])
    );
}

proptest! {
    /// However a page names its files, an accepted name is a plain file name.
    #[test]
    fn a_name_leads_nowhere(name in "\\PC{0,80}", tail in "(-py3-none-any\\.whl)?") {
        let name = format!("{name}{tail}");
        if WheelName::parse(&name).is_some() {
            prop_assert!(!name.contains('/') && !name.starts_with('.') && name.ends_with(".whl"));
        }
    }
}
