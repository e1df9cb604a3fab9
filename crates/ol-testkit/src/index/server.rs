//! Serves distributions like an index.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use serde_json::json;

use super::pypi::PyPi;
use super::{Dist, Mischief, normalised};

const JSON: &str = "application/vnd.pypi.simple.v1+json";

/// An index on a port of its own; dropping it closes it.
#[derive(Debug)]
pub struct PackageIndex {
    at: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    pypi: Option<PyPi>,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    dists: BTreeMap<String, Vec<Dist>>,
    mischief: HashMap<String, Mischief>,
    files_only: HashSet<String>,
    html_only: bool,
    tells_metadata: bool,
    asked: Vec<String>,
}

struct Answer {
    status: u16,
    kind: &'static str,
    body: Vec<u8>,
    cut: bool,
}

impl PackageIndex {
    /// Starts an index without any packages.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn start() -> Self {
        Self::at_home(None)
    }

    /// Starts an index without any packages on a listener in another network, where it is reached at `at`.
    #[must_use]
    pub fn on(listener: TcpListener, at: SocketAddr) -> Self {
        Self::serving(listener, at, None)
    }

    /// Starts an index that serves what PyPI (or `PIP_INDEX_URL`) has, and keeps it in a folder (`CARGO_TARGET_TMPDIR`). Packages that are
    /// added take precedence.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn passing_pypi(kept_in: &std::path::Path) -> Self {
        Self::at_home(Some(PyPi::kept_in(kept_in)))
    }

    fn at_home(pypi: Option<PyPi>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let at = listener.local_addr().expect("bound");
        Self::serving(listener, at, pypi)
    }

    fn serving(listener: TcpListener, at: SocketAddr, pypi: Option<PyPi>) -> Self {
        let shared = Arc::new(Shared {
            pypi,
            ..Shared::default()
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if serving.closed.load(Ordering::SeqCst) {
                    return;
                }
                let serving = Arc::clone(&serving);
                thread::spawn(move || serving.talk(stream));
            }
        });
        Self { at, shared }
    }

    /// The URL, as for `pip_mirror`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/simple", self.at)
    }

    /// Host and port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.at
    }

    /// Adds a file to serve.
    pub fn add(&self, dist: Dist) {
        let mut state = self.shared.lock();
        state
            .dists
            .entry(dist.project.clone())
            .or_default()
            .push(dist);
    }

    /// From now on misbehaves in this way when asked for this project.
    pub fn misbehave(&self, project: &str, mischief: Mischief) {
        self.shared
            .lock()
            .mischief
            .insert(normalised(project), mischief);
    }

    /// Like [`Self::misbehave`], but only for the project's files, not its page.
    pub fn misbehave_for_files(&self, project: &str, mischief: Mischief) {
        self.shared.lock().files_only.insert(normalised(project));
        self.misbehave(project, mischief);
    }

    /// Behaves well again.
    pub fn behave(&self, project: &str) {
        let mut state = self.shared.lock();
        state.mischief.remove(&normalised(project));
        state.files_only.remove(&normalised(project));
    }

    /// Removes a project.
    pub fn withdraw(&self, project: &str) {
        self.shared.lock().dists.remove(&normalised(project));
    }

    /// From now on serves wheels' metadata beside them (PEP 658), as PyPI does: an installer then doesn't need the wheels to find out what
    /// to install.
    pub fn tell_metadata(&self) {
        self.shared.lock().tells_metadata = true;
    }

    /// From now on serves pages only as HTML.
    pub fn html_only(&self) {
        self.shared.lock().html_only = true;
    }

    /// How many requests there were for a file (by its name) or page (`/simple/NAME/`).
    #[must_use]
    pub fn requests(&self, what: &str) -> usize {
        let state = self.shared.lock();
        let asked = state
            .asked
            .iter()
            .filter(|path| *path == what || path.rsplit('/').next() == Some(what));
        asked.count()
    }

    /// All paths that were asked for, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.shared.lock().asked.clone()
    }
}

impl Drop for PackageIndex {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        for mischief in self.shared.lock().mischief.values() {
            if let Mischief::Waits(gate) = mischief {
                gate.open();
            }
        }
        // Wakes the thread that accepts connections; it then sees that the index is closed.
        let _ = TcpStream::connect(self.at);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request per connection is enough for tests.
    fn talk(&self, stream: TcpStream) {
        let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
        let Some(line) = lines.next() else {
            return;
        };
        let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        let accepts_json = headers
            .iter()
            .any(|line| line.to_ascii_lowercase().starts_with("accept:") && line.contains(JSON));
        let mut words = line.split(' ');
        let (method, path) = (
            words.next().unwrap_or(""),
            words.next().unwrap_or("").to_owned(),
        );
        self.lock().asked.push(path.clone());
        let host = headers.iter().find_map(|line| {
            line.split_once(": ")
                .filter(|(name, _)| name.eq_ignore_ascii_case("host"))
        });
        let host = host.map_or("", |(_, host)| host).to_owned();
        if let Some(answer) = self.answer(&path, &host, accepts_json) {
            // If the client has already left, it doesn't want the answer.
            let _ = write(&stream, &answer, method == "HEAD");
        }
    }

    fn answer(&self, path: &str, host: &str, accepts_json: bool) -> Option<Answer> {
        if let Some(project) = path.strip_prefix("/simple/") {
            let project = normalised(project.trim_end_matches('/'));
            let mischief = {
                let state = self.lock();
                let right = state.files_only.contains(&project);
                state.mischief.get(&project).filter(|_| !right).cloned()
            };
            if let Some(Mischief::GarbagePage) = mischief {
                return Some(found(
                    "application/octet-stream",
                    b"\x00\xff garbage".to_vec(),
                ));
            }
            return with(mischief.as_ref(), || {
                self.page(&project, host, accepts_json, mischief.as_ref())
            });
        }
        let file = path.strip_prefix("/files/")?.to_owned();
        let of_wheel = file.strip_suffix(".metadata");
        let name = of_wheel.unwrap_or(&file).to_owned();
        let dist = self
            .lock()
            .dists
            .values()
            .flatten()
            .find(|dist| dist.filename == name)
            .cloned();
        let Some(dist) = dist else {
            let kept = self.pypi.as_ref().and_then(|pypi| pypi.file(&file));
            return Some(
                kept.map_or_else(missing, |bytes| found("application/octet-stream", bytes)),
            );
        };
        if of_wheel.is_some() {
            let metadata = dist.metadata();
            return Some(metadata.map_or_else(missing, |text| found("text/plain", text)));
        }
        let mischief = self.lock().mischief.get(&dist.project).cloned();
        with(mischief.as_ref(), || {
            let mut answer = found("application/octet-stream", dist.bytes.clone());
            match &mischief {
                Some(Mischief::GarbageFile) => answer.body = garbage(),
                Some(Mischief::CutsFiles) => answer.cut = true,
                _ => {}
            }
            answer
        })
    }

    fn page(
        &self,
        project: &str,
        host: &str,
        accepts_json: bool,
        mischief: Option<&Mischief>,
    ) -> Answer {
        let state = self.lock();
        let Some(dists) = state.dists.get(project) else {
            drop(state);
            let page = self.pypi.as_ref().and_then(|pypi| pypi.page(project));
            return page.map_or_else(missing, |page| found(JSON, page));
        };
        let host = match mischief {
            Some(Mischief::LinksFrom(other)) => other,
            _ => host,
        };
        let links: Vec<(String, String, Option<String>)> = dists
            .iter()
            .map(|dist| {
                let hash = match mischief {
                    Some(Mischief::NoHash) => None,
                    Some(Mischief::WrongHash) => Some("0".repeat(64)),
                    Some(Mischief::GarbageFile) => Some(
                        Dist {
                            bytes: garbage(),
                            ..dist.clone()
                        }
                        .sha256(),
                    ),
                    _ => Some(dist.sha256()),
                };
                (
                    dist.filename.clone(),
                    format!("http://{host}/files/{}", dist.filename),
                    hash,
                )
            })
            .collect();
        if accepts_json && !state.html_only {
            let files: Vec<_> = links
                .iter()
                .map(|(name, url, hash)| {
                    let hashes = hash
                        .as_ref()
                        .map_or_else(|| json!({}), |hash| json!({ "sha256": hash }));
                    let metadata = state.tells_metadata && name.ends_with(".whl");
                    json!({ "filename": name, "url": url, "hashes": hashes, "core-metadata": metadata })
                })
                .collect();
            let page = json!({ "meta": { "api-version": "1.0" }, "name": project, "files": files });
            return found(JSON, page.to_string().into_bytes());
        }
        let links: String = links
            .iter()
            .map(|(name, url, hash)| {
                let hash = hash
                    .as_ref()
                    .map_or_else(String::new, |hash| format!("#sha256={hash}"));
                format!("<a href=\"{url}{hash}\">{name}</a><br>\n")
            })
            .collect();
        found(
            "text/html",
            format!("<!DOCTYPE html><html><body>\n{links}</body></html>").into_bytes(),
        )
    }
}

fn with(mischief: Option<&Mischief>, honest: impl FnOnce() -> Answer) -> Option<Answer> {
    match mischief {
        Some(Mischief::HangsUp) => None,
        Some(Mischief::Status(status)) => Some(Answer {
            status: *status,
            ..missing()
        }),
        Some(Mischief::Waits(gate)) => {
            gate.pass();
            Some(honest())
        }
        _ => Some(honest()),
    }
}

fn garbage() -> Vec<u8> {
    b"PK\x03\x04 this is no wheel".repeat(100)
}

fn found(kind: &'static str, body: Vec<u8>) -> Answer {
    Answer {
        status: 200,
        kind,
        body,
        cut: false,
    }
}

fn missing() -> Answer {
    Answer {
        status: 404,
        kind: "text/plain",
        body: b"no such thing".to_vec(),
        cut: false,
    }
}

fn write(mut stream: &TcpStream, answer: &Answer, head_only: bool) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {} X\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        answer.status,
        answer.kind,
        answer.body.len()
    );
    stream.write_all(head.as_bytes())?;
    if !head_only {
        let end = if answer.cut {
            answer.body.len() / 2
        } else {
            answer.body.len()
        };
        stream.write_all(&answer.body[..end])?;
    }
    stream.flush()
}
