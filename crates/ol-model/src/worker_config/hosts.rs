//! The names under which the worker answers, and who can reach it: `worker_url` and `allowed_hosts`.

use std::net::IpAddr;

use super::WorkerConfig;
use super::error::WorkerConfigError;
use super::validate::value;

/// The longest name that DNS allows.
const LONGEST: usize = 253;

pub(super) fn validate(config: &WorkerConfig) -> Result<(), WorkerConfigError> {
    let refused =
        |text: &&String| *text != "*" && !is_name(text.strip_prefix("*.").unwrap_or(text));
    match config.allowed_hosts.iter().find(refused) {
        None => Ok(()),
        Some(text) => Err(value(
            "allowed_hosts",
            format!(
                "{text:?} is no host name; write NAME without scheme and port, as app.example.com, *.NAME for all names below it, or * for any"
            ),
        )),
    }
}

/// Whether `text` is a host name: letters, digits, `-` and `_`, separated by dots, with at most one dot at the end.
fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        let known = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !label.is_empty() && label.bytes().all(known)
    };
    let text = text.strip_suffix('.').unwrap_or(text);
    text.len() <= LONGEST && text.split('.').all(label)
}

impl WorkerConfig {
    /// Host name or address to listen on.
    #[must_use]
    pub fn host_to_listen_on(&self) -> &str {
        if self.worker_url.is_empty() {
            "localhost"
        } else {
            &self.worker_url
        }
    }

    /// The names under which requests may ask for this worker, in addition to `localhost` and addresses.
    ///
    /// `*.NAME` means all names below NAME, `*` means any name.
    #[must_use]
    pub fn host_names(&self) -> Vec<String> {
        let own = std::iter::once(self.host_to_listen_on());
        own.chain(self.allowed_hosts.iter().map(String::as_str))
            .map(str::to_owned)
            .collect()
    }

    /// Whether only this machine can reach the worker. A name other than `localhost` may mean any address, so it counts as reachable.
    #[must_use]
    pub fn is_for_this_machine_only(&self) -> bool {
        let host = self.host_to_listen_on();
        host.eq_ignore_ascii_case("localhost")
            || host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostFacts;
    use std::path::Path;

    fn config() -> WorkerConfig {
        WorkerConfig::defaults(
            Path::new("/w"),
            &HostFacts {
                memory_mb: 4096,
                cores: 2,
            },
        )
    }

    #[test]
    fn names_are_names() {
        for good in ["app", "app.example.com.", "*.example.com", "*", "a_b-c.9"] {
            let config = WorkerConfig {
                allowed_hosts: vec![good.to_owned()],
                ..config()
            };
            assert_eq!(config.validate(), Ok(()), "{good}");
        }
        for bad in [
            "",
            ".",
            "a..b",
            "http://a",
            "a:80",
            "a b",
            "*a",
            "*.",
            "a.*",
            "ä",
            &"a".repeat(254),
        ] {
            let config = WorkerConfig {
                allowed_hosts: vec![bad.to_owned()],
                ..config()
            };
            let error = config.validate().expect_err(bad).to_string();
            assert!(error.contains("allowed_hosts"), "{error}");
        }
    }

    #[test]
    fn loopback_is_told_from_what_others_reach() {
        for (url, local) in [
            ("", true),
            ("localhost", true),
            ("LOCALHOST", true),
            ("127.0.0.1", true),
            ("127.1.2.3", true),
            ("::1", true),
            ("0.0.0.0", false),
            ("::", false),
            ("10.0.0.1", false),
            ("worker.example.com", false),
        ] {
            let config = WorkerConfig {
                worker_url: url.to_owned(),
                ..config()
            };
            assert_eq!(config.is_for_this_machine_only(), local, "{url}");
        }
    }
}
