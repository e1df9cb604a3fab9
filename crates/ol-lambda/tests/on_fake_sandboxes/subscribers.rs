//! A source of events that isn't HTTP: it learns of functions by subscription and calls them by itself.

use crate::registries::InMemory;
use crate::world::{World, call, named, plain};
use ol_lambda::{Change, Changes, Lambdas, Uploaded};
use ol_model::FunctionName;
use ol_testkit::bundle::bundle as packed;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// An `ol.yaml` with `n` cron triggers.
fn yaml(n: usize) -> String {
    let trigger = "    - {schedule: \"*/5 * * * *\"}\n";
    match n {
        0 => String::new(),
        n => format!("triggers:\n  cron:\n{}", trigger.repeat(n)),
    }
}

/// The next change in words: a function with its number of cron triggers, or that it is gone.
async fn next(changes: &mut Changes) -> String {
    let change = timeout(Duration::from_secs(5), changes.next());
    match change
        .await
        .expect("there is one")
        .expect("the worker runs")
    {
        Change::Serves { name, config } => format!("{name} {}", config.triggers.cron.len()),
        Change::Gone { name } => format!("{name} gone"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_hears_of_functions_that_come_change_and_go() {
    let world = World::new(plain());
    world.install("early", &yaml(1)).await;
    let mut changes = world.lambdas.subscribe();
    assert_eq!(next(&mut changes).await, "early 1");
    world.install("early", &yaml(2)).await;
    assert_eq!(next(&mut changes).await, "early 2");
    world.install("late", "").await;
    assert_eq!(next(&mut changes).await, "late 0");
    assert!(
        world
            .lambdas
            .delete(&named("early"))
            .await
            .expect("a registry")
    );
    assert_eq!(next(&mut changes).await, "early gone");
    assert!(world.lambdas.end(Duration::from_secs(60)).await);
    assert_eq!(next(&mut changes).await, "late gone");
    assert!(changes.next().await.is_none(), "the worker has ended");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_announced_is_what_serves_also_when_two_upload_at_once() {
    for _ in 0..20 {
        let world = World::new(plain());
        let mut changes = world.lambdas.subscribe();
        let (one, two) = (yaml(1), yaml(2));
        tokio::join!(world.install("f", &one), world.install("f", &two));
        let state = world.lambdas.state(&named("f"), None).await;
        let serving = state.expect("a registry").serving.expect("a version");
        let mut told = String::new();
        while let Ok(change) = timeout(Duration::from_secs(1), next(&mut changes)).await {
            told = change;
        }
        assert_eq!(told, format!("f {}", serving.config.triggers.cron.len()));
        let deleted = world.lambdas.delete(&named("f")).await;
        assert!(deleted.expect("a registry"));
        assert_eq!(next(&mut changes).await, "f gone");
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_announces_tells_subscribers_before_any_call() {
    let registry = Arc::new(InMemory::default());
    let world = World::with_registry(plain(), |_| {}, |_| registry.clone());
    let mut changes = world.lambdas.subscribe();
    registry.change(
        &named("f"),
        Some(packed(&[("f.py", "x"), ("ol.yaml", &yaml(1))])),
    );
    assert_eq!(next(&mut changes).await, "f 1");
    registry.change(
        &named("f"),
        Some(packed(&[("f.py", "x"), ("ol.yaml", &yaml(2))])),
    );
    assert_eq!(next(&mut changes).await, "f 2");
    world.end().await;
}

/// Calls each function with a cron trigger every five seconds, for as long as it serves.
fn every_five_seconds(lambdas: &Arc<Lambdas>, ticks: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let (lambdas, ticks) = (Arc::downgrade(lambdas), Arc::clone(ticks));
    tokio::spawn(async move {
        let Some(mut changes) = lambdas.upgrade().map(|l| l.subscribe()) else {
            return;
        };
        let mut running: BTreeMap<FunctionName, JoinHandle<()>> = BTreeMap::new();
        while let Some(change) = changes.next().await {
            let (name, ticking) = match change {
                Change::Serves { name, config } => (name, !config.triggers.cron.is_empty()),
                Change::Gone { name } => (name, false),
            };
            if let Some(before) = running.remove(&name) {
                before.abort();
            }
            if !ticking {
                continue;
            }
            let (lambdas, ticks, called) = (lambdas.clone(), Arc::clone(&ticks), name.clone());
            let task = tokio::spawn(async move {
                loop {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    let Some(lambdas) = lambdas.upgrade() else {
                        return;
                    };
                    let (ticks, called) = (Arc::clone(&ticks), called.clone());
                    // A task of its own: the call itself may bring another version into service, which ends this loop.
                    tokio::spawn(async move {
                        let said = call(&lambdas, called.as_str(), "say tick").await;
                        let said = format!("{called} {}", said.unwrap_or_default());
                        ticks.lock().expect("no panic").push(said);
                    });
                }
            });
            running.insert(name, task);
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_trigger_starts_and_stops_with_its_function() {
    let world = World::new(plain());
    let ticks = Arc::default();
    let source = every_five_seconds(&world.lambdas, &ticks);
    let heard = || std::mem::take(&mut *ticks.lock().expect("no panic"));
    let pass = |seconds: u64| tokio::time::sleep(Duration::from_millis(seconds * 1000 + 500));

    assert_eq!(world.install("clock", &yaml(1)).await, Uploaded::Serves);
    pass(10).await;
    assert_eq!(heard(), ["clock tick", "clock tick"]);
    world.install("clock", "").await;
    pass(20).await;
    assert!(heard().is_empty(), "its new version has no trigger");
    world.install("clock", &yaml(1)).await;
    pass(5).await;
    assert_eq!(heard(), ["clock tick"]);
    assert!(
        world
            .lambdas
            .delete(&named("clock"))
            .await
            .expect("a registry")
    );
    pass(20).await;
    assert!(heard().is_empty(), "it is deleted");
    world.end().await;
    source.abort();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_finds_a_new_version_is_made_all_the_same() {
    let registry = Arc::new(InMemory::default());
    let world = World::with_registry(plain(), |_| {}, |_| registry.clone());
    let ticks = Arc::default();
    let source = every_five_seconds(&world.lambdas, &ticks);
    world.install("clock", &yaml(1)).await;
    tokio::time::sleep(Duration::from_millis(4900)).await;
    registry.change_silently(
        &named("clock"),
        packed(&[("f.py", "x"), ("ol.yaml", &yaml(1))]),
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    let heard = std::mem::take(&mut *ticks.lock().expect("no panic"));
    assert_eq!(heard, ["clock tick"]);
    world.end().await;
    source.abort();
}

#[tokio::test(start_paused = true)]
async fn calls_of_any_source_are_waited_for_at_the_end() {
    let world = World::new(plain());
    world.install("f", "").await;
    let lambdas = Arc::clone(&world.lambdas);
    let called = tokio::spawn(async move { call(&lambdas, "f", "sleep 2000 late").await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.lambdas.stop_accepting();
    world.lambdas.finished().await;
    let said = tokio::time::timeout(Duration::from_millis(1), called).await;
    assert_eq!(
        said.expect("it is over")
            .expect("no panic")
            .expect("an answer"),
        "late"
    );
    world.end().await;
}
