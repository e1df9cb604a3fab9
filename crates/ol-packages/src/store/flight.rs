//! One installs, however many ask.
//!
//! Callers who want the same package share a *flight*: a mutex around its outcome. Who gets the mutex and finds no outcome
//! installs; those after it find one and take it, be it an error. Whoever is dropped in the middle lets go of the mutex
//! without an outcome, and the next in the queue installs. With its outcome a flight leaves the table, so a failure is
//! shared by those who waited for it, and by nobody after them; nor by those who want the version from other archives, since it
//! may be these that are wrong.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::StoreError;
use super::folder::{Shared, Store};
use super::lease::Lease;
use super::partial::{Filled, Partial};
use crate::pin::Pin;

type Flight = tokio::sync::Mutex<Option<Outcome>>;

/// How it ended. A failure is that of a pin with these hashes.
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
        // Whole operations of the map only.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is being installed.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// No longer joins anybody to `flight`: it has its outcome.
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

/// The last to leave takes a flight without outcome off the table.
impl Drop for Seat {
    fn drop(&mut self) {
        let mut flights = self.shared.flights.lock();
        let directory = self.pin.to_string();
        let there = flights.get(&directory);
        // Seats are taken under this lock, so nobody joins between the count and the removal. Two are the table's and
        // ours; a third may be an outcome on its way, which then lands by itself.
        let last = Arc::strong_count(&self.flight) == 2;
        if last && there.is_some_and(|there| Arc::ptr_eq(there, &self.flight)) {
            flights.remove(&directory);
        }
    }
}

impl Store {
    /// Leases `pin` for `holder`, and installs it first if it isn't there.
    ///
    /// Of all who ask for one package at once, one calls its `installer`, with room to [`Partial::fill`] (blocking: on a
    /// thread for that); the others wait for the outcome and get the same. If that one is dropped, another takes over with
    /// its own installer. A failure is forgotten once those who waited know it.
    ///
    /// # Errors
    /// [`StoreError::OtherArchive`] when it is there and came from none of the archives of `pin`; the installer's error, as [`StoreError::Installer`] unless it is a [`StoreError`] itself; those of
    /// [`Filled::commit`]; or when this host fails.
    pub async fn get_or_install<I, F, E>(
        &self,
        pin: &Pin,
        holder: &str,
        installer: I,
    ) -> Result<Lease, StoreError>
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
                // Installed, and perhaps collected again by now: from the start.
                Some(Outcome::Installed) => continue,
                Some(Outcome::Failed(tried, error)) if tried == pin => return Err(error.clone()),
                Some(Outcome::Failed(..)) => continue,
                None => {}
            }
            // A flight may have landed between our look and our seat.
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
    ) -> Result<Lease, StoreError>
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
        // With the turn, so that a caller who is dropped now leaves an outcome all the same.
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

    /// [`Store::lease`] on a thread where it may take its time; what is leased is what was asked for.
    async fn lease_later(&self, pin: &Pin, holder: &str) -> Result<Option<Lease>, StoreError> {
        let (store, wanted, holder) = (self.clone(), pin.clone(), holder.to_owned());
        blocking(pin, move || {
            let lease = store.lease(&wanted, &holder);
            lease.map(Lease::verified).transpose()
        })
        .await
    }
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(
    pin: &Pin,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    // It panicked, or the runtime ends.
    done.unwrap_or_else(|error| Err(StoreError::host("store", pin, io::Error::other(error))))
}
