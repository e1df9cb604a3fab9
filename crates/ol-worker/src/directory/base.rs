//! The base image: what sandboxes are made of, and how it comes into the worker directory.
//!
//! ```text
//!   -i CHOICE ─▶ choice ─┬─ host, dir:PATH ───────────────────────┐
//!                        ├─ tar:PATH ───────────────┐             │
//!                        ├─ debian:SUITE ─ debian ──┼─▶ unpack    │
//!                        └─ docker:IMAGE ─ docker ──┘      │      │
//!                                 (program: what they run) ▼      ▼
//!                                               DIR/.ol-base-new/root   python ─▶ record
//!                                                          │ one exchange (staging)
//!                                                          ▼
//!                                                      DIR/lambda
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `choice` | what may follow `-i` |
//! | `build` | a staged image of any choice |
//! | `staging` | the place beside the base, the exchange, and what a kill left of either |
//! | `unpack` | from an archive to a directory, or which member it won't take |
//! | `stream`, `headers`, `tree` | its bytes, what it says of a member, and a member's place beneath one directory |
//! | `debian`, `docker`, `program` | archives that other programs make |
//! | `python` | does its Python run, and which is it |
//! | `record` | `base.json` |

mod build;
mod choice;
mod debian;
mod docker;
mod headers;
mod program;
mod python;
mod record;
mod staging;
mod stream;
mod tree;
mod unpack;

pub(super) use build::build;
pub use choice::BaseChoice;
pub use program::in_path;
pub use python::{PythonVersion, python};
pub use record::Found;
pub(super) use record::{of, recorded};
pub(super) use staging::{STAGING, Staging, settle};
pub use unpack::UnpackError;
