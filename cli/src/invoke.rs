//! `ol invoke NAME`: calls a function and prints what it answers.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use ol_model::FunctionName;
use serde_json::{Map, Value, json};
use ureq::Body;
use ureq::http::{Method, Response};

use crate::at::At;
use crate::client::{Client, error_text};
use crate::out::Out;

mod timing;

use timing::Timing;

#[derive(Debug, Args)]
pub(crate) struct Invoke {
    /// The function; a path and a query may follow, as in NAME/path?key=value
    #[arg(value_parser = parse_target)]
    name: String,
    /// The body to send, JSON for an ordinary function
    #[arg(short, long, value_name = "JSON", conflicts_with = "file")]
    data: Option<String>,
    /// A file with the body to send; - reads standard input
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// The HTTP method
    #[arg(short = 'X', long, default_value = "POST")]
    method: Method,
    /// Print on standard error how long it took, and where in the worker the time went
    #[arg(long)]
    timing: bool,
    #[command(flatten)]
    at: At,
}

/// Checks the function's name at the beginning; the rest is passed on to the function.
pub(crate) fn parse_target(text: &str) -> Result<String, ol_model::NameError> {
    let end = text.find(['/', '?']).unwrap_or(text.len());
    FunctionName::parse(&text[..end]).map(|_| text.to_owned())
}

impl Invoke {
    pub(crate) fn run(self, out: Out) -> Result<ExitCode> {
        let client = Client::public(self.at.open()?)?;
        let body = match (&self.data, &self.file) {
            (Some(data), _) => data.clone().into_bytes(),
            (None, Some(file)) => read(file)?,
            (None, None) => Vec::new(),
        };
        let path = format!("/run/{}", self.name);
        let started = Instant::now();
        let mut headers = Vec::new();
        headers.extend((!body.is_empty()).then_some(("content-type", "application/json")));
        headers.extend(self.timing.then_some((timing::HEADER, "1")));
        let mut answer = client.send(self.method, &path, &headers, &body[..])?;
        let timing = self
            .timing
            .then(|| Timing::read(&answer, started.elapsed()));
        let status = answer.status();
        let failed = status.is_client_error() || status.is_server_error();
        if out.is_json() {
            print_json(out, &mut answer, started, timing.as_ref())?;
        } else if failed {
            let text = error_text(&mut answer);
            out.note(format_args!(
                "error: {} answered {status}: {text}",
                self.name
            ));
        } else {
            print_body(out, &mut answer)?;
        }
        if let Some(timing) = timing.filter(|_| !out.is_json()) {
            let all = milliseconds(started.elapsed());
            out.note(format_args!("{timing}\nall in all{all:>19.3} ms"));
        }
        Ok(ExitCode::from(u8::from(failed)))
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        io::stdin()
            .read_to_end(&mut bytes)
            .context("failed to read standard input")?;
    } else {
        bytes = fs::read(file)
            .with_context(|| format!("failed to read {}; check its name", file.display()))?;
    }
    Ok(bytes)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Prints the body as it arrives, so that a stream is visible while it runs.
fn print_body(out: Out, answer: &mut Response<Body>) -> Result<()> {
    let mut reader = answer.body_mut().as_reader();
    let mut buffer = vec![0; 64 << 10];
    let mut last = b'\n';
    let mut shown = out.answer();
    loop {
        let read = reader
            .read(&mut buffer)
            .context("the answer broke off; see the function's log with `ol logs`")?;
        let Some(end) = buffer[..read].last() else {
            break;
        };
        last = *end;
        shown.part(&buffer[..read]);
    }
    shown.end(last);
    Ok(())
}

fn print_json(
    out: Out,
    answer: &mut Response<Body>,
    started: Instant,
    timing: Option<&Timing>,
) -> Result<()> {
    let mut bytes = Vec::new();
    answer
        .body_mut()
        .as_reader()
        .read_to_end(&mut bytes)
        .context("the answer broke off; see the function's log with `ol logs`")?;
    let ms = (milliseconds(started.elapsed()) * 10.0).round() / 10.0;
    let body = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
    let headers: Map<String, Value> = answer
        .headers()
        .iter()
        .map(|(name, value)| {
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.to_string(), Value::String(text))
        })
        .collect();
    let status = answer.status().as_u16();
    let mut value = json!({"status": status, "headers": headers, "body": body, "ms": ms});
    if let Some(timing) = timing {
        value["timing"] = timing.value();
    }
    out.result(&value, "");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::parse_target;

    #[test]
    fn a_path_may_follow_the_name_but_none_may_lead_elsewhere() {
        for good in ["f", "f/a/b?c=d", "f?x"] {
            assert_eq!(parse_target(good).ok().as_deref(), Some(good));
        }
        for bad in ["", "/f", "../registry/f", "a b"] {
            assert!(parse_target(bad).is_err(), "{bad}");
        }
    }
}
