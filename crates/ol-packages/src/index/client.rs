//! Asks an index from outside a sandbox: pages, and the files they link. Blocking; call it where waiting is allowed.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ureq::Agent;
use ureq::http::Response;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Body, Proxy};
use url::Url;

use super::location::bare_host;
use super::page::{self, Page};
use super::{FileLink, Index, IndexUrl};

/// PyPI's largest page (of a project with ten thousand files) is 20 MB.
const LARGEST_PAGE: u64 = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(30);
const KINDS: &str = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1";

/// Why an index didn't answer as one. None of the texts holds a password.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing answers there.
    #[error("the package index {host} can't be reached: {why}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// What the system says.
        why: String,
    },
    /// It answered with an error.
    #[error("the package index answered {status} for {url}")]
    Status {
        /// The status code.
        status: u16,
        /// Without credentials.
        url: String,
    },
    /// Its page is none.
    #[error("{url} is not a page of a package index: {why}")]
    Garbage {
        /// Without credentials.
        url: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Asks one index.
#[derive(Debug)]
pub struct Client<'a> {
    index: &'a Index,
    agent: Agent,
}

impl<'a> Client<'a> {
    /// A client that trusts whom the index's settings trust, and goes through their proxy.
    #[must_use]
    pub fn new(index: &'a Index) -> Self {
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
            .user_agent(concat!("ol-packages/", env!("CARGO_PKG_VERSION")))
            .proxy(None)
            .build();
        Self {
            index,
            agent: config.into(),
        }
    }

    /// The page of a project on the first index that has it; `None` when none does.
    ///
    /// # Errors
    /// When an index can't be reached, answers with an error, or with something that is no page.
    pub fn page(&self, project: &str) -> Result<Option<Page>, ClientError> {
        for url in self.index.urls() {
            if let Some(page) = self.page_of(url, project)? {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }

    fn page_of(&self, index: &IndexUrl, project: &str) -> Result<Option<Page>, ClientError> {
        let url = index.page(project);
        let mut answer = self.get(&url, Some(KINDS))?;
        match answer.status().as_u16() {
            200 => {}
            404 => return Ok(None),
            status => {
                return Err(ClientError::Status {
                    status,
                    url: url.into(),
                });
            }
        }
        let garbage = |why: String| ClientError::Garbage {
            url: url.clone().into(),
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

    /// A file's bytes as they come, and how many there will be, if the server says so.
    ///
    /// # Errors
    /// When its server can't be reached or answers with an error.
    pub fn file(&self, file: &FileLink) -> Result<(impl Read + use<>, Option<u64>), ClientError> {
        let answer = self.get(&file.url, None)?;
        let status = answer.status().as_u16();
        if status != 200 {
            return Err(ClientError::Status {
                status,
                url: file.url.clone().into(),
            });
        }
        let body = answer.into_body();
        let length = body.content_length();
        Ok((body.into_reader(), length))
    }

    fn get(&self, url: &Url, accept: Option<&str>) -> Result<Response<Body>, ClientError> {
        let (host, port) = (bare_host(url), url.port_or_known_default().unwrap_or(443));
        let unreachable = |why: String| ClientError::Unreachable {
            host: format!("{host}:{port}"),
            why,
        };
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
        let answer = request.config().proxy(proxy).build().call();
        answer.map_err(|error| unreachable(error.to_string()))
    }
}
