//! The base image: the root file system of sandboxes, and how it gets into the worker directory.
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
//! | `build` | making an image of any choice in the staging directory |
//! | `staging` | the directory beside the image, the exchange, and cleaning up after a kill |
//! | `unpack` | unpacks an archive into a directory, or says which member is refused |
//! | `stream`, `headers`, `tree` | the archive's bytes, the headers of a member, and writing members beneath one directory |
//! | `debian`, `docker`, `program` | archives made by other programs |
//! | `python` | whether the image's Python runs, and its version |
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
pub use record::BaseInUse;
pub(super) use record::{of, recorded};
pub(super) use staging::{STAGING, Staging, settle};
pub use unpack::UnpackError;
