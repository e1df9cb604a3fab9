//! Installers that are no sandboxes: each order is noted, and answered as a test says.

use bytes::Bytes;
use futures_util::stream;
use ol_install::{Blueprint, Installer, Pending, Program, Reply, Trouble, Workshop};
use ol_testkit::Dist;
use serde_json::{Value, json};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// One order that an installer got.
#[derive(Clone, Debug)]
pub(crate) struct Ordered {
    /// The number of the installer.
    pub(crate) by: usize,
    /// The installer reaches the index.
    pub(crate) gate: bool,
    pub(crate) path: String,
    pub(crate) order: Value,
}

pub(crate) type Answer = Result<(u16, Vec<u8>), Trouble>;

/// What an installer answers to a path and an order; `None` leaves the answer to [`usual`].
pub(crate) type Answers = Box<dyn Fn(&str, &Value) -> Option<Answer> + Send + Sync>;

#[derive(Default)]
pub(crate) struct Book {
    pub(crate) orders: Mutex<Vec<Ordered>>,
    installers: AtomicUsize,
    pub(crate) answers: Mutex<Option<Answers>>,
    /// How many installers are at work now, and were at once.
    pub(crate) now: AtomicUsize,
    pub(crate) most: AtomicUsize,
}

/// Makes installers that are no sandboxes.
pub(crate) struct Fake(pub(crate) Arc<Book>);

struct FakeProgram {
    book: Arc<Book>,
    gate: bool,
}

struct FakeInstaller {
    book: Arc<Book>,
    number: usize,
    gate: bool,
}

impl Workshop for Fake {
    fn lay_out(&self, program: &Blueprint<'_>) -> io::Result<Arc<dyn Program>> {
        assert!(program.files.iter().any(|(name, _)| name == "f.py"));
        // Who reaches the index may run a package's code, and thus sees nothing of others.
        assert_eq!(program.sees.is_some(), !program.gate);
        Ok(Arc::new(FakeProgram {
            book: Arc::clone(&self.0),
            gate: program.gate,
        }))
    }
}

impl Program for FakeProgram {
    fn start(&self) -> io::Result<Box<dyn Installer>> {
        let now = self.book.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.book.most.fetch_max(now, Ordering::Relaxed);
        Ok(Box::new(FakeInstaller {
            book: Arc::clone(&self.book),
            number: self.book.installers.fetch_add(1, Ordering::Relaxed),
            gate: self.gate,
        }))
    }
}

impl Installer for FakeInstaller {
    fn order<'a>(
        &'a mut self,
        path: &'a str,
        body: Bytes,
        _gate: &'a mut (dyn FnMut(TcpListener) + Send),
    ) -> Pending<'a, Result<Reply, Trouble>> {
        Box::pin(async move {
            // Others may come in between, as they do while a sandbox is made.
            tokio::task::yield_now().await;
            let order: Value = serde_json::from_slice(&body).expect("JSON");
            self.book.orders.lock().expect("no panic").push(Ordered {
                by: self.number,
                gate: self.gate,
                path: path.to_owned(),
                order: order.clone(),
            });
            let answers = self.book.answers.lock().expect("no panic");
            let answer = answers.as_ref().and_then(|answers| answers(path, &order));
            let (status, body) = answer.unwrap_or_else(|| usual(path))?;
            // In two parts, as a long answer comes.
            let (first, second) = body.split_at(body.len() / 2);
            let parts = [first, second].map(|part| Ok(Bytes::copy_from_slice(part)));
            Ok(Reply {
                status,
                body: Box::pin(stream::iter(parts)),
            })
        })
    }
}

impl Drop for FakeInstaller {
    fn drop(&mut self) {
        self.book.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What an installer answers if nothing is amiss; `/resolve` is up to each test.
fn usual(path: &str) -> Answer {
    Ok((
        200,
        match path {
            "/interpreter" => tar(&[
                ("seed/of-uv", "x"),
                (
                    "about.json",
                    r#"{"minor": 11, "abi": "cp311", "machine": "x86_64", "libc": {"glibc": [2, 36]}}"#,
                ),
            ]),
            "/install" => tar(&[("module.py", "x = 1\n")]),
            other => panic!("{other} isn't expected"),
        },
    ))
}

fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, text.as_bytes())
            .expect("in memory");
    }
    tar.into_inner().expect("in memory")
}

/// The answer to `/resolve` that names these.
pub(crate) fn lock_of(dists: &[&Dist]) -> Answer {
    let lines = dists
        .iter()
        .map(|dist| format!("{}==1.0 --hash=sha256:{}\n", dist.project, dist.sha256()));
    let lock: String = lines.collect();
    let answer = json!({"lock": lock, "python": "3.11", "platform": "linux_x86_64"});
    Ok((200, answer.to_string().into_bytes()))
}
