//! Resolving and installing with a real index and a real store, but installers that are a few lines of this test: without sandboxes, and
//! thus without root.

mod workshop;

use ol_install::{Cause, Packages, PackagesSettings, Trouble, keep, prepare};
use ol_model::{FunctionName, HostFacts, WorkerConfig};
use ol_packages::index::{Host, Index, Wanted};
use ol_packages::packed::Packed;
use ol_packages::requirements::Requirements;
use ol_packages::store::{Store, StoreLimits};
use ol_packages::wheels::Wheels;
use ol_testkit::{Dist, PackageIndex, wheel};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tempfile::TempDir;
use workshop::{Answer, Book, Fake, Ordered, lock_of};

/// Packages that come from an index of this test.
struct World {
    packages: Arc<Packages>,
    book: Arc<Book>,
    index: PackageIndex,
    _place: TempDir,
}

impl World {
    fn new() -> Self {
        let (place, index) = (TempDir::new().expect("made"), PackageIndex::start());
        let at = |name: &str| place.path().join(name);
        let host = Host::new(&|_| None, &|_| Err(ErrorKind::NotFound.into()));
        let url = index.url();
        let wanted = Wanted {
            mirror: &url,
            package_hosts: &[],
        };
        let facts = HostFacts {
            memory_mb: 4096,
            cores: 2,
        };
        let config = WorkerConfig::defaults(place.path(), &facts);
        let settings = PackagesSettings {
            store: Store::open(&at("store"), StoreLimits::default()).expect("a store"),
            wheels: Wheels::open(&at("store/.wheels")).expect("a folder of wheels"),
            packed: Packed::open(&at("packed"), 0).expect("a folder of packed copies"),
            state: at("state"),
            index: Ok(Index::of(&host, &wanted).expect("an index")),
            python: "3.11".to_owned(),
            limits: PackagesSettings::limits(&config),
            allow_sdist: false,
            quota: u64::MAX,
        };
        let book = Arc::new(Book::default());
        let workshop = Arc::new(Fake(Arc::clone(&book)));
        Self {
            packages: Arc::new(Packages::new(settings, workshop)),
            book,
            index,
            _place: place,
        }
    }

    fn plain(&self, name: &str) -> Dist {
        let dist = wheel(name, "1.0").file(&format!("{name}.py"), "").build();
        self.index.add(dist.clone());
        dist
    }

    fn answer(&self, with: impl Fn(&str, &Value) -> Option<Answer> + Send + Sync + 'static) {
        *self.book.answers.lock().expect("no panic") = Some(Box::new(with));
    }

    fn resolves_to(&self, dists: &[&Dist]) {
        let answer = lock_of(dists).expect("an answer");
        self.answer(move |path, _| (path == "/resolve").then(|| Ok(answer.clone())));
    }

    /// What `name` gets for `wanted`: the packages, or why there are none.
    async fn get(&self, name: &str, wanted: &str) -> Result<ol_install::Prepared, String> {
        let name = FunctionName::parse(name).expect("a name");
        let wanted = Requirements::parse(wanted.as_bytes()).expect("requirements");
        let got = prepare(&self.packages, &name, &wanted, &|_| {}).await;
        got.map_err(|failure| failure.to_string())
    }

    fn ordered(&self, path: &str) -> Vec<Ordered> {
        let orders = self.book.orders.lock().expect("no panic");
        orders.iter().filter(|o| o.path == path).cloned().collect()
    }
}

#[tokio::test]
async fn each_package_has_an_installer_of_its_own_without_a_way_out() {
    let world = World::new();
    let dists = ["one", "two", "three"].map(|name| world.plain(name));
    world.resolves_to(&dists.each_ref());
    let got = world.get("f", "one\ntwo\nthree\n").await.expect("packages");
    assert_eq!((got.held.len(), got.is_new), (3, true));
    let resolved = world.ordered("/resolve");
    assert_eq!(resolved.len(), 1);
    assert!(resolved[0].gate, "it asks the index");
    let installed = world.ordered("/install");
    let mut by: Vec<usize> = installed.iter().map(|order| order.by).collect();
    by.sort_unstable();
    by.dedup();
    assert_eq!(
        by.len(),
        3,
        "a package that took its installer over could hand out anything"
    );
    for order in &installed {
        assert!(!order.gate);
        let has = |key: &str| order.order.get(key).is_some_and(|value| !value.is_null());
        assert!(has("wheels") && has("hashes") && !has("index"), "{order:?}");
    }
    assert!(
        world.book.most.load(Ordering::Relaxed) <= 2,
        "turns are taken"
    );
    assert_eq!(world.book.now.load(Ordering::Relaxed), 0, "all have ended");
}

#[tokio::test]
async fn who_asks_the_same_at_once_is_answered_by_one_search_and_one_installation() {
    let world = World::new();
    let dist = world.plain("one");
    world.resolves_to(&[&dist]);
    let all =
        futures_util::future::join_all(["a", "b", "c", "d"].map(|name| world.get(name, "one\n")));
    for got in all.await {
        assert_eq!(got.expect("packages").held.len(), 1);
    }
    assert_eq!(world.ordered("/resolve").len(), 1);
    assert_eq!(world.ordered("/install").len(), 1);
    assert_eq!(world.ordered("/interpreter").len(), 1);
}

#[tokio::test]
async fn a_kept_lock_is_asked_for_once_and_only_by_the_same_question() {
    let world = World::new();
    let (one, two) = (world.plain("one"), world.plain("two"));
    world.resolves_to(&[&one]);
    let got = world.get("f", "one\n").await.expect("packages");
    let name = FunctionName::parse("f").expect("a name");
    let wanted = Requirements::parse(b"one\n").expect("requirements");
    keep(&world.packages, &name, &wanted, &got.lock)
        .await
        .expect("written");
    // A lock that is reused for others who ask the same would be new to this function; one from the disk isn't.
    let again = world.get("f", "one\n").await.expect("packages");
    assert!(!again.is_new);
    assert_eq!(world.ordered("/resolve").len(), 1);
    world.resolves_to(&[&one, &two]);
    let more = world.get("f", "one\ntwo\n").await.expect("packages");
    assert_eq!((more.held.len(), more.is_new), (2, true));
    assert_eq!(world.ordered("/resolve").len(), 2);
    world.packages.forget(&name);
    let forgotten = world.get("f", "one\n").await.expect("packages");
    assert!(
        forgotten.is_new,
        "the function is gone, and its lock with it"
    );
}

/// An index may name a broken file, which it replaces later.
#[tokio::test]
async fn an_answer_whose_packages_cannot_be_installed_is_not_reused() {
    let world = World::new();
    let dist = world.plain("one");
    let good = lock_of(&[&dist]).expect("an answer");
    let said = json!({"code": "bad-wheel", "words": "it is cut"}).to_string();
    let resolve = good.clone();
    world.answer(move |path, _| match path {
        "/resolve" => Some(Ok(resolve.clone())),
        "/install" => Some(Ok((500, said.clone().into_bytes()))),
        _ => None,
    });
    let failed = world.get("f", "one\n").await.expect_err("a broken wheel");
    for part in ["installing one==1.0", "the file is broken", "it is cut"] {
        assert!(failed.contains(part), "{failed}");
    }
    world.resolves_to(&[&dist]);
    world.get("f", "one\n").await.expect("packages");
    assert_eq!(world.ordered("/resolve").len(), 2);
}

#[tokio::test]
async fn a_sandbox_that_fails_is_told_with_the_key_that_helps() {
    for (cause, key) in [
        (Cause::Time, Some("installer_limits.runtime_sec")),
        (Cause::Memory, Some("installer_limits.mem_mb")),
        (Cause::Other, None),
    ] {
        let world = World::new();
        world.answer(move |path, _| {
            let text = "it is no more".to_owned();
            (path == "/resolve").then_some(Err(Trouble { text, cause }))
        });
        let failed = world.get("f", "one\n").await.expect_err("no sandbox");
        assert!(failed.contains("it is no more"), "{failed}");
        match key {
            Some(key) => assert!(failed.contains(key), "{failed}"),
            None => assert!(!failed.contains("installer_limits"), "{failed}"),
        }
    }
}

/// What an installer says may be said by a package that took it over.
#[tokio::test]
async fn what_makes_no_sense_is_an_error_and_nothing_is_kept() {
    let nonsense: [(&str, u16, &[u8]); 6] = [
        ("/resolve", 200, b"{"),
        (
            "/resolve",
            200,
            br#"{"lock": "one", "python": "3.11", "platform": "linux_x86_64"}"#,
        ),
        (
            "/resolve",
            200,
            br#"{"lock": "", "python": "3", "platform": "linux_x86_64"}"#,
        ),
        ("/resolve", 500, b"?"),
        ("/install", 200, b"no tar"),
        ("/interpreter", 200, b"no tar either"),
    ];
    for (at, status, body) in nonsense {
        let world = World::new();
        let dist = world.plain("one");
        let good = lock_of(&[&dist]).expect("an answer");
        world.answer(move |path, _| match path {
            _ if path == at => Some(Ok((status, body.to_vec()))),
            "/resolve" => Some(Ok(good.clone())),
            _ => None,
        });
        let failed = world.get("f", "one\n").await.err();
        assert!(failed.is_some(), "{at} {status} {body:?}");
        assert_eq!(world.packages.list().expect("a store").len(), 0);
        assert_eq!(world.book.now.load(Ordering::Relaxed), 0, "all have ended");
    }
}

/// An installation that nobody waits for any more ends, and can be had again.
#[tokio::test]
async fn who_leaves_at_any_moment_leaves_nothing_behind() {
    for polls in 0..60 {
        let world = World::new();
        let dist = world.plain("one");
        world.resolves_to(&[&dist]);
        {
            let mut getting = Box::pin(world.get("f", "one\n"));
            for _ in 0..polls {
                if futures_util::poll!(&mut getting).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        let got = world.get("f", "one\n").await.expect("packages");
        assert_eq!(got.held.len(), 1);
        assert_eq!(world.book.now.load(Ordering::Relaxed), 0, "after {polls}");
    }
}
