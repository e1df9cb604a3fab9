//! What all functions work with.

use crate::announce::Announcements;
use crate::in_flight::InFlight;
use crate::packages::Packages;
use crate::registry::Registry;
use crate::resources::Resources;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What all functions work with.
pub(crate) struct Common {
    pub(crate) resources: Arc<Resources>,
    pub(crate) registry: Arc<dyn Registry>,
    /// What functions import and don't bring along.
    pub(crate) packages: Arc<Packages>,
    /// Where is announced that other functions or versions serve.
    pub(crate) serving: Announcements,
    /// Calls that are being made.
    pub(crate) in_flight: InFlight,
    /// Unpacking is work for a core and a disk: two at once, so that threads for looks at the registry are never short.
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
