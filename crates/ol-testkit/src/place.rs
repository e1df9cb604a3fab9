//! A directory for one test, with canaries around the worker's, and the `ol` command run there.

use crate::residue::{Census, Traits};
use crate::skip::root_or_skip;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

/// Files of the host that no worker may change.
const HOST_CANARIES: [&str; 4] = [
    "/etc/passwd",
    "/etc/hosts",
    "/etc/hostname",
    "/proc/sys/kernel/hostname",
];

/// ```text
///   PLACE/canary  PLACE/canary.d/inner    unchanged at the end
///   PLACE/own/                            the test's files
///   PLACE/w/                              the worker directory
/// ```
pub struct Place {
    root: Option<TempDir>,
    path: PathBuf,
    before: BTreeMap<PathBuf, Canary>,
    tools: OnceLock<PathBuf>,
    covers: OnceLock<Vec<(PathBuf, PathBuf)>>,
}

/// Everything about a file that changes when somebody changes the file.
#[derive(Debug, PartialEq, Eq)]
struct Canary {
    content: Option<Vec<u8>>,
    mode: u32,
    owner: (u32, u32),
    changed: Option<(i64, i64)>,
}

/// The result of a run of `ol`.
#[derive(Debug)]
pub struct Said {
    /// Its exit code.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

/// Runs `test` in a place of its own, then checks that nothing is left.
///
/// # Panics
/// When `test` does, or something is left.
pub fn in_place(test: impl FnOnce(&Place)) {
    if root_or_skip() {
        let place = Place::new();
        test(&place);
        place.finish();
    }
}

impl Place {
    fn new() -> Self {
        let parent = std::env::var_os("OL_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        // Short, because the path of a socket in it may have at most 107 bytes.
        let root = tempfile::Builder::new().prefix("olt-").tempdir_in(&parent);
        let root = root.unwrap_or_else(|error| panic!("{}: {error}", parent.display()));
        let path = fs::canonicalize(root.path()).expect("it was just made");
        fs::write(path.join("canary"), "sings").expect("written");
        fs::create_dir(path.join("canary.d")).expect("made");
        fs::write(path.join("canary.d/inner"), "sings too").expect("written");
        fs::create_dir(path.join("own")).expect("made");
        let mut place = Self {
            root: Some(root),
            path,
            before: BTreeMap::new(),
            tools: OnceLock::new(),
            covers: OnceLock::new(),
        };
        place.before = place.canaries();
        place
    }

    /// The worker directory, which doesn't exist at first.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.path.join("w")
    }

    /// A path for a file of the test.
    #[must_use]
    pub fn own(&self, name: &str) -> PathBuf {
        self.path.join("own").join(name)
    }

    /// Writes the files of a function into a directory of this name, and returns its path.
    ///
    /// # Panics
    /// When they can't be written.
    #[must_use]
    pub fn source(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let folder = self.own(name);
        fs::create_dir_all(&folder).expect("made");
        for (file, content) in files {
            fs::write(folder.join(file), content).expect("written");
        }
        folder
    }

    /// From now on, workers that are started here find the programs in this folder first.
    pub fn find_first(&self, folder: &Path) {
        // A second folder is ignored; the test's own asserts would notice that mistake.
        let _ = self.tools.set(folder.to_owned());
    }

    /// From now on, `ol` and workers started here see other files or folders: the first of each pair at the path of the second. This
    /// happens in mount namespaces of their own; the machine isn't changed.
    pub fn cover(&self, covers: &[(PathBuf, &str)]) {
        let covers = covers
            .iter()
            .map(|(with, what)| (with.clone(), PathBuf::from(what)));
        // A second call is ignored; the test's own asserts would notice that mistake.
        let _ = self.covers.set(covers.collect());
    }

    /// The command for `ol`, with the covers mounted. Each program on the way execs the next, thus the process becomes `ol`.
    fn program(&self) -> Command {
        let Some(covers) = self.covers.get() else {
            return Command::new(ol_binary());
        };
        let mut command = Command::new("unshare");
        let script = r#"n=$1; shift; while [ $n -gt 0 ]; do mount --bind "$1" "$2"; shift 2; n=$((n - 1)); done; exec "$@""#;
        command
            .args([
                "--mount",
                "--propagation",
                "private",
                "--",
                "sh",
                "-ec",
                script,
                "sh",
            ])
            .arg(covers.len().to_string())
            .args(covers.iter().flat_map(|(with, what)| [with, what]))
            .arg(ol_binary());
        command
    }

    /// Gives `command` the `PATH` of this place.
    pub(crate) fn with_path(&self, command: &mut Command) {
        if let Some(tools) = self.tools.get() {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let folders = std::iter::once(tools.clone()).chain(std::env::split_paths(&path));
            let path = std::env::join_paths(folders).expect("no colon is in them");
            command.env("PATH", path);
        }
    }

    /// Runs `ol ARGUMENTS -p DIR` to its end.
    ///
    /// # Panics
    /// When it can't be run.
    #[must_use]
    pub fn ol<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Said {
        let mut command = self.command(arguments);
        Said::from(command.output().expect("ol can be run"))
    }

    /// The command `ol ARGUMENTS -p DIR` without input, not yet run. A worker that it starts doesn't touch the machine's own network.
    #[must_use]
    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = self.bare_command(arguments);
        let words: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).collect();
        // Options may come first.
        if words.windows(2).any(|pair| pair == ["worker", "up"]) {
            command.args(["-o", "network.egress=false"]);
        }
        command
    }

    /// Like [`Self::command`], but without an option for the network.
    pub(crate) fn bare_command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = self.program();
        command
            .args(arguments)
            .arg("-p")
            .arg(self.dir())
            .stdin(Stdio::null())
            .current_dir(self.path.join("own"));
        self.with_path(&mut command);
        command
    }

    /// The names by which the kernel knows this place's worker.
    #[must_use]
    pub fn traits(&self) -> Traits {
        let unique = self
            .path
            .file_name()
            .expect("a place has a name")
            .to_string_lossy();
        Traits::of(&self.dir(), &unique)
    }

    /// What exists of this place's worker now.
    #[must_use]
    pub fn census(&self) -> Census {
        self.traits().census()
    }

    /// Checks that nothing of a worker is left and nothing around it changed.
    ///
    /// # Panics
    /// When anything of a worker is left on the host, or in those parts of its directory that belong to one run, or anything around the
    /// directory changed.
    pub fn assert_nothing_left(&self) {
        assert_eq!(self.census(), Census::default());
        let worker = self.dir().join("worker");
        for name in ["worker.pid", "worker.url", "ol.sock"] {
            assert!(!worker.join(name).exists(), "{name} is left");
        }
        for name in ["code", "uploads", "root"] {
            assert_eq!(
                listing(&worker.join(name)),
                Vec::<PathBuf>::new(),
                "{name} is not empty"
            );
        }
        self.assert_canaries();
    }

    /// Checks that nothing around the worker directory changed.
    ///
    /// # Panics
    /// When anything did.
    pub fn assert_canaries(&self) {
        assert_eq!(self.canaries(), self.before);
    }

    /// Everything in the place except the worker directory and the test's own files, and some files of the host.
    fn canaries(&self) -> BTreeMap<PathBuf, Canary> {
        let excepted = [self.path.clone(), self.dir(), self.path.join("own")];
        let mut paths: Vec<PathBuf> = HOST_CANARIES
            .iter()
            .map(PathBuf::from)
            .filter(|path| path.exists())
            .collect();
        let mut folders = vec![self.path.clone()];
        while let Some(folder) = folders.pop() {
            for path in listing(&folder)
                .into_iter()
                .filter(|path| !excepted.contains(path))
            {
                if path
                    .symlink_metadata()
                    .is_ok_and(|metadata| metadata.is_dir())
                {
                    folders.push(path.clone());
                }
                paths.push(path);
            }
        }
        paths
            .into_iter()
            .map(|path| (path.clone(), Canary::of(&path)))
            .collect()
    }

    fn finish(mut self) {
        self.assert_nothing_left();
        let root = self.root.take().expect("there until now");
        root.close().expect("everything in it can be removed");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The directory is still here only after a failure: end what the test couldn't.
        let Some(root) = self.root.take() else { return };
        if self.dir().exists() {
            let _ = self.command(&["worker", "force-cleanup"]).output();
        }
        // If a mount leaked, the host's own /usr may be behind it: then nothing is removed.
        if !self.census().mounts.is_empty() {
            let _ = root.keep();
        }
    }
}

impl Canary {
    fn of(path: &Path) -> Self {
        let metadata = path
            .symlink_metadata()
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self {
            content: fs::read(path).ok(),
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            // Files in /proc get new times at each look.
            changed: (!path.starts_with("/proc"))
                .then(|| (metadata.ctime(), metadata.ctime_nsec())),
        }
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }
}

impl Said {
    /// What it printed; it must have succeeded.
    ///
    /// # Panics
    /// When it hasn't succeeded.
    #[must_use]
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        &self.out
    }

    /// The one sentence of the error.
    ///
    /// # Panics
    /// When it succeeded, printed a result nevertheless, or printed more or less than one sentence.
    #[must_use]
    pub fn refusal(&self) -> &str {
        assert!(self.code.is_some_and(|code| code != 0), "{self:?}");
        assert_eq!(self.out, "", "{self:?}");
        assert_eq!(self.err.lines().count(), 1, "{self:?}");
        let sentence = self.err.trim_end().strip_prefix("error: ");
        sentence.unwrap_or_else(|| panic!("no error: {self:?}"))
    }
}

/// The paths in a folder, sorted; empty when there is no folder.
#[must_use]
pub fn listing(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// The binary under test.
pub(crate) fn ol_binary() -> PathBuf {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.parent()?.join("ol"));
    let path = std::env::var_os("OL_BIN")
        .map(PathBuf::from)
        .or_else(beside);
    let path = path.expect("this program has a path");
    assert!(
        path.is_file(),
        "no binary to test at {}: run `cargo build`, or set OL_BIN",
        path.display()
    );
    path
}
