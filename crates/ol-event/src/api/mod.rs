//! The routes: [`run`] on the hot path, [`control`] for everything else; [`sandboxes`] instead of both in `server_mode: "sock"`.

pub(crate) mod control;
mod metrics;
pub(crate) mod run;
pub(crate) mod sandboxes;
mod upload;
