//! Where an invocation's time went; callers ask for it with `X-OL-Timing`.
//!
//! ```text
//!   code │ queue │ create (lease, fork within) │ bind │ call (unpause within)
//!        └─ as long as the call waits: a start is reported only if the whole of it fell in that time
//! ```
//!
//! All of it is filled in from times that are taken anyway, thus a call that doesn't ask pays only a few stores.

use ol_model::kinds::{ServedBy, StartKind};
use std::fmt;
use std::time::Duration;
use tokio::time::Instant;

/// How an instance was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) kind: StartKind,
    pub(crate) begun: Instant,
    /// From the request for it until its runtime greeted.
    pub(crate) create: Duration,
    /// The part of `create` until the pool handed over the sandbox.
    pub(crate) lease: Option<Duration>,
    /// The part of `lease` that the zygote took.
    pub(crate) fork: Option<Duration>,
    /// The import of the handler.
    pub(crate) bind: Duration,
}

/// The phases of one invocation, as far as it came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Phases {
    code: Option<Duration>,
    queue: Option<Duration>,
    kind: Option<ServedBy>,
    start: Option<Origin>,
    unpause: Option<Duration>,
    call: Option<Duration>,
}

impl Phases {
    /// The registry was looked at, and a new bundle fetched; that took `took`.
    pub(crate) fn looked(&mut self, took: Duration) {
        self.code = Some(took);
    }

    /// The search for an instance begins. Discards what a previous attempt noted, for its instance served nothing.
    pub(crate) fn seek(&mut self) {
        *self = Self {
            code: self.code,
            ..Self::default()
        };
    }

    /// The call waited since `begun` and has an instance now. `first` is given if this is the instance's first call.
    pub(crate) fn waited(&mut self, begun: Instant, waited: Duration, first: Option<Origin>) {
        self.kind = first.map(|origin| ServedBy::Start(origin.kind));
        self.start = first.filter(|origin| origin.begun >= begun);
        let start = self.start.map_or(Duration::ZERO, |o| o.create + o.bind);
        self.queue = Some(waited.saturating_sub(start));
    }

    /// The guest runs; `unpause` is how long thawing took, if it was frozen. Returns what serves the invocation.
    pub(crate) fn runs(&mut self, unpause: Option<Duration>) -> ServedBy {
        self.unpause = unpause;
        let found = unpause.map_or(ServedBy::Warm, |_| ServedBy::Resume);
        *self.kind.get_or_insert(found)
    }

    /// The answer has begun.
    pub(crate) fn called(&mut self, took: Duration) {
        self.call = Some(took);
    }
}

/// The value of `X-OL-Timing`: the phases that happened, in µs.
impl fmt::Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.start.as_ref();
        let before = [("code", self.code), ("queue", self.queue)];
        let after = [
            ("create", start.map(|o| o.create)),
            ("lease", start.and_then(|o| o.lease)),
            ("fork", start.and_then(|o| o.fork)),
            ("bind", start.map(|o| o.bind)),
            ("unpause", self.unpause),
            ("call", self.call),
        ];
        let mut separator = "";
        let mut put = |f: &mut fmt::Formatter<'_>, name: &str, value: &dyn fmt::Display| {
            write!(f, "{separator}{name}={value}")?;
            separator = ";";
            Ok(())
        };
        let us = |(name, time): (&'static str, Option<Duration>)| Some((name, time?.as_micros()));
        for (name, time) in before.into_iter().filter_map(us) {
            put(f, name, &time)?;
        }
        if let Some(kind) = self.kind {
            put(f, "kind", &kind.word())?;
        }
        for (name, time) in after.into_iter().filter_map(us) {
            put(f, name, &time)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: fn(u64) -> Duration = Duration::from_micros;

    fn origin(begun: Instant) -> Origin {
        Origin {
            kind: StartKind::Fork,
            begun,
            create: US(700),
            lease: Some(US(300)),
            fork: Some(US(350)),
            bind: US(150),
        }
    }

    #[test]
    fn a_start_is_told_of_if_all_of_it_was_waited_for() {
        let begun = Instant::now();
        let mut phases = Phases::default();
        phases.waited(begun, US(900), Some(origin(begun + US(1))));
        phases.runs(None);
        phases.called(US(90));
        assert_eq!(
            phases.to_string(),
            "queue=50;kind=fork;create=700;lease=300;fork=350;bind=150;call=90"
        );
        let mut late = Phases::default();
        late.waited(begun + US(2), US(900), Some(origin(begun + US(1))));
        assert_eq!(late.to_string(), "queue=900;kind=fork");
    }

    #[test]
    fn who_found_one_did_not_wait() {
        let mut phases = Phases::default();
        phases.looked(US(7));
        phases.waited(Instant::now(), US(900), None);
        phases.seek();
        phases.runs(Some(US(12)));
        assert_eq!(phases.to_string(), "code=7;kind=resume;unpause=12");
        phases.seek();
        phases.runs(None);
        assert_eq!(phases.to_string(), "code=7;kind=warm");
        assert_eq!(Phases::default().to_string(), "");
    }
}
