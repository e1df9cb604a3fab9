//! The routes: [`run`] on the hot path, [`control`] for everything else (with [`functions`], [`packages`] and [`upload`]); [`sandboxes`]
//! instead of both in `server_mode: "sock"`.

pub(crate) mod control;
mod functions;
mod packages;
pub(crate) mod run;
pub(crate) mod sandboxes;
pub(crate) mod upload;
