//! Calls: they are answered, or given up at each point, and their instances stay usable or end.

use crate::world::{RUNTIME, World, call, plain};
use futures_util::FutureExt;
use ol_lambda::{InvokeError, Uploaded};
use ol_sandbox::{CreateError, Pool};
use ol_sandbox_fake::FakePool;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_call_is_answered_by_a_fork_or_afresh_as_the_kind_can() {
    for abilities in [FakePool::able(), plain()] {
        let world = World::new(abilities);
        // The zygote is made in the background.
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.install("echo", "").await;
        assert_eq!(world.call("echo", "say hello").await, Ok("hello".into()));
        let counts = world.pool.counts();
        assert_eq!(counts.forked > 0, abilities.fork, "{counts:?}");
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_idle_is_paused_if_it_can_be_and_thawed_by_a_call() {
    for abilities in [FakePool::able(), plain()] {
        let world = World::new(abilities);
        world.install("echo", "").await;
        for round in 1..=3 {
            assert_eq!(world.call("echo", "say it").await, Ok("it".into()));
            tokio::time::sleep(Duration::from_secs(2)).await;
            let pauses = if abilities.freeze { round } else { 0 };
            assert_eq!(world.pool.counts().pauses, pauses);
        }
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_call_does_to_its_instance_is_its_own_affair() {
    let world = World::new(plain());
    world.install("echo", "instances: {max: 1}").await;
    for (event, made) in [("die", 1), ("twist", 1), ("hang", 1), ("raise", 0)] {
        assert_eq!(world.call("echo", "say it").await, Ok("it".into()));
        let before = world.pool.counts().made;
        let error = world.call("echo", event).await.expect_err(event);
        let told = match event {
            "die" | "twist" => matches!(error, InvokeError::Died { .. }),
            "hang" => error == InvokeError::TimeLimit { limit: RUNTIME },
            _ => matches!(error, InvokeError::Raised(_)),
        };
        assert!(told, "{event}: {error}");
        assert_eq!(world.call("echo", "say it").await, Ok("it".into()));
        assert_eq!(world.pool.counts().made - before, made, "{event}");
    }
    world.end().await;
}

/// However far a call has come when its caller leaves, the next call is answered and nothing is lost.
#[tokio::test(start_paused = true)]
async fn a_caller_may_leave_at_every_await() {
    for event in ["say it", "sleep 20 it"] {
        for polls in 0..40 {
            let world = World::new(plain());
            world.install("echo", "instances: {max: 1}").await;
            {
                let mut leaving = pin!(world.call("echo", event));
                for _ in 0..polls {
                    if leaving.as_mut().now_or_never().is_some() {
                        break;
                    }
                    if polls % 2 == 0 {
                        tokio::task::yield_now().await;
                    } else {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
            }
            assert_eq!(world.call("echo", "say next").await, Ok("next".into()));
            assert!(world.pool.counts().most_alive <= 2, "after {polls} polls");
            world.end().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_of_the_version_before_serves_nobody_after_its_last_call() {
    let world = World::new(plain());
    world.install("echo", "").await;
    let (busy, installed) = tokio::join!(world.call("echo", "sleep 500 it"), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.install("echo", "").await
    });
    assert_eq!((busy, installed), (Ok("it".into()), Uploaded::Serves));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(world.pool.counts().alive, 1, "that of the new version");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_is_told_and_the_next_call_tries_again() {
    let world = World::new(plain());
    world.install("echo", "").await;
    world.call("echo", "die").await.expect_err("it dies");
    world
        .pool
        .fail([CreateError::Mechanism("no disk".to_owned())]);
    let error = world.call("echo", "say it").await.expect_err("no sandbox");
    assert!(matches!(error, InvokeError::Internal(_)), "{error}");
    assert_eq!(world.call("echo", "say it").await, Ok("it".into()));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_zygote_that_fails_its_child_is_passed_over() {
    let world = World::new(FakePool::able());
    world.install("echo", "").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.call("echo", "die").await.expect_err("it dies");
    let before = world.pool.counts();
    world
        .pool
        .fail([CreateError::Fork("it is tired".to_owned())]);
    assert_eq!(world.call("echo", "say it").await, Ok("it".into()));
    let after = world.pool.counts();
    assert_eq!(after.forked, before.forked, "made afresh");
    world.end().await;
}

/// The pool has ended: calls that wait are told that the worker is ending, calls in flight that their function died.
#[tokio::test(start_paused = true)]
async fn all_are_told_when_nothing_can_be_made_any_more() {
    let world = World::new(plain());
    world.install("echo", "instances: {max: 1}").await;
    let calls: Vec<_> = (0..5)
        .map(|_| {
            let lambdas = Arc::clone(&world.lambdas);
            tokio::spawn(async move { call(&lambdas, "echo", "sleep 1000 it").await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.pool.end();
    world.pool.gone().await;
    for (at, told) in calls.into_iter().enumerate() {
        let error = told.await.expect("no panic").expect_err("nobody is left");
        let fits = matches!(error, InvokeError::Died { .. } | InvokeError::Ending);
        assert!(fits, "call {at}: {error}");
    }
    world.end().await;
}
