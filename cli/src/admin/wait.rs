//! Waits until an uploaded function is ready, and shows the progress.
//!
//! There is no polling: the worker answers once there is a next step.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::{Context as _, Result, bail};
use ol_model::FunctionName;
use serde_json::Value;
use ureq::http::Method;

use crate::client::{Client, error_text};
use crate::out::Out;

/// How many seconds the worker may delay an answer.
const HELD: u32 = 30;

/// How the preparation of a function ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Ready {
        /// Each as NAME==VERSION.
        packages: Vec<String>,
        /// If the function wasn't tried before it went into service: why not.
        untried: Option<String>,
    },
    Failed {
        /// The worker's error.
        why: String,
        /// Whether an earlier version is in service.
        before: bool,
    },
}

/// The worker's answer about a function.
#[derive(Debug, PartialEq, Eq)]
enum Now {
    Step { number: u64, what: String },
    Over(Outcome),
}

/// Returns when the function is ready or has failed.
pub(super) fn wait(out: Out, client: &Client, name: &FunctionName) -> Result<Outcome> {
    let mut path = format!("/registry/{name}/config");
    let mut line = Line::new(out);
    loop {
        let mut answer = client.ask(Method::GET, &path)?;
        if !answer.status().is_success() {
            let (status, text) = (answer.status(), error_text(&mut answer));
            bail!("{name} is uploaded, but what became of it is not known: {status}: {text}");
        }
        let text = answer.body_mut().read_to_string();
        let text = text.context("failed to read how far the worker is; install it again")?;
        match read(&text)? {
            Now::Over(outcome) => return Ok(outcome),
            Now::Step { number, what } => {
                line.show(number, &what);
                path = format!("/registry/{name}/config?wait={HELD}&after={number}");
            }
        }
    }
}

fn read(text: &str) -> Result<Now> {
    let state: Value = serde_json::from_str(text).context("the worker's answer is no JSON")?;
    let now = &state["Preparation"];
    let words = |key: &str| now[key].as_str().unwrap_or_default().to_owned();
    Ok(match now["state"].as_str() {
        Some("preparing") => Now::Step {
            number: now["number"].as_u64().unwrap_or_default(),
            what: words("step"),
        },
        Some("failed") => Now::Over(Outcome::Failed {
            why: words("error"),
            before: state.get("Granted").is_some(),
        }),
        Some("ready") => {
            let packages = state["Packages"]["packages"].as_array();
            let part = |package: &Value, key: &str| package[key].as_str().unwrap_or("?").to_owned();
            let pins = packages.into_iter().flatten();
            let pins = pins.map(|p| format!("{}=={}", part(p, "name"), part(p, "version")));
            Now::Over(Outcome::Ready {
                packages: pins.collect(),
                untried: now["untried"].as_str().map(str::to_owned),
            })
        }
        _ => bail!(
            "the worker doesn't say how far it is; its version is another than this program's"
        ),
    })
}

/// Shows progress: on a terminal one line that is overwritten, elsewhere a line for each step.
struct Line {
    out: Out,
    changes: bool,
    shown: Option<u64>,
}

impl Line {
    fn new(out: Out) -> Self {
        Self {
            out,
            changes: io::stderr().is_terminal(),
            shown: None,
        }
    }

    fn show(&mut self, number: u64, what: &str) {
        if self.shown.replace(number) == Some(number) {
            return;
        }
        if self.changes {
            // If standard error is closed, there is nobody to tell.
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "\r\x1b[2K{what}…").and_then(|()| stderr.flush());
        } else {
            self.out.note(what);
        }
    }
}

/// Clears the progress line, so that the next output begins on an empty line.
impl Drop for Line {
    fn drop(&mut self) {
        if self.changes && self.shown.is_some() {
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "\r\x1b[2K").and_then(|()| stderr.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_worker_says_is_read() {
        let step = r#"{"Preparation": {"state": "preparing", "step": "unpacking", "number": 2}}"#;
        let what = "unpacking".to_owned();
        assert_eq!(read(step).ok(), Some(Now::Step { number: 2, what }));
        let packages = r#"{"Granted": {}, "Preparation": {"state": "ready"},
            "Packages": {"packages": [{"name": "a", "version": "1"}]}}"#;
        let packages = (packages, vec!["a==1".to_owned()]);
        for (text, packages) in [packages, (r#"{"Preparation": {"state": "ready"}}"#, vec![])] {
            let untried = None;
            let ready = Now::Over(Outcome::Ready { packages, untried });
            assert_eq!(read(text).ok(), Some(ready));
        }
        let untried = r#"{"Preparation": {"state": "ready", "untried": "no memory"}}"#;
        let ready = Now::Over(Outcome::Ready {
            packages: vec![],
            untried: Some("no memory".to_owned()),
        });
        assert_eq!(read(untried).ok(), Some(ready));
        for (rest, before) in [("", false), (r#", "Granted": {}"#, true)] {
            let text = format!(r#"{{"Preparation": {{"state": "failed", "error": "no"}}{rest}}}"#);
            let why = "no".to_owned();
            let failed = Now::Over(Outcome::Failed { why, before });
            assert_eq!(read(&text).ok(), Some(failed));
        }
        for wrong in ["", "{}", r#"{"Preparation": {"state": "x"}}"#] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
