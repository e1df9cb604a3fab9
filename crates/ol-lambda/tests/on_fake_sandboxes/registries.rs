//! Registries of another kind: one in memory, which may announce changes.

use crate::world::{World, named, plain};
use ol_lambda::registry::{
    Announce, Bundle, Content, FolderRegistry, Pending, Registry, RegistryError, Stamp,
};
use ol_lambda::{InvokeError, Uploaded};
use ol_model::{FunctionName, WorkerConfig};
use ol_testkit::bundle::bundle as packed;
use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// Bundles by name, each with the number of its change; and the previous bundles that were kept.
#[derive(Default)]
struct Bundles {
    now: BTreeMap<FunctionName, (u64, Vec<u8>)>,
    before: BTreeMap<FunctionName, (u64, Vec<u8>)>,
    changes: u64,
}

#[derive(Default)]
pub(crate) struct InMemory {
    bundles: Mutex<Bundles>,
    announce: Mutex<Option<Announce>>,
    /// While true, readers wait.
    held: watch::Sender<bool>,
    /// While true, looks wait, after they have looked.
    looks_held: watch::Sender<bool>,
}

struct Bytes(Stamp, Cursor<Vec<u8>>);

impl Read for Bytes {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.1.read(into)
    }
}

impl Content for Bytes {
    fn stamp(&self) -> io::Result<Stamp> {
        Ok(self.0.clone())
    }
}

fn stamp(number: u64) -> Stamp {
    Stamp::new(number.to_le_bytes())
}

fn bundle(stored: Option<&(u64, Vec<u8>)>) -> Option<Bundle> {
    let (number, bytes) = stored?;
    let content = Box::new(Bytes(stamp(*number), Cursor::new(bytes.clone())));
    let stamp = stamp(*number);
    Some(Bundle { stamp, content })
}

impl InMemory {
    fn with<T>(&self, work: impl FnOnce(&mut Bundles) -> T) -> T {
        work(&mut self.bundles.lock().expect("no panic"))
    }

    /// A change by somebody else that isn't announced to the worker.
    pub(crate) fn change_silently(&self, name: &FunctionName, bytes: Vec<u8>) {
        self.with(|bundles| {
            bundles.changes += 1;
            bundles.now.insert(name.clone(), (bundles.changes, bytes));
        });
    }

    /// A change by somebody else that is announced.
    pub(crate) fn change(&self, name: &FunctionName, bytes: Option<Vec<u8>>) {
        self.with(|bundles| {
            bundles.changes += 1;
            match bytes {
                Some(bytes) => drop(bundles.now.insert(name.clone(), (bundles.changes, bytes))),
                None => drop(bundles.now.remove(name)),
            }
        });
        if let Some(announce) = &*self.announce.lock().expect("no panic") {
            announce(name);
        }
    }
}

impl Registry for InMemory {
    fn list(&self) -> Pending<'_, Result<Vec<FunctionName>, RegistryError>> {
        let names = self.with(|bundles| bundles.now.keys().cloned().collect());
        Box::pin(async { Ok(names) })
    }

    fn look<'a>(
        &'a self,
        name: &'a FunctionName,
    ) -> Pending<'a, Result<Option<Stamp>, RegistryError>> {
        let found = self.with(|bundles| bundles.now.get(name).map(|stored| stamp(stored.0)));
        let mut held = self.looks_held.subscribe();
        Box::pin(async move {
            held.wait_for(|held| !held).await.expect("it is ours");
            Ok(found)
        })
    }

    fn read<'a>(
        &'a self,
        name: &'a FunctionName,
    ) -> Pending<'a, Result<Option<Bundle>, RegistryError>> {
        let found = self.with(|bundles| bundle(bundles.now.get(name)));
        let mut held = self.held.subscribe();
        Box::pin(async move {
            held.wait_for(|held| !held).await.expect("it is ours");
            Ok(found)
        })
    }

    fn put<'a>(
        &'a self,
        name: &'a FunctionName,
        from: &'a Path,
    ) -> Pending<'a, Result<Stamp, RegistryError>> {
        let bytes = std::fs::read(from).expect("a file");
        self.change(name, Some(bytes));
        Box::pin(async move { Ok(self.look(name).await?.expect("just stored")) })
    }

    fn delete<'a>(&'a self, name: &'a FunctionName) -> Pending<'a, Result<bool, RegistryError>> {
        let was_there = self.with(|bundles| bundles.now.contains_key(name));
        self.change(name, None);
        Box::pin(async move { Ok(was_there) })
    }

    fn keep_before<'a>(&'a self, name: &'a FunctionName) -> Pending<'a, io::Result<()>> {
        self.with(|bundles| {
            let kept = bundles.now.get(name).cloned();
            bundles.before.extend(kept.map(|kept| (name.clone(), kept)));
        });
        Box::pin(async { Ok(()) })
    }

    fn forget_before<'a>(&'a self, name: &'a FunctionName) -> Pending<'a, io::Result<()>> {
        self.with(|bundles| drop(bundles.before.remove(name)));
        Box::pin(async { Ok(()) })
    }

    fn read_before<'a>(
        &'a self,
        name: &'a FunctionName,
    ) -> Pending<'a, Result<Option<Bundle>, RegistryError>> {
        let found = self.with(|bundles| bundle(bundles.before.get(name)));
        Box::pin(async { Ok(found) })
    }

    fn announce_to(&self, announce: Announce) {
        *self.announce.lock().expect("no panic") = Some(announce);
    }
}

/// An announced change is seen by the next call, however long a version may be used without a look at the registry.
#[tokio::test(start_paused = true)]
async fn what_is_announced_is_seen_at_once() {
    let registry = Arc::new(InMemory::default());
    let world = World::with_registry(plain(), an_hour, |_| registry.clone());
    assert_eq!(world.install("echo", "").await, Uploaded::Serves);
    assert_eq!(world.call("echo", "say it").await, Ok("it".into()));
    let (name, made) = (named("echo"), world.pool.counts().made);
    let bytes = registry.with(|bundles| bundles.now[&name].1.clone());
    registry.change(&name, Some(bytes));
    assert_eq!(world.call("echo", "say it").await, Ok("it".into()));
    assert!(
        world.pool.counts().made > made,
        "a new version has new instances"
    );
    registry.change(&name, None);
    let gone = world.call("echo", "say it").await;
    assert_eq!(gone, Err(InvokeError::NotFound(name)));
    world.end().await;
}

/// Sets how long a version may be used without a look at the registry: one hour.
fn an_hour(config: &mut WorkerConfig) {
    config.registry_cache_ms = 3_600_000;
}

/// An announcement counts even if it comes while an earlier bundle is being read, be it the first or one that can't be started.
#[tokio::test(start_paused = true)]
async fn what_is_announced_during_an_attempt_is_seen_after_it() {
    let registry = Arc::new(InMemory::default());
    let world = World::with_registry(plain(), an_hour, |_| registry.clone());
    let name = named("echo");
    let sound = |text: &str| packed(&[("f.py", text)]);
    for during in [sound("one"), packed(&[("f.py", "broken")])] {
        registry.held.send_replace(true);
        registry.change(&name, Some(during));
        let calling = world.call("echo", "say it");
        let changing = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            registry.change(&name, Some(sound("two")));
            registry.held.send_replace(false);
        };
        let (told, ()) = tokio::join!(calling, changing);
        assert_eq!(told, Ok("it".into()));
        let made = world.pool.counts().made;
        assert_eq!(world.call("echo", "say it").await, Ok("it".into()));
        assert!(world.pool.counts().made > made, "the newest is made now");
        assert_eq!(world.call("echo", "say it").await, Ok("it".into()));
        assert_eq!(world.pool.counts().made, made + 1, "and only once");
    }
    world.end().await;
}

/// A bundle that is replaced without a word while its predecessor is looked at or read is seen when `registry_cache_ms` is over since then.
#[tokio::test(start_paused = true)]
async fn what_changes_during_a_look_or_an_attempt_is_seen_after_the_time_that_is_set() {
    let registry = Arc::new(InMemory::default());
    let minute = |config: &mut WorkerConfig| config.registry_cache_ms = 60_000;
    let world = World::with_registry(plain(), minute, |_| registry.clone());
    let name = named("echo");
    let (sound, broken) = (packed(&[("f.py", "one")]), packed(&[("f.py", "broken")]));
    let cases = [
        (&registry.held, Some(&sound)),  // a new version is made
        (&registry.looks_held, None),    // the look finds nothing new
        (&registry.held, Some(&broken)), // the attempt fails
    ];
    for (hold, first) in cases {
        tokio::time::sleep(Duration::from_secs(60)).await;
        if let Some(bytes) = first {
            registry.change_silently(&name, bytes.clone());
        }
        hold.send_replace(true);
        let calling = world.call("echo", "say it");
        let changing = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            registry.change_silently(&name, sound.clone());
            tokio::time::sleep(Duration::from_millis(50)).await;
            hold.send_replace(false);
        };
        let (told, ()) = tokio::join!(calling, changing);
        assert_eq!(told, Ok("it".into()));
        let made = world.pool.counts().made;
        tokio::time::sleep(Duration::from_millis(60_000 - 50)).await;
        assert_eq!(world.call("echo", "say it").await, Ok("it".into()));
        assert!(world.pool.counts().made > made, "the newest is made");
    }
    world.end().await;
}

/// A registry that announces nothing is looked at again when `registry_cache_ms` is over.
#[tokio::test(start_paused = true)]
async fn what_is_not_announced_is_seen_after_the_time_that_is_set() {
    let mut folder = None;
    let long = |config: &mut WorkerConfig| config.registry_cache_ms = 60_000;
    let world = World::with_registry(plain(), long, |at| {
        folder = Some(at.to_owned());
        Arc::new(FolderRegistry::open(at).expect("a registry"))
    });
    world.install("echo", "").await;
    assert_eq!(world.call("echo", "say it").await, Ok("it".into()));
    let file = folder.expect("opened").join("echo.tar.gz");
    std::fs::remove_file(file).expect("it is there");
    assert_eq!(world.call("echo", "say it").await, Ok("it".into()));
    tokio::time::sleep(Duration::from_secs(60)).await;
    let gone = world.call("echo", "say it").await;
    assert_eq!(gone, Err(InvokeError::NotFound(named("echo"))));
    world.end().await;
}
