//! HTTP to a worker: to its public address, or to the operator's socket in its directory.

use std::fs;
use std::io::{self, Read};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use ol_worker::directory::Directory;
use ureq::config::Config;
use ureq::http::{Method, Request, Response};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector as _, TcpConnector};
use ureq::{Agent, AsSendBody, Body};

use crate::private_socket::PrivateSocket;
use crate::process;

/// The most bytes of an error's text that are shown.
const ERROR_BYTES: u64 = 64 << 10;

/// A connection to a directory's worker.
pub(crate) struct Client {
    agent: Agent,
    url: String,
    directory: Directory,
}

impl Client {
    /// For the operator of the worker in `directory`: uses the operator's socket if this user may open it.
    pub(crate) fn new(directory: Directory) -> Result<Self> {
        let socket = PrivateSocket(directory.socket());
        let connector = socket.chain(TcpConnector::default());
        Self::by(directory, |config| {
            Agent::with_parts(config, connector, DefaultResolver::default())
        })
    }

    /// For a caller of functions: uses the public address, like any client.
    pub(crate) fn public(directory: Directory) -> Result<Self> {
        Self::by(directory, Agent::new_with_config)
    }

    fn by(directory: Directory, agent: impl FnOnce(Config) -> Agent) -> Result<Self> {
        let url = url(&directory)?;
        // Error statuses and redirects are passed on, because they may be the function's answer. Proxies are for the network, not for this
        // machine.
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .allow_non_standard_methods(true)
            .proxy(None)
            .timeout_connect(Some(Duration::from_secs(5)))
            .user_agent(concat!("ol/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self {
            agent: agent(config),
            url,
            directory,
        })
    }

    /// The worker's URL, without a slash at the end.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Sends a request to `path` (which begins with a slash) and returns the answer, whatever its status.
    ///
    /// There is no time limit, because the worker has its own.
    pub(crate) fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsSendBody,
    ) -> Result<Response<Body>> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(body)
            .with_context(|| format!("{path:?} can't stand in a URL; encode it"))?;
        self.agent.run(request).map_err(|error| {
            let dir = self.directory.root().display();
            match error {
                ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    anyhow!(
                        "no worker answers at {}; start it with `ol worker up -d -p {dir}`",
                        self.url
                    )
                }
                other => anyhow::Error::new(other).context(format!(
                    "failed to talk to the worker at {}; see `ol worker status -p {dir}`",
                    self.url
                )),
            }
        })
    }

    /// Sends a request with an empty body.
    pub(crate) fn ask(&self, method: Method, path: &str) -> Result<Response<Body>> {
        self.send(method, path, &[], ())
    }
}

/// The text of an error answer, for use in a message.
pub(crate) fn error_text(answer: &mut Response<Body>) -> String {
    let mut bytes = Vec::new();
    let read = answer.body_mut().as_reader().take(ERROR_BYTES);
    match { read }.read_to_end(&mut bytes) {
        Ok(_) => String::from_utf8_lossy(&bytes).trim_end().to_owned(),
        Err(error) => format!("(its text was lost: {error})"),
    }
}

/// The URL of the worker in `directory`, from the file that it wrote when it started.
///
/// Fails if no worker runs: after a crash the file is still there, but its port, like the one in the configuration, may belong to another
/// directory's worker by now, which would carry out requests meant for this one.
fn url(directory: &Directory) -> Result<String> {
    let root = directory.root().display();
    if !process::is_running(directory)? {
        bail!("no worker runs in {root}; start it with `ol worker up -d -p {root}`");
    }
    let file = directory.url_file();
    let damaged = |what: &str| {
        anyhow!(
            "{} {what}, so where the worker in {root} answers can't be told; start it again with `ol worker down` and `ol worker up`",
            file.display()
        )
    };
    match fs::read_to_string(&file) {
        Ok(url) if is_url(url.trim()) => Ok(url.trim().trim_end_matches('/').to_owned()),
        Ok(_) => Err(damaged("holds no URL")),
        // A worker writes this file before its pid file: if both are missing, it isn't ready yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !directory.pid_file().exists() => {
            bail!("the worker in {root} is still starting; see `ol worker status -p {root}`")
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(damaged("was removed")),
        Err(error) => Err(damaged(&format!("can't be read ({error})"))),
    }
}

/// Whether `text` is a URL as a worker writes it. Anything else is refused, because the text is used in requests.
fn is_url(text: &str) -> bool {
    text.strip_prefix("http://").is_some_and(|rest| {
        !rest.is_empty()
            && rest
                .bytes()
                .all(|b| b.is_ascii_graphic() && !b"/@?#\\".contains(&b))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_workers_url_is_asked() {
        for good in [
            "http://localhost:5000",
            "http://[::1]:80",
            "http://10.0.0.1:1",
        ] {
            assert!(is_url(good), "{good}");
        }
        for bad in [
            "",
            "http://",
            "https://a",
            "localhost:5000",
            "http://a@b",
            "http://a/b",
            "http://a b",
        ] {
            assert!(!is_url(bad), "{bad}");
        }
    }
}
