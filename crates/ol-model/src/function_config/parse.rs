//! Reads an `ol.yaml` into a [`FunctionConfig`].
//!
//! The text is not trusted, since anybody who may upload a bundle writes it. Its size, nesting and aliases are bounded before anything
//! is built from it.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_saphyr::NonFiniteFloatPolicy;

use super::complaint::complaint;
use super::{
    ErrorDetail, FunctionConfig, Instances, MAX_CONCURRENCY, Network, OomScope, Triggers, doubts,
    schedule, unknown,
};
use crate::limits::LimitsRequest;
use crate::warnings::Warning;

/// The largest `ol.yaml` that is read.
pub const MAX_YAML_BYTES: usize = 256 * 1024;

/// Why an `ol.yaml` can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FunctionConfigError {
    /// Above [`MAX_YAML_BYTES`].
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Malformed YAML, or a value that its key doesn't accept.
    Invalid {
        /// Line, from 1; 0 if the place is not known.
        line: u64,
        /// Column, from 1; 0 if the place is not known.
        column: u64,
        /// Dotted path of the key; empty if the error concerns no key.
        key: String,
        /// What is wrong.
        message: String,
    },
}

impl std::error::Error for FunctionConfigError {}

impl fmt::Display for FunctionConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { bytes } => write!(
                f,
                "ol.yaml has {bytes} bytes; shorten it to at most {MAX_YAML_BYTES}"
            ),
            Self::Invalid {
                line,
                column,
                key,
                message,
            } => {
                f.write_str("ol.yaml")?;
                if *line > 0 {
                    write!(f, " line {line}, column {column}")?;
                }
                if !key.is_empty() {
                    write!(f, ", key `{}`", key.escape_debug())?;
                }
                write!(f, ": {message}")
            }
        }
    }
}

pub(super) fn parse(yaml: &str) -> Result<(FunctionConfig, Vec<Warning>), FunctionConfigError> {
    if yaml.len() > MAX_YAML_BYTES {
        return Err(FunctionConfigError::TooLarge { bytes: yaml.len() });
    }
    // The typed document is read first, since only its errors name line and key.
    let document: Document = read::<Option<Document>>(yaml)?.unwrap_or_default();
    let mut warnings = unknown::warnings(&read(yaml)?);
    let config = document.into();
    warnings.extend(doubts::warnings(&config));
    Ok((config, warnings))
}

fn read<T: DeserializeOwned>(yaml: &str) -> Result<T, FunctionConfigError> {
    let mut key = String::new();
    serde_saphyr::with_deserializer_from_str_with_options(yaml, options(), |de| {
        serde_path_to_error::deserialize(de).map_err(|error| {
            key = key_path(error.path());
            error.into_inner()
        })
    })
    .map_err(|error| {
        let location = error.location();
        FunctionConfigError::Invalid {
            line: location.map_or(0, |l| l.line()),
            column: location.map_or(0, |l| l.column()),
            message: complaint(&error),
            key,
        }
    })
}

/// The dotted path, without the `.` that stands for the whole document and the `?` that stands for
/// a key that could not be read.
fn key_path(path: &serde_path_to_error::Path) -> String {
    let path = path.to_string();
    path.trim_end_matches(['.', '?']).to_owned()
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        // Far above any sensible file. Few aliases are allowed, since each repeats a scalar that may be as long as the file.
        budget: serde_saphyr::budget! {
            max_documents: 4,
            max_depth: 32,
            flow_nesting_limit: 32,
            max_nodes: 50_000,
            max_events: 200_000,
            max_aliases: 100,
            max_anchors: 100,
            max_merge_keys: 100,
            max_total_scalar_bytes: MAX_YAML_BYTES,
            max_recorded_anchor_events: 10_000,
            max_recorded_anchor_bytes: 4 * MAX_YAML_BYTES,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 500,
            max_replay_stack_depth: 4,
        },
        emit_comments: false,
        // A snippet would make the message many lines long; line and column are named anyway.
        with_snippet: false,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
    }
}

/// The document as written. Every value is optional, since `limits:` alone is an empty section.
#[derive(Deserialize, Default)]
#[serde(
    default,
    rename_all = "kebab-case",
    expecting = "a mapping of keys such as `limits`"
)]
struct Document {
    triggers: Option<TriggersSection>,
    #[serde(deserialize_with = "environment")]
    environment: Option<BTreeMap<String, String>>,
    reuse_sandbox: Option<bool>,
    limits: Option<LimitsRequest>,
    #[serde(deserialize_with = "concurrency")]
    concurrency: Option<u32>,
    instances: Option<InstancesSection>,
    network: Option<Network>,
    oom: Option<OomScope>,
    errors: Option<ErrorDetail>,
}

#[derive(Deserialize, Default)]
#[serde(default, expecting = "a mapping with `http`, `cron` or `kafka`")]
struct TriggersSection {
    http: Option<Vec<HttpTrigger>>,
    #[serde(deserialize_with = "cron")]
    cron: Option<Vec<serde_json::Value>>,
    kafka: Option<Vec<serde_json::Value>>,
}

#[derive(Deserialize)]
#[serde(expecting = "a mapping such as {method: GET}")]
struct HttpTrigger {
    #[serde(deserialize_with = "method")]
    method: String,
}

/// The section `instances` as written. It is checked as a whole while it is parsed, so that an error has a line.
#[derive(Deserialize)]
#[serde(try_from = "InstancesAsWritten")]
struct InstancesSection(Instances);

#[derive(Deserialize)]
#[serde(expecting = "a mapping such as {min: 0, max: 64}")]
struct InstancesAsWritten {
    min: Option<u32>,
    max: Option<u32>,
}

impl TryFrom<InstancesAsWritten> for InstancesSection {
    type Error = String;

    fn try_from(written: InstancesAsWritten) -> Result<Self, String> {
        let default = Instances::default();
        let min = written.min.unwrap_or(default.min);
        // A file that asks for at least 100 and gives no maximum means more than 64.
        let max = written.max.unwrap_or(default.max.max(min));
        if max == 0 {
            return Err("`max` is 0, so that nothing could run; use at least 1".to_owned());
        }
        if min > max {
            return Err(format!("`min` {min} is above `max` {max}; swap or raise"));
        }
        Ok(Self(Instances { min, max }))
    }
}

fn concurrency<'de, D: Deserializer<'de>>(de: D) -> Result<Option<u32>, D::Error> {
    match Option::<u32>::deserialize(de)? {
        Some(n) if !(1..=MAX_CONCURRENCY).contains(&n) => Err(D::Error::custom(format!(
            "{n} is out of range; use 1 to {MAX_CONCURRENCY}"
        ))),
        given => Ok(given),
    }
}

/// Reads cron entries, which are kept as written, and checks that each has a valid schedule.
fn cron<'de, D: Deserializer<'de>>(de: D) -> Result<Option<Vec<serde_json::Value>>, D::Error> {
    let Some(entries) = Option::<Vec<serde_json::Value>>::deserialize(de)? else {
        return Ok(None);
    };
    for entry in &entries {
        let Some(schedule) = entry.get("schedule").and_then(serde_json::Value::as_str) else {
            return Err(D::Error::custom(
                "each entry needs a schedule; write one such as {schedule: \"*/5 * * * *\"}",
            ));
        };
        schedule::check(schedule).map_err(D::Error::custom)?;
    }
    Ok(Some(entries))
}

fn method<'de, D: Deserializer<'de>>(de: D) -> Result<String, D::Error> {
    let method = String::deserialize(de)?;
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if method.is_empty() || !method.bytes().all(is_token) {
        return Err(D::Error::custom(format!(
            "{method:?} is no HTTP method; use one such as GET, or * for all"
        )));
    }
    // HTTP methods are case-sensitive, and those in use are upper case; nobody means `get` literally.
    Ok(method.to_ascii_uppercase())
}

/// Reads environment variables, with every scalar as its text, since people write `PORT: 8080` and `DEBUG: true`.
///
/// A key without a value is the empty string.
fn environment<'de, D: Deserializer<'de>>(
    de: D,
) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    let Some(written) = Option::<BTreeMap<String, Option<String>>>::deserialize(de)? else {
        return Ok(None);
    };
    let mut environment = BTreeMap::new();
    for (key, value) in written {
        let value = value.unwrap_or_default();
        if key.is_empty() || key.contains(['=', '\0']) {
            return Err(D::Error::custom(format!(
                "variable name {key:?} is empty or holds '=' or NUL; rename it"
            )));
        }
        if value.contains('\0') {
            return Err(D::Error::custom(format!(
                "the value of {key:?} holds NUL, which no environment can carry; encode it"
            )));
        }
        environment.insert(key, value);
    }
    Ok(Some(environment))
}

impl From<Document> for FunctionConfig {
    fn from(document: Document) -> Self {
        let default = Self::default();
        let triggers = document.triggers.unwrap_or_default();
        let http = triggers
            .http
            .map(|list| list.into_iter().map(|t| t.method).collect::<Vec<_>>())
            .filter(|methods| !methods.iter().any(|m| m == "*"));
        Self {
            triggers: Triggers {
                http,
                cron: triggers.cron.unwrap_or_default(),
                kafka: triggers.kafka.unwrap_or_default(),
            },
            environment: document.environment,
            reuse_sandbox: document.reuse_sandbox.unwrap_or(default.reuse_sandbox),
            limits: document.limits.unwrap_or_default(),
            concurrency: document.concurrency.unwrap_or(default.concurrency),
            instances: document.instances.map_or(default.instances, |i| i.0),
            network: document.network,
            oom: document.oom.unwrap_or(default.oom),
            errors: document.errors,
        }
    }
}
