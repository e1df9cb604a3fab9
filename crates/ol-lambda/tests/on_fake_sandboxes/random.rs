//! Random calls, checked against what must hold for each of them.

use crate::world::{QUEUE_WAIT, World, call, plain};
use ol_lambda::InvokeError;
use ol_sandbox::CreateError;
use ol_sandbox_fake::FakePool;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

/// One random action.
#[derive(Clone, Debug)]
enum Act {
    /// A call of that function with that event; the caller leaves after that many ms, if given.
    Call(usize, String, Option<u64>),
    /// That function is installed anew.
    Install(usize),
    /// That many starts fail; if true and sandboxes are forked, with the error of a failed fork.
    Fail(usize, bool),
}

const FUNCTIONS: usize = 3;

fn act() -> impl Strategy<Value = (u64, Act)> {
    let event = prop_oneof![
        6 => (0..200_u64, any::<u16>()).prop_map(|(ms, text)| format!("sleep {ms} {text}")),
        4 => any::<u16>().prop_map(|text| format!("say {text}")),
        1 => Just("die".to_owned()),
        1 => Just("raise".to_owned()),
        1 => Just("twist".to_owned()),
        1 => Just("hang".to_owned()),
    ];
    let leaves = prop_oneof![4 => Just(None), 1 => (0..300_u64).prop_map(Some)];
    let act = prop_oneof![
        20 => (0..FUNCTIONS, event, leaves).prop_map(|(which, event, leaves)| {
            Act::Call(which, event, leaves)
        }),
        1 => (0..FUNCTIONS).prop_map(Act::Install),
        1 => (1..4_usize, any::<bool>()).prop_map(|(count, fork)| Act::Fail(count, fork)),
    ];
    // Many actions in the same instant, and now and then a pause in which instances become idle and are paused.
    let wait = prop_oneof![8 => Just(0), 4 => 0..50_u64, 1 => 500..3000_u64];
    (wait, act)
}

/// May the result of a call with `event` be `told`?
fn may_be(event: &str, told: &Result<String, InvokeError>) -> bool {
    use InvokeError::{Died, Internal, NoMemory, Raised, TimeLimit, Waited};
    let (word, rest) = event.split_once(' ').unwrap_or((event, ""));
    let text = rest.rsplit(' ').next().unwrap_or_default();
    match told {
        Ok(said) => matches!(word, "say" | "sleep") && said == text,
        Err(Raised(_)) => word == "raise",
        Err(TimeLimit { .. }) => word == "hang",
        // Only the call's own event may end its instance, since an instance serves one call at a time.
        Err(Died { .. }) => matches!(word, "die" | "twist"),
        Err(Waited { .. } | NoMemory(_) | Internal(_)) => true,
        Err(_) => false,
    }
}

async fn play(acts: Vec<(u64, Act)>, forks: bool) {
    let world = World::new(if forks { FakePool::able() } else { plain() });
    for which in 0..FUNCTIONS {
        world
            .install(&format!("f{which}"), "instances: {max: 2}")
            .await;
    }
    let mut calls = Vec::new();
    for (wait, act) in acts {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        match act {
            Act::Call(which, event, leaves) => {
                let lambdas = Arc::clone(&world.lambdas);
                calls.push(tokio::spawn(async move {
                    let name = format!("f{which}");
                    let calling = call(&lambdas, &name, &event);
                    let told = match leaves {
                        None => calling.await,
                        Some(ms) => {
                            let limit = Duration::from_millis(ms);
                            match tokio::time::timeout(limit, calling).await {
                                Ok(told) => told,
                                Err(_left) => return,
                            }
                        }
                    };
                    assert!(may_be(&event, &told), "{event}: {told:?}");
                }));
            }
            Act::Install(which) => {
                world
                    .install(&format!("f{which}"), "instances: {max: 2}")
                    .await;
            }
            Act::Fail(count, fork) => {
                let why = "as the test wants".to_owned();
                let error = if fork && forks {
                    CreateError::Fork(why)
                } else {
                    CreateError::Mechanism(why)
                };
                world.pool.fail(vec![error; count]);
            }
        }
    }
    for told in calls {
        told.await.expect("no answer that may not be");
    }
    // All earlier calls are over; new calls are served.
    tokio::time::sleep(QUEUE_WAIT).await;
    for which in 0..FUNCTIONS {
        let name = format!("f{which}");
        // Use up the failures that no start has met yet.
        while let Err(error) = world.call(&name, "say it").await {
            assert!(matches!(error, InvokeError::Internal(_)), "{error}");
        }
    }
    world.end().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn who_waits_is_answered_and_nothing_is_lost(
        acts in prop::collection::vec(act(), 1..60),
        forks in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(play(acts, forks));
    }
}
