//! Leases hold packages, those unused for longest are removed first, and uses are recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::{Yard, pin, tar};
use crate::store::{Store, StoreError, StoreLimits};

fn used_ago(yard: &Yard, package: &str, seconds: u64) {
    let then = SystemTime::now() - Duration::from_secs(seconds);
    let directory = File::open(yard.path(package)).expect("a package");
    directory.set_modified(then).expect("a time set");
}

fn age(yard: &Yard, package: &str) -> Duration {
    let directory = fs::metadata(yard.path(package)).expect("a package");
    let age = SystemTime::now().duration_since(directory.modified().expect("a time"));
    age.unwrap_or_default()
}

fn package(yard: &Yard, name: &str, bytes: usize) {
    let contents = vec![0; bytes];
    let installed = yard.install(&pin(name), &tar(&[("f", 0o644, &contents)]));
    drop(installed.expect("stored"));
}

#[test]
fn a_leased_package_stays_and_its_holders_are_named() {
    let yard = Yard::new();
    package(&yard, "x==1", 10);
    assert!(yard.store.lease(&pin("absent==1"), "f").is_none());
    let first = yard.store.lease(&pin("x==1"), "function f").expect("there");
    let second = yard.store.lease(&pin("x==1"), "function g").expect("there");
    let third = yard.store.lease(&pin("x==1"), "function f").expect("there");
    let error = yard
        .store
        .remove(&pin("x==1"))
        .expect_err("held")
        .to_string();
    assert_eq!(
        error,
        "package x==1 is in use by function f, function g; remove these first"
    );
    drop((first, second));
    let error = yard
        .store
        .remove(&pin("x==1"))
        .expect_err("held")
        .to_string();
    assert!(error.contains("by function f;"), "{error}");
    assert_eq!(yard.store.collect(0).expect("collected"), []);
    drop(third);
    assert!(yard.store.remove(&pin("x==1")).expect("removed"));
    assert!(!yard.store.remove(&pin("x==1")).expect("nothing to do"));
    assert_eq!(yard.entries(), [""; 0]);
}

#[test]
fn the_oldest_unused_goes_first_until_there_is_room() {
    let yard = Yard::new();
    for (name, seconds) in [("a==1", 100), ("b==1", 400), ("c==1", 300), ("d==1", 200)] {
        package(&yard, name, 1000);
        used_ago(&yard, name, seconds);
    }
    fs::create_dir_all(yard.path("Not-Ours/files")).expect("made");
    assert_eq!(yard.store.collect(4000).expect("enough room"), []);
    // A use by another process, or before a restart.
    let fresh = Store::open(yard.folder.path(), StoreLimits::default()).expect("opened");
    drop(fresh.lease(&pin("b==1"), "f").expect("there"));
    assert!(age(&yard, "b==1") < Duration::from_secs(60));
    let held = fresh.lease(&pin("c==1"), "f").expect("there");
    used_ago(&yard, "c==1", 300);
    assert_eq!(
        fresh.collect(2999).expect("collected"),
        [pin("d==1"), pin("a==1")]
    );
    assert_eq!(yard.entries(), ["Not-Ours", "b==1", "c==1"]);
    drop(held);
}

#[test]
fn a_use_is_written_at_most_once_a_minute() {
    let yard = Yard::new();
    package(&yard, "x==1", 1);
    used_ago(&yard, "x==1", 1000);
    // It was leased when it was installed, less than a minute ago: nothing is written, neither now nor at the end.
    let lease = yard.store.lease(&pin("x==1"), "f").expect("there");
    lease.touch();
    drop(lease);
    assert!(age(&yard, "x==1") > Duration::from_secs(900));
    let fresh = Store::open(yard.folder.path(), StoreLimits::default()).expect("opened");
    drop(fresh.lease(&pin("x==1"), "f"));
    assert!(age(&yard, "x==1") < Duration::from_secs(60));
}

#[test]
fn a_first_use_is_one() {
    let yard = Yard::new();
    assert!(yard.store.first_use(&pin("x==1")));
    assert!(!yard.store.first_use(&pin("x==1")));
    assert!(yard.store.clone().first_use(&pin("x==2")));
}

#[derive(Debug, Clone)]
enum Step {
    Install(u8),
    Lease(u8),
    Drop(u8),
    Remove(u8),
    Collect(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0..4_u8;
    prop_oneof![
        which.clone().prop_map(Step::Install),
        which.clone().prop_map(Step::Lease),
        which.clone().prop_map(Step::Drop),
        which.prop_map(Step::Remove),
        (0..5_u64).prop_map(Step::Collect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Compares with a model: which packages are there, and how often each is leased.
    #[test]
    fn any_sequence_of_steps(steps in prop::collection::vec(step(), 0..25)) {
        let yard = Yard::new();
        let name = |which: u8| pin(&format!("p{which}==1"));
        let mut there = BTreeSet::new();
        let mut leases = BTreeMap::<u8, Vec<_>>::new();
        for step in steps {
            let held = |which: &u8| leases.get(which).is_some_and(|held| !held.is_empty());
            match step {
                Step::Install(which) => {
                    drop(yard.install(&name(which), &tar(&[("f", 0o644, b"1")])).expect("stored"));
                    there.insert(which);
                }
                Step::Lease(which) => {
                    let lease = yard.store.lease(&name(which), "f");
                    prop_assert_eq!(lease.is_some(), there.contains(&which));
                    leases.entry(which).or_default().extend(lease);
                }
                Step::Drop(which) => drop(leases.entry(which).or_default().pop()),
                Step::Remove(which) => match yard.store.remove(&name(which)) {
                    Err(StoreError::Held { .. }) => prop_assert!(held(&which)),
                    removed => {
                        prop_assert!(!held(&which));
                        prop_assert_eq!(removed.expect("no other error"), there.remove(&which));
                    }
                },
                Step::Collect(quota) => {
                    let removed = yard.store.collect(quota).expect("collected");
                    let free = there.iter().filter(|which| !held(which)).count();
                    let over = there.len().saturating_sub(usize::try_from(quota).expect("small"));
                    prop_assert_eq!(removed.len(), over.min(free));
                    there.retain(|which| !removed.contains(&name(*which)));
                    prop_assert!(leases.iter().all(|(which, held)| held.is_empty() || there.contains(which)));
                }
            }
            let expected: Vec<_> = there.iter().map(|which| name(*which).to_string()).collect();
            prop_assert_eq!(yard.entries(), expected);
        }
    }
}
