//! Limits: on how many calls wait, how long they wait, and how much memory there is.

use crate::world::{EACH, QUEUE_WAIT, ROOM, World, call, named, plain};
use bytes::Bytes;
use futures_util::future::join_all;
use ol_lambda::{Body, Invocation, InvokeError, Phases, Source};
use ol_model::MiB;
use ol_sandbox::{Abilities, Pool};
use ol_sandbox_fake::FakePool;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How late a caller may be told that the call waited too long.
const LATE: Duration = Duration::from_millis(60);

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_after_the_time_that_is_set_and_not_before() {
    let world = World::new(plain());
    world.install("echo", "instances: {max: 1}").await;
    let busy = tokio::spawn({
        let lambdas = Arc::clone(&world.lambdas);
        async move { call(&lambdas, "echo", "sleep 4000 it").await }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    let begun = Instant::now();
    let error = world.call("echo", "say it").await.expect_err("it is busy");
    let waited = begun.elapsed();
    assert!(matches!(error, InvokeError::Waited { .. }), "{error}");
    assert!(
        waited >= QUEUE_WAIT && waited < QUEUE_WAIT + LATE,
        "{waited:?}"
    );
    assert_eq!(busy.await.expect("no panic"), Ok("it".into()));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn as_many_wait_as_may_and_the_next_is_refused_at_once() {
    let most = 3;
    let world = World::configured(plain(), |config| config.queue_per_function = most);
    world.install("echo", "instances: {max: 1}").await;
    let calls = join_all((0..most + 3).map(|_| world.call("echo", "sleep 100 it")));
    let told = calls.await;
    let refused =
        |answer: &&Result<_, InvokeError>| matches!(answer, Err(InvokeError::QueueFull { .. }));
    assert_eq!(told.iter().filter(refused).count(), 2, "{told:?}");
    let served = told.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(served, 1 + most as usize, "{told:?}");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_has_left_takes_no_place_from_who_comes() {
    let most = 3;
    let world = World::configured(plain(), |config| config.queue_per_function = most);
    world.install("echo", "instances: {max: 1}").await;
    let busy = world.call("echo", "sleep 100 it");
    let later = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        // The callers give up in the same instant in which the next call comes, before anything looks at the queue.
        let waiting = join_all((0..most).map(|_| world.call("echo", "say it")));
        let left = tokio::time::timeout(Duration::from_millis(3), waiting).await;
        assert!(left.is_err(), "{left:?}");
        world.call("echo", "say it").await
    };
    let told = tokio::join!(busy, later);
    assert_eq!(told, (Ok("it".into()), Ok("it".into())));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn calls_are_served_in_the_order_in_which_they_came() {
    let world = World::new(plain());
    world.install("echo", "instances: {max: 1}").await;
    let order = std::cell::RefCell::new(Vec::new());
    join_all((0..20).map(|at| {
        let (world, order) = (&world, &order);
        async move {
            let said = world.call("echo", &format!("sleep 10 {at}")).await;
            assert_eq!(said, Ok(at.to_string()));
            order.borrow_mut().push(at);
        }
    }))
    .await;
    assert_eq!(*order.borrow(), (0..20).collect::<Vec<_>>());
    world.end().await;
}

/// There are twice as many functions as the pool holds: idle instances make room for calls that wait.
#[tokio::test(start_paused = true)]
async fn what_is_idle_makes_room() {
    for abilities in [FakePool::able(), plain()] {
        let world = World::new(abilities);
        let names: Vec<String> = (0..2 * ROOM).map(|at| format!("f{at}")).collect();
        for name in &names {
            world.install(name, "").await;
        }
        for _ in 0..3 {
            let calls = names.iter().map(|name| world.call(name, "sleep 30 it"));
            for told in join_all(calls).await {
                assert_eq!(told, Ok("it".into()));
            }
        }
        world.end().await;
    }
}

/// The names of the functions that have a sandbox.
fn alive(world: &World) -> Vec<String> {
    let described = world.lambdas.describe().into_iter();
    described
        .filter(|(_, lines)| lines.iter().any(|line| line.contains("sandbox ")))
        .map(|(name, _)| name.to_string())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn who_was_idle_longest_makes_room_and_as_many_as_are_needed() {
    let world = World::configured(plain(), |config| {
        config.max_limits.mem_mb = EACH.0 * ROOM;
    });
    let moment = || tokio::time::sleep(Duration::from_millis(20));
    for name in ["a", "b", "c", "d"] {
        world.install(name, "").await;
        moment().await;
    }
    assert_eq!(alive(&world), ["a", "b", "c", "d"]);
    assert_eq!(world.call("a", "say it").await, Ok("it".into()));
    moment().await;
    let two = format!("limits: {{mem_mb: {}}}", EACH.0 * 2);
    world.install("two", &two).await;
    assert_eq!(world.call("two", "say it").await, Ok("it".into()));
    assert_eq!(alive(&world), ["a", "d", "two"]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_was_found_before_the_worker_stops_is_not_called_after() {
    let world = World::new(plain());
    world.install("f", "").await;
    let (name, id) = (named("f"), world.lambdas.number());
    let target = world.lambdas.target(&name, id).await.expect("it serves");
    world.lambdas.stop_accepting();
    let invocation = Invocation {
        id,
        source: Source::Other { path: "" },
        headers: &[],
    };
    let body = Body::Whole(Bytes::new());
    let told = target
        .invoke(&invocation, body, &mut Phases::default())
        .await;
    assert_eq!(told.map(|_| ()), Err(InvokeError::Draining));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn without_memory_a_call_is_told_so_in_time() {
    let world = World::configured(plain(), |config| {
        config.max_limits.mem_mb = EACH.0 * ROOM;
    });
    world.install("echo", "").await;
    world
        .install("large", &format!("limits: {{mem_mb: {}}}", EACH.0 * ROOM))
        .await;
    let busy = tokio::spawn({
        let lambdas = Arc::clone(&world.lambdas);
        async move { call(&lambdas, "echo", "sleep 4500 it").await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = Instant::now();
    let error = world.call("large", "say it").await.expect_err("no room");
    assert!(matches!(error, InvokeError::NoMemory(_)), "{error}");
    assert!(begun.elapsed() < QUEUE_WAIT + LATE, "{:?}", begun.elapsed());
    assert_eq!(busy.await.expect("no panic"), Ok("it".into()));
    assert_eq!(world.call("large", "say it").await, Ok("it".into()));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_stays_paused_gives_back_what_it_does_not_use() {
    let world = World::configured(FakePool::able(), |config| {
        config.features.downsize_paused_mem = true;
    });
    world.install("echo", "").await;
    assert_eq!(world.call("echo", "say it").await, Ok("it".into()));
    let before = world.pool.free_memory();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let after = world.pool.free_memory();
    assert!(after.0 > before.0 + EACH.0 / 2, "{before:?} {after:?}");
    // The instance has all its memory again while it is called.
    let calling = world.call("echo", "sleep 100 it");
    let looking = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        world.pool.free_memory()
    };
    let (said, meanwhile) = tokio::join!(calling, looking);
    assert_eq!((said, meanwhile), (Ok("it".into()), before));
    world.end().await;
}

/// An instance whose memory was lowered wants it back when all of it is with others.
#[tokio::test(start_paused = true)]
async fn what_is_idle_makes_room_for_one_that_has_given_memory_back() {
    let abilities = Abilities {
        fork: false,
        ..FakePool::able()
    };
    let world = World::configured(abilities, |config| {
        config.features.downsize_paused_mem = true;
    });
    world.install("a", "").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    for name in ["b", "c", "d"] {
        world.install(name, "").await;
    }
    let rest = world.pool.free_memory();
    assert!(rest > MiB(1) && rest < EACH, "{rest:?}");
    world
        .install("e", &format!("limits: {{mem_mb: {}}}", rest.0 - 1))
        .await;
    assert_eq!(alive(&world), ["a", "b", "c", "d", "e"]);
    let begun = Instant::now();
    assert_eq!(world.call("a", "say it").await, Ok("it".into()));
    assert!(begun.elapsed() < LATE, "{:?}", begun.elapsed());
    let left = alive(&world);
    assert!(left.len() == 4 && left[0] == "a", "{left:?}");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn instances_follow_the_load_within_their_bounds() {
    let world = World::new(plain());
    world.install("echo", "instances: {max: 3}").await;
    let calls = join_all((0..30).map(|_| world.call("echo", "sleep 200 it")));
    assert!(calls.await.iter().all(Result::is_ok));
    assert_eq!(world.pool.counts().most_alive, 3);
    // The instances are no longer needed.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(world.pool.counts().alive, 0);
    assert_eq!(world.pool.free_memory(), MiB(EACH.0 * ROOM));
    world.end().await;
}
