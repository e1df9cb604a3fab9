//! `ol admin install` from directories, archives and git repositories.
//!
//! Mistakes are reported before anything is uploaded, and nothing that was fetched is left behind.

use ol_testkit::place::listing;
use ol_testkit::{Place, Said, Worker, bundle, eventually, patience, with_worker};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

fn answering(text: &str) -> String {
    format!("def f(event):\n    return {text:?}\n")
}

/// The folder where the client may put what it fetches.
fn scratch(place: &Place) -> PathBuf {
    let path = place.own("tmp");
    fs::create_dir_all(&path).expect("made");
    path
}

/// `ol admin install ARGUMENTS`, as on a machine where nobody configured git.
fn command(place: &Place, arguments: &[&str]) -> Command {
    let mut command = place.command(&[&["admin", "install"], arguments].concat());
    command
        .env("TMPDIR", scratch(place))
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null");
    command
}

fn install(place: &Place, arguments: &[&str]) -> Said {
    let said = Said::from(command(place, arguments).output().expect("ol can be run"));
    assert_eq!(
        listing(&scratch(place)),
        [] as [PathBuf; 0],
        "{arguments:?} left something"
    );
    said
}

fn refused(place: &Place, arguments: &[&str]) -> String {
    install(place, arguments).refusal().to_owned()
}

/// Runs git and returns what it printed.
fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(directory)
        .args(["-c", "user.name=t", "-c", "user.email=t@localhost"])
        .args(arguments)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .expect("these tests need git");
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A bare repository `greet.git`, served by anything that serves files.
///
/// | where | answers |
/// |---|---|
/// | the default branch | `main` |
/// | branch `topic/new` | `topic` |
/// | tag `v1`, and `first` by its id, which no branch points at | `first` |
/// | `apps/inner` of the default branch | `inner` |
struct Repository {
    path: PathBuf,
    first: String,
}

impl Repository {
    fn make(place: &Place) -> Self {
        let work = place.source("work", &[("f.py", &answering("first"))]);
        git(&work, &["init", "-q", "-b", "main"]);
        let commit = |text: &str| {
            git(&work, &["add", "-A"]);
            git(&work, &["commit", "-q", "-m", text]);
        };
        commit("first");
        git(&work, &["tag", "-a", "v1", "-m", "v1"]);
        let first = git(&work, &["rev-parse", "HEAD"]);
        git(&work, &["checkout", "-q", "-b", "topic/new"]);
        fs::write(work.join("f.py"), answering("topic")).expect("written");
        commit("topic");
        // The link isn't on the default branch, because no function may contain links.
        git(&work, &["checkout", "-q", "-b", "links"]);
        fs::create_dir_all(work.join("apps")).expect("made");
        symlink("/etc", work.join("apps/link")).expect("linked");
        fs::create_dir_all(work.join("linked")).expect("made");
        fs::write(work.join("linked/f.py"), "").expect("written");
        symlink("/etc/passwd", work.join("linked/users")).expect("linked");
        commit("links");
        git(&work, &["checkout", "-q", "main"]);
        fs::write(work.join("f.py"), answering("main")).expect("written");
        fs::create_dir_all(work.join("apps/inner")).expect("made");
        fs::write(work.join("apps/inner/f.py"), answering("inner")).expect("written");
        commit("main");
        let path = place.own("greet.git");
        git(
            &place.own(""),
            &["clone", "-q", "--bare", "work", "greet.git"],
        );
        git(&path, &["update-server-info"]);
        Self { path, first }
    }

    fn url(&self) -> String {
        format!("file://{}", self.path.display())
    }
}

fn answer(worker: &Worker<'_>, name: &str) -> serde_json::Value {
    worker.call(name, &json!({})).ok()
}

/// Serves the files below `root` over HTTP for as long as the test lasts; returns the server's URL.
fn serve(root: PathBuf) -> String {
    let listener = TcpListener::bind("localhost:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let root = root.clone();
            thread::spawn(move || {
                let mut lines = BufReader::new(&stream).lines();
                let first = lines.next().and_then(Result::ok).unwrap_or_default();
                // Reads up to the empty line that ends the head.
                let _ = lines.find(|line| line.as_ref().is_ok_and(String::is_empty));
                let path = first.split(' ').nth(1).unwrap_or_default();
                let path = path.split('?').next().unwrap_or_default();
                let content = fs::read(root.join(path.trim_start_matches('/')));
                let (status, content) = match content {
                    Ok(content) => ("200 OK", content),
                    Err(_) => ("404 Not Found", Vec::new()),
                };
                let length = content.len();
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                let _ = (&stream).write_all(&[head.as_bytes(), &content].concat());
            });
        }
    });
    format!("http://{address}")
}

#[test]
fn from_a_repository_at_any_commit_and_in_any_directory() {
    with_worker(&[], |worker| {
        let place = worker.place;
        let repository = Repository::make(place);
        let web = serve(place.own(""));
        for base in [repository.url(), format!("{web}/greet.git")] {
            for (fragment, name, answered) in [
                (String::new(), "greet", "main"),
                ("#topic/new".to_owned(), "greet", "topic"),
                ("#v1".to_owned(), "greet", "first"),
                (format!("#{}", repository.first), "greet", "first"),
                (format!("#{}", &repository.first[..10]), "greet", "first"),
                ("#:apps/inner".to_owned(), "inner", "inner"),
                ("#main:apps/inner/".to_owned(), "inner", "inner"),
            ] {
                let url = format!("{base}{fragment}");
                let said = install(place, &[&url]);
                assert!(
                    said.ok().contains(&format!("installed {name} (")),
                    "{url}: {said:?}"
                );
                assert_eq!(said.err, "", "{url}");
                assert_eq!(answer(worker, name), json!(answered), "{url}");
            }
            let url = format!("git+{base}");
            let _ = install(place, &[&url, "-n", "other.name"]).ok();
            assert_eq!(answer(worker, "other.name"), json!("main"));
        }
        // Git's own files don't become files of the function.
        let said = install(place, &["--output", "json", &repository.url()]);
        let value: serde_json::Value = serde_json::from_str(said.ok()).expect("JSON");
        assert_eq!(value["files"], json!(2), "{value}");
        // In a git hook, git's environment variables name the hook's repository; they must be ignored.
        let mut hooked = command(place, &[&repository.url(), "-n", "hooked"]);
        for variable in [
            "GIT_DIR",
            "GIT_COMMON_DIR",
            "GIT_INDEX_FILE",
            "GIT_OBJECT_DIRECTORY",
            "GIT_ALTERNATE_OBJECT_DIRECTORIES",
            "GIT_SHALLOW_FILE",
            "GIT_NAMESPACE",
        ] {
            hooked.env(variable, "/nowhere");
        }
        let said = Said::from(hooked.output().expect("ol can be run"));
        assert!(said.ok().contains("installed hooked ("), "{said:?}");
    });
}

#[test]
fn files_given_beside_it_take_their_place() {
    with_worker(&[], |worker| {
        let place = worker.place;
        let source = "import os\ndef f(event):\n    return [os.environ.get('A'), open('/handler/requirements.txt').read()]\n";
        let files = [
            ("f.py", source),
            ("ol.yaml", "environment: {A: old}"),
            ("requirements.txt", "# old"),
        ];
        let source = place.source("greet", &files);
        let (yaml, packages) = (place.own("any.yaml"), place.own("any.txt"));
        fs::write(&yaml, "environment: {A: new}").expect("written");
        fs::write(&packages, "# new").expect("written");
        let text = |path: &PathBuf| path.to_str().expect("text").to_owned();
        let (source, yaml, packages) = (text(&source), text(&yaml), text(&packages));
        let _ = install(place, &[&source]).ok();
        assert_eq!(answer(worker, "greet"), json!(["old", "# old"]));
        let said = install(place, &["-c", &yaml, "-r", &packages, &source]);
        assert!(said.ok().contains("installed greet (3 files"), "{said:?}");
        let notes: Vec<_> = said.err.lines().collect();
        assert_eq!(notes.len(), 2, "{said:?}");
        assert!(
            notes[0].contains("any.yaml takes the place of the function's own ol.yaml"),
            "{said:?}"
        );
        assert!(notes[1].contains("any.txt takes the place of"), "{said:?}");
        assert_eq!(answer(worker, "greet"), json!(["new", "# new"]));
        // The file is also added to a repository that has no `ol.yaml` of its own.
        let repository = Repository::make(place);
        let said = install(
            place,
            &["-c", &yaml, "--no-wait", &repository.url(), "-n", "r"],
        );
        assert!(said.ok().contains("uploaded r (3 files"), "{said:?}");
        assert_eq!(said.err, "");

        fs::write(&yaml, "limits: [1").expect("written");
        assert!(refused(place, &["-c", &yaml, &source]).contains("ol.yaml line 1"));
        fs::write(&packages, b"\xff\xfe").expect("written");
        assert!(refused(place, &["-r", &packages, &source]).contains("requirements.txt as text"));
        assert!(refused(place, &["-r", "/nowhere.txt", &source]).contains("/nowhere.txt"));
        assert_eq!(
            answer(worker, "greet"),
            json!(["new", "# new"]),
            "the version before stays"
        );
    });
}

#[test]
fn an_archive_is_sent_as_it_is() {
    with_worker(&[], |worker| {
        let place = worker.place;
        let path = place.own("packed.tar.gz");
        let archive = path.to_str().expect("text");
        // Packed as people do it, which names the files ./f.py and so on.
        let source = place.source("source", &[("f.py", &answering("packed")), (".env", "A=1")]);
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(&source).args(["-czf", archive, "."]);
        assert!(tar.status().expect("tar can be run").success());
        let packed = fs::read(&path).expect("packed");
        let said = install(place, &[archive]);
        assert!(said.ok().contains("installed packed (2 files"), "{said:?}");
        assert_eq!(answer(worker, "packed"), json!("packed"));
        let stored = fs::read(place.dir().join("registry/packed.tar.gz")).expect("stored");
        assert_eq!(stored, packed);

        assert!(refused(place, &["-c", archive, archive]).contains("unpack it"));
        fs::write(&path, bundle(&[("g.py", "")])).expect("written");
        assert!(refused(place, &[archive]).contains("f.py is missing"));
        fs::write(&path, bundle(&[("f.py", ""), (".env", "A='")])).expect("written");
        assert!(refused(place, &[archive]).contains(".env line 1"));
        fs::write(&path, "no archive").expect("written");
        assert!(refused(place, &[archive]).contains("no tar.gz"));
        let single = place.own("f.py");
        fs::write(&single, "").expect("written");
        assert!(
            refused(place, &[single.to_str().expect("text")]).contains("a directory of its own")
        );
        assert_eq!(
            answer(worker, "packed"),
            json!("packed"),
            "the version before stays"
        );
    });
}

#[test]
fn what_a_repository_can_get_wrong() {
    with_worker(&[], |worker| {
        let place = worker.place;
        let repository = Repository::make(place);
        let base = repository.url();
        let with = |fragment: &str| format!("{base}{fragment}");
        let web = serve(place.own(""));
        let closed = TcpListener::bind("localhost:0")
            .expect("a free port")
            .local_addr();
        let closed = format!("http://{}/r.git", closed.expect("its address"));
        // Most of these errors are git's, whose text is shown.
        for (url, named) in [
            (with("#nope"), "couldn't find remote ref nope"),
            (with("#0123456789"), "git says: "),
            (with(&format!("#{}", "0".repeat(39) + "1")), "git says: "),
            (format!("{web}/greet.git#nope"), "git says: "),
            (format!("{web}/nothing.git"), "git says: "),
            (
                format!("file://{}", place.own("work/apps").display()),
                "not appear to be a git repository",
            ),
            (closed, "git says: "),
            (with("#-x"), "no branch, tag or commit"),
            (with("#:../w"), "leads out of the repository"),
            (with("#:f.py"), "has no directory f.py"),
            (with("#:nope"), "has no directory nope"),
            (with("#links:apps/link"), "has no directory apps/link"),
            (with("#links:linked"), "users is a symbolic link"),
            (with("#:apps"), "the entry file f.py is missing"),
            ("s3://bucket/greet".to_owned(), "https, http, ssh"),
            (place.own("greet.git").display().to_string(), "file://"),
            (
                place.own("nothing.git").display().to_string(),
                "check its name",
            ),
        ] {
            let sentence = refused(place, &[&url]);
            assert!(sentence.contains(named), "{url}: {sentence}");
        }
        let said = install(place, &["-n", "a/b", &base]);
        assert!(
            said.code == Some(2) && said.err.contains("function name holds '/'"),
            "{said:?}"
        );
        assert_eq!(worker.request("GET", "/registry/", b"").ok(), json!([]));
    });
}

#[test]
fn a_machine_without_git() {
    with_worker(&[], |worker| {
        let place = worker.place;
        let repository = Repository::make(place);
        let empty = place.own("no-programs");
        fs::create_dir(&empty).expect("made");
        let mut command = command(place, &[&repository.url()]);
        let said = Said::from(command.env("PATH", &empty).output().expect("run"));
        assert!(said.refusal().contains("apt-get install git"), "{said:?}");
        assert_eq!(listing(&scratch(place)), [] as [PathBuf; 0]);
    });
}

/// A git server that accepts the connection and then hangs doesn't block `install` for ever, and ^C ends the wait.
#[test]
fn a_server_that_hangs() {
    with_worker(&[], |worker| {
        let place = worker.place;
        let listener = TcpListener::bind("localhost:0").expect("a free port");
        let url = format!(
            "http://{}/r.git",
            listener.local_addr().expect("its address")
        );
        let began = Instant::now();
        let sentence = refused(place, &["--timeout", "1", &url]);
        assert!(
            sentence.contains("within 1 s") && sentence.contains("--timeout"),
            "{sentence}"
        );
        assert!(began.elapsed() < patience(20.0), "{:?}", began.elapsed());
        drop(listener.accept().expect("it came"));

        for signal in [Signal::INT, Signal::TERM] {
            let mut ol = command(place, &[&url])
                .stderr(Stdio::null())
                .spawn()
                .expect("ol can be run");
            let (mut stream, _) = listener.accept().expect("it comes");
            // Whichever of the two connections this is, git made it: git is running.
            let held = listing(&scratch(place));
            assert_eq!(held.len(), 1, "{held:?}");
            let mode = fs::metadata(&held[0]).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "others may look into it");
            let pid = Pid::from_raw(i32::try_from(ol.id()).expect("a pid")).expect("a pid");
            kill_process(pid, signal).expect("it lives");
            let status = eventually("ol to end", 20.0, || ol.try_wait().expect("our own child"));
            assert_eq!(status.signal(), Some(signal.as_raw()), "{status}");
            assert_eq!(listing(&scratch(place)), [] as [PathBuf; 0]);
            // The connection's other end is closed: git is gone too.
            stream.set_read_timeout(Some(patience(20.0))).expect("set");
            stream
                .read_to_end(&mut Vec::new())
                .expect("the end of the connection");
        }
        assert_eq!(worker.request("GET", "/registry/", b"").ok(), json!([]));
    });
}

/// Neither the operator's own git configuration nor the repository gets any program run.
#[test]
fn nothing_runs_on_the_way() {
    with_worker(&[], |worker| {
        let place = worker.place;
        let repository = Repository::make(place);
        let hooks = place.own("template/hooks");
        fs::create_dir_all(&hooks).expect("made");
        let ran = place.own("ran");
        for hook in ["post-checkout", "reference-transaction"] {
            let script = format!("#!/bin/sh\necho {hook} >>{}\n", ran.display());
            fs::write(hooks.join(hook), script).expect("written");
            fs::set_permissions(hooks.join(hook), fs::Permissions::from_mode(0o755)).expect("set");
        }
        let config = place.own("gitconfig");
        for setting in [
            format!(
                "[init]\n\ttemplateDir = {}\n",
                place.own("template").display()
            ),
            format!("[core]\n\thooksPath = {}\n", hooks.display()),
        ] {
            fs::write(&config, setting).expect("written");
            let mut command = command(place, &[&repository.url()]);
            let said = Said::from(
                command
                    .env("GIT_CONFIG_GLOBAL", &config)
                    .output()
                    .expect("run"),
            );
            assert!(said.ok().contains("installed greet"), "{said:?}");
            assert!(
                !ran.exists(),
                "{}",
                fs::read_to_string(&ran).unwrap_or_default()
            );
        }
        assert_eq!(answer(worker, "greet"), json!("main"));
    });
}
