//! One caller installs, however many ask; a caller that leaves is replaced; failures are shared and then forgotten.

use std::fs;
use std::future::poll_fn;
use std::io;
use std::pin::pin as pinned;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Barrier, Notify};

use super::{Yard, fill, pin, sound};
use crate::pin::{Pin, Sha256};
use crate::store::{Filled, Partial, StoreError};

/// A runtime with one thread for blocking work: a later job sees the result of each earlier one.
fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.max_blocking_threads(1).build().expect("a runtime")
}

async fn settled() {
    let done = tokio::task::spawn_blocking(|| ()).await;
    done.expect("all jobs before this one are done");
}

async fn filled(partial: Partial) -> Result<Filled, StoreError> {
    let filled = tokio::task::spawn_blocking(move || partial.fill(&sound()[..]));
    filled.await.expect("no panic")
}

#[test]
fn a_hundred_ask_and_one_installs() {
    let yard = Arc::new(Yard::new());
    let installs = Arc::new(AtomicU32::new(0));
    // Both packages are being installed before either is finished.
    let go = Arc::new(Barrier::new(2));
    runtime().block_on(async {
        let calls: Vec<_> = (0..100)
            .map(|n| {
                let (yard, installs, go) =
                    (Arc::clone(&yard), Arc::clone(&installs), Arc::clone(&go));
                tokio::spawn(async move {
                    let installer = async |partial| {
                        installs.fetch_add(1, Ordering::Relaxed);
                        go.wait().await;
                        filled(partial).await
                    };
                    let wanted = pin(if n % 2 == 0 { "x==1" } else { "y==1" });
                    yard.store.get_or_install(&wanted, "f", installer).await
                })
            })
            .collect();
        let mut leases = Vec::new();
        for call in calls {
            leases.push(call.await.expect("no panic").expect("installed"));
        }
        assert_eq!(installs.load(Ordering::Relaxed), 2);
        assert_eq!(yard.entries(), ["x==1", "y==1"]);
        let held = yard.store.remove(&pin("x==1"));
        assert!(matches!(held, Err(StoreError::Held { .. })));
        drop(leases);
        assert!(yard.store.0.flights.is_empty());
        yard.store.remove(&pin("x==1")).expect("nobody's");
    });
}

#[test]
fn a_failure_is_everybodys_and_forgotten() {
    let yard = Yard::new();
    runtime().block_on(async {
        let wanted = pin("x==1");
        let (fail, installs) = (Notify::new(), AtomicU32::new(0));
        let installer = async |_partial| {
            installs.fetch_add(1, Ordering::Relaxed);
            fail.notified().await;
            Err::<Filled, _>(io::Error::other("no such version"))
        };
        let first = yard.store.get_or_install(&wanted, "f", installer);
        let second = yard.store.get_or_install(&wanted, "g", installer);
        let told = async {
            // Both callers have looked by then, and each is polled once more: one installs, one waits.
            settled().await;
            tokio::task::yield_now().await;
            fail.notify_one();
        };
        let (first, second, ()) = tokio::join!(first, second, told);
        assert_eq!(installs.load(Ordering::Relaxed), 1);
        for outcome in [first, second] {
            let error = outcome.expect_err("failed");
            assert_eq!(error.to_string(), "failed to install package x==1");
            let source = std::error::Error::source(&error).expect("a source");
            assert_eq!(source.to_string(), "no such version");
        }
        settled().await;
        assert_eq!(yard.entries(), [""; 0]);
        assert!(yard.store.0.flights.is_empty());
        let third = yard.store.get_or_install(&wanted, "h", filled).await;
        third.expect("tried again");
    });
}

#[test]
fn the_stores_own_refusal_comes_through_an_installer() {
    let yard = Yard::new();
    let refused = runtime().block_on(yard.store.get_or_install(
        &pin("x==1"),
        "f",
        async |partial: Partial| partial.fill(io::empty()),
    ));
    assert!(
        matches!(refused, Err(StoreError::Damaged { .. })),
        "{refused:?}"
    );
}

/// At whatever moment a caller is dropped, later ones get the package and nothing else is left.
#[test]
fn a_caller_may_leave_at_any_moment() {
    let mut completed = false;
    for polls in 0..40 {
        let yard = Yard::new();
        let installs = AtomicU32::new(0);
        let installer = async |partial| {
            installs.fetch_add(1, Ordering::Relaxed);
            filled(partial).await
        };
        runtime().block_on(async {
            let wanted = pin("x==1");
            let mut waiting = pinned!(yard.store.get_or_install(&wanted, "waits", installer));
            {
                let mut leaving = pinned!(yard.store.get_or_install(&wanted, "leaves", installer));
                let mut left = polls;
                poll_fn(|context| {
                    if left == 0 {
                        return Poll::Ready(());
                    }
                    left -= 1;
                    if leaving.as_mut().poll(context).is_ready() {
                        completed = true;
                        return Poll::Ready(());
                    }
                    // It joins the queue as soon as the other call is under way.
                    let _ = waiting.as_mut().poll(context).is_ready();
                    Poll::Pending
                })
                .await;
            }
            if !completed {
                waiting.await.expect("takes over");
            }
            let lease = yard.store.get_or_install(&wanted, "later", installer).await;
            lease.expect("there by now");
            settled().await;
            settled().await;
            assert_eq!(yard.entries(), ["x==1"], "after {polls} polls");
            assert!(yard.store.0.flights.is_empty(), "after {polls} polls");
            assert!(installs.load(Ordering::Relaxed) <= 2);
        });
        if completed {
            assert!(polls > 4, "the first was dropped at each of its steps");
            return;
        }
    }
    panic!("never ran to its end");
}

#[test]
fn an_installer_that_panics_is_replaced() {
    let yard = Arc::new(Yard::new());
    runtime().block_on(async {
        let theirs = Arc::clone(&yard);
        let panics = tokio::spawn(async move {
            let installer =
                async |_partial: Partial| -> Result<Filled, StoreError> { panic!("oh") };
            theirs
                .store
                .get_or_install(&pin("x==1"), "f", installer)
                .await
        });
        assert!(panics.await.is_err());
        let next = yard.store.get_or_install(&pin("x==1"), "f", filled).await;
        next.expect("takes over");
        settled().await;
        assert_eq!(yard.entries(), ["x==1"]);
    });
}

#[test]
fn what_is_there_is_not_installed_again() {
    let yard = Yard::new();
    fs::create_dir_all(yard.path("x==1/files")).expect("made");
    let lease = runtime().block_on(
        yard.store
            .get_or_install(&pin("x==1"), "f", async |_| Err::<Filled, _>("not called")),
    );
    lease.expect("there");
}

/// `x==1` from these archives.
fn from(archives: &[&[u8]]) -> Pin {
    let x = pin("x==1");
    let hashes = archives.iter().map(|archive| Sha256::of(archive));
    Pin::new(x.name().clone(), x.version().clone(), hashes.collect())
}

#[test]
fn a_version_from_another_archive_is_not_what_was_asked_for() {
    let yard = Yard::new();
    let never = async |_| Err::<Filled, _>("not called");
    runtime().block_on(async {
        let first = from(&[b"a", b"b"]);
        drop(
            yard.store
                .get_or_install(&first, "f", filled)
                .await
                .expect("installed"),
        );
        // One common hash is enough: one tool's lock lists all archives, another's only this machine's.
        for same in [from(&[b"a"]), from(&[b"b", b"c"]), pin("x==1")] {
            drop(
                yard.store
                    .get_or_install(&same, "g", never)
                    .await
                    .expect("the same"),
            );
        }
        let other = from(&[b"c", b"d", b"e", b"f"]);
        let error = yard.store.get_or_install(&other, "h", never).await;
        let error = error.expect_err("another");
        let text = error.to_string();
        for word in [
            format!("the installed has sha256:{} or sha256:", first.hashes()[0]),
            format!("wanted is sha256:{}", other.hashes()[0]),
            "or one of 2 more".to_owned(),
            "`ol packages rm x==1`".to_owned(),
        ] {
            assert!(text.contains(&word), "{word} is not in: {text}");
        }
        // The refused caller holds no lease, thus removing the package, as the error advises, works.
        assert_eq!(yard.store.holders(&other), [""; 0]);
        assert!(yard.store.remove(&other).expect("nobody's"));
        drop(
            yard.store
                .get_or_install(&other, "h", filled)
                .await
                .expect("installed"),
        );
        let stale = yard.store.get_or_install(&first, "f", never).await;
        assert!(matches!(stale, Err(StoreError::OtherArchive { .. })));
    });
}

#[test]
fn the_first_to_commit_is_not_taken_for_another_archive() {
    let yard = Yard::new();
    let [first, second] = [from(&[b"a"]), from(&[b"b"])]
        .map(|pin| fill(&yard.store, &pin, &sound()[..]).expect("filled"));
    drop(first.commit("f").expect("stored"));
    let error = second.commit("g").expect_err("another");
    assert!(
        matches!(error, StoreError::OtherArchive { .. }),
        "{error:?}"
    );
    assert_eq!(yard.entries(), ["x==1"]);
}

#[test]
fn a_failure_is_not_that_of_who_wants_another_archive() {
    let yard = Yard::new();
    runtime().block_on(async {
        let (wrong, right) = (from(&[b"a"]), from(&[b"b"]));
        let fail = Notify::new();
        let first = yard.store.get_or_install(&wrong, "f", async |_| {
            fail.notified().await;
            Err::<Filled, _>(io::Error::other("another hash"))
        });
        let second = yard.store.get_or_install(&right, "g", filled);
        let told = async {
            settled().await;
            tokio::task::yield_now().await;
            fail.notify_one();
        };
        let (first, second, ()) = tokio::join!(first, second, told);
        let _ = first.expect_err("it failed");
        second.expect("installed by its own");
        assert!(yard.store.0.flights.is_empty());
    });
}
