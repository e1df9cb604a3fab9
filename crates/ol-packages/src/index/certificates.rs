//! Which certificates are trusted: those in the bundle of this host's pip, or else the system's.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::pip_conf::PipConf;
use super::{Host, IndexError};

/// Where Linux distributions keep their bundles.
const SYSTEM: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A bundle of certificates in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificates {
    /// The file it was read from.
    pub path: PathBuf,
    /// Its bytes.
    pub pem: Arc<[u8]>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Certificates({}, {} bytes)",
            self.path.display(),
            self.pem.len()
        )
    }
}

/// Reads the configured bundle, or else the system's; `None` if the host has neither.
pub(super) fn find(host: &Host<'_>, pip: &PipConf) -> Result<Option<Certificates>, IndexError> {
    let named = host.first_variable(&[
        "PIP_CERT",
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    ]);
    let named =
        named.or_else(|| Some(("cert in pip.conf".to_owned(), pip.get("cert")?.to_owned())));
    if let Some((origin, path)) = named {
        let path = PathBuf::from(path);
        return match read(host, &path) {
            Ok(found) => Ok(Some(found)),
            Err(what) => Err(IndexError::Certificates { path, origin, what }),
        };
    }
    Ok(SYSTEM
        .iter()
        .find_map(|path| read(host, Path::new(path)).ok()))
}

fn read(host: &Host<'_>, path: &Path) -> Result<Certificates, String> {
    let pem = host
        .bytes(path)
        .map_err(|error| format!("can't be read: {error}"))?;
    let mark = b"-----BEGIN CERTIFICATE-----";
    if !pem.windows(mark.len()).any(|part| part == mark) {
        return Err("hold no certificate in PEM".to_owned());
    }
    Ok(Certificates {
        path: path.to_owned(),
        pem: pem.into(),
    })
}

#[cfg(test)]
mod tests {
    use crate::index::host::texts::index;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\n";

    #[test]
    fn what_is_named_comes_before_the_system_s() {
        let system = ("/etc/ssl/certs/ca-certificates.crt", PEM);
        let conf = ("/etc/pip.conf", "[global]\ncert = /conf.pem\n");
        let files = [system, conf, ("/conf.pem", PEM), ("/own.pem", PEM)];
        let path = |variables: &[_], files: &[_]| {
            let found = index("", variables, files).expect("good").certificates;
            found.map(|found| found.path.display().to_string())
        };
        assert_eq!(path(&[], &files[..1]).as_deref(), Some(system.0));
        assert_eq!(path(&[], &files).as_deref(), Some("/conf.pem"));
        assert_eq!(
            path(&[("SSL_CERT_FILE", "/own.pem")], &files).as_deref(),
            Some("/own.pem")
        );
        assert_eq!(path(&[], &[]), None);
    }

    #[test]
    fn a_named_bundle_must_be_one() {
        let said = |files: &[_]| {
            index("", &[("PIP_CERT", "/own.pem")], files)
                .expect_err("bad")
                .to_string()
        };
        assert!(
            said(&[]).contains("/own.pem (PIP_CERT) can't be read"),
            "{}",
            said(&[])
        );
        let empty = said(&[("/own.pem", "nothing")]);
        assert!(empty.contains("no certificate"), "{empty}");
    }
}
