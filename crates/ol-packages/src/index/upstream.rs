//! The proxy through which this host reaches other hosts, if it has one.

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use super::location::bare_host;
use super::pip_conf::PipConf;
use super::{Host, IndexError, IndexUrl, masked};

/// An HTTP proxy. Printing it hides its password.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyAddress {
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    url: IndexUrl,
}

impl ProxyAddress {
    /// The value of `Proxy-Authorization`, if the proxy's URL contains a name.
    #[must_use]
    pub fn authorization(&self) -> Option<String> {
        let (user, password) = self.url.credentials()?;
        Some(format!(
            "Basic {}",
            STANDARD.encode(format!("{user}:{password}"))
        ))
    }

    /// The URL including its name and password.
    #[must_use]
    pub fn with_secrets(&self) -> &str {
        self.url.with_secrets()
    }
}

impl fmt::Debug for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyAddress({})", self.url)
    }
}

/// Which proxy is used for which host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upstream {
    http: Option<ProxyAddress>,
    https: Option<ProxyAddress>,
    except: Vec<String>,
}

impl Upstream {
    /// Reads the usual variables (`https_proxy`, …) and pip's own settings.
    pub(super) fn of(host: &Host<'_>, pip: &PipConf) -> Result<Self, IndexError> {
        let own = host.first_variable(&["PIP_PROXY"]);
        let own =
            own.or_else(|| Some(("proxy in pip.conf".to_owned(), pip.get("proxy")?.to_owned())));
        let pick = |names: &[&str]| {
            let named = own.clone().or_else(|| host.first_variable(names));
            named
                .map(|(origin, value)| address(&value, &origin))
                .transpose()
        };
        let except = host.first_variable(&["no_proxy", "NO_PROXY"]);
        let except = except.map_or_else(String::new, |(_, value)| value.to_ascii_lowercase());
        Ok(Self {
            http: pick(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])?,
            https: pick(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])?,
            except: except
                .split([',', ' '])
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect(),
        })
    }

    /// All there are.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &ProxyAddress> {
        self.http.iter().chain(&self.https)
    }

    /// The proxy for a host, or `None` if the host is reached directly.
    #[must_use]
    pub fn toward(&self, https: bool, host: &str, port: u16) -> Option<&ProxyAddress> {
        let proxy = if https { &self.https } else { &self.http };
        let excepted = self.except.iter().any(|entry| covers(entry, host, port));
        proxy.as_ref().filter(|_| !excepted)
    }
}

fn address(value: &str, origin: &str) -> Result<ProxyAddress, IndexError> {
    let refused = |what| IndexError::Proxy {
        value: if value.contains("//") {
            masked(value)
        } else {
            masked(&format!("//{value}"))
        },
        origin: origin.to_owned(),
        what,
    };
    let whole = if value.contains("://") {
        value.to_owned()
    } else {
        format!("http://{value}")
    };
    let url = Url::parse(&whole).map_err(|_| refused("is no URL"))?;
    if url.scheme() != "http" {
        return Err(refused("is of another kind"));
    }
    let host = bare_host(&url);
    if host.is_empty() {
        return Err(refused("names no host"));
    }
    Ok(ProxyAddress {
        host,
        port: url.port_or_known_default().unwrap_or(80),
        url: IndexUrl::parse(&whole, origin)?,
    })
}

/// Whether an entry of `NO_PROXY` covers a host: `*`, an address, a network, or a domain including its subdomains.
fn covers(entry: &str, host: &str, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        if let Some((network, bits)) = entry.split_once('/') {
            return contains(network, bits, address);
        }
        if entry.trim_start_matches('[').trim_end_matches(']').parse() == Ok(address) {
            return true;
        }
    }
    let (name, only_port) = match entry.rsplit_once(':') {
        Some((name, digits)) if digits.parse::<u16>().is_ok() => (name, digits.parse::<u16>().ok()),
        _ => (entry, None),
    };
    let domain = name.trim_start_matches("*.").trim_start_matches('.');
    let below = host
        .strip_suffix(domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    !domain.is_empty() && below && only_port.is_none_or(|only| only == port)
}

fn contains(network: &str, bits: &str, address: IpAddr) -> bool {
    let Ok(bits) = bits.parse::<u32>() else {
        return false;
    };
    match (network.parse(), address) {
        (Ok(IpAddr::V4(network)), IpAddr::V4(address)) if bits <= 32 => {
            let shift = |ip| u64::from(u32::from(ip)) >> (32 - bits);
            shift(network) == shift(address)
        }
        (Ok(IpAddr::V6(network)), IpAddr::V6(address)) if bits <= 128 => {
            let shift = |ip| u128::from(ip).checked_shr(128 - bits);
            shift(network) == shift(address)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::covers;
    use crate::index::host::texts::index;

    #[test]
    fn the_variables_of_all_programs() {
        let variables = [
            ("HTTPS_PROXY", "http://me:se%40cret@Proxy.example:3128"),
            ("ALL_PROXY", "other:8080"),
            ("NO_PROXY", "localhost, .corp.example"),
        ];
        let found = index("", &variables, &[]).expect("good").upstream;
        let https = found.toward(true, "pypi.org", 443).expect("one");
        assert_eq!((https.host.as_str(), https.port), ("proxy.example", 3128));
        assert_eq!(
            https.authorization().as_deref(),
            Some("Basic bWU6c2VAY3JldA==")
        );
        assert!(!format!("{found:?}").contains("cret"));
        let http = found.toward(false, "pypi.org", 80).expect("one");
        assert_eq!((http.host.as_str(), http.port), ("other", 8080));
        assert_eq!(found.toward(true, "pypi.corp.example", 443), None);
    }

    #[test]
    fn pip_s_own_comes_first() {
        let files = [("/etc/pip.conf", "[global]\nproxy = one:1\n")];
        let found = index("", &[("https_proxy", "http://two:2")], &files)
            .expect("good")
            .upstream;
        assert_eq!(
            found.toward(true, "pypi.org", 443).expect("one").host,
            "one"
        );
    }

    #[test]
    fn other_kinds_are_refused_without_their_password() {
        for value in [
            "socks5://me:secret@h:1",
            "https://me:secret@h:1",
            "me:secret@:x:y",
        ] {
            let said = index("", &[("ALL_PROXY", value)], &[])
                .expect_err(value)
                .to_string();
            assert!(
                said.contains("ALL_PROXY") && !said.contains("secret"),
                "{said}"
            );
        }
    }

    #[test]
    fn exceptions() {
        for (entry, host) in [
            ("*", "a"),
            ("example.com", "example.com"),
            ("example.com", "a.example.com"),
            (".example.com", "a.example.com"),
            ("*.example.com", "a.example.com"),
            ("a:81", "a"),
            ("10.0.0.0/8", "10.1.2.3"),
            ("0.0.0.0/0", "10.1.2.3"),
            ("::/0", "::1"),
            ("::1", "::1"),
        ] {
            assert!(covers(entry, host, 81), "{entry} {host}");
        }
        for (entry, host) in [
            ("example.com", "badexample.com"),
            ("a:82", "a"),
            (".", "a"),
            ("10.0.0.0/8", "11.1.2.3"),
            ("10.0.0.0/99", "10.1.2.3"),
        ] {
            assert!(!covers(entry, host, 81), "{entry} {host}");
        }
    }
}
