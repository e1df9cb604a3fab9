//! The heap of this process: how much of it is free and still held, and giving that back.
//!
//! Exists because glibc's allocator keeps what lies below anything that is still in use: after a flood of requests that is nearly all of it.

use libc::{mallinfo2, malloc_trim};

/// Bytes that this process holds and doesn't use.
#[must_use]
pub fn free_bytes() -> usize {
    // SAFETY: it takes nothing, and takes the allocator's own locks.
    let info = unsafe { mallinfo2() };
    info.fordblks
}

/// Gives whole pages of those back to the system. Takes as long as there are pages: milliseconds for a hundred MiB. Other threads that
/// allocate meanwhile may wait.
pub fn trim() {
    // SAFETY: it takes a number, leaves what is in use where it is, and takes the allocator's own locks.
    unsafe {
        malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_freed_is_seen_and_given_back() {
        // Small pieces lie in the heap, and every second one stays.
        let mut all: Vec<Option<Vec<u8>>> = (0..2000).map(|_| Some(vec![1; 16 << 10])).collect();
        all.iter_mut().step_by(2).for_each(|piece| *piece = None);
        assert!(super::free_bytes() > 8 << 20);
        super::trim();
        assert!(all.iter().flatten().all(|piece| piece[0] == 1));
    }
}
