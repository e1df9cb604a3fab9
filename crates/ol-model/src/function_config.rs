//! `ol.yaml`: the configuration of a function.
//!
//! The types are in this file; `parse` reads the text, `unknown` finds keys that nothing reads, and `doubts` finds settings that are
//! allowed but probably not intended.

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

/// The most invocations at once in one sandbox.
pub const MAX_CONCURRENCY: u32 = 1024;

/// A whole `ol.yaml`, with defaults for the keys that it leaves out.
///
/// Serializes as `GET /registry/NAME/config` shows it: first the original's keys (`Triggers`, `Environment`, `ReuseSandbox`), then
/// those that this worker adds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct FunctionConfig {
    /// What starts an invocation.
    pub triggers: Triggers,
    /// Environment variables. `None` if the file has no `environment`, in which case a bundled `.env` is read; an empty map sets none.
    pub environment: Option<BTreeMap<String, String>>,
    /// If false, every invocation gets a fresh sandbox.
    pub reuse_sandbox: bool,
    /// The limits that the function asks for; [`crate::Limits::resolve`] decides what it gets.
    pub limits: LimitsRequest,
    /// Invocations at once in one sandbox, 1 to [`MAX_CONCURRENCY`].
    pub concurrency: u32,
    /// How many sandboxes the function has.
    pub instances: Instances,
    /// What it may reach over the network; `None` leaves that to the worker.
    pub network: Option<Network>,
    /// What the kernel kills when a sandbox runs out of memory.
    pub oom: OomScope,
    /// What callers are told of its errors; `None` leaves that to the worker.
    pub errors: Option<ErrorDetail>,
}

/// What starts invocations.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Triggers {
    /// HTTP methods, upper case. `None` permits all: the file names none, or names `*`. An empty
    /// list, written as `http: []`, permits none.
    pub http: Option<Vec<String>>,
    /// Cron entries, as written; each has a valid `schedule`.
    pub cron: Vec<serde_json::Value>,
    /// Kafka entries, as written.
    pub kafka: Vec<serde_json::Value>,
}

/// Bounds on a function's instances. `min <= max` and `max >= 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Instances {
    /// The fewest instances, kept even when idle.
    pub min: u32,
    /// The most instances.
    pub max: u32,
}

text_enum! {
    /// What a sandbox may reach over the network.
    pub enum Network {
        /// Nothing outside of the sandbox.
        None = "none",
        /// Outbound connections, through a network of its own.
        Egress = "egress",
        /// The host's network, if the operator permits it.
        Host = "host",
    }
}

text_enum! {
    /// What the kernel kills when a sandbox is out of memory.
    pub enum OomScope {
        /// The process that exceeded the limit; others in the sandbox go on.
        Process = "process",
        /// Everything in the sandbox.
        Sandbox = "sandbox",
    }
}

text_enum! {
    /// What callers are told of a function's errors. The function's log has the whole text in any case.
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
    /// [`FunctionConfigError`], with the line and the key. Unknown keys are warnings, not errors, since bundles for other versions must
    /// load.
    pub fn parse(yaml: &str) -> Result<(Self, Vec<Warning>), FunctionConfigError> {
        parse::parse(yaml)
    }

    /// Whether the function may be invoked with this HTTP method.
    ///
    /// As in HTTP, case matters, and as in the original, `GET` does not imply `HEAD`.
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

/// Serializes methods as the original does: as a list of `{"Method": …}`, with `*` for all.
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
