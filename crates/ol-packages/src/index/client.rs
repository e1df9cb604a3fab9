//! Fetches pages and the files that they link from an index, outside a sandbox. Blocking.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ureq::Agent;
use ureq::http::Response;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Body, Proxy};
use url::Url;

use super::guard::{Guard, Strayed, permitted};
use super::location::bare_host;
use super::page::{self, Page};
use super::{FileLink, Index, IndexUrl, masked};

/// The largest page that is read, in bytes. PyPI's largest (of a project with ten thousand files) is 20 MB.
const LARGEST_PAGE: u64 = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(30);
/// Idle connections kept per host, to share between concurrent fetches; ureq's default is three.
const IDLE: usize = 8;
const REDIRECTS: usize = 5;
const KINDS: &str = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1";

/// Why an index didn't answer properly. No message contains a password.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The index can't be reached.
    #[error("the package index {host} can't be reached: {why}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// What the system says.
        why: String,
    },
    /// The index answered with an error.
    #[error("the package index answered {status} for {url}")]
    Status {
        /// The status code.
        status: u16,
        /// Without credentials.
        url: String,
    },
    /// A page or redirect names a host that must not be asked, like one in a private network.
    #[error(
        "{host} {why}; if that is your own index, name it in pip_mirror or packages.hosts of config.json"
    )]
    Refused {
        /// Host and port.
        host: String,
        /// The rest of the sentence that begins with the host.
        why: String,
    },
    /// The answer is no page of an index.
    #[error("{url} is not a page of a package index: {why}")]
    Garbage {
        /// Without credentials.
        url: String,
        /// What is wrong with it.
        why: String,
    },
}

/// A client for one host's indexes. Threads may share a client and its connections.
#[derive(Debug)]
pub struct Client {
    index: Index,
    agent: Agent,
}

impl Client {
    /// Makes a client with the index's certificates and proxy.
    #[must_use]
    pub fn new(index: &Index) -> Self {
        let roots = index
            .certificates
            .as_ref()
            .map_or(RootCerts::WebPki, |found| {
                let items = parse_pem(&found.pem).filter_map(Result::ok);
                let certificates = items.filter_map(|item| match item {
                    PemItem::Certificate(certificate) => Some(certificate),
                    _ => None,
                });
                RootCerts::Specific(Arc::new(certificates.collect()))
            });
        let config = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections_per_host(IDLE)
            .max_idle_connections(2 * IDLE)
            .user_agent(concat!("ol-packages/", env!("CARGO_PKG_VERSION")))
            .proxy(None)
            .build();
        let guard = Guard::of(index);
        Self {
            index: index.clone(),
            agent: Agent::with_parts(config, DefaultConnector::default(), guard),
        }
    }

    /// All indexes, in the order in which they are asked.
    pub fn indexes(&self) -> impl Iterator<Item = &IndexUrl> {
        self.index.urls()
    }

    /// The page of a project on the first index that has it; `None` when none does.
    ///
    /// # Errors
    /// When an index can't be reached, answers with an error, or with something that is no page.
    pub fn page(&self, project: &str) -> Result<Option<Page>, ClientError> {
        for url in self.index.urls() {
            if let Some(page) = self.page_of(url, project, PATIENCE)? {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }

    /// The page of a project on one index; `None` when it has none.
    ///
    /// # Errors
    /// As for [`Client::page`]; also when it takes longer than `within`.
    pub fn page_of(
        &self,
        index: &IndexUrl,
        project: &str,
        within: Duration,
    ) -> Result<Option<Page>, ClientError> {
        let url = index.page(project);
        let (mut answer, url) = self.get(&url, Some(KINDS), within)?;
        match answer.status().as_u16() {
            200 => {}
            404 => return Ok(None),
            status => {
                return Err(ClientError::Status {
                    status,
                    url: shown(&url),
                });
            }
        }
        let garbage = |why: String| ClientError::Garbage {
            url: shown(&url),
            why,
        };
        let kind = answer.headers().get("content-type");
        let kind = kind
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
            .to_ascii_lowercase();
        let body = answer
            .body_mut()
            .with_config()
            .limit(LARGEST_PAGE)
            .read_to_vec();
        let body = body.map_err(|error| garbage(error.to_string()))?;
        page::parse(&kind, &body, &url)
            .map(Some)
            .map_err(|error| garbage(error.to_string()))
    }

    /// Opens a file: its bytes, and its length if the server says so. Reading fails once `within` has passed.
    ///
    /// # Errors
    /// When its server can't be reached or answers with an error.
    pub fn file(
        &self,
        file: &FileLink,
        within: Duration,
    ) -> Result<(impl Read + use<>, Option<u64>), ClientError> {
        let (answer, url) = self.get(&file.url, None, within)?;
        let status = answer.status().as_u16();
        if status != 200 {
            return Err(ClientError::Status {
                status,
                url: shown(&url),
            });
        }
        let body = answer.into_body();
        let length = body.content_length();
        Ok((body.into_reader(), length))
    }

    /// Sends a request and follows redirects; returns the answer and the last URL.
    fn get(
        &self,
        url: &Url,
        accept: Option<&str>,
        within: Duration,
    ) -> Result<(Response<Body>, Url), ClientError> {
        let mut url = url.clone();
        let until = Instant::now() + within;
        for _ in 0..=REDIRECTS {
            let left = until.saturating_duration_since(Instant::now());
            let answer = self.get_once(&url, accept, left)?;
            let Some(next) = redirected(&answer, &url) else {
                return Ok((answer, url));
            };
            url = next;
        }
        let (host, port) = place(&url);
        Err(ClientError::Unreachable {
            host: format!("{host}:{port}"),
            why: format!("it sends on more than {REDIRECTS} times"),
        })
    }

    fn get_once(
        &self,
        url: &Url,
        accept: Option<&str>,
        within: Duration,
    ) -> Result<Response<Body>, ClientError> {
        let (host, port) = place(url);
        let unreachable = |why: String| ClientError::Unreachable {
            host: format!("{host}:{port}"),
            why,
        };
        permitted(&self.index.destinations, &host, port).map_err(|strayed| refused(&strayed))?;
        let upstream = self
            .index
            .upstream
            .toward(url.scheme() == "https", &host, port);
        let proxy = upstream
            .map(|proxy| Proxy::new(proxy.with_secrets()))
            .transpose();
        let proxy = proxy.map_err(|error| unreachable(error.to_string()))?;
        let mut request = self.agent.get(url.as_str());
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        let own = self.index.urls().find(|index| index.is_origin_of(url));
        if let Some((user, password)) = own.and_then(IndexUrl::credentials) {
            let basic = STANDARD.encode(format!("{user}:{password}"));
            request = request.header("authorization", format!("Basic {basic}"));
        }
        let configured = request.config().proxy(proxy).timeout_global(Some(within));
        configured
            .build()
            .call()
            .map_err(|error| match Strayed::of(&error) {
                Some(strayed) => refused(strayed),
                None => unreachable(error.to_string()),
            })
    }
}

fn refused(strayed: &Strayed) -> ClientError {
    ClientError::Refused {
        host: strayed.host.clone(),
        why: strayed.why.clone(),
    }
}

/// A URL for messages, without parts that may be secret.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    masked(url.as_str())
}

/// Where a redirect leads; `None` also if it leads from https to http.
fn redirected(answer: &Response<Body>, url: &Url) -> Option<Url> {
    if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let to = answer.headers().get("location")?.to_str().ok()?;
    let to = url.join(to).ok()?;
    (to.scheme() == url.scheme() || to.scheme() == "https").then_some(to)
}

fn place(url: &Url) -> (String, u16) {
    (bare_host(url), url.port_or_known_default().unwrap_or(443))
}
