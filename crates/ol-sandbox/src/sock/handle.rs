//! The [`Handle`] of a SOCK sandbox.

use super::freezer::Freezer;
use super::link::Link;
use crate::lifecycle::Handle;
use ol_warden::protocol::SandboxId;
use std::io;

/// Freezes a sandbox by a write to a file; its drop asks the warden to destroy the sandbox.
#[derive(Debug)]
pub(super) struct SockHandle {
    pub id: SandboxId,
    pub freezer: Freezer,
    pub link: Link,
}

impl Handle for SockHandle {
    fn freeze(&self) -> io::Result<()> {
        self.freezer.freeze()
    }

    fn thaw(&self) -> io::Result<()> {
        self.freezer.thaw()
    }

    fn is_frozen(&self) -> io::Result<bool> {
        self.freezer.is_frozen()
    }
}

impl Drop for SockHandle {
    fn drop(&mut self) {
        self.link.destroy(self.id);
    }
}
