//! An index serves another archive for a package's version than before: a function whose lock has the one never gets the other.

use ol_testkit::index::uv;
use ol_testkit::{Dist, PackageIndex, Worker, eventually, in_place, wheel};
use serde_json::json;
use std::path::Path;

const FUNCTION: &str = "import left\ndef f(event):\n    return left.WHO\n";

fn left(who: &str) -> Dist {
    wheel("left", "1.0")
        .file("left.py", format!("WHO = '{who}'\n"))
        .build()
}

fn install(worker: &Worker<'_>, name: &str, hashes: &[&Dist]) {
    let mut wanted = "left==1.0".to_owned();
    for dist in hashes {
        wanted.push_str(&format!(" --hash=sha256:{}", dist.sha256()));
    }
    wanted.push('\n');
    worker.install(name, &[("f.py", FUNCTION), ("requirements.txt", &wanted)]);
}

#[test]
fn a_version_from_another_archive_is_refused_with_the_remedy() {
    let index = PackageIndex::start();
    let mirror = format!("pip_mirror={}", index.url());
    in_place(|place| {
        place.find_first(&uv(Path::new(env!("CARGO_TARGET_TMPDIR"))));
        let worker = place.up(&[&mirror, "registry_cache_ms=100"]);
        let who = |name: &str| worker.call(name, &json!(null));
        // A failed preparation is repeated after a moment, and so is a resolution that was cached for another function.
        let had = |name: &str| {
            eventually(&format!("{name} to be had"), 20.0, || {
                let reply = who(name);
                (reply.status == 200).then(|| assert_eq!(reply.json(), "after"))
            });
        };
        let (before, after) = (left("before"), left("after"));
        index.add(before.clone());
        install(&worker, "old", &[]);
        assert_eq!(who("old").ok(), "before");

        index.withdraw("left");
        index.add(after.clone());
        install(&worker, "new", &[&after]);
        for _ in 0..2 {
            let text = who("new").error(500, "no-packages");
            for words in [
                "left==1.0 is installed already",
                &format!("the installed has sha256:{}", before.sha256()),
                &format!("wanted is sha256:{}", after.sha256()),
                "`ol packages rm left==1.0`",
            ] {
                assert!(text.contains(words), "{words} is not in: {text}");
            }
        }
        assert_eq!(who("old").ok(), "before");
        // The remedy is to remove the package, which isn't possible while it is used.
        let remove = || place.ol(&["packages", "rm", "left==1.0"]);
        assert!(remove().refusal().contains("old"), "{:?}", remove());
        let _ = place.ol(&["rm", "old"]).ok();
        let _ = remove().ok();
        had("new");

        // It doesn't matter which of several archives of the version the package came from.
        index.add(Dist {
            filename: "left-1.0-1-py3-none-any.whl".to_owned(),
            ..left("built again")
        });
        install(&worker, "either", &[]);
        had("either");
        install(&worker, "one", &[&after]);
        assert_eq!(who("one").ok(), "after");
        worker.down();
    });
}
