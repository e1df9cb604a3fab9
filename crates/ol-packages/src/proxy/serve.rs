//! Accepts connections and answers their requests.
//!
//! One task owns the connections, in a set that ends them when dropped; [`Proxy`] owns that task. A tunnel runs in its connection's task,
//! hence ends with it.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use super::metered::{Activity, Meter, Metered};
use super::report::{Notes, ProxyReport, Refusal, Trouble};
use super::target::{self, Way};
use super::{ProxyRules, dial, plain};
use crate::index::Destination;

type Body = BoxBody<Bytes, hyper::Error>;

/// A running proxy. Dropping it closes its listener and all its connections.
#[derive(Debug)]
pub struct Proxy {
    task: AbortHandle,
    notes: Notes,
    carried: Arc<AtomicU64>,
}

impl Proxy {
    /// What was refused or went wrong so far.
    #[must_use]
    pub fn report(&self) -> ProxyReport {
        ProxyReport {
            bytes: self.carried.load(Ordering::Relaxed),
            ..self.notes.read()
        }
    }

    /// Closes everything now, so that nothing leaves the sandbox any more. Returns what was refused or went wrong.
    pub fn close(self) -> ProxyReport {
        self.task.abort();
        self.report()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Doesn't block: the runtime drops the task, and thereby the listener and the set of connections.
        self.task.abort();
    }
}

/// Serves on a listener until the returned value is dropped. Must be called inside a tokio runtime.
#[must_use]
pub fn serve(listener: TcpListener, rules: ProxyRules) -> Proxy {
    let notes = Notes::default();
    let carried = Arc::new(AtomicU64::new(0));
    let meter = Meter {
        carried: Arc::clone(&carried),
        total: rules.limits.total_bytes,
        idle: rules.limits.idle,
        notes: notes.clone(),
    };
    let task = tokio::spawn(accept(listener, Arc::new(rules), meter)).abort_handle();
    Proxy {
        task,
        notes,
        carried,
    }
}

async fn accept(listener: TcpListener, rules: Arc<ProxyRules>, meter: Meter) {
    let permits = Arc::new(Semaphore::new(rules.limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let permit = Arc::clone(&permits)
            .acquire_owned()
            .await
            .expect("it is never closed");
        // Removes ended connections, which the set would otherwise keep for ever.
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = Connection {
                    rules: Arc::clone(&rules),
                    meter: meter.clone(),
                    activity: Activity::new(),
                    tunnel: Arc::default(),
                };
                connections.spawn(async move {
                    connection.run(stream).await;
                    drop(permit);
                });
            }
            // No file descriptors left, or the client already left: neither may end the proxy nor make it spin.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// What remains to be done for a `CONNECT` after its answer is sent.
type Tunnel = (OnUpgrade, Metered);

#[derive(Clone)]
struct Connection {
    rules: Arc<ProxyRules>,
    meter: Meter,
    activity: Activity,
    tunnel: Arc<Mutex<Option<Tunnel>>>,
}

impl Connection {
    async fn run(self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let client = Metered::new(stream, self.meter.clone(), self.activity.clone(), true);
        let answer = |request| {
            let this = self.clone();
            async move { Ok::<_, Infallible>(this.answer(request).await) }
        };
        let served = http1::Builder::new()
            // A client that closed its sending side still waits for its answer.
            .half_close(true)
            .max_buf_size(self.rules.limits.head_bytes)
            .serve_connection(TokioIo::new(client), service_fn(answer))
            .with_upgrades()
            .await;
        if served.is_err_and(|error| error.is_parse_too_large()) {
            self.meter.notes.trouble(Trouble::LongHead {
                bytes: self.rules.limits.head_bytes,
            });
        }
        let tunnel = self
            .tunnel
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some((upgrade, mut index)) = tunnel
            && let Ok(client) = upgrade.await
        {
            // Errors concern only the two ends; exceeded limits were noted where they were detected.
            let _ = copy_bidirectional(&mut TokioIo::new(client), &mut index).await;
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let asked = target::of(request.method(), request.uri(), request.headers());
        let judged = match &asked {
            Ok(target) => self.rules.judge(target).map(|to| (target.way, to)),
            Err((host, reason)) => Err(Refusal {
                host: host.clone(),
                port: 0,
                reason,
            }),
        };
        let (way, to) = match judged {
            Ok(judged) => judged,
            Err(refusal) => {
                let text = format!("refused: {refusal}\n");
                self.meter.notes.refused(refusal);
                return say(StatusCode::FORBIDDEN, text);
            }
        };
        self.activity.leads_to(&to.to_string());
        let done = match way {
            Way::Tunnel => self.tunnel(request, to).await,
            Way::Plain => self.plain(&request, to).await,
        };
        done.unwrap_or_else(|trouble| {
            let text = format!("failed: {trouble}\n");
            self.meter.notes.trouble(trouble);
            say(StatusCode::BAD_GATEWAY, text)
        })
    }

    async fn tunnel(
        &self,
        request: Request<Incoming>,
        to: &Destination,
    ) -> Result<Response<Body>, Trouble> {
        let patience = self.rules.limits.connect;
        let stream = match self.rules.upstream.toward(true, &to.host, to.port) {
            Some(proxy) => dial::through(proxy, to, patience).await?,
            None => dial::directly(to, patience).await?,
        };
        let tunnel = (hyper::upgrade::on(request), self.outward(stream));
        *self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
        Ok(Response::new(empty()))
    }

    async fn plain(
        &self,
        request: &Request<Incoming>,
        to: &Destination,
    ) -> Result<Response<Body>, Trouble> {
        let patience = self.rules.limits.connect;
        let proxy = self.rules.upstream.toward(false, &to.host, to.port);
        let stream = match proxy {
            Some(proxy) => dial::to_proxy(proxy, patience).await?,
            None => dial::directly(to, patience).await?,
        };
        let authorization = proxy.and_then(crate::index::ProxyAddress::authorization);
        let passed = plain::pass_on(
            request,
            self.outward(stream),
            proxy.is_some(),
            authorization.as_deref(),
        )
        .await;
        let answer = passed.map_err(|error| Trouble::Unreachable {
            host: to.to_string(),
            why: error.to_string(),
        })?;
        Ok(answer.map(BodyExt::boxed))
    }

    fn outward(&self, stream: TcpStream) -> Metered {
        self.activity.now();
        Metered::new(stream, self.meter.clone(), self.activity.clone(), false)
    }
}

fn empty() -> Body {
    Full::default().map_err(|never| match never {}).boxed()
}

fn say(status: StatusCode, text: String) -> Response<Body> {
    let mut answer = Response::new(Full::from(text).map_err(|never| match never {}).boxed());
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    answer
}
