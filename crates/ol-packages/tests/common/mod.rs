//! Shared by the installer's tests: uv from an index of their own, and the program of `inside/`, run outside a sandbox.

#![allow(dead_code, reason = "each test program uses some of it")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ol_packages::index::{Host, Index, Wanted};
use ol_packages::inside::FILES;
use ol_packages::proxy::{Proxy, ProxyLimits, ProxyRules, serve};
use ol_packages::tool::Uv;
use ol_testkit::PackageIndex;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder that outlives tests, where downloads are kept.
pub fn kept() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// The index at this URL, for a host without settings.
pub fn mirror(url: &str) -> Index {
    let host = Host::new(&|_| None, &|_| Err(std::io::ErrorKind::NotFound.into()));
    let wanted = Wanted {
        mirror: url,
        package_hosts: &[],
    };
    Index::of(&host, &wanted).expect("good")
}

/// uv, fetched once per machine.
pub fn uv() -> Uv {
    let index = PackageIndex::passing_pypi(kept());
    let index = mirror(&index.url());
    Uv::find_in(std::iter::empty(), &kept().join("uv"), &index, &mut |_| {}).expect("uv can be had")
}

const HARNESS: &str = "
import importlib.util, os, sys
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(sys.argv[1]))
from wsgiref.simple_server import WSGIRequestHandler, make_server
spec = importlib.util.spec_from_file_location('f', sys.argv[1])
f = importlib.util.module_from_spec(spec)
spec.loader.exec_module(f)
class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass
server = make_server('127.0.0.1', 0, f.app, handler_class=Quiet)
print(server.server_port, flush=True)
server.serve_forever()
";

/// The program of `inside/`, with a proxy to one index.
pub struct Inside {
    child: Child,
    at: String,
    pub proxy: Option<Proxy>,
    order: Value,
    pub place: TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Inside {
    pub fn new(index: &Index, uv: Option<&Path>) -> Self {
        Self::with_limits(index, uv, ProxyLimits::default())
    }

    pub fn with_limits(index: &Index, uv: Option<&Path>, limits: ProxyLimits) -> Self {
        let place = TempDir::new().expect("made");
        for (name, text) in FILES {
            std::fs::write(place.path().join(name), text).expect("written");
        }
        let program = place.path().join("f.py");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("made");
        let (proxy, proxy_at) = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
                .await
                .expect("bound");
            let at: SocketAddr = listener.local_addr().expect("bound");
            (serve(listener, ProxyRules::of(index, limits)), at)
        });
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", HARNESS])
            .arg(&program)
            .env_clear()
            .env("OL_INSTALL_DIR", place.path().join("install"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python is needed");
        let mut port = String::new();
        let told = child.stdout.take().expect("piped");
        BufReader::new(told).read_line(&mut port).expect("told");
        let certificates = index.certificates.as_ref().map(|found| found.path.clone());
        let order = json!({
            "index": index.default.with_secrets(), "proxy": format!("http://{proxy_at}"),
            "certificates": certificates, "uv": uv, "python": "/usr/bin/python3", "retries": 0,
        });
        Self {
            child,
            at: format!("http://127.0.0.1:{}", port.trim()),
            proxy: Some(proxy),
            order,
            place,
            _runtime: runtime,
        }
    }

    /// Sends an order, completed by the fields that all orders have.
    pub fn ask(&self, path: &str, order: &Value) -> (u16, Vec<u8>) {
        let mut whole = self.order.clone();
        for (key, value) in order.as_object().expect("an object") {
            whole[key] = value.clone();
        }
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .into();
        let mut answer = agent
            .post(format!("{}{path}", self.at))
            .send(whole.to_string())
            .expect("answered");
        let mut body = Vec::new();
        answer
            .body_mut()
            .as_reader()
            .read_to_end(&mut body)
            .expect("read");
        (answer.status().as_u16(), body)
    }

    pub fn resolve(&self, requirements: &str) -> Result<String, (String, String)> {
        self.resolve_with(&json!({ "requirements": requirements }))
    }

    pub fn resolve_with(&self, order: &Value) -> Result<String, (String, String)> {
        let (status, body) = self.ask("/resolve", order);
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        if status != 200 {
            return Err(failure(&body));
        }
        Ok(body["lock"].as_str().expect("a text").to_owned())
    }

    /// A package's tar, or the failure's code and words.
    pub fn install(&self, order: &Value) -> Result<Vec<u8>, (String, String)> {
        let (status, body) = self.ask("/install", order);
        if status != 200 {
            return Err(failure(&serde_json::from_slice(&body).expect("JSON")));
        }
        Ok(body)
    }
}

fn failure(body: &Value) -> (String, String) {
    let text = |key: &str| body[key].as_str().expect("a text").to_owned();
    (text("code"), text("words"))
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The pins of a lock, each with its hashes as they stand in an order.
pub fn pins(lock: &str) -> Vec<(String, Value)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for line in lock
        .lines()
        .map(|line| line.trim().trim_end_matches('\\').trim())
    {
        if let Some(hash) = line.strip_prefix("--hash=") {
            found
                .last_mut()
                .expect("a pin comes first")
                .1
                .push(hash.to_owned());
        } else if line.contains("==") {
            found.push((
                line.split(';').next().unwrap_or(line).trim().to_owned(),
                Vec::new(),
            ));
        }
    }
    found
        .into_iter()
        .map(|(pin, hashes)| (pin.clone(), json!({ "pin": pin, "hashes": hashes })))
        .collect()
}

/// Unpacks a tar and returns the folder.
pub fn unpack(tar: &[u8], to: &Path) -> PathBuf {
    tar::Archive::new(tar).unpack(to).expect("a tar");
    to.to_owned()
}
