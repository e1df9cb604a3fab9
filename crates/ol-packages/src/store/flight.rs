//! One caller installs a package, however many ask for it at once.
//!
//! Callers that want the same package share a *flight*: a mutex around its outcome. The caller that gets the mutex and finds no outcome
//! installs; later callers find the outcome and return it, even if it is an error. If the installing caller is dropped, it releases the
//! mutex without an outcome, and the next caller in the queue installs.
//!
//! Once it has its outcome, a flight leaves the table. Thus a failure is shared by the callers that waited for it, not by later ones; nor
//! by callers that want the version from other archives, since the failure may be the fault of these archives.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::StoreError;
use super::folder::{Shared, Store};
use super::lease::PackageLease;
use super::partial::{Filled, Partial};
use crate::pin::Pin;

type Flight = tokio::sync::Mutex<Option<Outcome>>;

/// How a flight ended. A failure applies only to callers with an equal pin, hashes included.
#[derive(Debug)]
enum Outcome {
    Installed,
    Failed(Pin, StoreError),
}

/// The packages that are being installed.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<String, Arc<Flight>>>);

impl Flights {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Flight>>> {
        // Under this lock only single operations of the map happen, thus a poisoned lock is fine.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is being installed.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Takes `flight`, which has its outcome, off the table, so that nobody joins it any more.
    fn land(&self, pin: &Pin, flight: &Arc<Flight>) {
        let mut flights = self.lock();
        let directory = pin.to_string();
        if flights
            .get(&directory)
            .is_some_and(|there| Arc::ptr_eq(there, flight))
        {
            flights.remove(&directory);
        }
    }
}

/// One caller's part in a flight.
struct Seat {
    shared: Arc<Shared>,
    pin: Pin,
    flight: Arc<Flight>,
}

impl Seat {
    fn take(shared: &Arc<Shared>, pin: &Pin) -> Self {
        let mut flights = shared.flights.lock();
        let flight = flights.entry(pin.to_string()).or_default();
        Self {
            shared: Arc::clone(shared),
            pin: pin.clone(),
            flight: Arc::clone(flight),
        }
    }
}

/// The last caller to leave takes a flight without outcome off the table.
impl Drop for Seat {
    fn drop(&mut self) {
        let mut flights = self.shared.flights.lock();
        let directory = self.pin.to_string();
        let there = flights.get(&directory);
        // Seats are taken under this lock, thus nobody joins between the count and the removal. Two references are the table's and this
        // seat's; a third may be held by a thread that is about to set the outcome, which then takes the flight off the table itself.
        let last = Arc::strong_count(&self.flight) == 2;
        if last && there.is_some_and(|there| Arc::ptr_eq(there, &self.flight)) {
            flights.remove(&directory);
        }
    }
}

impl Store {
    /// Leases `pin` for `holder`, and installs it first if it isn't there.
    ///
    /// If several callers ask for one package at once, one of them calls its `installer` with room to [`Partial::fill`] (which blocks: call
    /// it on a thread for that); the others wait and get the same outcome. If the installing caller is dropped, another one takes over with
    /// its own installer. A failure is forgotten once the waiting callers got it.
    ///
    /// # Errors
    /// [`StoreError::OtherArchive`] when the package is installed from none of the archives of `pin`; the installer's error, wrapped in
    /// [`StoreError::Installer`] unless it is a [`StoreError`] itself; errors of [`Filled::commit`]; or when this host fails.
    pub async fn get_or_install<I, F, E>(
        &self,
        pin: &Pin,
        holder: &str,
        installer: I,
    ) -> Result<PackageLease, StoreError>
    where
        I: FnOnce(Partial) -> F,
        F: Future<Output = Result<Filled, E>>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        loop {
            if let Some(lease) = self.lease_later(pin, holder).await? {
                return Ok(lease);
            }
            let seat = Seat::take(&self.0, pin);
            let turn = Arc::clone(&seat.flight).lock_owned().await;
            match &*turn {
                // It was installed, and may have been collected again by now: start over.
                Some(Outcome::Installed) => continue,
                Some(Outcome::Failed(tried, error)) if tried == pin => return Err(error.clone()),
                Some(Outcome::Failed(..)) => continue,
                None => {}
            }
            // A flight may have ended between the first look and taking the seat.
            if let Some(lease) = self.lease_later(pin, holder).await? {
                return Ok(lease);
            }
            return self.install(seat, turn, holder, installer).await;
        }
    }

    async fn install<I, F, E>(
        &self,
        seat: Seat,
        mut turn: tokio::sync::OwnedMutexGuard<Option<Outcome>>,
        holder: &str,
        installer: I,
    ) -> Result<PackageLease, StoreError>
    where
        I: FnOnce(Partial) -> F,
        F: Future<Output = Result<Filled, E>>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let pin = &seat.pin;
        let shared = Arc::clone(&self.0);
        let partial = {
            let pin = pin.clone();
            blocking(&seat.pin, move || Partial::new(&shared, &pin)).await
        };
        let filled = match partial {
            Ok(partial) => installer(partial)
                .await
                .map_err(|error| StoreError::installer(pin, error.into())),
            Err(error) => Err(error),
        };
        let filled = match filled {
            Ok(filled) => filled,
            Err(error) => {
                *turn = Some(Outcome::Failed(pin.clone(), error.clone()));
                self.0.flights.land(pin, &seat.flight);
                return Err(error);
            }
        };
        assert_eq!(
            filled.pin(),
            pin,
            "an installer fills the room it was given"
        );
        let (shared, holder) = (Arc::clone(&self.0), holder.to_owned());
        let (pin, flight) = (seat.pin.clone(), Arc::clone(&seat.flight));
        // The closure owns the turn: a caller dropped from now on still leaves an outcome.
        blocking(&seat.pin, move || {
            let committed = filled.commit(&holder);
            *turn = Some(match &committed {
                Ok(_) => Outcome::Installed,
                Err(error) => Outcome::Failed(pin.clone(), error.clone()),
            });
            shared.flights.land(&pin, &flight);
            committed
        })
        .await
    }

    /// [`Store::lease`] on a thread for blocking work; also checks that the package comes from a wanted archive.
    async fn lease_later(
        &self,
        pin: &Pin,
        holder: &str,
    ) -> Result<Option<PackageLease>, StoreError> {
        let (store, wanted, holder) = (self.clone(), pin.clone(), holder.to_owned());
        blocking(pin, move || {
            let lease = store.lease(&wanted, &holder);
            lease.map(PackageLease::verified).transpose()
        })
        .await
    }
}

/// Runs blocking work on a thread for that.
async fn blocking<T: Send + 'static>(
    pin: &Pin,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    // The work panicked, or the runtime ends.
    done.unwrap_or_else(|error| Err(StoreError::host("store", pin, io::Error::other(error))))
}
