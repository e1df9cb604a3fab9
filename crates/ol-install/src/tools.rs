//! What every installer sandbox is made from.
//!
//! That is the installer's program, with uv beside it, and what is known of the interpreter.

use super::Packages;
use super::failure::Failure;
use super::interpreter::{Interpreter, learn};
use super::job::{Base, Job};
use super::workshop::Blueprint;
use ol_model::chain;
use ol_packages::index::{Client, Index};
use ol_packages::inside;
use ol_packages::proxy::{ProxyLimits, ProxyRules};
use ol_packages::tool::{ToolError, Uv};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::OnceCell;

/// Where the program's files are inside a sandbox.
const HANDLER: &str = "/handler";
const UV: &str = "uv";
const SEED: &str = "seed";
/// The folder of the package store with the wheels that are being installed.
const WHEELS_FOLDER: &str = ".wheels";
const CERTIFICATES: &str = "certificates.pem";

/// The tools of all jobs, made once, when they are first needed.
#[derive(Default)]
pub(super) struct LazyTools(OnceCell<Arc<Tools>>);

/// What jobs need.
pub(super) struct Tools {
    /// For sandboxes that reach the index.
    pub online: Base,
    /// For sandboxes without any network.
    pub offline: Base,
    pub interpreter: Interpreter,
    /// Fetches from the index, outside any sandbox.
    pub client: Client,
}

impl Packages {
    /// A job that reaches the index. Waits for its turn; the sandbox is made with the first order.
    pub(super) async fn online(self: &Arc<Self>) -> Result<Job<'_>, Failure> {
        let tools = self.tools.get(self).await?;
        Job::in_turn(&self.jobs, tools.online.clone()).await
    }

    /// Like [`Self::online`], but without any network.
    pub(super) async fn offline(self: &Arc<Self>) -> Result<Job<'_>, Failure> {
        let tools = self.tools.get(self).await?;
        Job::in_turn(&self.jobs, tools.offline.clone()).await
    }
}

impl LazyTools {
    /// The tools, made now if they don't exist. A failure is not kept: the index may be back the next time.
    pub(super) async fn get(&self, packages: &Arc<Packages>) -> Result<Arc<Tools>, Failure> {
        self.0.get_or_try_init(|| make(packages)).await.cloned()
    }
}

/// Makes the tools.
///
/// Lays out the program twice: what the first sandbox learns of the interpreter is laid beside the program of all others.
async fn make(packages: &Arc<Packages>) -> Result<Arc<Tools>, Failure> {
    let settings = &packages.settings;
    let index = settings.index.clone();
    let index = index.map_err(|why| {
        Failure(format!(
            "no package can be had: {why}; the worker's log says more\n"
        ))
    })?;
    let (uv, first) = {
        let (packages, index) = (Arc::clone(packages), index.clone());
        blocking(move || {
            let uv = find_uv(&packages, &index)?;
            let first = lay_out(&packages, &index, uv.as_deref(), None, false)?;
            Ok((uv, first))
        })
    }
    .await?;
    let interpreter = learn(packages, first).await?;
    let packages = Arc::clone(packages);
    blocking(move || {
        let of = |online| lay_out(&packages, &index, uv.as_deref(), Some(&interpreter), online);
        Ok(Arc::new(Tools {
            online: of(true)?,
            offline: of(false)?,
            interpreter,
            client: Client::new(&index),
        }))
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(unmade(&error)))
}

fn unmade(error: &dyn std::fmt::Display) -> Failure {
    tracing::error!("the installer can't be laid out: {error}");
    let text = "the installer can't be laid out on this worker's disk; its log says more\n";
    Failure(text.to_owned())
}

/// Finds or fetches uv; `None` if none can be had for this host, but an error if the index just can't be reached.
fn find_uv(packages: &Packages, index: &Index) -> Result<Option<PathBuf>, Failure> {
    let state = packages.settings.state.join("tools");
    let found = Uv::find_or_fetch(&state, index, &mut |step| tracing::debug!("uv: {step:?}"));
    match found {
        Ok(uv) => Ok(Some(uv.path)),
        Err(error @ (ToolError::Index(_) | ToolError::BrokeOff { .. })) => Err(Failure(format!(
            "the package index can't be used: {error}; try again later, or see to the worker's network, pip_mirror or proxy\n"
        ))),
        Err(error) => {
            let why = chain(&error);
            tracing::warn!("packages are got with the base's pip, which is slower: {why}");
            Ok(None)
        }
    }
}

fn lay_out(
    packages: &Packages,
    index: &Index,
    uv: Option<&Path>,
    interpreter: Option<&Interpreter>,
    online: bool,
) -> Result<Base, Failure> {
    let settings = &packages.settings;
    let mut files: Vec<(String, Vec<u8>)> = inside::FILES
        .iter()
        .map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()))
        .collect();
    if let Some(certificates) = index.certificates.as_ref().filter(|_| online) {
        files.push((CERTIFICATES.to_owned(), certificates.pem.to_vec()));
    }
    let seed = interpreter.iter().flat_map(|known| &known.seed);
    files.extend(seed.map(|(name, content)| (format!("{SEED}/{name}"), content.clone())));
    let programs: Vec<_> = uv.iter().map(|path| (UV, *path)).collect();
    let limits = settings.limits.clone();
    // A sandbox that reaches the index needs no wheels, and may run a package's own code to build it.
    let sees = if online { None } else { Some(WHEELS_FOLDER) };
    let program = packages.workshop.lay_out(&Blueprint {
        limits,
        gate: online,
        sees,
        files: &files,
        programs: &programs,
    });
    let place = |name| format!("{HANDLER}/{name}");
    let seeded = interpreter.is_some_and(|known| !known.seed.is_empty());
    let mut order = json!({
        "uv": uv.map(|_| place(UV)),
        "seed": seeded.then(|| place(SEED)),
        "allow_sdist": settings.allow_sdist,
    });
    let extra: Vec<&str> = index.extra.iter().map(|url| url.with_secrets()).collect();
    if online {
        order["index"] = index.default.with_secrets().into();
        order["extra"] = extra.into();
        order["proxy"] = "http://127.0.0.1:3128".into();
        order["certificates"] = index
            .certificates
            .as_ref()
            .map(|_| place(CERTIFICATES))
            .into();
    }
    Ok(Base {
        program: program.map_err(|error| unmade(&error))?,
        order: order.as_object().cloned().unwrap_or_default(),
        rules: ProxyRules::of(index, ProxyLimits::default()),
    })
}
