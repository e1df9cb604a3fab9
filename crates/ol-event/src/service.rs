//! What answers a request, whichever connection it came by: the head is checked, the guard asked, and then a route is found.

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

/// What is beside `/run`.
pub(crate) struct Routes {
    /// For everybody, by each door.
    open: Router,
    /// For who looks after the worker: by the port, and by its socket file.
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

/// What answers requests.
pub(crate) struct Service {
    /// What `/run` is for, unless sandboxes are driven directly.
    lambdas: Option<Arc<Lambdas>>,
    pub(crate) limits: Limits,
    pub(crate) heads: Arc<Heads>,
    /// What is said to those who are turned away.
    pub(crate) words: Sparing,
    guard: Guard,
    routes: Routes,
}

impl Service {
    pub(crate) fn new(
        lambdas: Option<Arc<Lambdas>>,
        limits: Limits,
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
