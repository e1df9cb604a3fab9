//! `ol.yaml`: what a function says about itself. The types live here; `parse` reads the text,
//! `unknown` finds the keys that nothing reads, and `doubts` what is allowed but hardly meant.

use std::collections::BTreeMap;

use serde::ser::{SerializeSeq, SerializeStruct};
use serde::{Serialize, Serializer};

use crate::limits::LimitsRequest;
use crate::text_enum::text_enum;
use crate::warnings::Warning;

mod complaint;
mod doubts;
mod parse;
mod schedule;
mod unknown;

pub use parse::{FunctionConfigError, MAX_YAML_BYTES};

/// The most invocations at once that one sandbox may be given.
pub const MAX_CONCURRENCY: u32 = 1024;

/// A whole `ol.yaml`, with defaults where it is silent.
///
/// Serializes as `GET /registry/NAME/config` shows it: the original's names first
/// (`Triggers`, `Environment`, `ReuseSandbox`), then ours.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct FunctionConfig {
    /// What starts an invocation.
    pub triggers: Triggers,
    /// Environment variables. `None` when the file has no `environment`, in which case a bundled
    /// `.env` is read; an empty map says that there are none.
    pub environment: Option<BTreeMap<String, String>>,
    /// False: every invocation gets a fresh sandbox.
    pub reuse_sandbox: bool,
    /// What it asks for; [`crate::Limits::resolve`] decides.
    pub limits: LimitsRequest,
    /// Invocations at once in one sandbox, 1 to [`MAX_CONCURRENCY`].
    pub concurrency: u32,
    /// How many sandboxes.
    pub instances: Instances,
    /// What it may reach; `None` leaves it to the worker.
    pub network: Option<Network>,
    /// What dies when it runs out of memory.
    pub oom: OomScope,
    /// What callers are told of its errors; `None` leaves it to the worker.
    pub errors: Option<ErrorDetail>,
}

/// Sources of invocations.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Triggers {
    /// HTTP methods, upper case. `None` permits all: the file names none, or names `*`. An empty
    /// list, written as `http: []`, permits none.
    pub http: Option<Vec<String>>,
    /// Cron entries, as written; each has a `schedule` that can be read.
    pub cron: Vec<serde_json::Value>,
    /// Kafka entries, as written.
    pub kafka: Vec<serde_json::Value>,
}

/// Bounds on a function's instances. `min <= max` and `max >= 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Instances {
    /// Kept even when idle.
    pub min: u32,
    /// Never more than these.
    pub max: u32,
}

text_enum! {
    /// What a sandbox may reach over the network.
    pub enum Network {
        /// Nothing but itself.
        None = "none",
        /// Outbound connections, through a network of its own.
        Egress = "egress",
        /// The host's network, if the operator permits it.
        Host = "host",
    }
}

text_enum! {
    /// What the kernel ends when a sandbox is out of memory.
    pub enum OomScope {
        /// The process that went over; others in the sandbox go on.
        Process = "process",
        /// Everything in the sandbox.
        Sandbox = "sandbox",
    }
}

text_enum! {
    /// What callers are told of a function's errors. Its log has them whole in any case.
    pub enum ErrorDetail {
        /// Tracebacks, with the paths in them.
        Full = "full",
        /// One sentence that names the invocation.
        Short = "short",
    }
}

impl Default for Instances {
    fn default() -> Self {
        Self { min: 0, max: 64 }
    }
}

impl Default for FunctionConfig {
    fn default() -> Self {
        Self {
            triggers: Triggers::default(),
            environment: None,
            reuse_sandbox: true,
            limits: LimitsRequest::default(),
            concurrency: 1,
            instances: Instances::default(),
            network: None,
            oom: OomScope::Process,
            errors: None,
        }
    }
}

impl FunctionConfig {
    /// Reads an `ol.yaml`. An empty one is all defaults.
    ///
    /// # Errors
    /// [`FunctionConfigError`], with the line and the key. Keys nobody knows are not errors but
    /// warnings, since bundles for other versions must load.
    pub fn parse(yaml: &str) -> Result<(Self, Vec<Warning>), FunctionConfigError> {
        parse::parse(yaml)
    }

    /// May the function be invoked with this HTTP method? Methods are compared as HTTP does, with
    /// regard to case, and `GET` does not imply `HEAD`: the original says so too.
    #[must_use]
    pub fn allows(&self, method: &str) -> bool {
        self.allowed_methods()
            .is_none_or(|allowed| allowed.iter().any(|m| m == method))
    }

    /// The methods to name in a 405; `None` when all are permitted.
    #[must_use]
    pub fn allowed_methods(&self) -> Option<&[String]> {
        self.triggers.http.as_deref()
    }
}

impl Serialize for Triggers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Triggers", 3)?;
        out.serialize_field("HTTP", &HttpTriggers(self.http.as_deref()))?;
        out.serialize_field("Cron", &self.cron)?;
        out.serialize_field("Kafka", &self.kafka)?;
        out.end()
    }
}

/// Shown as the original shows it: a list of `{"Method": …}`, with `*` for all.
struct HttpTriggers<'a>(Option<&'a [String]>);

impl Serialize for HttpTriggers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let all = ["*".to_owned()];
        let methods = self.0.unwrap_or(&all);
        let mut list = serializer.serialize_seq(Some(methods.len()))?;
        for method in methods {
            list.serialize_element(&BTreeMap::from([("Method", method)]))?;
        }
        list.end()
    }
}

#[cfg(test)]
mod tests;
