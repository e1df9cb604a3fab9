//! Bundles that try to write outside of their folder, or to be more than they seem.
//!
//! They are refused with the member's name, and nothing of them is found anywhere afterwards.

use ol_testkit::bundle::{gzip, with_member};
use ol_testkit::{Worker, bundle, with_worker};
use serde_json::json;
use std::fs;
use tar::EntryType;

const VICTIM: &str = "def f(event):\n    return 'unharmed'\n";

/// Uploads `bytes` both as a new version of a function that serves and as a new function; returns the refusal.
fn refused(worker: &Worker<'_>, bytes: &[u8]) -> String {
    let text = worker
        .request("POST", "/registry/victim", bytes)
        .error(400, "bad-bundle");
    assert_eq!(
        worker
            .request("POST", "/registry/new", bytes)
            .error(400, "bad-bundle"),
        text
    );
    assert_eq!(worker.call("victim", &json!({})).ok(), json!("unharmed"));
    assert_eq!(
        worker.request("GET", "/registry/", b"").ok(),
        json!(["victim"])
    );
    let host = worker.place.dir().display().to_string();
    assert!(!text.contains(&host), "a path of the host: {text}");
    text
}

/// Checks that nothing is left but the code of the version that serves, and that the files around it are as before.
fn assert_clean(worker: &Worker<'_>) {
    let count = |name: &str| {
        fs::read_dir(worker.place.dir().join("worker").join(name))
            .expect("there")
            .count()
    };
    assert_eq!((count("code"), count("uploads")), (1, 0));
    worker.place.assert_canaries();
}

#[test]
fn members_that_lead_outside() {
    with_worker(&[], |worker| {
        worker.install("victim", &[("f.py", VICTIM)]);
        let canary = worker.place.own("canary").display().to_string();
        fs::write(&canary, "sings").expect("written");
        let above = "../../../../own/canary";
        for (name, kind, target) in [
            ("../escaped", EntryType::Regular, ""),
            (above, EntryType::Regular, ""),
            ("a/../../escaped", EntryType::Regular, ""),
            ("a/..", EntryType::Directory, ""),
            (&*canary, EntryType::Regular, ""),
            ("/etc/escaped", EntryType::Regular, ""),
            ("link", EntryType::Symlink, "/etc/passwd"),
            ("link", EntryType::Symlink, above),
            ("link", EntryType::Symlink, "f.py"),
            ("link", EntryType::Link, "/etc/passwd"),
            ("link", EntryType::Link, "f.py"),
            ("device", EntryType::Char, ""),
            ("device", EntryType::Block, ""),
            ("pipe", EntryType::Fifo, ""),
        ] {
            let content: &[u8] = if kind == EntryType::Regular {
                b"overwritten"
            } else {
                b""
            };
            let text = refused(worker, &with_member(name, kind, target, content));
            assert!(text.contains(name), "{name} is not named: {text}");
        }
        assert_eq!(fs::read_to_string(&canary).expect("there"), "sings");
        assert_clean(worker);
    });
}

/// A link and then a member beneath it: refused at the link, before anything could go through it.
#[test]
fn a_link_with_a_member_beneath_it() {
    with_worker(&[], |worker| {
        worker.install("victim", &[("f.py", VICTIM)]);
        let target = worker.place.own("target");
        fs::create_dir(&target).expect("made");
        let mut archive = tar::Builder::new(Vec::new());
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(EntryType::Symlink);
        link.set_size(0);
        archive
            .append_link(&mut link, "door", &target)
            .expect("written to memory");
        let mut file = tar::Header::new_gnu();
        file.set_size(3);
        file.set_mode(0o644);
        archive
            .append_data(&mut file, "door/in", &b"in!"[..])
            .expect("written to memory");
        let text = refused(
            worker,
            &gzip(&archive.into_inner().expect("written to memory")),
        );
        assert!(
            text.contains("door") && text.contains("symbolic link"),
            "{text}"
        );
        assert_eq!(fs::read_dir(&target).expect("there").count(), 0);
        assert_clean(worker);
    });
}

#[test]
fn bombs() {
    with_worker(&[], |worker| {
        worker.install("victim", &[("f.py", VICTIM)]);
        // Unpacked, it is about a thousand times as large. (The limit on the number of entries is tested in the registry's own tests: on
        // some disks it takes minutes to make and remove so many.)
        let zeros = with_member("zeros", EntryType::Regular, "", &vec![0; 300 << 20]);
        assert!(zeros.len() < 1 << 20);
        let text = refused(worker, &zeros);
        assert!(
            text.contains("zeros") && text.contains("times its size"),
            "{text}"
        );
        drop(zeros);
        // A directory with contents, which only some tar readers skip: two readers would see different archives in the same bytes.
        let text = refused(
            worker,
            &with_member("d/", EntryType::Directory, "", b"with contents"),
        );
        assert!(text.contains("d/"), "{text}");
        assert_clean(worker);
    });
}

#[test]
fn what_is_no_bundle() {
    with_worker(&[], |worker| {
        worker.install("victim", &[("f.py", VICTIM)]);
        let good = bundle(&[("f.py", VICTIM)]);
        for bytes in [
            b"".to_vec(),
            b"no gzip".to_vec(),
            gzip(b""),
            gzip(&[b'x'; 2000]),
            [&good[..], b"and more"].concat(),
        ] {
            let _ = refused(worker, &bytes);
        }
        let damaged: Vec<u8> = good
            .iter()
            .enumerate()
            .map(|(at, byte)| if at == 40 { byte ^ 0x55 } else { *byte })
            .collect();
        let _ = refused(worker, &damaged);
        for (yaml, named) in [
            ("limits: {mem_mb: 9999999}\n", "mem_mb"),
            ("limits: [\n", "ol.yaml"),
            (
                "triggers: {http: [{method: 5}]}\nlimits: {procs: many}\n",
                "ol.yaml",
            ),
        ] {
            let text = refused(worker, &bundle(&[("f.py", VICTIM), ("ol.yaml", yaml)]));
            assert!(text.contains(named), "{text}");
        }
        assert_clean(worker);
    });
}
