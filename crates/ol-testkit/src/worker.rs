//! The fixture: a real worker in a place of its own.

use crate::bundle::bundle;
use crate::http::{Client, Reply};
use crate::patience::eventually;
use crate::place::{Place, in_place};
use crate::process::{Process, descendants};
use crate::starts::Starts;
use rustix::process::Signal;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;

mod ready;

/// A running worker. If it is dropped without [`Worker::down`], the test has failed: its log is printed and it is killed; the place then
/// cleans up.
pub struct Worker<'a> {
    /// Where it runs.
    pub place: &'a Place,
    /// The warden: the privileged, supervising process.
    pub warden: Process,
    /// The worker: the serving process without privileges.
    pub process: Process,
    /// `host:port`.
    pub address: String,
    starts: Starts,
    /// The `/stats` when it became ready for the test: making a blank calls a function, which must not be counted.
    counted: Value,
    foreground: Option<(Child, BufReader<ChildStdout>)>,
    ended: bool,
}

/// Runs `test` on a worker of its own, stops it, and checks that nothing is left. `options` are those of `-o`.
///
/// # Panics
/// When `test` does, the worker can't be started or stopped, or something is left.
pub fn with_worker(options: &[&str], test: impl FnOnce(&Worker<'_>)) {
    in_place(|place| {
        let worker = place.up(options);
        test(&worker);
        worker.down();
    });
}

impl Place {
    /// Starts a worker in the foreground; returns when it says that it is ready.
    ///
    /// # Panics
    /// When it doesn't become ready.
    #[must_use]
    pub fn up(&self, options: &[&str]) -> Worker<'_> {
        self.up_with(Starts::of_this_run(), options)
    }

    /// Like [`Self::up`], with functions started in the given way.
    ///
    /// # Panics
    /// As [`Self::up`].
    #[must_use]
    pub fn up_with(&self, starts: Starts, options: &[&str]) -> Worker<'_> {
        let starts = starts.with(options);
        let ol = self.bare_command(&["worker", "up", "-o", "worker_port=0"]);
        // If this process is killed, the kernel kills the worker too.
        let mut command = Command::new("setpriv");
        self.with_path(&mut command);
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(ol.get_program())
            .args(ol.get_args());
        // Most tests need no network, and the machine's own must not be touched. Tests of it pass a `network.` option and run in a `World`.
        let off = ["network.egress=false"];
        let wanted = options.iter().any(|option| option.starts_with("network."));
        let off = off.iter().filter(|_| !wanted);
        for option in off.chain(starts.options()).chain(options) {
            command.args(["-o", option]);
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .expect("the test's own file");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn();
        let mut child = child.expect("setpriv is part of util-linux");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line or the end");
        if line.is_empty() {
            let status = child.wait();
            panic!("the worker didn't start: {status:?}\n{}", self.log_text());
        }
        let pid = i32::try_from(child.id()).expect("a pid is an i32");
        let mut worker = self.worker(pid, Some((child, stdout)));
        worker.starts = starts;
        assert!(
            line.contains(&format!("ready at http://{}", worker.address)),
            "{line}"
        );
        worker.prepare(starts);
        if starts == Starts::Blank {
            worker.counted = worker.request("GET", "/stats", b"").ok();
        }
        worker
    }

    /// The worker that runs here in the background.
    ///
    /// # Panics
    /// When none does.
    #[must_use]
    pub fn attach(&self) -> Worker<'_> {
        let pid = fs::read_to_string(self.dir().join("worker/worker.pid")).expect("worker.pid");
        let process = Process::of(pid.trim().parse().expect("a pid")).expect("the worker lives");
        self.worker(process.parent().expect("the worker has a parent"), None)
    }

    fn worker(
        &self,
        warden: i32,
        foreground: Option<(Child, BufReader<ChildStdout>)>,
    ) -> Worker<'_> {
        let read = |name: &str| {
            fs::read_to_string(self.dir().join("worker").join(name)).expect("a ready worker's file")
        };
        let url = read("worker.url");
        let process = Process::of(read("worker.pid").trim().parse().expect("a pid"))
            .expect("the worker lives");
        assert_eq!(process.parent(), Some(warden));
        let address = url
            .trim()
            .strip_prefix("http://")
            .expect("an HTTP URL")
            .to_owned();
        let warden = Process::of(warden).expect("the warden lives");
        let worker = Worker {
            place: self,
            warden,
            process,
            address,
            starts: Starts::of_this_run(),
            counted: Value::Null,
            foreground,
            ended: false,
        };
        // If cgroups were named otherwise, the census would never find any.
        assert!(
            !self.traits().cgroups().is_empty(),
            "no cgroup bears the prefix of {}",
            self.dir().display()
        );
        worker
    }

    fn log(&self) -> PathBuf {
        self.own("up.err")
    }

    /// The standard error of workers in the foreground.
    #[must_use]
    pub fn log_text(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }
}

impl Worker<'_> {
    /// Opens a connection.
    ///
    /// # Panics
    /// When the worker accepts none.
    #[must_use]
    pub fn connect(&self) -> Client {
        Client::connect(&self.address).expect("the worker listens")
    }

    /// Sends one request on a connection of its own.
    ///
    /// # Panics
    /// When there is no answer.
    #[must_use]
    pub fn request(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        if path.starts_with("/run/") {
            self.settle_before_call();
        }
        self.connect()
            .request(method, path, &[], body)
            .expect("an answer")
    }

    /// Calls a function with this event.
    ///
    /// # Panics
    /// When there is no answer.
    #[must_use]
    pub fn call(&self, name: &str, event: &Value) -> Reply {
        self.request(
            "POST",
            &format!("/run/{name}"),
            event.to_string().as_bytes(),
        )
    }

    /// Installs a function consisting of these files.
    ///
    /// # Panics
    /// When the worker refuses it.
    pub fn install(&self, name: &str, files: &[(&str, &str)]) {
        let reply = self.request("POST", &format!("/registry/{name}"), &bundle(files));
        assert_eq!(reply.status, 201, "{}", reply.text());
    }

    /// Like [`Self::install`], but without a trial: nothing is started before its first call.
    ///
    /// # Panics
    /// When the worker refuses it.
    pub fn install_untried(&self, name: &str, files: &[(&str, &str)]) {
        let path = format!("/registry/{name}?force=1");
        let reply = self.request("POST", &path, &bundle(files));
        assert_eq!(reply.status, 201, "{}", reply.text());
    }

    /// How often the step with this name in `/stats` was taken since the test began.
    ///
    /// # Panics
    /// When there is no answer.
    #[must_use]
    pub fn count(&self, step: &str) -> u64 {
        let stats = self.request("GET", "/stats", b"").ok();
        let of = |stats: &Value| stats[format!("{step}.cnt")].as_u64().unwrap_or(0);
        of(&stats) - of(&self.counted)
    }

    /// The text of `/debug`.
    ///
    /// # Panics
    /// When there is no answer.
    #[must_use]
    pub fn debug(&self) -> String {
        self.request("GET", "/debug", b"").text()
    }

    /// The current log of a function.
    #[must_use]
    pub fn log_of(&self, name: &str) -> String {
        let path = self.place.dir().join(format!("worker/logs/{name}.log"));
        fs::read_to_string(path).unwrap_or_default()
    }

    /// The processes in sandboxes of functions, each with its cgroup (in one hierarchy). Zygotes and blanks are not included, as they have
    /// no code.
    #[must_use]
    pub fn leaves(&self) -> Vec<(Process, PathBuf)> {
        let all = self.inhabitants().into_iter();
        all.filter(|(process, _)| process.has_mount("/handler"))
            .collect()
    }

    /// All processes in sandboxes, each with its cgroup (in one hierarchy).
    #[must_use]
    pub fn inhabitants(&self) -> Vec<(Process, PathBuf)> {
        let mut inhabitants = Vec::new();
        for group in self.place.traits().cgroups() {
            let top = group
                .file_name()
                .is_some_and(|name| !name.to_string_lossy().starts_with("sandbox-"));
            if top
                || !["cgroup.freeze", "freezer.state"]
                    .iter()
                    .any(|file| group.join(file).exists())
            {
                continue;
            }
            // The kernel doesn't list the processes of a threaded cgroup, only their threads.
            let text = fs::read_to_string(group.join("cgroup.procs"))
                .or_else(|_| fs::read_to_string(group.join("cgroup.threads")))
                .unwrap_or_default();
            let pids = text.lines().filter_map(|line| line.parse().ok());
            inhabitants.extend(
                pids.filter_map(Process::of)
                    .filter(|process| process.status("Tgid") == Some(process.pid.to_string()))
                    .map(|process| (process, group.clone())),
            );
        }
        inhabitants
    }

    /// A process in a sandbox whose program has this name. For example, a function can run `sleep` to show that it has been called, and the
    /// test lets it continue by killing that.
    ///
    /// # Panics
    /// When there is none in time.
    #[must_use]
    pub fn program(&self, name: &str) -> Process {
        eventually(&format!("{name} to run in a sandbox"), 20.0, || {
            let mut leaves = self.leaves().into_iter().map(|(process, _)| process);
            leaves.find(|process| process.status("Name").as_deref() == Some(name))
        })
    }

    /// The only process in a function's sandbox.
    ///
    /// # Panics
    /// When there is none, or more than one.
    #[must_use]
    pub fn leaf(&self) -> (Process, PathBuf) {
        let mut leaves = self.leaves();
        assert_eq!(leaves.len(), 1, "{leaves:?}");
        leaves.remove(0)
    }

    /// Stops the worker with `ol worker down`, and checks that nothing is left.
    ///
    /// # Panics
    /// When it doesn't stop properly, or leaves anything.
    pub fn down(mut self) {
        let witnesses = descendants(self.warden.pid);
        let said = self.place.ol(&["worker", "down"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        if self.foreground.is_some() {
            let (status, _) = self.wait();
            assert!(status.success(), "{status}");
        }
        self.ended = true;
        let alive: Vec<_> = witnesses
            .into_iter()
            .filter(|process| process.lives())
            .collect();
        assert_eq!(alive, [], "children of the worker outlived it");
        self.place.assert_nothing_left();
    }

    /// Waits until the process in the foreground has ended; returns its exit status and output.
    ///
    /// # Panics
    /// When it doesn't end in time, or is in the background.
    pub fn wait(&mut self) -> (ExitStatus, String) {
        let (child, stdout) = self.foreground.as_mut().expect("in the foreground");
        let ended = || child.try_wait().expect("our own child");
        let status = eventually("the worker to end", 30.0, ended);
        let mut said = String::new();
        stdout.read_to_string(&mut said).expect("text");
        self.ended = true;
        (status, said)
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        if self.ended && !thread::panicking() {
            return;
        }
        let text = format!("the worker's log:\n{}\n", self.place.log_text());
        let _ = std::io::stderr().write_all(text.as_bytes());
        self.process.signal(Signal::KILL);
        self.warden.signal(Signal::KILL);
        if let Some((child, _)) = &mut self.foreground {
            let _ = child.wait();
        }
    }
}
