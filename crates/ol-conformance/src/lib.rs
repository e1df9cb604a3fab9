//! Black box tests of the worker: its command line, its HTTP, and what the kernel says about its processes.
//!
//! The tests import no crate of this project but the test kit, so that a test can't agree with the code by sharing it.
//!
//! | file of `tests/` | asks |
//! |---|---|
//! | `slice` | does the whole path work? This test also runs on a slow machine that has cgroup v2 only |
//! | `lifecycle` | does a worker start and stop as its commands say, and finish the calls that it began? |
//! | `signals` | does each signal do the same to the worker and to the warden? |
//! | `takeover` | are existing directories, also the original OpenLambda's, used as they are? |
//! | `directory_files` | is each damaged file of a worker's directory repaired, or refused by name? |
//! | `bases` | can base images be made from every kind of source, on each supported Python? |
//! | `refusals` | is what can't work refused in one sentence, with its remedy? |
//! | `errors` | is each error what the contract says, for people and for programs? |
//! | `door` | what can web pages ask of the worker, and what can other local users read? |
//! | `crowds` | can one client keep others out by many connections or uploads? |
//! | `heads` | are broken heads answered, and endless ones bounded in memory? |
//! | `unread` | does an answer arrive although the request wasn't read to its end? |
//! | `http` | do answers of any size arrive, and what do the routes other than `/run` say? |
//! | `answers` | are functions' answers sent as HTTP requires, and is one that HTTP doesn't allow refused for that call only? |
//! | `webapps` | which app is found, what is it told, what of its answer arrives? |
//! | `streaming` | do bodies flow both ways in little memory, without delay, and past slow callers? |
//! | `callers` | does a function learn that its caller left, and a caller that its answer broke off? |
//! | `instances` | how many instances are there, and when are they started and ended? |
//! | `output` | is a printed line kept under the invocation that printed it? |
//! | `logs` | does `ol logs` show what a function wrote, in order and whole? |
//! | `log_floods` | is a function bounded that prints more than the worker can handle? |
//! | `terminal` | is foreign output shown on a terminal without being obeyed? |
//! | `python` | does Python's standard library work in a sandbox? |
//! | `pythons` | does every kind of function work on every supported Python? |
//! | `helpers` | do programs that a function starts find what it finds? |
//! | `examples` | do the examples do what their README says? |
//! | `docs` | do the commands in README and the first pages work, and print what the pages say? |
//! | `install` | does `ol admin install` take directories, archives and git repositories? |
//! | `packages` | are packages installed once, in the versions that each function asks for? |
//! | `package_archives` | what if an index serves another archive for a version that is locked? |
//! | `package_care` | is the progress of an installation shown, and are packages in use kept? |
//! | `package_examples` | do the examples with packages work with those of PyPI? |
//! | `package_failures` | does a package that can't be had fail its own function only? |
//! | `package_harm` | is a harmful package confined to its sandbox? |
//! | `package_suites` | do the test suites of large packages pass in a function as they do outside? |
//! | `registry` | does new code take effect at once, wholly or not at all? |
//! | `trials` | does the previous version stay in service if a new one can't be started? |
//! | `encodings` | are encoded bodies decoded, or refused with a reason? |
//! | `versions` | does a new version under load make no call fail? |
//! | `hostile` | are bundles refused that try to write outside of their folder? |
//! | `sandbox_view` | what does a function see, and what not? |
//! | `system_calls` | which system calls can't a function make, and what works without them? |
//! | `network` | what do functions reach over the network, and what not? |
//! | `network_host` | what if the host lacks what functions' networks need? |
//! | `network_pip` | does pip work in a function with a network, and reach nothing forbidden? |
//! | `exhaustion` | can a function use up anything that its memory limit doesn't bound? |
//! | `faults` | is it noticed when a process is killed, and is nothing left then? |
//! | `timing` | are callers that ask for it told where a call's time went, and no others? |
//! | `bench` | do the original OpenLambda's benchmarks run, and report their results? |
//! | `downsizing` | do idle functions give back memory, and get it again when called? |
//! | `sock_mode` | do sandboxes that are driven one by one do what they are told? |
//! | `sock_session` | does the original OpenLambda's test of sock mode pass? |
//! | `starts_alike` | does a function see the same, in whatever way its sandbox was started? |
//! | `forks` | which process is a leaf's parent, what is a blank, and what if a zygote dies or hangs? |
//! | `zygotes` | do siblings share anything random, and what can a hostile zygote do? |
//! | `warm` | is each of many calls answered, with its own answer, and is nothing kept? |
