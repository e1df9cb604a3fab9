//! `ol packages …`: the packages that functions share. The running worker does the work, because only it knows which are in use.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::json;
use ureq::http::Method;

use crate::at::At;
use crate::client::{Client, error_text};
use crate::out::Out;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the installed packages: size, last use, and the functions that use each now
    Ls(Ls),
    /// Remove packages that no function uses
    Rm(Rm),
    /// Remove packages that no function uses, those unused for longest first, down to a quota
    Gc(Gc),
}

impl Command {
    pub(crate) fn run(self, out: Out) -> Result<ExitCode> {
        match self {
            Self::Ls(command) => command.run(out),
            Self::Rm(command) => command.run(out),
            Self::Gc(command) => command.run(out),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// The packages to remove
    #[arg(required = true, value_name = "NAME==VERSION", value_parser = package)]
    packages: Vec<String>,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Args)]
pub(crate) struct Gc {
    /// How many MiB all packages may have together; 0 removes all that are not in use [default: packages.quota_mb]
    #[arg(long, value_name = "MIB")]
    quota: Option<u32>,
    #[command(flatten)]
    at: At,
}

/// A package as the worker describes it.
#[derive(Debug, Serialize, Deserialize)]
struct Package {
    name: String,
    version: String,
    bytes: u64,
    files: u64,
    /// In seconds since 1970-01-01.
    last_used: u64,
    in_use: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Collected {
    removed: Vec<String>,
    left: u64,
    bytes: u64,
}

impl Ls {
    fn run(self, out: Out) -> Result<ExitCode> {
        let client = Client::new(self.at.open()?)?;
        let packages: Vec<Package> = ask(&client, Method::GET, "/packages", "list the packages")?;
        out.result(&packages, table(&packages, SystemTime::now()));
        Ok(ExitCode::SUCCESS)
    }
}

impl Rm {
    fn run(self, out: Out) -> Result<ExitCode> {
        let client = Client::new(self.at.open()?)?;
        let mut failed = 0;
        for package in &self.packages {
            let mut answer = client.ask(Method::DELETE, &format!("/packages/{package}"))?;
            if answer.status().is_success() {
                let value = json!({"removed": package});
                out.result(&value, format_args!("removed {package}"));
            } else {
                let (status, text) = (answer.status(), error_text(&mut answer));
                out.note(format_args!(
                    "error: {package} was not removed: {status}: {text}"
                ));
                failed += 1;
            }
        }
        match failed {
            0 => Ok(ExitCode::SUCCESS),
            // The reason was printed already.
            _ if self.packages.len() == 1 => Ok(ExitCode::FAILURE),
            _ => bail!(
                "{failed} of {} packages were not removed",
                self.packages.len()
            ),
        }
    }
}

impl Gc {
    fn run(self, out: Out) -> Result<ExitCode> {
        let client = Client::new(self.at.open()?)?;
        let query = self.quota.map(|mib| format!("?quota_mb={mib}"));
        let path = format!("/packages/gc{}", query.unwrap_or_default());
        let collected: Collected = ask(&client, Method::POST, &path, "collect packages")?;
        let mut text = String::new();
        for package in &collected.removed {
            text.push_str(&format!("removed {package}\n"));
        }
        let (left, size) = (collected.left, size(collected.bytes));
        text.push_str(&format!("{left} packages are left, {size}"));
        out.result(&collected, text);
        Ok(ExitCode::SUCCESS)
    }
}

fn ask<T: for<'a> Deserialize<'a>>(
    client: &Client,
    method: Method,
    path: &str,
    what: &str,
) -> Result<T> {
    let mut answer = client.ask(method, path)?;
    if !answer.status().is_success() {
        let status = answer.status();
        bail!("failed to {what}: {status}: {}", error_text(&mut answer));
    }
    let text = answer.body_mut().read_to_string();
    let text =
        text.with_context(|| format!("failed to {what}: the answer was cut off; try again"))?;
    serde_json::from_str(&text).with_context(|| {
        format!("failed to {what}: the worker's version is another than this program's")
    })
}

/// Accepts any text that could be a package's name and version and is safe in a URL; the worker decides whether it is one.
fn package(text: &str) -> Result<String, String> {
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_.+!=".contains(c);
    match text.split_once("==") {
        Some((name, version))
            if !name.is_empty() && !version.is_empty() && text.chars().all(safe) =>
        {
            Ok(text.to_owned())
        }
        _ => Err("write NAME==VERSION, as `ol packages ls` shows it".to_owned()),
    }
}

fn table(packages: &[Package], now: SystemTime) -> String {
    let row = |package: &Package| {
        let used_by = match package.in_use.as_slice() {
            [] => "-".to_owned(),
            functions => functions.join(", "),
        };
        let pin = format!("{}=={}", package.name, package.version);
        let last_used = UNIX_EPOCH + Duration::from_secs(package.last_used);
        let age = now.duration_since(last_used).unwrap_or_default();
        [pin, size(package.bytes), ago(age), used_by]
    };
    let rows: Vec<_> = packages.iter().map(row).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (first, second, third) = (width(0), width(1), width(2));
    let lines = rows.iter().map(|[pin, size, age, used_by]| {
        format!("{pin:first$}  {size:>second$}  {age:>third$}  {used_by}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}

fn ago(age: Duration) -> String {
    match age.as_secs() {
        0..120 => "now".to_owned(),
        seconds @ 120..7200 => format!("{} min ago", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_named_with_its_version() {
        for good in ["six==1.16.0", "a-b==1!2.0+x.1"] {
            assert_eq!(package(good), Ok(good.to_owned()));
        }
        for bad in [
            "six", "==1", "six==", "six==1/2", "../x==1", "six==1?x", "six==%41", "",
        ] {
            assert!(package(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn packages_are_listed_in_columns() {
        let of = |name: &str, bytes, last_used, in_use: &[&str]| Package {
            name: name.to_owned(),
            version: "1".to_owned(),
            bytes,
            files: 1,
            last_used,
            in_use: in_use.iter().map(ToString::to_string).collect(),
        };
        let packages = [of("a", 9, 9_000, &["f", "g"]), of("long", 3 << 20, 0, &[])];
        let now = UNIX_EPOCH + Duration::from_secs(10_000);
        assert_eq!(
            table(&packages, now),
            "a==1     9 bytes  16 min ago  f, g\nlong==1    3 MiB     2 h ago  -"
        );
        assert_eq!(table(&[], now), "");
    }
}
