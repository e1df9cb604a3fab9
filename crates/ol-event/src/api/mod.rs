//! The routes: [`run`] on the hot path, [`control`] for everything else.

pub(crate) mod control;
pub(crate) mod run;
mod upload;
