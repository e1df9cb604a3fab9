//! Answers a request, whichever connection it came by: checks its head, asks the guard, then finds the route.

use crate::api::control::{self, Context, Door};
use crate::api::run::{self, Ends};
use crate::api::sandboxes;
use crate::api::upload::{UploadLimits, Uploads};
use crate::body::ResponseBody;
use crate::guard::{Guard, Route};
use crate::head;
use crate::heads::Heads;
use crate::incoming::RequestBody;
use crate::respond::Problem;
use crate::sparing::Sparing;
use axum::Router;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode};
use ol_lambda::{Direct, Lambdas};
use ol_model::MiB;
use std::sync::Arc;

/// How large requests may be, and how many connections and uploads there may be.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// The largest body.
    pub body: MiB,
    /// The largest head in bytes.
    pub header_bytes: usize,
    /// The most header lines.
    pub header_lines: usize,
    /// The most connections; further ones wait in the kernel's queue, but for a few that are only told whether the worker is well.
    pub connections: usize,
    /// The most connections from one address.
    pub connections_each: usize,
    /// The limits of bundles that are being uploaded.
    pub uploads: UploadLimits,
}

/// The routes other than `/run`.
pub(crate) struct Routes {
    /// For everybody, by the port and by the socket file.
    open: Router,
    /// For whoever administers the worker: `admin` by the port, `private_admin` by the socket file.
    admin: Router,
    private_admin: Router,
}

impl Routes {
    pub(crate) fn of_functions(lambdas: &Arc<Lambdas>, uploads: Arc<Uploads>) -> Self {
        let context = |door| Context {
            lambdas: Arc::clone(lambdas),
            uploads: Arc::clone(&uploads),
            door,
        };
        Self {
            open: control::open(Arc::clone(lambdas)),
            admin: control::admin(context(Door::Port)),
            private_admin: control::admin(context(Door::Socket)),
        }
    }

    pub(crate) fn of_sandboxes(direct: Arc<Direct>) -> Self {
        Self {
            open: sandboxes::open(Arc::clone(&direct)),
            admin: sandboxes::admin(Arc::clone(&direct), Door::Port),
            private_admin: sandboxes::admin(direct, Door::Socket),
        }
    }
}

/// Answers requests.
pub(crate) struct Service {
    /// The functions that `/run` calls; `None` when sandboxes are driven directly.
    lambdas: Option<Arc<Lambdas>>,
    pub(crate) limits: RequestLimits,
    pub(crate) heads: Arc<Heads>,
    /// Bounds how many refused clients are told why.
    pub(crate) words: Sparing,
    guard: Guard,
    routes: Routes,
}

impl Service {
    pub(crate) fn new(
        lambdas: Option<Arc<Lambdas>>,
        limits: RequestLimits,
        names: Vec<String>,
        routes: Routes,
    ) -> Self {
        Self {
            lambdas,
            limits,
            heads: Arc::default(),
            words: Sparing::default(),
            guard: Guard::new(names),
            routes,
        }
    }

    /// Answers one request.
    pub(crate) async fn answer(
        &self,
        request: Request<RequestBody>,
        public: Option<Ends>,
    ) -> Response<ResponseBody> {
        if let Err(problem) = head::check(&request) {
            let mut response = problem.respond(request.headers());
            // The connection is closed: what follows a wrong head may not be what the worker would take it for (request smuggling).
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
        // Boxed, to keep this future small: it is moved for each request, and function calls need little.
        Box::pin(control::answer(router.clone(), ends, request)).await
    }

    /// Answers on a spare connection, which was accepted beyond `max_connections`: only whether the worker is well.
    async fn answer_spare(
        &self,
        route: Route,
        request: Request<RequestBody>,
    ) -> Response<ResponseBody> {
        let mut response = match route {
            Route::Health => {
                control::answer(self.routes.open.clone(), Ends::default(), request).await
            }
            Route::Run | Route::Control => {
                let text = "as many connections as this worker takes are open: try again later";
                let status = StatusCode::SERVICE_UNAVAILABLE;
                let problem = Problem::new(status, "connections-full", text).later();
                problem.respond(request.headers())
            }
        };
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
        response
    }
}
