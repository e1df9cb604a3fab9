//! The routes other than `/run`, in two routers: [`open`] for everybody, and [`admin`] for whoever administers the worker.
//!
//! They aren't on the hot path, so they are written with axum.

use super::run::Ends;
use super::upload::{self, Uploads};
use super::{functions, packages};
use crate::body::ResponseBody;
use crate::incoming::RequestBody;
use crate::metrics;
use crate::respond::Problem;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, StatusCode};
use ol_lambda::{Gauges, InvokeError, Lambdas, UploadError, Uploaded};
use ol_model::{FunctionName, steps};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::future::Ready;
use std::sync::Arc;

/// What the routes need.
#[derive(Clone)]
pub(crate) struct Context {
    pub lambdas: Arc<Lambdas>,
    pub uploads: Arc<Uploads>,
    /// How requests to these routes come in.
    pub door: Door,
}

/// How a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// By the port.
    Port,
    /// By the worker's socket file, which only its operator may open.
    Socket,
}

/// What a client is told that uses a wrong method for a route of [`open`].
const OPEN_METHODS: &str = "whether the worker is well is for GET";

/// The routes that tell whether the worker is well. The guard lets web pages ask them, since they tell nothing else.
pub(crate) fn open(lambdas: Arc<Lambdas>) -> Router {
    health(move || lambdas.accepts())
}

/// The routes of [`open`] for anything whose `accepts` says whether it takes calls.
pub(crate) fn health(accepts: impl Fn() -> bool + Clone + Send + Sync + 'static) -> Router {
    let ready = async move |headers: HeaderMap| {
        if accepts() {
            Ok("ready\n")
        } else {
            Err(refuse(InvokeError::Draining, headers))
        }
    };
    Router::new()
        .route("/status", get(async || "ready\n"))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .method_not_allowed_fallback(wrong_method(OPEN_METHODS))
}

/// The routes that change the worker or tell something of it.
///
/// An authentication of clients would belong around the router that this returns.
pub(crate) fn admin(context: Context) -> Router {
    let door = context.door;
    let router = Router::new()
        .route("/registry", get(list))
        .route("/registry/", get(list))
        .route("/registry/{name}", post(store).delete(delete))
        .route("/registry/{name}/config", get(functions::config))
        .route("/packages", get(packages::list))
        .route("/packages/", get(packages::list))
        .route("/packages/gc", post(packages::collect))
        .route("/packages/{pin}", axum::routing::delete(packages::remove))
        .route("/stats", get(stats))
        .route("/metrics", get(metrics))
        .route("/debug", get(debug))
        .method_not_allowed_fallback(wrong_method(
            "POST stores a function or collects packages there, DELETE removes one, everything else is for GET",
        ))
        .fallback(nowhere(
            "call a function at /run/NAME, list them at /registry/",
        ))
        .with_state(context);
    by(door, router)
}

/// `admin` with the routes that only that door has.
pub(crate) fn by(door: Door, admin: Router) -> Router {
    match door {
        Door::Port => admin,
        // A client of the socket file wants to be sure which worker answers.
        Door::Socket => admin.route("/pid", get(async || format!("{}\n", std::process::id()))),
    }
}

/// A problem together with what the request accepts.
pub(crate) struct Refusal(Box<(Problem, HeaderMap)>);

pub(crate) fn refuse(problem: impl Into<Problem>, headers: HeaderMap) -> Refusal {
    Refusal(Box::new((problem.into(), headers)))
}

impl IntoResponse for Refusal {
    fn into_response(self) -> axum::response::Response {
        let (problem, headers) = *self.0;
        problem.respond(&headers).map(Body::new)
    }
}

pub(super) fn named(name: &str, headers: &HeaderMap) -> Result<FunctionName, Refusal> {
    FunctionName::parse(name).map_err(|error| {
        let problem = Problem::new(StatusCode::BAD_REQUEST, "bad-name", error.to_string());
        refuse(problem, headers.clone())
    })
}

fn registry_failed(error: &ol_lambda::registry::RegistryError, headers: HeaderMap) -> Refusal {
    tracing::error!("{error}");
    refuse(
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            error.to_string(),
        ),
        headers,
    )
}

async fn list(
    State(context): State<Context>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Refusal> {
    context
        .lambdas
        .list()
        .await
        .map(Json)
        .map_err(|error| registry_failed(&error, headers))
}

async fn store(
    State(context): State<Context>,
    Path(name): Path<String>,
    request: Request<Body>,
) -> Result<impl IntoResponse, Refusal> {
    let (parts, body) = request.into_parts();
    let name = named(&name, &parts.headers)?;
    let force = match upload::forced(parts.uri.query().unwrap_or_default()) {
        Ok(force) => force,
        Err(problem) => return Err(refuse(problem, parts.headers)),
    };
    let from = parts.extensions.get::<Ends>().and_then(|ends| ends.client);
    let stored = async {
        // Checked before waiting for the body.
        if !context.lambdas.accepts() {
            return Err(UploadError::Draining.into());
        }
        let uploads = &context.uploads;
        let upload = uploads.receive(body, from.map(|from| from.ip())).await?;
        context
            .lambdas
            .upload(&name, upload.path(), force)
            .await
            .map_err(Problem::from)
    };
    match stored.await {
        Ok(uploaded) => Ok((StatusCode::CREATED, said_of(&name, uploaded))),
        Err(problem) => Err(refuse(problem, parts.headers)),
    }
}

fn said_of(name: &FunctionName, uploaded: Uploaded) -> String {
    match uploaded {
        Uploaded::Serves => format!("{name} is installed\n"),
        Uploaded::Stored => format!("{name} is stored, and serves when it is ready\n"),
        Uploaded::Refused => format!(
            "{name} is stored, but can't be used: /registry/{name}/config says why, and whether a version before it serves\n"
        ),
    }
}

async fn delete(
    State(context): State<Context>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Refusal> {
    let name = named(&name, &headers)?;
    match context.lambdas.delete(&name).await {
        Ok(true) => Ok((StatusCode::OK, format!("{name} is deleted\n"))),
        Ok(false) => Err(refuse(InvokeError::NotFound(name), headers)),
        Err(error) => Err(registry_failed(&error, headers)),
    }
}

/// Answers `GET /stats`: all values are integers.
///
/// `NAME.cnt` and `NAME.ms-avg` are the original OpenLambda's; the values in µs are this project's.
pub(crate) async fn stats() -> impl IntoResponse {
    Json(Value::Object(stats_document()))
}

fn stats_document() -> Map<String, Value> {
    let mut document = Map::new();
    for step in steps::ALL {
        let Some(summary) = step.summary() else {
            continue;
        };
        let name = step.name();
        let mut put = |suffix: &str, value: u128| {
            document.insert(
                format!("{name}.{suffix}"),
                json!(u64::try_from(value).unwrap_or(u64::MAX)),
            );
        };
        put("cnt", u128::from(summary.count));
        put("ms-avg", summary.mean.as_millis());
        put("us-avg", summary.mean.as_micros());
        put("us-p50", summary.median.as_micros());
        put("us-p99", summary.p99.as_micros());
    }
    document
}

/// What `/stats` shows, as the text that is written to a file when the worker ends.
pub(crate) fn stats_text() -> String {
    format!("{:#}\n", Value::Object(stats_document()))
}

async fn metrics(State(context): State<Context>) -> impl IntoResponse {
    measured(context.lambdas.gauges())
}

/// The answer of `/metrics`.
pub(crate) fn measured(gauges: Gauges) -> impl IntoResponse {
    ([(CONTENT_TYPE, metrics::KIND)], metrics::document(gauges))
}

async fn debug(State(context): State<Context>) -> String {
    let mut text = String::new();
    let zygotes = ("(zygotes)".to_owned(), context.lambdas.describe_zygotes());
    let functions = context.lambdas.describe().into_iter();
    let functions = functions.map(|(name, lines)| (name.to_string(), lines));
    for (name, lines) in functions
        .chain([zygotes])
        .filter(|(_, lines)| !lines.is_empty())
    {
        // Writing to a String can't fail.
        let _ = writeln!(text, "{name}");
        for line in lines {
            let _ = writeln!(text, "  {line}");
        }
    }
    if text.is_empty() {
        text.push_str("no function was called yet\n");
    }
    text
}

/// Answers a method that a route doesn't have; `remedy` says which methods are for what.
pub(crate) fn wrong_method(
    remedy: &'static str,
) -> impl Fn(Request<Body>) -> Ready<axum::response::Response> + Clone + Send + Sync + 'static {
    move |request| {
        let text = format!(
            "{} is not for {}: {remedy}",
            request.method(),
            request.uri().path().escape_default()
        );
        let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", text);
        std::future::ready(problem.respond(request.headers()).map(Body::new))
    }
}

/// Answers a path without a route; `remedy` names some that exist.
pub(crate) fn nowhere(
    remedy: &'static str,
) -> impl Fn(Request<Body>) -> Ready<axum::response::Response> + Clone + Send + Sync + 'static {
    move |request| {
        let text = format!(
            "nothing is at {}: {remedy}",
            request.uri().path().escape_default()
        );
        let problem = Problem::new(StatusCode::NOT_FOUND, "no-route", text);
        std::future::ready(problem.respond(request.headers()).map(Body::new))
    }
}

/// Answers one control request of a connection with these `ends`.
pub(crate) async fn answer(
    router: Router,
    ends: Ends,
    request: Request<RequestBody>,
) -> http::Response<ResponseBody> {
    use tower_service::Service;
    let (mut router, mut request) = (router, request);
    request.extensions_mut().insert(ends);
    let response = match router.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    response.map(ResponseBody::Control)
}
