//! The heap of this process: how much of it is free, and giving that back to the system.
//!
//! glibc's allocator keeps free memory that lies below anything still in use; after a flood of requests that is nearly all of it.

use libc::{mallinfo2, malloc_trim};

/// Bytes that the allocator holds and the process doesn't use.
#[must_use]
pub fn free_bytes() -> usize {
    // SAFETY: the call has no arguments, and takes the allocator's own locks.
    let info = unsafe { mallinfo2() };
    info.fordblks
}

/// Gives whole free pages back to the system.
///
/// The time grows with the number of pages: milliseconds for a hundred MiB. Other threads that allocate meanwhile may wait.
pub fn trim() {
    // SAFETY: the call takes a number, leaves memory in use where it is, and takes the allocator's own locks.
    unsafe {
        malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_freed_is_seen_and_given_back() {
        // Pieces this small are taken from the heap. Every second one stays in use.
        let mut all: Vec<Option<Vec<u8>>> = (0..2000).map(|_| Some(vec![1; 16 << 10])).collect();
        all.iter_mut().step_by(2).for_each(|piece| *piece = None);
        assert!(super::free_bytes() > 8 << 20);
        super::trim();
        assert!(all.iter().flatten().all(|piece| piece[0] == 1));
    }
}
