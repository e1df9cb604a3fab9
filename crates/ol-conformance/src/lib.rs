//! Black box tests of the worker: its command line, its HTTP, and what the kernel says about it. Nothing of ours is
//! imported but the test kit, so that a test can't agree with the code by sharing it.
//!
//! | file of `tests/` | asks |
//! |---|---|
//! | `slice` | does the whole path work? The part that also runs on a slow machine with cgroup v2 only |
//! | `lifecycle` | does a worker start and stop as its commands say, and finish what it began? |
//! | `takeover` | are directories that exist, also the original's, taken as they are? |
//! | `refusals` | is what can't work refused in one sentence, with its remedy? |
//! | `errors` | is each error what the contract says, for people and for programs? |
//! | `http` | do answers of any size arrive, and what do the routes beside `/run` say? |
//! | `answers` | is what functions answer sent as HTTP has it, and what HTTP does not allow refused for one call? |
//! | `webapps` | which app is found, what is it told, what of its answer arrives? |
//! | `streaming` | do bodies flow both ways in little memory, soon, and past slow callers? |
//! | `callers` | who hears of a caller that left, or of an answer that broke? |
//! | `instances` | how many are there, when do they come and go? |
//! | `output` | under whose invocation is a printed line kept? |
//! | `python` | does Python's own library work inside? |
//! | `examples` | do the examples do what their README says? |
//! | `docs` | does what README and the first pages tell a newcomer to type work, and print what they say? |
//! | `package_care` | is the way of packages shown, and are those in use kept? |
//! | `registry` | does new code take effect at once, wholly or not at all? |
//! | `trials` | does a version that can not be started leave the one before in service? |
//! | `encodings` | are encoded bodies decoded, or refused in words? |
//! | `versions` | does new code under load cost a call? |
//! | `hostile` | are bundles that try to get out refused? |
//! | `sandbox_view` | what does a function see, and what not? |
//! | `system_calls` | which system calls does it not have, and what works without them? |
//! | `faults` | who notices when a process is killed, and what is left then? |
//! | `timing` | is it told where a call's time went, to who asks and nobody else? |
//! | `bench` | do the original's benchmarks run, and say what they found? |
//! | `downsizing` | do idle functions give back memory, and have it again when called? |
//! | `sock_mode` | do sandboxes that are driven one by one do what they are told? |
//! | `forks` | whose child is a leaf, what is a blank, and what if a zygote dies or hangs? |
//! | `zygotes` | do siblings share anything random, and what can a hostile zygote do? |
//! | `warm` | many calls: none lost, none confused, nothing kept |
