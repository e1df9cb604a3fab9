//! Gives the system back what a flood of requests took: the C library's allocator holds nearly all of it for ever
//! (docs/contributing/benchmark-results.md has the numbers, and those of other allocators).

use ol_sys::heap;
use std::time::Duration;

/// From one look to the next.
const BEAT: Duration = Duration::from_secs(5);

/// Less than this isn't worth the trouble: a worker that is called a lot frees and takes as much all the time.
const WORTH: usize = 16 << 20;

/// Looks after the heap until the runtime ends.
pub(crate) async fn tend() {
    // What trimming leaves: pages of which a part is in use.
    let mut left = 0;
    loop {
        tokio::time::sleep(BEAT).await;
        let free = heap::free_bytes();
        left = left.min(free);
        if free - left < WORTH {
            continue;
        }
        // Not on the thread that serves.
        if tokio::task::spawn_blocking(heap::trim).await.is_err() {
            return;
        }
        left = heap::free_bytes();
    }
}
