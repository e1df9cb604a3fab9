//! Chooses the index among all the places where one can be configured.

use std::path::PathBuf;

use url::Url;

use super::destination::{Destination, Reach};
use super::location::bare_host;
use super::pip_conf::PipConf;
use super::uv_toml::UvToml;
use super::{Certificates, Host, IndexError, IndexUrl, Upstream, certificates, netrc};

const PYPI: &str = "https://pypi.org/simple";
/// The host that keeps PyPI's files.
const PYPI_FILES: &str = "files.pythonhosted.org";

/// What the worker's own configuration says.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// `pip_mirror`: an index that replaces all others; if empty, the host's own settings apply.
    pub mirror: &'a str,
    /// Further hosts (`HOST` or `HOST:PORT`) that files linked from the index's pages may lie on.
    pub package_hosts: &'a [String],
}

/// The index of this host and the way to it. Printing it shows no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The index that is asked last, or the only one if `extra` is empty.
    pub default: IndexUrl,
    /// The indexes to ask before `default`.
    pub extra: Vec<IndexUrl>,
    /// Where `default` was configured, for messages.
    pub origin: String,
    /// What an installer may reach: the indexes and the hosts of their files.
    pub destinations: Vec<Destination>,
    /// The trusted certificates; `None` for those built into programs.
    pub certificates: Option<Certificates>,
    /// The proxy through which this host reaches the indexes.
    pub upstream: Upstream,
}

/// What one source of settings names: the source, the default index, the extra indexes.
type Named = (String, Option<String>, Vec<String>);

impl Index {
    /// Reads this host's settings: `pip_mirror` before variables before files; pip's before uv's.
    ///
    /// # Errors
    /// When a setting can't be used; none is ever ignored silently.
    pub fn of(host: &Host<'_>, wanted: &Wanted<'_>) -> Result<Self, IndexError> {
        let pip = pip_conf(host)?;
        let (origin, default, extra) = named(host, wanted, &pip)?;
        let netrc = netrc_text(host)?;
        let parse = |text: &str| {
            let url = IndexUrl::parse(text, &origin)?;
            let found = netrc::credentials(&netrc, &url.host());
            Ok(match found {
                Some((user, password)) => url.with_credentials(&user, &password),
                None => url,
            })
        };
        let mut index = Self {
            default: parse(default.as_deref().unwrap_or(PYPI))?,
            extra: extra
                .iter()
                .map(|text| parse(text))
                .collect::<Result<_, _>>()?,
            destinations: Vec::new(),
            certificates: certificates::find(host, &pip)?,
            upstream: Upstream::of(host, &pip)?,
            origin,
        };
        index.allow_indexes();
        index.allow_configured(wanted.package_hosts)?;
        Ok(index)
    }

    /// All indexes, in the order in which they are asked.
    pub fn urls(&self) -> impl Iterator<Item = &IndexUrl> {
        self.extra.iter().chain([&self.default])
    }

    fn allow_indexes(&mut self) {
        let urls: Vec<(String, u16)> = self.urls().map(|url| (url.host(), url.port())).collect();
        for (host, port) in urls {
            let reach = if host == "pypi.org" {
                Reach::Public
            } else {
                Reach::Own
            };
            if host == "pypi.org" {
                self.allow(PYPI_FILES.to_owned(), 443, Reach::Public);
            }
            self.allow(host, port, reach);
        }
    }

    fn allow_configured(&mut self, hosts: &[String]) -> Result<(), IndexError> {
        for value in hosts {
            let url = Url::parse(&format!("https://{value}/")).ok();
            let url = url.filter(|url| {
                url.path() == "/" && url.username().is_empty() && url.query().is_none()
            });
            let refused = || IndexError::PackageHost {
                value: value.clone(),
            };
            let url = url.ok_or_else(refused)?;
            self.allow(bare_host(&url), url.port().unwrap_or(443), Reach::Own);
        }
        Ok(())
    }

    fn allow(&mut self, host: String, port: u16, reach: Reach) {
        let known = self
            .destinations
            .iter_mut()
            .find(|known| known.host == host && known.port == port);
        match known {
            Some(known) => known.reach = known.reach.max(reach),
            None => self.destinations.push(Destination { host, port, reach }),
        }
    }
}

fn named(host: &Host<'_>, wanted: &Wanted<'_>, pip: &PipConf) -> Result<Named, IndexError> {
    let words = |name: &str| -> Vec<String> {
        let value = host.variable(name).unwrap_or_default();
        value
            .split_whitespace()
            .map(unnamed)
            .map(str::to_owned)
            .collect()
    };
    let mirror = wanted.mirror.trim();
    if !mirror.is_empty() {
        return Ok(("pip_mirror".into(), Some(mirror.to_owned()), Vec::new()));
    }
    let uv = host.first_variable(&["UV_DEFAULT_INDEX", "UV_INDEX_URL"]);
    let uv_extra = [words("UV_INDEX"), words("UV_EXTRA_INDEX_URL")].concat();
    let files = uv_files(host)?;
    let sources: [Named; 4] = [
        (
            "PIP_INDEX_URL".into(),
            host.variable("PIP_INDEX_URL"),
            words("PIP_EXTRA_INDEX_URL"),
        ),
        (
            uv.as_ref()
                .map_or_else(|| "UV_INDEX".to_owned(), |(name, _)| name.clone()),
            uv.map(|(_, value)| unnamed(&value).to_owned()),
            uv_extra,
        ),
        (
            "pip.conf".into(),
            pip.get("index-url").map(str::to_owned),
            pip.words("extra-index-url"),
        ),
        files,
    ];
    // The first source that names any index wins. If it names only extra ones, they are added to PyPI.
    let said = sources
        .into_iter()
        .find(|(_, default, extra)| default.is_some() || !extra.is_empty());
    Ok(said.unwrap_or_else(|| ("the default".into(), None, Vec::new())))
}

/// Strips the name that uv allows before an index: `name=URL`.
fn unnamed(value: &str) -> &str {
    match value.split_once('=') {
        Some((name, url)) if !name.contains(['/', ':']) => url,
        _ => value,
    }
}

fn pip_conf(host: &Host<'_>) -> Result<PipConf, IndexError> {
    let mut conf = PipConf::default();
    let mut files = vec![PathBuf::from("/etc/pip.conf")];
    files.extend(host.home().map(|home| home.join(".pip/pip.conf")));
    files.extend(host.config_home().map(|folder| folder.join("pip/pip.conf")));
    files.extend(host.variable("PIP_CONFIG_FILE").map(PathBuf::from));
    for file in files {
        if let Some(text) = host.settings(&file)? {
            conf.read(&text);
        }
    }
    Ok(conf)
}

fn uv_files(host: &Host<'_>) -> Result<Named, IndexError> {
    let user = host.config_home().map(|folder| folder.join("uv/uv.toml"));
    let files = host
        .variable("UV_CONFIG_FILE")
        .map(PathBuf::from)
        .into_iter()
        .chain(user)
        .chain([PathBuf::from("/etc/uv/uv.toml")]);
    for path in files {
        let Some(text) = host.settings(&path)? else {
            continue;
        };
        let uv = UvToml::parse(&text).map_err(|what| IndexError::File {
            path: path.clone(),
            what: format!("is not as uv writes it: {what}"),
        })?;
        if uv.default_index().is_some() || !uv.extra().is_empty() {
            let default = uv.default_index().map(str::to_owned);
            return Ok((path.display().to_string(), default, uv.extra()));
        }
    }
    Ok(("uv.toml".into(), None, Vec::new()))
}

fn netrc_text(host: &Host<'_>) -> Result<String, IndexError> {
    let path = host.variable("NETRC").map(PathBuf::from);
    let path = path.or_else(|| Some(host.home()?.join(".netrc")));
    let text = path.map(|path| host.settings(&path)).transpose()?.flatten();
    Ok(text.unwrap_or_default())
}

#[cfg(test)]
mod tests;
