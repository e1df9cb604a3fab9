//! Connections: accepted, served, and ended in order.

use crate::api::control::{self, Context};
use crate::api::run::{self, Ends};
use crate::api::sandboxes;
use crate::date;
use crate::guard::Guard;
use crate::respond::Problem;
use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ol_lambda::{Direct, Lambdas};
use ol_model::MiB;
use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 8192;

/// What a request may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest body.
    pub body: MiB,
    /// The largest head in bytes.
    pub header_bytes: usize,
    /// The most header lines.
    pub header_lines: usize,
}

/// Where to listen.
pub struct Listeners {
    /// For everybody.
    pub public: TcpListener,
    /// For those who may open the worker's socket file.
    pub private: UnixListener,
}

/// The HTTP server.
pub struct Server {
    /// What `/run` is for, unless sandboxes are driven directly.
    lambdas: Option<Arc<Lambdas>>,
    limits: Limits,
    guard: Guard,
    public: Router,
    private: Router,
}

impl Server {
    /// A server in front of `lambdas`; uploads are kept in `uploads` while they arrive. `names` are those that requests may
    /// ask for beside `localhost` and addresses; `*.NAME` means all below NAME, `*` any.
    #[must_use]
    pub fn new(
        lambdas: Arc<Lambdas>,
        limits: Limits,
        names: Vec<String>,
        uploads: PathBuf,
    ) -> Arc<Self> {
        let context = Context {
            lambdas: Arc::clone(&lambdas),
            uploads,
            max_body: limits.body,
            private: false,
        };
        let (public, private) = (
            control::router(context.clone()),
            control::private_router(context),
        );
        Arc::new(Self {
            lambdas: Some(lambdas),
            limits,
            guard: Guard::new(names),
            public,
            private,
        })
    }

    /// A server in front of sandboxes that are driven directly; `names` as for [`Self::new`].
    #[must_use]
    pub fn of_sandboxes(direct: Arc<Direct>, limits: Limits, names: Vec<String>) -> Arc<Self> {
        Arc::new(Self {
            lambdas: None,
            limits,
            guard: Guard::new(names),
            public: sandboxes::router(Arc::clone(&direct)),
            private: sandboxes::private_router(direct),
        })
    }

    /// Serves until `stop` becomes true; then takes no new connection, lets requests in flight finish for at most
    /// `patience`, and closes the rest. Returns how many were closed so.
    pub async fn serve(
        self: Arc<Self>,
        listeners: Listeners,
        mut stop: watch::Receiver<bool>,
        patience: Duration,
    ) -> usize {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stopped(&mut stop) => break,
                accepted = listeners.public.accept(), if connections.len() < CONNECTIONS => match accepted {
                    Ok((stream, client)) => {
                        // Answers are small and whole: waiting to fill a packet would only delay them.
                        let _ = stream.set_nodelay(true);
                        let ends = Ends {
                            client: Some(client),
                            server: stream.local_addr().ok(),
                        };
                        connections.spawn(Arc::clone(&self).connection(stream, Some(ends), stop.clone()));
                    }
                    Err(error) => pause_after(&error).await,
                },
                accepted = listeners.private.accept() => match accepted {
                    Ok((stream, _)) => drop(connections.spawn(Arc::clone(&self).connection(stream, None, stop.clone()))),
                    Err(error) => pause_after(&error).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
        drop(listeners);
        let finished = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, finished).await.is_err() {
            let cut_off = connections.len();
            connections.shutdown().await;
            return cut_off;
        }
        0
    }

    async fn connection(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        public: Option<Ends>,
        mut stop: watch::Receiver<bool>,
    ) {
        let service = service_fn(|request| {
            let server = Arc::clone(&self);
            async move {
                let mut response = server.answer(request, public).await;
                date::stamp(response.headers_mut());
                Ok::<_, Infallible>(response)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_headers(self.limits.header_lines)
            .max_buf_size(self.limits.header_bytes.max(8 << 10))
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let served = tokio::select! {
            served = &mut connection => served,
            () = stopped(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            tracing::debug!("a connection ended early: {error}");
        }
    }

    async fn answer(
        &self,
        request: http::Request<hyper::body::Incoming>,
        public: Option<Ends>,
    ) -> http::Response<crate::body::ResponseBody> {
        if public.is_some()
            && let Err(refused) = self.guard.check(self.lambdas.is_some(), &request)
        {
            return Problem::from(refused).respond(request.headers());
        }
        if let Some(lambdas) = &self.lambdas
            && run::name_in(request.uri().path()).is_some()
        {
            let ends = public.unwrap_or_default();
            run::run(lambdas, self.limits.body, ends, request).await
        } else {
            let router = match public {
                Some(_) => &self.public,
                None => &self.private,
            };
            control::answer(router.clone(), request).await
        }
    }

    /// What `/stats` shows now, to be kept when the worker ends.
    #[must_use]
    pub fn stats_text(&self) -> String {
        control::stats_text()
    }
}

/// Resolves when it is time to stop, or nobody is left to say so.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Accepting fails when descriptors run out; trying again at once would only spin.
async fn pause_after(error: &io::Error) {
    tracing::warn!("a connection can't be accepted: {error}");
    tokio::time::sleep(Duration::from_millis(20)).await;
}
