//! Black box tests of the worker: its command line, its HTTP, and what the kernel says about it. Nothing of ours is
//! imported but the test kit, so that a test can't agree with the code by sharing it.
//!
//! | file of `tests/` | asks |
//! |---|---|
//! | `slice` | does the whole path work? The part that also runs on a slow machine with cgroup v2 only |
//! | `lifecycle` | does a worker start and stop as its commands say, and finish what it began? |
//! | `takeover` | are directories that exist, also the original's, taken as they are? |
//! | `refusals` | is what can't work refused in one sentence, with its remedy? |
//! | `http` | are answers and errors what the contract says? |
//! | `registry` | does new code take effect at once, wholly or not at all? |
//! | `hostile` | are bundles that try to get out refused? |
//! | `sandbox_view` | what does a function see, and what not? |
//! | `system_calls` | which system calls does it not have, and what works without them? |
//! | `faults` | who notices when a process is killed, and what is left then? |
//! | `warm` | many calls: none lost, none confused, nothing kept |
