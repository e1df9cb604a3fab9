//! What every installer sandbox is made of: the installer's program as a version of a function, with uv beside it.

use super::PackagesSettings;
use super::failure::Failure;
use crate::function::Version;
use crate::settings::Settings;
use ol_packages::index::Index;
use ol_packages::inside;
use ol_packages::proxy::{Limits, Policy};
use ol_packages::tool::Uv;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// Where its files are inside.
pub(super) const HANDLER: &str = "/handler";
const UV: &str = "uv";
const CERTIFICATES: &str = "certificates.pem";

/// Made when it is first needed, once.
#[derive(Debug, Default)]
pub(super) struct Bench(OnceCell<Arc<Tools>>);

/// What jobs need.
#[derive(Debug)]
pub(super) struct Tools {
    pub version: Arc<Version>,
    pub policy: Policy,
    /// The part of each order that is always the same.
    pub order: serde_json::Map<String, serde_json::Value>,
}

impl Bench {
    /// The tools, made now if they aren't. A failure is not kept: the index may be back the next time.
    pub(super) async fn tools(
        &self,
        settings: &Settings,
        packages: &PackagesSettings,
    ) -> Result<Arc<Tools>, Failure> {
        self.0
            .get_or_try_init(|| make(settings, packages))
            .await
            .cloned()
    }
}

async fn make(settings: &Settings, packages: &PackagesSettings) -> Result<Arc<Tools>, Failure> {
    let index = packages
        .index
        .clone()
        .map_err(|why| Failure(format!("no package can be had: {why}\n")))?;
    let (settings, limits) = (settings.clone(), packages.limits.clone());
    let (state, allow_sdist) = (packages.state.join("tools"), packages.allow_sdist);
    let work = tokio::task::spawn_blocking(move || {
        let uv = match Uv::find_or_fetch(&state, &index, &mut |step| {
            tracing::debug!("uv: {step:?}");
        }) {
            Ok(uv) => Some(uv.path),
            Err(error) => {
                let why = crate::function::chain(&error);
                tracing::warn!("packages are got with the base's pip, which is slower: {why}");
                None
            }
        };
        let mut files: Vec<(&str, Vec<u8>)> = inside::FILES
            .iter()
            .map(|(name, text)| (*name, text.as_bytes().to_vec()))
            .collect();
        if let Some(certificates) = &index.certificates {
            files.push((CERTIFICATES, certificates.pem.to_vec()));
        }
        let programs: Vec<_> = uv.iter().map(|path| (UV, path.as_path())).collect();
        let version = Version::of_ours(&settings, limits, &files, &programs)
            .map_err(|error| Failure(format!("the installer can't be laid out: {error}\n")))?;
        Ok(Arc::new(Tools {
            order: order(&index, allow_sdist, uv.is_some()),
            policy: Policy::of(&index, Limits::default()),
            version: Arc::new(version),
        }))
    });
    work.await.unwrap_or_else(|error| {
        Err(Failure(format!(
            "the installer can't be laid out: {error}\n"
        )))
    })
}

fn order(
    index: &Index,
    allow_sdist: bool,
    has_uv: bool,
) -> serde_json::Map<String, serde_json::Value> {
    let extra: Vec<&str> = index.extra.iter().map(|url| url.with_secrets()).collect();
    let certificates = index
        .certificates
        .as_ref()
        .map(|_| format!("{HANDLER}/{CERTIFICATES}"));
    let order = serde_json::json!({
        "index": index.default.with_secrets(),
        "extra": extra,
        "proxy": "http://127.0.0.1:3128",
        "certificates": certificates,
        "uv": has_uv.then(|| format!("{HANDLER}/{UV}")),
        "allow_sdist": allow_sdist,
    });
    match order {
        serde_json::Value::Object(map) => map,
        _ => serde_json::Map::new(),
    }
}
