//! Waiting until a worker starts functions in the way that a test wants.

use super::Worker;
use crate::patience::{eventually, within};
use crate::starts::Starts;

impl Worker<'_> {
    /// Waits before a call until the sandboxes of earlier calls are paused, if this way needs it. Not for long, as other calls may be
    /// running.
    pub(super) fn settle_before_call(&self) {
        if self.starts == Starts::Resume {
            let _ = within(0.3, || {
                (!self.debug().contains(": running, pid")).then_some(())
            });
        }
    }

    /// Waits until this worker can start functions in the way `starts`. With too little memory for a zygote it never can, and starts them
    /// with a new interpreter.
    ///
    /// # Panics
    /// When a blank is needed and doesn't appear in time.
    pub fn prepare(&self, starts: Starts) {
        match starts {
            Starts::Fresh => {}
            Starts::Fork | Starts::Resume => {
                let _ = within(2.0, || {
                    self.debug().contains("zygote in sandbox").then_some(())
                });
            }
            Starts::Blank => {
                eventually("a zygote", 10.0, || {
                    self.debug().contains("zygote in sandbox").then_some(())
                });
                self.install_untried("prelude", &[("f.py", "def f(event):\n    return event\n")]);
                let _ = self.call("prelude", &serde_json::json!({})).ok();
                let _ = self.request("DELETE", "/registry/prelude", b"");
                eventually("a blank, and the prelude to end", 10.0, || {
                    let ready = self.debug().contains("blank in sandbox");
                    (ready && self.leaves().is_empty()).then_some(())
                });
            }
        }
    }
}
