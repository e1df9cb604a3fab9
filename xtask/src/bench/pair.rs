//! The worker and the floor, measured by turns.
//!
//! Exists because going first may be an advantage or a disadvantage, depending on the machine's state: thus the order changes with every
//! round.

use anyhow::Result;

use super::child::{Server, Side};

/// The two servers that are compared.
pub(super) struct Pair {
    pub(super) ours: Server,
    pub(super) floor: Server,
}

/// One value per round for each side.
#[derive(Default)]
pub(super) struct Sides {
    pub(super) ours: Vec<f64>,
    pub(super) floor: Vec<f64>,
}

/// Which side goes first in this round, and which second.
pub(super) fn order(round: usize) -> [Side; 2] {
    if round.is_multiple_of(2) {
        [Side::Ours, Side::Floor]
    } else {
        [Side::Floor, Side::Ours]
    }
}

impl Pair {
    /// Does `one` to both sides, in the order of this round, and passes the results to `keep`.
    pub(super) fn by_turns<T>(
        &self,
        round: usize,
        mut one: impl FnMut(&Server) -> Result<T>,
        mut keep: impl FnMut(Side, T),
    ) -> Result<()> {
        for side in order(round) {
            let server = match side {
                Side::Ours => &self.ours,
                Side::Floor => &self.floor,
            };
            keep(side, one(server)?);
        }
        Ok(())
    }
}

impl Sides {
    pub(super) fn keep(&mut self, side: Side, value: f64) {
        match side {
            Side::Ours => self.ours.push(value),
            Side::Floor => self.floor.push(value),
        }
    }
}
