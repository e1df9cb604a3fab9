//! Which uids sandboxes run as: two for each (leaf and keeper), unique on this machine among all live sandboxes.
//!
//! A worker takes a block of 2²⁰ uids. It claims the block with an abstract Unix socket, which needs no file, disappears with the
//! process that holds it, and is seen by all workers of one network namespace. (Workers in different network namespaces rely on
//! their seeds to get different blocks.) Blocks lie above the ranges of people, services, containers and systemd-nspawn.

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
use std::io;
use std::os::fd::OwnedFd;

const FIRST: u32 = 0x7000_0000;
const BLOCK: u32 = 1 << 20;
const BLOCKS: u32 = 2048;

/// A claimed block.
#[derive(Debug)]
pub struct Block {
    first: u32,
    _claim: OwnedFd,
}

/// The two uids of one sandbox on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The tenant's.
    pub leaf: u32,
    /// The keeper's.
    pub keeper: u32,
}

impl Block {
    /// How many pairs a block has.
    pub const PAIRS: u32 = BLOCK / 2;

    /// Claims the first free block at or after one chosen by `seed`.
    ///
    /// # Errors
    /// When all are taken, or sockets can't be made.
    pub fn claim(seed: u32) -> io::Result<Self> {
        for step in 0..BLOCKS {
            let index = seed.wrapping_add(step) % BLOCKS;
            let socket = socket_with(
                AddressFamily::UNIX,
                SocketType::DGRAM,
                SocketFlags::CLOEXEC,
                None,
            )?;
            let address =
                SocketAddrUnix::new_abstract_name(format!("open-lambda/uids/{index}").as_bytes())?;
            match bind(&socket, &address) {
                Ok(()) => {
                    return Ok(Self {
                        first: FIRST + index * BLOCK,
                        _claim: socket,
                    });
                }
                Err(rustix::io::Errno::ADDRINUSE) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::other(
            "all blocks of sandbox uids are taken by other workers",
        ))
    }

    /// The first uid of the block, and how many it has.
    ///
    /// A zygote's user namespace maps the whole block, so that its children's namespaces can map two uids each.
    pub fn range(&self) -> (u32, u32) {
        (self.first, BLOCK)
    }

    /// The pair of `slot`, which is below [`Self::PAIRS`].
    pub fn pair(&self, slot: u32) -> Pair {
        let leaf = self.first + 2 * (slot % Self::PAIRS);
        Pair {
            leaf,
            keeper: leaf + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_claims_never_overlap_and_a_dropped_one_is_free_again() {
        let a = Block::claim(2047).expect("a block");
        let b = Block::claim(2047).expect("another");
        assert!(a.first.abs_diff(b.first) >= BLOCK);
        let first = a.first;
        drop(a);
        assert_eq!(Block::claim(2047).expect("the first again").first, first);
    }
}
