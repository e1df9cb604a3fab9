//! `server_mode: "sock"`: sandboxes are made, paused, forked and destroyed one by one, and what isn't possible is refused.

use ol_testkit::{Reply, Worker, bundle, eventually, patience, with_worker};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

const SOCK: &str = "server_mode=sock";

const ECHO: &str = "def f(event):\n    return event\n";

fn post(worker: &Worker<'_>, path: &str) -> Reply {
    worker.request("POST", path, b"")
}

fn try_create(worker: &Worker<'_>, order: &Value) -> Reply {
    worker.request("POST", "/create", order.to_string().as_bytes())
}

/// Makes a sandbox and returns its number.
fn create(worker: &Worker<'_>, order: &Value) -> String {
    let reply = try_create(worker, order);
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.text().trim().to_owned()
}

/// Posts a request whose answer is empty.
fn done(worker: &Worker<'_>, path: &str) {
    let reply = post(worker, path);
    assert_eq!((reply.status, reply.text().as_str()), (200, ""));
}

fn run(worker: &Worker<'_>, id: &str, event: &Value) -> Reply {
    worker.request("POST", &format!("/run/{id}"), event.to_string().as_bytes())
}

/// The line of `/debug` about a sandbox.
fn line(worker: &Worker<'_>, id: &str) -> Option<String> {
    let text = worker.debug();
    let mut lines = text.lines();
    lines
        .find(|line| line.starts_with(&format!("sandbox {id}: ")))
        .map(str::to_owned)
}

/// Writes a function's directory in the test's place and returns its path.
fn code(worker: &Worker<'_>, name: &str, files: &[(&str, &str)]) -> String {
    let path = worker.place.source(name, files);
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn numbers_count_from_one_and_a_life_has_its_stations() {
    with_worker(&[SOCK], |worker| {
        let code = code(worker, "echo", &[("f.py", ECHO)]);
        assert_eq!(create(worker, &json!({"code": code})), "1");
        assert_eq!(
            create(worker, &json!({"code": "", "leaf": true, "parent": ""})),
            "2"
        );
        // A sandbox that can't be made uses up no number.
        assert_eq!(try_create(worker, &json!({"parent": "9"})).status, 404);
        assert_eq!(create(worker, &json!({"leaf": false})), "3");

        assert_eq!(run(worker, "1", &json!([1, "x"])).ok(), json!([1, "x"]));
        done(worker, "/pause/1");
        done(worker, "/pause/1");
        assert!(line(worker, "1").expect("a line").contains("leaf, paused"));
        let told = run(worker, "1", &json!(1)).error(409, "refused");
        assert!(told.contains("/unpause/"), "{told}");
        done(worker, "/unpause/1");
        assert_eq!(run(worker, "1", &json!(2)).ok(), json!(2));
        assert!(worker.count("pause") >= 1 && worker.count("unpause") >= 1);

        done(worker, "/destroy/2");
        assert_eq!(line(worker, "2"), None);
        assert_eq!(create(worker, &json!({})), "4");
        assert_eq!(worker.request("GET", "/status", b"").text(), "ready\n");
        assert_eq!(worker.request("GET", "/metrics", b"").status, 200);
    });
}

#[test]
fn code_comes_from_a_bundle_too() {
    with_worker(&[SOCK], |worker| {
        let path = worker.place.own("echo.tar.gz");
        let files = [
            (
                "f.py",
                "import helper\n\ndef f(event):\n    return helper.twice(event)\n",
            ),
            ("helper.py", "def twice(x):\n    return x * 2\n"),
        ];
        fs::write(&path, bundle(&files)).expect("written");
        let id = create(worker, &json!({"code": path}));
        assert_eq!(run(worker, &id, &json!(21)).ok(), json!(42));
        let big = "x".repeat(700_000);
        assert_eq!(run(worker, &id, &json!(big)).ok(), json!(big.repeat(2)));
    });
}

#[test]
fn packages_are_imported_by_zygotes_and_found_by_leaves() {
    with_worker(&[SOCK], |worker| {
        let files = worker
            .place
            .dir()
            .join("lambda/packages/some-pkg==1.0/files");
        fs::create_dir_all(&files).expect("made");
        fs::write(files.join("some_pkg.py"), "import os\nWHO = os.getpid()\n").expect("written");
        let code = code(
            worker,
            "user",
            &[(
                "f.py",
                "import sys\nthere = 'some_pkg' in sys.modules\n\ndef f(event):\n    import some_pkg\n    return [there, some_pkg.WHO]\n",
            )],
        );
        let pkgs = json!(["some-pkg==1.0"]);
        let zygote = create(worker, &json!({"leaf": false, "pkgs": pkgs}));
        let forked = create(worker, &json!({"code": code, "parent": zygote}));
        assert_eq!(run(worker, &forked, &json!(0)).ok()[0], json!(true));
        let fresh = create(worker, &json!({"code": code, "pkgs": pkgs}));
        assert_eq!(run(worker, &fresh, &json!(0)).ok()[0], json!(false));

        let told = try_create(worker, &json!({"leaf": false, "pkgs": ["absent==2.0"]}));
        let told = told.error(400, "bad-request");
        assert!(
            told.contains("absent==2.0") && told.contains("pip install --target"),
            "{told}"
        );
    });
}

#[test]
fn children_outlive_the_zygote_that_they_were_forked_from() {
    with_worker(&[SOCK], |worker| {
        let code = code(worker, "echo", &[("f.py", ECHO)]);
        let root = create(worker, &json!({"leaf": false}));
        let middle = create(worker, &json!({"leaf": false, "parent": root}));
        let leaf = create(worker, &json!({"code": code, "parent": middle}));
        done(worker, &format!("/destroy/{root}"));
        done(worker, &format!("/destroy/{middle}"));
        assert_eq!(run(worker, &leaf, &json!("still")).ok(), json!("still"));
        let told = try_create(worker, &json!({"parent": root})).error(404, "unknown-sandbox");
        assert!(told.contains("/debug"), "{told}");
        let told = try_create(worker, &json!({"parent": leaf})).error(400, "bad-request");
        assert!(told.contains("leaf"), "{told}");
    });
}

#[test]
fn a_paused_zygote_forks_when_it_runs_again() {
    with_worker(&[SOCK], |worker| {
        let zygote = create(worker, &json!({"leaf": false}));
        done(worker, &format!("/pause/{zygote}"));
        let told = try_create(worker, &json!({"parent": zygote})).error(409, "refused");
        assert!(told.contains("/unpause/"), "{told}");
        done(worker, &format!("/unpause/{zygote}"));
        let _ = create(worker, &json!({"parent": zygote}));
    });
}

#[test]
fn zygotes_nest_thirty_deep_and_no_further() {
    with_worker(&[SOCK, "mem_pool_mb=2000"], |worker| {
        let code = code(worker, "echo", &[("f.py", ECHO)]);
        let mut parent = create(worker, &json!({"leaf": false}));
        for _ in 0..30 {
            parent = create(worker, &json!({"leaf": false, "parent": parent}));
        }
        let leaf = create(worker, &json!({"code": code, "parent": parent}));
        assert_eq!(run(worker, &leaf, &json!(30)).ok(), json!(30));
        let told = try_create(worker, &json!({"leaf": false, "parent": parent}));
        let told = told.error(409, "refused");
        assert!(told.contains("depth 31") && told.contains("30"), "{told}");
    });
}

#[test]
fn memory_that_cannot_be_had_is_refused_soon_and_comes_back() {
    with_worker(&[SOCK, "mem_pool_mb=100"], |worker| {
        let first = create(worker, &json!({}));
        let _ = create(worker, &json!({}));
        for order in [json!({}), json!({"leaf": false})] {
            let begun = Instant::now();
            let told = try_create(worker, &order).error(429, "no-memory");
            assert!(begun.elapsed() < patience(3.0), "{:?}", begun.elapsed());
            assert!(told.contains("100 MiB"), "{told}");
        }
        done(worker, &format!("/destroy/{first}"));
        assert_eq!(create(worker, &json!({})), "3");
    });
}

#[test]
fn what_is_wrong_is_said_with_what_would_do() {
    with_worker(&[SOCK], |worker| {
        for (body, named) in [
            ("{", "send JSON"),
            ("[]", "send JSON"),
            (r#"{"kode": ""}"#, "kode"),
            (r#"{"code": "relative"}"#, "begin with /"),
            (r#"{"code": "/nowhere/at/all"}"#, "name a directory"),
            (r#"{"runtime": "cobol"}"#, "python"),
            (r#"{"pkgs": ["../../etc"]}"#, "NAME==VERSION"),
            (r#"{"parent": []}"#, "/create answered"),
        ] {
            let reply = worker.request("POST", "/create", body.as_bytes());
            let told = reply.error(400, "bad-request");
            assert!(told.contains(named), "{body}: {told}");
        }
        for verb in ["destroy", "pause", "unpause", "run"] {
            for id in ["1", "x", "-1"] {
                let reply = post(worker, &format!("/{verb}/{id}"));
                let told = reply.error(404, "unknown-sandbox");
                assert!(told.contains("/create"), "{told}");
            }
        }
        let told = worker
            .request("GET", "/create", b"")
            .error(405, "method-not-allowed");
        assert!(told.contains("POST"), "{told}");
        let told = worker
            .request("GET", "/registry/", b"")
            .error(404, "no-route");
        assert!(told.contains("/create"), "{told}");
        let empty = create(worker, &json!({}));
        let told = run(worker, &empty, &json!(1)).error(409, "refused");
        assert!(told.contains("f.py"), "{told}");
    });
}

#[test]
fn a_sandbox_that_died_says_how_until_it_is_destroyed() {
    with_worker(&[SOCK], |worker| {
        let code = code(
            worker,
            "bad",
            &[(
                "f.py",
                "import os\n\ndef f(event):\n    if event == 0:\n        os._exit(7)\n    raise ValueError(event)\n",
            )],
        );
        let id = create(worker, &json!({"code": code}));
        let told = run(worker, &id, &json!(5)).error(500, "raised");
        assert!(told.contains("ValueError: 5"), "{told}");
        let told = run(worker, &id, &json!(0)).error(502, "died");
        assert!(told.contains("status 7"), "{told}");
        let told = post(worker, &format!("/pause/{id}")).error(409, "refused");
        assert!(told.contains("/destroy/"), "{told}");
        done(worker, &format!("/destroy/{id}"));
        eventually("its process to be gone", 10.0, || {
            worker.leaves().is_empty().then_some(())
        });
    });
}

/// The memory that `/debug` calls free, in MiB.
fn free(worker: &Worker<'_>) -> u64 {
    let text = worker.debug();
    let line = text.lines().last().expect("a line");
    let number = line.split(' ').next().and_then(|word| word.parse().ok());
    number.unwrap_or_else(|| panic!("{text}"))
}

#[test]
fn paused_sandboxes_give_back_what_they_do_not_use() {
    with_worker(&[SOCK, "mem_pool_mb=500"], |worker| {
        let code = code(worker, "echo", &[("f.py", ECHO)]);
        let root = create(worker, &json!({"leaf": false}));
        let order = json!({"code": code, "parent": root});
        let mut paused = Vec::new();
        for _ in 0..32 {
            let id = create(worker, &order);
            done(worker, &format!("/pause/{id}"));
            paused.push(id);
        }
        // Beside the paused sandboxes, fifteen clients make and destroy sandboxes at once. If the paused ones hadn't given back memory, ten
        // sandboxes would fill the pool.
        std::thread::scope(|scope| {
            for _ in 0..15 {
                scope.spawn(|| {
                    for round in 0..4 {
                        let id = create(worker, &order);
                        assert_eq!(run(worker, &id, &json!(round)).ok(), json!(round));
                        done(worker, &format!("/pause/{id}"));
                        done(worker, &format!("/destroy/{id}"));
                    }
                });
            }
        });
        for id in paused.iter().take(3) {
            done(worker, &format!("/unpause/{id}"));
            assert_eq!(run(worker, id, &json!(id)).ok(), json!(id));
            done(worker, &format!("/pause/{id}"));
        }
        assert!(free(worker) > 50, "{}", worker.debug());
    });
}

#[test]
fn who_can_not_get_its_memory_back_stays_paused() {
    with_worker(&[SOCK, "mem_pool_mb=100"], |worker| {
        let code = code(worker, "echo", &[("f.py", ECHO)]);
        let order = json!({"code": code});
        let first = create(worker, &order);
        done(worker, &format!("/pause/{first}"));
        let second = create(worker, &order);
        let small = [("f.py", ECHO), ("ol.yaml", "limits: {mem_mb: 20}\n")];
        let third = create(
            worker,
            &json!({"code": self::code(worker, "small", &small)}),
        );
        let begun = Instant::now();
        let unpause = format!("/unpause/{first}");
        let told = post(worker, &unpause);
        assert!(begun.elapsed() < patience(3.0));
        let text = told.error(429, "no-memory");
        assert!(text.contains("100 MiB"), "{text}");
        assert!(line(worker, &first).expect("a line").contains("paused"));
        done(worker, &format!("/destroy/{second}"));
        done(worker, &format!("/destroy/{third}"));
        done(worker, &unpause);
        assert_eq!(run(worker, &first, &json!(1)).ok(), json!(1));
    });
}

/// The owner of a directory exchanges a folder and a link while the worker packs it: what the link leads to never gets into a sandbox.
///
/// The owner may read less than the worker can, and must not read more that way.
#[test]
fn links_exchanged_while_a_directory_is_packed_lead_nowhere() {
    const SECRET: &str = "only root reads this";
    with_worker(&[SOCK], |worker| {
        let secret = worker.place.own("secret");
        fs::create_dir(&secret).expect("made");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o700)).expect("closed");
        let look = "import os\n\ndef f(event):\n    return [open(at + '/' + name).read() for at, _, names in os.walk('/handler/x') for name in names]\n";
        // Many files come before the exchanged folder, so that time passes between listing it and opening it.
        let names: Vec<String> = (0..200).map(|n| format!("x/{n:03}")).collect();
        let code = code(worker, "exchanged", &[("f.py", look)]);
        fs::create_dir(std::path::Path::new(&code).join("x")).expect("made");
        for name in &names {
            fs::write(std::path::Path::new(&code).join(name), "mine").expect("written");
        }
        for name in &names {
            let name = name.strip_prefix("x/").expect("it begins so");
            fs::write(secret.join(name), SECRET).expect("written");
        }
        let (folder, link) = (
            std::path::Path::new(&code).join("x"),
            worker.place.own("link"),
        );
        std::os::unix::fs::symlink(&secret, &link).expect("linked");
        let over = ol_testkit::Over::default();
        std::thread::scope(|scope| {
            let until = over.when_dropped();
            let exchanging = scope.spawn(|| {
                let mut times = 0;
                while !over.is() || times % 2 == 1 {
                    // Exchanged in one step, so that there is always either of the two.
                    let (cwd, exchange) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
                    rustix::fs::renameat_with(cwd, &folder, cwd, &link, exchange).expect("ours");
                    times += 1;
                }
                times
            });
            let (mut made, mut refused) = (0, 0);
            for _ in 0..60 {
                let reply = try_create(worker, &json!({"code": code}));
                if reply.status == 200 {
                    let id = reply.text().trim().to_owned();
                    let seen = run(worker, &id, &json!(null)).text();
                    assert!(!seen.contains(SECRET), "a link was followed");
                    done(worker, &format!("/destroy/{id}"));
                    made += 1;
                } else {
                    let told = reply.error(400, "bad-request");
                    assert!(!told.contains(SECRET), "{told}");
                    refused += 1;
                }
            }
            drop(until);
            let times = exchanging.join().expect("nothing else renames");
            ol_testkit::measured(&format!(
                "{times} exchanges; {made} directories packed, {refused} refused"
            ));
            assert!(times > 60, "{times} exchanges prove little");
        });
        let id = create(worker, &json!({"code": code, "pkgs": []}));
        let seen = run(worker, &id, &json!(null)).ok();
        assert_eq!(seen, json!(vec!["mine"; 200]));
    });
}

/// Opening a named pipe instead of a bundle would block until somebody writes into it.
#[test]
fn code_that_is_no_file_is_not_waited_for() {
    with_worker(&[SOCK], |worker| {
        let pipe = worker.place.own("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, mode, 0).expect("a pipe");
        let told = try_create(worker, &json!({"code": pipe})).error(400, "bad-request");
        assert!(told.contains("it is not a file"), "{told}");
        let code = code(worker, "holder", &[("f.py", ECHO)]);
        fs::rename(&pipe, std::path::Path::new(&code).join("pipe")).expect("moved");
        let told = try_create(worker, &json!({"code": code})).error(400, "bad-request");
        assert!(told.contains("pipe"), "{told}");
    });
}
