//! Accepts connections, has them served, and ends them in order.

use crate::api::control;
use crate::api::run::Ends;
use crate::api::upload::Uploads;
use crate::connection::{self, last_call};
use crate::crowd::{Crowd, Full};
use crate::discard::linger;
use crate::respond::Problem;
use crate::seldom::Seldom;
use crate::service::{RequestLimits, Routes, Service};
use http::StatusCode;
use ol_lambda::{Direct, Lambdas};
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

/// How many connections by the worker's own socket there may be at once. They are the operator's, and don't count for `max_connections`.
const PRIVATE: usize = 256;

/// How many connections may at the same time be in the middle of being told why they are refused.
const TURNED_AWAY: usize = 64;

/// How many connections beyond `max_connections` are accepted, to be told only whether the worker is well; and how long one may stay.
const SPARE: usize = 32;
const SPARE_TIME: Duration = Duration::from_secs(3);

/// How long a refused connection may take to receive the reason.
const FAREWELL: Duration = Duration::from_secs(1);

/// Where to listen.
pub struct Listeners {
    /// For everybody.
    pub public: TcpListener,
    /// For the operator: whoever may open the worker's socket file.
    pub private: UnixListener,
}

/// The HTTP server.
pub struct Server {
    service: Arc<Service>,
    crowd: Arc<Crowd>,
    crowded: Seldom,
    unable: Seldom,
}

impl Server {
    /// A server in front of `lambdas`; uploads are kept in `uploads` while they arrive.
    ///
    /// `names` are the host names that requests may ask for beside `localhost` and IP addresses; `*.NAME` means all below NAME, `*` any.
    #[must_use]
    pub fn new(
        lambdas: Arc<Lambdas>,
        limits: RequestLimits,
        names: Vec<String>,
        uploads: PathBuf,
    ) -> Arc<Self> {
        let routes = Routes::of_functions(&lambdas, Uploads::new(uploads, limits.uploads));
        Self::of(Service::new(Some(lambdas), limits, names, routes))
    }

    /// A server in front of sandboxes that are driven directly; `names` as for [`Self::new`].
    #[must_use]
    pub fn of_sandboxes(
        direct: Arc<Direct>,
        limits: RequestLimits,
        names: Vec<String>,
    ) -> Arc<Self> {
        let routes = Routes::of_sandboxes(direct);
        Self::of(Service::new(None, limits, names, routes))
    }

    fn of(service: Service) -> Arc<Self> {
        let limits = service.limits;
        Arc::new(Self {
            service: Arc::new(service),
            crowd: Crowd::new(limits.connections, limits.connections_each),
            crowded: Seldom::default(),
            unable: Seldom::default(),
        })
    }

    /// Serves until `stop` becomes true, and returns how many connections it had to cut off.
    ///
    /// Soon after `stop` no new connection is accepted; requests in flight may finish for at most `patience`, then the rest is cut off.
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
                            if turned_away.len() < TURNED_AWAY && self.service.words.take() {
                                turned_away.spawn(turn_away(stream, self.crowd.each()));
                            }
                        }
                    },
                    Err(error) => self.pause_after(&error).await,
                },
                accepted = listeners.private.accept(), if private.len() < PRIVATE => match accepted {
                    Ok((stream, _)) => drop(private.spawn(connection::serve(Arc::clone(&self.service), stream, None, stop.clone()))),
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

    /// Serves a connection by the port; a `spare` one is only told whether the worker is well.
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
        connection::serve(Arc::clone(&self.service), stream, Some(ends), stop.clone())
    }

    /// Logs why accepting failed, and waits: it fails when descriptors run out, and trying again at once would only spin.
    async fn pause_after(&self, error: &io::Error) {
        self.unable
            .warn(format_args!("a connection can't be accepted: {error}"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    /// What `/stats` shows now, to be written to a file when the worker ends.
    #[must_use]
    pub fn stats_text(&self) -> String {
        control::stats_text()
    }
}

/// Tells a client why its connection is refused: its address has `each` connections already.
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
    // A client that doesn't read the answer is cut off.
    let _ = tokio::time::timeout(FAREWELL, telling).await;
}
