//! Which functions serve, announced to whoever acts on them unasked: triggers start, change and stop with them.
//!
//! A subscriber is told by comparing what serves now with what it knew. So one that is slow misses steps on the way, and never where
//! they led to.

use ol_model::{FunctionConfig, FunctionName};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tokio::sync::watch;

/// What is announced of the version that serves.
#[derive(Clone, Debug)]
struct Announced {
    /// No other version of this run of the worker has it.
    version: u64,
    config: Arc<FunctionConfig>,
}

type Serving = BTreeMap<FunctionName, Announced>;

/// The functions that serve.
#[derive(Debug, Default)]
pub(crate) struct Announcements(watch::Sender<Serving>);

impl Announcements {
    /// From now on `version` of `name` serves.
    pub(crate) fn serves(&self, name: &FunctionName, version: u64, config: &FunctionConfig) {
        let config = Arc::new(config.clone());
        self.0.send_modify(|serving| {
            serving.insert(name.clone(), Announced { version, config });
        });
    }

    /// `version` of `name` serves no more. Another one of that name may by now.
    pub(crate) fn gone(&self, name: &FunctionName, version: u64) {
        self.0.send_if_modified(|serving| {
            let known = serving.get(name).is_some_and(|a| a.version == version);
            known && serving.remove(name).is_some()
        });
    }

    pub(crate) fn subscribe(&self) -> Changes {
        let mut serving = self.0.subscribe();
        serving.mark_changed();
        Changes {
            serving,
            known: BTreeMap::new(),
            due: VecDeque::new(),
        }
    }
}

/// What a subscriber is told.
#[derive(Clone, Debug)]
pub enum Change {
    /// A version of a function has begun to serve, the first that the subscriber hears of or another.
    Serves {
        /// The function.
        name: FunctionName,
        /// Its `ol.yaml`, with its triggers.
        config: Arc<FunctionConfig>,
    },
    /// The function serves no more: it was deleted, or the worker stops.
    Gone {
        /// The function.
        name: FunctionName,
    },
}

/// A subscription to the functions that serve.
#[derive(Debug)]
pub struct Changes {
    serving: watch::Receiver<Serving>,
    known: BTreeMap<FunctionName, u64>,
    due: VecDeque<Change>,
}

impl Changes {
    /// The next change; first, all functions that serve already. `None` once there is no worker any more. Safe to cancel.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            if let Some(change) = self.due.pop_front() {
                return Some(change);
            }
            self.serving.changed().await.ok()?;
            self.compare();
        }
    }

    fn compare(&mut self) {
        let serving = self.serving.borrow_and_update();
        self.known.retain(|name, _| {
            let stays = serving.contains_key(name);
            if !stays {
                let name = name.clone();
                self.due.push_back(Change::Gone { name });
            }
            stays
        });
        for (name, announced) in serving.iter() {
            if self.known.insert(name.clone(), announced.version) != Some(announced.version) {
                self.due.push_back(Change::Serves {
                    name: name.clone(),
                    config: Arc::clone(&announced.config),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Announcements, Change, Changes};
    use futures_util::FutureExt;
    use ol_model::{FunctionConfig, FunctionName};

    fn named(name: &str) -> FunctionName {
        FunctionName::parse(name).expect("a name")
    }

    /// What `changes` tells at once, as words.
    fn told(changes: &mut Changes) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(change) = changes.next().now_or_never() {
            told.push(match change {
                Some(Change::Serves { name, config }) => format!("{name} {}", config.concurrency),
                Some(Change::Gone { name }) => format!("{name} gone"),
                None => return told,
            });
        }
        told
    }

    fn with(concurrency: u32) -> FunctionConfig {
        FunctionConfig {
            concurrency,
            ..FunctionConfig::default()
        }
    }

    #[test]
    fn a_subscriber_hears_of_all_and_of_each_change_once() {
        let serving = Announcements::default();
        serving.serves(&named("early"), 1, &with(1));
        let mut changes = serving.subscribe();
        assert_eq!(told(&mut changes), ["early 1"]);
        assert!(told(&mut changes).is_empty());
        serving.serves(&named("early"), 2, &with(2));
        serving.serves(&named("late"), 3, &with(3));
        assert_eq!(told(&mut changes), ["early 2", "late 3"]);
        serving.gone(&named("early"), 2);
        assert_eq!(told(&mut changes), ["early gone"]);
        serving.gone(&named("early"), 2);
        assert!(told(&mut changes).is_empty());
    }

    #[test]
    fn who_is_slow_hears_where_it_led_to() {
        let serving = Announcements::default();
        let mut changes = serving.subscribe();
        serving.serves(&named("came-and-went"), 1, &with(1));
        serving.gone(&named("came-and-went"), 1);
        serving.serves(&named("f"), 2, &with(2));
        serving.serves(&named("f"), 3, &with(3));
        assert_eq!(told(&mut changes), ["f 3"]);
    }

    #[test]
    fn a_version_that_goes_late_takes_no_newer_one_along() {
        let serving = Announcements::default();
        let mut changes = serving.subscribe();
        serving.serves(&named("f"), 1, &with(1));
        serving.serves(&named("f"), 2, &with(2));
        serving.gone(&named("f"), 1);
        assert_eq!(told(&mut changes), ["f 2"]);
        drop(serving);
        assert!(told(&mut changes).is_empty());
    }
}
