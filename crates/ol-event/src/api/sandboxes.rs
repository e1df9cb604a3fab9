//! The routes of `server_mode: "sock"`: sandboxes driven directly. The first five of [`admin`] are the original OpenLambda's, and answer
//! as it does.

use super::control::{Door, Refusal, by, health, measured, nowhere, refuse, stats, wrong_method};
use super::upload::broke_off;
use crate::respond::Problem;
use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, StatusCode};
use ol_lambda::{Direct, DirectError, Order};
use std::sync::Arc;

/// The longest body in bytes: the event of `/run` is sent to the guest in one window of the guest protocol.
const LONGEST_BODY: u64 = 1 << 20;

/// The routes that tell whether the worker is well.
pub(crate) fn open(direct: Arc<Direct>) -> Router {
    health(move || direct.accepts())
}

/// All other routes. Whoever may use them can run any code.
pub(crate) fn admin(direct: Arc<Direct>, door: Door) -> Router {
    let router = Router::new()
        .route("/create", post(create))
        .route("/destroy/{id}", post(destroy))
        .route("/pause/{id}", post(pause))
        .route("/unpause/{id}", post(unpause))
        // The original OpenLambda has all its routes under POST.
        .route("/debug", get(debug).post(debug))
        .route("/run/{id}", post(run))
        .route("/stats", get(stats))
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(wrong_method(
            "POST is for create, destroy, pause, unpause and run, everything else is for GET",
        ))
        .fallback(nowhere(
            "make a sandbox by POST /create, list them at /debug",
        ))
        .with_state(direct);
    by(door, router)
}

impl From<DirectError> for Problem {
    fn from(error: DirectError) -> Self {
        match error {
            DirectError::Call(error) => error.into(),
            DirectError::Unknown(_) => {
                Self::new(StatusCode::NOT_FOUND, "unknown-sandbox", error.to_string())
            }
            DirectError::Conflict(text) => Self::new(StatusCode::CONFLICT, "refused", text),
        }
    }
}

/// Takes the body of a request. Before waiting for it, `look` may refuse the request by its head alone.
async fn taken(
    request: Request<Body>,
    look: impl FnOnce() -> Result<(), DirectError>,
) -> Result<(HeaderMap, Bytes), Refusal> {
    let (parts, body) = request.into_parts();
    let taken = async {
        look()?;
        let too_large = || {
            let text = "the body is larger than a sandbox is given at once: send at most 1 MiB";
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", text)
        };
        if body.size_hint().lower() > LONGEST_BODY {
            return Err(too_large());
        }
        let (mut whole, mut parts) = (BytesMut::new(), body.into_data_stream());
        while let Some(part) = parts.next().await {
            whole.extend_from_slice(&part.map_err(|error| broke_off(&error))?);
            if whole.len() as u64 > LONGEST_BODY {
                return Err(too_large());
            }
        }
        Ok(whole.freeze())
    };
    match taken.await {
        Ok(body) => Ok((parts.headers, body)),
        Err(problem) => Err(refuse(problem, parts.headers)),
    }
}

async fn metrics(State(direct): State<Arc<Direct>>) -> impl IntoResponse {
    measured(direct.gauges())
}

async fn create(
    State(direct): State<Arc<Direct>>,
    request: Request<Body>,
) -> Result<String, Refusal> {
    let (headers, body) = taken(request, || direct.makes()).await?;
    let made = async { direct.create(Order::parse(&body)?).await };
    match made.await {
        Ok(id) => Ok(format!("{id}\n")),
        Err(error) => Err(refuse(error, headers)),
    }
}

async fn destroy(
    State(direct): State<Arc<Direct>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<(), Refusal> {
    let done = direct.destroy(&id).await;
    done.map_err(|error| refuse(error, headers))
}

async fn pause(
    State(direct): State<Arc<Direct>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<(), Refusal> {
    let done = direct.pause(&id).await;
    done.map_err(|error| refuse(error, headers))
}

async fn unpause(
    State(direct): State<Arc<Direct>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<(), Refusal> {
    let done = direct.unpause(&id).await;
    done.map_err(|error| refuse(error, headers))
}

async fn run(
    State(direct): State<Arc<Direct>>,
    Path(id): Path<String>,
    request: Request<Body>,
) -> Result<impl IntoResponse, Refusal> {
    let (headers, event) = taken(request, || direct.knows(&id)).await?;
    let answer = direct.run(&id, event).await;
    let answer = answer.map_err(|error| refuse(error, headers))?;
    Ok(([(CONTENT_TYPE, "application/json")], answer))
}

async fn debug(State(direct): State<Arc<Direct>>) -> String {
    direct.describe().await
}
