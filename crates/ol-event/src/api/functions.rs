//! What the worker tells of a function: its configuration, its packages, and how far the preparation of a newer version is.

use super::control::{Context, Door, Refusal, named, refuse};
use crate::respond::Problem;
use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::response::IntoResponse;
use http::{HeaderMap, StatusCode};
use ol_lambda::{FunctionState, Preparation};
use serde_json::{Value, json};
use std::time::Duration;

/// How many seconds an answer may wait at most.
const LONGEST: u64 = 60;

/// What is shown instead of a variable's value.
const HIDDEN: &str = "***";

/// Answers `GET /registry/NAME/config`.
///
/// The document has the original OpenLambda's keys, then this project's, the granted limits, the packages, and the newest version's
/// preparation.
///
/// `?values=1`: also shows the values of variables, which are often secrets; on the worker's own socket only.
///
/// `?wait=SECONDS&after=NUMBER`: the answer waits, for at most SECONDS, while the preparation is still at the step of that number.
pub(super) async fn config(
    State(context): State<Context>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Refusal> {
    let name = named(&name, &headers)?;
    let query = query.as_deref().unwrap_or_default();
    let values = context.door == Door::Socket && query.split('&').any(|pair| pair == "values=1");
    let seen = match seen(query) {
        Ok(seen) => seen,
        Err(why) => {
            let problem = Problem::new(StatusCode::BAD_REQUEST, "bad-request", why);
            return Err(refuse(problem, headers));
        }
    };
    match context.lambdas.state(&name, seen).await {
        Ok(state) => Ok(Json(document(state, values))),
        Err(error) => Err(refuse(error, headers)),
    }
}

/// The number of the step that the caller has seen, and how long it waits for the next one.
fn seen(query: &str) -> Result<Option<(u64, Duration)>, String> {
    let (mut wait, mut after) = (None, 0);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let number = || {
            let why = || format!("{key} in the query is no whole number; write {key}=NUMBER");
            value.parse::<u64>().map_err(|_| why())
        };
        match key {
            "wait" => wait = Some(number()?),
            "after" => after = number()?,
            // Unknown keys are ignored, as on every other route.
            _ => {}
        }
    }
    Ok(wait.map(|seconds| (after, Duration::from_secs(seconds.min(LONGEST)))))
}

fn document(state: FunctionState, values: bool) -> Value {
    let mut document = match state.serving {
        None => json!({}),
        Some(serving) => {
            let mut document = serde_json::to_value(serving.config).unwrap_or_default();
            if let Some(variables) = document["Environment"].as_object_mut().filter(|_| !values) {
                variables
                    .values_mut()
                    .for_each(|value| *value = HIDDEN.into());
            }
            let limits = serving.limits;
            document["Granted"] = json!({
                "procs": limits.procs,
                "mem_mb": limits.mem.0,
                "cpu_percent": limits.cpu.0,
                "runtime_sec": limits.runtime.as_secs(),
                "scratch_mb": limits.scratch.0,
            });
            if let Some(lock) = serving.lock {
                document["Packages"] = lock;
            }
            document
        }
    };
    document["Preparation"] = match state.preparation {
        Preparation::Ready => json!({"state": "ready"}),
        Preparation::Untried(why) => json!({"state": "ready", "untried": why}),
        Preparation::Preparing { number, step } => {
            json!({"state": "preparing", "step": step, "number": number})
        }
        Preparation::Failed(error) => json!({"state": "failed", "error": error.trim_end()}),
    };
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_caller_has_seen_is_read() {
        let waits = |after, seconds| Ok(Some((after, Duration::from_secs(seconds))));
        assert_eq!(seen(""), Ok(None));
        assert_eq!(seen("after=3"), Ok(None));
        assert_eq!(seen("wait=5"), waits(0, 5));
        assert_eq!(seen("after=3&x&wait=5"), waits(3, 5));
        assert_eq!(seen("wait=99999999"), waits(0, LONGEST));
        for wrong in ["wait", "wait=", "wait=1.5", "after=-1&wait=1"] {
            let why = seen(wrong).expect_err(wrong);
            assert!(why.contains("=NUMBER"), "{why}");
        }
    }

    #[test]
    fn a_function_without_a_version_has_only_its_preparation() {
        let state = FunctionState {
            serving: None,
            preparation: Preparation::Failed("no such package\n".to_owned()),
        };
        assert_eq!(
            document(state, false),
            json!({"Preparation": {"state": "failed", "error": "no such package"}})
        );
    }
}
