//! The routes: [`run`] on the hot path, [`control`] for everything else.

pub(crate) mod control;
mod metrics;
pub(crate) mod run;
mod upload;
