//! Returns memory to the system after a flood of requests, because the C library's allocator would keep nearly all of it for ever
//! (docs/contributing/benchmark-results.md has the numbers, and those of other allocators).

use ol_sys::heap;
use std::time::Duration;

/// The time between two checks.
const BEAT: Duration = Duration::from_secs(5);

/// The least number of free bytes that is worth trimming: a busy worker frees and allocates as much all the time.
const WORTH: usize = 16 << 20;

/// Trims the heap when needed, until the runtime ends.
pub(crate) async fn tend() {
    // Free bytes that trimming couldn't return: they are in pages that are partly in use.
    let mut left = 0;
    loop {
        tokio::time::sleep(BEAT).await;
        let free = heap::free_bytes();
        left = left.min(free);
        if free - left < WORTH {
            continue;
        }
        // Not on the thread that serves requests.
        if tokio::task::spawn_blocking(heap::trim).await.is_err() {
            return;
        }
        left = heap::free_bytes();
    }
}
