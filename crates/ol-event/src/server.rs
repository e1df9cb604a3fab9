//! Connections: accepted, served, and ended in order.

use crate::api::control::{self, Context, Door};
use crate::api::run::{self, Ends};
use crate::api::sandboxes;
use crate::api::upload::{UploadLimits, Uploads};
use crate::connection;
use crate::crowd::{Crowd, Full};
use crate::discard::linger;
use crate::guard::{Guard, Route};
use crate::head;
use crate::heads::Heads;
use crate::incoming::RequestBody;
use crate::respond::Problem;
use crate::seldom::Seldom;
use crate::sparing::Sparing;
use axum::Router;
use http::StatusCode;
use http::header::{CONNECTION, HeaderValue};
use ol_lambda::{Direct, Lambdas};
use ol_model::MiB;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long a client may take to send the head of a request.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long connections are taken, and requests on those that are idle, once it is time to stop: what callers have sent by then is answered,
/// if only by 503. A connection that is closed over it would leave them in the dark.
const LAST_CALL: Duration = Duration::from_millis(50);

/// Connections by the worker's own socket, at once. They are the operator's, and take none from anybody else.
const PRIVATE: usize = 256;

/// Connections that are told at once why they can't stay.
const TURNED_AWAY: usize = 64;

/// Connections beyond all places, for those who ask whether the worker is well, and how long one may stay.
const SPARE: usize = 32;
const SPARE_TIME: Duration = Duration::from_secs(3);

/// How long one of those may take to hear it.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a request may be, and how many there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest body.
    pub body: MiB,
    /// The largest head in bytes.
    pub header_bytes: usize,
    /// The most header lines.
    pub header_lines: usize,
    /// The most connections; more wait in the kernel's queue.
    pub connections: usize,
    /// The most of them from one address.
    pub connections_each: usize,
    /// Bundles on their way in.
    pub uploads: UploadLimits,
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
    pub(crate) limits: Limits,
    pub(crate) heads: Arc<Heads>,
    crowd: Arc<Crowd>,
    crowded: Seldom,
    unable: Seldom,
    /// What is said to those who are turned away.
    pub(crate) words: Sparing,
    guard: Guard,
    routes: Routes,
}

/// What is beside `/run`.
struct Routes {
    /// For everybody, by each door.
    open: Router,
    /// For who looks after the worker: by the port, and by its socket file.
    admin: Router,
    private_admin: Router,
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
            uploads: Uploads::new(uploads, limits.uploads),
            door: Door::Port,
        };
        let routes = Routes {
            open: control::open(Arc::clone(&lambdas)),
            admin: control::admin(context.clone()),
            private_admin: control::admin(Context {
                door: Door::Socket,
                ..context
            }),
        };
        Self::of(Some(lambdas), limits, names, routes)
    }

    /// A server in front of sandboxes that are driven directly; `names` as for [`Self::new`].
    #[must_use]
    pub fn of_sandboxes(direct: Arc<Direct>, limits: Limits, names: Vec<String>) -> Arc<Self> {
        let routes = Routes {
            open: sandboxes::open(Arc::clone(&direct)),
            admin: sandboxes::admin(Arc::clone(&direct), Door::Port),
            private_admin: sandboxes::admin(direct, Door::Socket),
        };
        Self::of(None, limits, names, routes)
    }

    fn of(
        lambdas: Option<Arc<Lambdas>>,
        limits: Limits,
        names: Vec<String>,
        routes: Routes,
    ) -> Arc<Self> {
        Arc::new(Self {
            lambdas,
            limits,
            heads: Arc::default(),
            crowd: Crowd::new(limits.connections, limits.connections_each),
            crowded: Seldom::default(),
            unable: Seldom::default(),
            words: Sparing::default(),
            routes,
            guard: Guard::new(names),
        })
    }

    /// Serves until `stop` becomes true; then soon takes no new connection, lets requests in flight finish for at most
    /// `patience`, and closes the rest. Returns how many were closed so.
    pub async fn serve(
        self: Arc<Self>,
        listeners: Listeners,
        stop: watch::Receiver<bool>,
        patience: Duration,
    ) -> usize {
        let mut told = stop.clone();
        let mut closing = pin!(last_call(&mut told));
        let (mut connections, mut private) = (JoinSet::new(), JoinSet::new());
        let (mut turned_away, mut spare) = (JoinSet::new(), JoinSet::new());
        loop {
            tokio::select! {
                () = &mut closing => break,
                accepted = listeners.public.accept(), if self.crowd.has_room() || spare.len() < SPARE => match accepted {
                    Ok((stream, client)) => match self.crowd.enter(Some(client.ip())) {
                        Ok(place) => {
                            let served = self.serve_one(stream, client, false, &stop);
                            connections.spawn(async move {
                                served.await;
                                drop(place);
                            });
                        }
                        Err(Full::All) => {
                            let served = self.serve_one(stream, client, true, &stop);
                            spare.spawn(tokio::time::timeout(SPARE_TIME, served));
                        }
                        Err(Full::Each) => {
                            self.crowded.warn(format_args!(
                                "{} has {} connections, as many as one address may have (max_connections_per_address): more are refused",
                                client.ip(), self.crowd.each(),
                            ));
                            if turned_away.len() < TURNED_AWAY && self.words.take() {
                                turned_away.spawn(turn_away(stream, self.crowd.each()));
                            }
                        }
                    },
                    Err(error) => self.pause_after(&error).await,
                },
                accepted = listeners.private.accept(), if private.len() < PRIVATE => match accepted {
                    Ok((stream, _)) => drop(private.spawn(connection::serve(Arc::clone(&self), stream, None, stop.clone()))),
                    Err(error) => self.pause_after(&error).await,
                },
                Some(_) = connections.join_next() => {}
                Some(_) = private.join_next() => {}
                Some(_) = turned_away.join_next() => {}
                Some(_) = spare.join_next() => {}
            }
        }
        drop((listeners, turned_away, spare));
        let finished = async {
            while connections.join_next().await.is_some() {}
            while private.join_next().await.is_some() {}
        };
        if tokio::time::timeout(patience, finished).await.is_err() {
            let cut_off = connections.len() + private.len();
            connections.shutdown().await;
            private.shutdown().await;
            return cut_off;
        }
        0
    }

    /// Serves a connection by the port; a `spare` one only says whether the worker is well.
    fn serve_one(
        self: &Arc<Self>,
        stream: TcpStream,
        client: SocketAddr,
        spare: bool,
        stop: &watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + use<> {
        // Answers are small and whole: waiting to fill a packet would only delay them.
        let _ = stream.set_nodelay(true);
        let ends = Ends {
            client: Some(client),
            server: stream.local_addr().ok(),
            spare,
        };
        connection::serve(Arc::clone(self), stream, Some(ends), stop.clone())
    }

    /// Answers one request.
    pub(crate) async fn answer(
        &self,
        request: http::Request<RequestBody>,
        public: Option<Ends>,
    ) -> http::Response<crate::body::ResponseBody> {
        if let Err(problem) = head::check(&request) {
            let mut response = problem.respond(request.headers());
            // Whoever wrote this head may mean something else by what follows it.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
            return response;
        }
        let route = Route::of(request.uri().path(), self.lambdas.is_some());
        if public.is_some()
            && let Err(refused) = self.guard.check(route, &request)
        {
            return Problem::from(refused).respond(request.headers());
        }
        let ends = public.unwrap_or_default();
        if ends.spare {
            return Box::pin(self.answer_spare(route, request)).await;
        }
        let router = match (route, &self.lambdas) {
            (Route::Run, Some(lambdas)) => {
                return run::run(lambdas, self.limits.body, ends, request).await;
            }
            (Route::Health, _) => &self.routes.open,
            _ if public.is_some() => &self.routes.admin,
            _ => &self.routes.private_admin,
        };
        // In a box, since what calls need is small, and is moved for each.
        Box::pin(control::answer(router.clone(), ends, request)).await
    }

    /// Answers who found no place: one question, whether the worker is well.
    async fn answer_spare(
        &self,
        route: Route,
        request: http::Request<RequestBody>,
    ) -> http::Response<crate::body::ResponseBody> {
        let mut response = match route {
            Route::Health => {
                control::answer(self.routes.open.clone(), Ends::default(), request).await
            }
            Route::Run | Route::Control => {
                let text = "as many connections as this worker takes are open: try again later";
                let status = http::StatusCode::SERVICE_UNAVAILABLE;
                let problem = Problem::new(status, "connections-full", text).later();
                problem.respond(request.headers())
            }
        };
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
        response
    }

    /// Accepting fails when descriptors run out; trying again at once would only spin.
    async fn pause_after(&self, error: &io::Error) {
        self.unable
            .warn(format_args!("a connection can't be accepted: {error}"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    /// What `/stats` shows now, to be kept when the worker ends.
    #[must_use]
    pub fn stats_text(&self) -> String {
        control::stats_text()
    }
}

/// Resolves [`LAST_CALL`] after it is time to stop, or nobody is left to say so.
pub(crate) async fn last_call(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
    tokio::time::sleep(LAST_CALL).await;
}

/// Says why a connection can't stay: its address has `each` already.
async fn turn_away(mut stream: TcpStream, each: usize) {
    let text = format!(
        "your address has {each} connections to this worker, as many as one may have (max_connections_per_address): close some, or use them again"
    );
    let told = Problem::new(StatusCode::TOO_MANY_REQUESTS, "connections-full", text).later();
    let telling = async {
        if stream.write_all(&told.plain()).await.is_ok() && stream.shutdown().await.is_ok() {
            linger(&mut stream).await;
        }
    };
    // Who doesn't listen is cut off.
    let _ = tokio::time::timeout(FAREWELL, telling).await;
}
