//! Announces which functions serve, for triggers, which start, change and stop along with the functions.
//!
//! An announcement only says that something has changed. A subscriber then compares what serves now with what it knew. Thus a slow
//! subscriber may miss intermediate steps but never the final state, and only the table of functions says what serves.

use crate::version::Version;
use ol_model::{FunctionConfig, FunctionName};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;

/// The versions that serve now, by their functions' names.
pub(crate) type Serving = BTreeMap<FunctionName, Arc<Version>>;

/// Where changes are announced. The value becomes false when the worker ends; nothing will serve after that.
#[derive(Debug)]
pub(crate) struct Announcements(watch::Sender<bool>);

impl Announcements {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(true))
    }

    /// Announces that another version serves, or that a function no longer does.
    pub(crate) fn changed(&self) {
        self.0.send_modify(|_| {});
    }

    /// Announces that the worker ends.
    pub(crate) fn end(&self) {
        self.0.send_replace(false);
    }

    /// Are there any subscribers?
    pub(crate) fn are_heard(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Subscribes; `look` returns what serves.
    pub(crate) fn subscribe(&self, look: impl Fn() -> Serving + Send + 'static) -> Changes {
        let mut news = self.0.subscribe();
        news.mark_changed();
        Changes {
            news,
            look: Box::new(look),
            known: BTreeMap::new(),
            due: VecDeque::new(),
        }
    }
}

/// One change that a subscriber is told.
#[derive(Clone, Debug)]
pub enum Change {
    /// A version of a function has begun to serve: the first one that the subscriber hears of, or a new one.
    Serves {
        /// The function.
        name: FunctionName,
        /// Its `ol.yaml`, with its triggers.
        config: Arc<FunctionConfig>,
    },
    /// The function no longer serves: it was deleted, or the worker ends.
    Gone {
        /// The function.
        name: FunctionName,
    },
}

/// A subscription to the functions that serve.
pub struct Changes {
    news: watch::Receiver<bool>,
    look: Box<dyn Fn() -> Serving + Send>,
    /// The number of each version's code; unique within this run of the worker.
    known: BTreeMap<FunctionName, u64>,
    due: VecDeque<Change>,
}

impl Changes {
    /// The next change; at first, one for each function that serves already. `None` once the worker has ended. Safe to cancel.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            if let Some(change) = self.due.pop_front() {
                return Some(change);
            }
            let open = match self.news.has_changed() {
                Ok(false) if !*self.news.borrow() => return None,
                Ok(false) => self.news.changed().await.is_ok(),
                Ok(true) => true,
                Err(_) => false,
            };
            if !open {
                return None;
            }
            self.compare();
        }
    }

    fn compare(&mut self) {
        let going_on = *self.news.borrow_and_update();
        let serving = if going_on {
            (self.look)()
        } else {
            Serving::new()
        };
        self.known.retain(|name, _| {
            let stays = serving.contains_key(name);
            if !stays {
                let name = name.clone();
                self.due.push_back(Change::Gone { name });
            }
            stays
        });
        for (name, version) in serving {
            let number = version.code.number;
            if self.known.insert(name.clone(), number) != Some(number) {
                let config = Arc::new(version.config.clone());
                self.due.push_back(Change::Serves { name, config });
            }
        }
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes")
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}
