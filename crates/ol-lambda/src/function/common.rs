//! What all functions share.

use crate::announce::Announcements;
use crate::in_flight::InFlight;
use crate::registry::Registry;
use crate::resources::Resources;
use ol_install::Packages;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What all functions share.
pub(crate) struct Common {
    pub(crate) resources: Arc<Resources>,
    pub(crate) registry: Arc<dyn Registry>,
    /// The packages that functions import but don't bring along.
    pub(crate) packages: Arc<Packages>,
    /// Announces changes in which functions and versions serve.
    pub(crate) serving: Announcements,
    /// Counts running calls.
    pub(crate) in_flight: InFlight,
    /// Unpacking keeps a core and a disk busy: two at once, so that looks at the registry always find a free thread.
    pub(super) unpacking: Semaphore,
}

impl Common {
    pub(crate) fn new(
        resources: Arc<Resources>,
        registry: Arc<dyn Registry>,
        packages: Arc<Packages>,
    ) -> Self {
        Self {
            resources,
            registry,
            packages,
            serving: Announcements::new(),
            in_flight: InFlight::default(),
            unpacking: Semaphore::new(2),
        }
    }
}
