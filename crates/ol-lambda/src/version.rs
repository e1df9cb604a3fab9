//! One immutable unpacked copy of a function's code.
//!
//! Instances and calls that use it count references to it; its directory is removed with the last reference.

use crate::numbered::Numbered;
use crate::package_set::PackageSet;
use crate::settings::Settings;
use crate::view::View;
use bytes::Bytes;
use ol_archive::{ExtractLimits, extract};
use ol_model::chain;
use ol_model::{FunctionConfig, Limits, dotenv, function_config};
use ol_packages::requirements::{Requirements, RequirementsError};
use ol_sandbox::{Folder, Network, Packages};
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::OnceLock;

/// The longest entry file that is read, in bytes.
const MAX_SOURCE: u64 = 16 << 20;

/// How a function is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FunctionKind {
    /// `f(event)`: JSON in, JSON out.
    F,
    /// A WSGI app.
    Wsgi,
    /// An ASGI app.
    Asgi,
}

impl FunctionKind {
    /// Is the function told the head of the request?
    pub(crate) fn is_web(self) -> bool {
        self != Self::F
    }
}

/// Compiled code, for guests with the same Python.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub magic: String,
    pub code: Bytes,
}

/// One version of a function's code.
#[derive(Debug)]
pub(crate) struct Version {
    pub code: Folder,
    pub config: FunctionConfig,
    pub limits: Limits,
    pub network: Network,
    /// Name of the entry file within the bundle.
    pub entry: String,
    /// The text of the entry file, or why there is none.
    pub source: Result<Bytes, String>,
    pub compiled: OnceLock<Compiled>,
    /// The packages that the bundle asks for; `None` if it asks for none.
    pub requirements: Option<Requirements>,
    /// The packages that `requirements` led to, once they are there.
    pub packages: OnceLock<PackageSet>,
    /// What one of the worker's own programs sees of the package store.
    sees: Option<View>,
    /// The kind that a guest found it to be.
    pub kind: OnceLock<FunctionKind>,
    /// True for a program of the worker itself. `/stats` and `/metrics` are about functions, so they leave out its sandboxes and calls.
    pub ours: bool,
    directory: Option<Numbered>,
}

/// Why no version could be made of a bundle.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum VersionError {
    /// The bundle itself is wrong; the message is for the function's owner.
    #[error("{0}")]
    Bundle(String),
    /// This host failed; the message is for the operator.
    #[error("{0}")]
    Host(String),
}

impl Version {
    /// Unpacks `bundle` and reads its configuration. A failed attempt leaves nothing behind. Blocking.
    pub(crate) fn prepare(settings: &Settings, bundle: impl Read) -> Result<Self, VersionError> {
        let directory = Numbered::make(&settings.code);
        let directory = directory.map_err(|e| host("make the code directory", &e))?;
        extract(bundle, directory.path(), &ExtractLimits::default()).map_err(|error| {
            if error.is_the_bundles_fault() {
                VersionError::Bundle(error.to_string())
            } else {
                VersionError::Host(chain(&error))
            }
        })?;
        let config = read_config(directory.path())?;
        let limits = Limits::resolve(
            &settings.default_limits,
            &config.limits,
            &settings.max_limits,
        )
        .map_err(|error| VersionError::Bundle(error.to_string()))?;
        let network = settings
            .networks
            .resolve(config.network)
            .map_err(|refused| VersionError::Bundle(refused.to_string()))?;
        let entry = config
            .environment
            .as_ref()
            .and_then(|environment| environment.get("OL_ENTRY_FILE"))
            .map_or("f.py", String::as_str)
            .to_owned();
        let source = read_entry(directory.path(), &entry);
        let requirements = read_requirements(directory.path())?;
        Ok(Self {
            code: directory.folder(),
            config,
            limits,
            network: match network {
                ol_model::Network::None => Network::None,
                ol_model::Network::Egress => Network::Egress,
                ol_model::Network::Host => Network::Host,
            },
            entry,
            source,
            requirements,
            packages: OnceLock::new(),
            sees: None,
            compiled: OnceLock::new(),
            kind: OnceLock::new(),
            ours: false,
            directory: Some(directory),
        })
    }

    /// Makes a version of a program of the worker itself. Blocking.
    ///
    /// `files` are given by name and content, `programs` are linked or copied from where they lie. The version sees the entry `sees` of
    /// the package store.
    pub(crate) fn of_ours(
        settings: &Settings,
        limits: Limits,
        (network, sees): (Network, Option<&str>),
        files: &[(String, Vec<u8>)],
        programs: &[(&str, &Path)],
    ) -> io::Result<Self> {
        const ENTRY: &str = "f.py";
        let sees = sees.map(|entry| View::lay_out(&settings.code, [entry.to_owned()]));
        let directory = Numbered::make(&settings.code)?;
        let root = directory.path();
        let mode = |path: &Path, bits| fs::set_permissions(path, Permissions::from_mode(bits));
        let mut source = Err(format!("there is no {ENTRY}"));
        for (name, content) in files {
            let path = root.join(name);
            for folder in Path::new(name).ancestors().skip(1) {
                fs::create_dir_all(root.join(folder))?;
                mode(&root.join(folder), 0o755)?;
            }
            fs::write(&path, content)?;
            mode(&path, 0o644)?;
            if *name == ENTRY {
                source = Ok(Bytes::copy_from_slice(content));
            }
        }
        for (name, from) in programs {
            let path = root.join(name);
            // A link saves copying tens of megabytes; usually both paths are on the same disk.
            let linked =
                fs::metadata(from)?.mode() & 0o777 == 0o755 && fs::hard_link(from, &path).is_ok();
            if !linked {
                fs::copy(from, &path)?;
                mode(&path, 0o755)?;
            }
        }
        Ok(Self {
            code: directory.folder(),
            config: FunctionConfig::default(),
            limits,
            network,
            entry: ENTRY.to_owned(),
            source,
            requirements: None,
            packages: OnceLock::new(),
            sees: sees.transpose()?,
            compiled: OnceLock::new(),
            kind: OnceLock::new(),
            ours: true,
            directory: Some(directory),
        })
    }

    /// What its sandboxes see of the package store.
    pub(crate) fn shown(&self) -> Packages {
        let of_ours = self.sees.as_ref().map(View::shown);
        let locked = self.packages.get().map(PackageSet::shown);
        locked.or(of_ours).unwrap_or_default()
    }

    /// How many calls one instance serves at once, as far as is known before an instance was bound.
    pub(crate) fn lanes(&self) -> u32 {
        match self.kind.get() {
            Some(FunctionKind::F | FunctionKind::Wsgi) => 1,
            Some(FunctionKind::Asgi) | None => self.config.concurrency,
        }
    }
}

impl Drop for Version {
    fn drop(&mut self) {
        if let Some(directory) = self.directory.take() {
            directory.go_later();
        }
    }
}

/// Reads the configuration of the bundle in `directory`: its `ol.yaml`, and its `.env` where `ol.yaml` sets no environment.
///
/// Oddities are written to the worker's log.
fn read_config(directory: &Path) -> Result<FunctionConfig, VersionError> {
    let bundle = |error: &dyn std::fmt::Display| VersionError::Bundle(error.to_string());
    let mut config = FunctionConfig::default();
    let mut warnings = Vec::new();
    if let Some(text) = read_text(directory, "ol.yaml", function_config::MAX_YAML_BYTES)? {
        (config, warnings) = FunctionConfig::parse(&text).map_err(|e| bundle(&e))?;
    }
    if config.environment.is_none()
        && let Some(text) = read_text(directory, ".env", dotenv::MAX_DOTENV_BYTES)?
    {
        let (environment, more) = dotenv::parse(&text).map_err(|e| bundle(&e))?;
        config.environment = Some(environment);
        warnings.extend(more);
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(config)
}

/// Reads a file in the bundle, if it exists; returns `most` bytes and one more if it is longer.
///
/// Links are refused when a bundle is unpacked, so plain paths below its directory can't lead outside.
fn read_text(directory: &Path, name: &str, most: usize) -> Result<Option<String>, VersionError> {
    let file = match File::open(directory.join(name)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(host(&format!("open {name}"), &error)),
    };
    let mut text = String::new();
    match file.take(most as u64 + 1).read_to_string(&mut text) {
        Ok(_) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(VersionError::Bundle(format!("{name} is not UTF-8 text")))
        }
        Err(error) => Err(host(&format!("read {name}"), &error)),
    }
}

/// What the bundle in `directory` asks for: its `requirements.txt`, else its `requirements.in`, else its `pyproject.toml`.
///
/// Of `pyproject.toml`, the dependencies are used.
fn read_requirements(directory: &Path) -> Result<Option<Requirements>, VersionError> {
    const MOST: usize = 1 << 20;
    for (name, parse) in [
        (
            "requirements.txt",
            Requirements::parse as fn(&[u8]) -> Result<_, RequirementsError>,
        ),
        ("requirements.in", Requirements::parse),
        ("pyproject.toml", Requirements::parse_pyproject),
    ] {
        let Some(text) = read_text(directory, name, MOST)? else {
            continue;
        };
        let wanted = parse(text.as_bytes())
            .map_err(|error| VersionError::Bundle(format!("{name}: {error}")))?;
        return Ok((!wanted.is_empty()).then_some(wanted));
    }
    Ok(None)
}

fn read_entry(directory: &Path, entry: &str) -> Result<Bytes, String> {
    let inside = Path::new(entry)
        .components()
        .all(|c| matches!(c, std::path::Component::Normal(_)));
    if !inside || entry.is_empty() {
        return Err(format!(
            "OL_ENTRY_FILE {entry:?} is not the name of a file in the bundle"
        ));
    }
    let absent = || {
        format!(
            "the bundle has no {entry}: put the function into that file, or name another with OL_ENTRY_FILE"
        )
    };
    let file = File::open(directory.join(entry)).map_err(|_| absent())?;
    let mut source = Vec::new();
    file.take(MAX_SOURCE + 1)
        .read_to_end(&mut source)
        .map_err(|_| absent())?;
    if source.len() as u64 > MAX_SOURCE {
        return Err(format!("{entry} is larger than {} MiB", MAX_SOURCE >> 20));
    }
    Ok(source.into())
}

fn host(what: &str, error: &io::Error) -> VersionError {
    VersionError::Host(format!("{what}: {error}"))
}
