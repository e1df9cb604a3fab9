//! Errors in a host's settings of its package index.

use std::path::PathBuf;

/// Why the settings can't be used. No message contains a password.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Not a URL that an index can have.
    #[error(
        "the package index {value:?} ({origin}) {what}: write it as https://HOST/simple, or leave it out for https://pypi.org/simple"
    )]
    Url {
        /// What was written, without its password.
        value: String,
        /// Where it was written.
        origin: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// An entry of `package_hosts` is not a host.
    #[error("{value:?} is no host: write HOST or HOST:PORT")]
    PackageHost {
        /// What was written.
        value: String,
    },
    /// The proxy can't be used.
    #[error("the proxy {value:?} ({origin}) {what}: only http://HOST:PORT can be used")]
    Proxy {
        /// What was written, without its password.
        value: String,
        /// Where it was written.
        origin: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The configured file of certificates can't be used.
    #[error("the certificates {path} ({origin}) {what}: name a PEM file of certificate authorities there, or unset it", path = path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Where it was named.
        origin: String,
        /// What is wrong with it.
        what: String,
    },
    /// A file of settings can't be read or understood.
    #[error("{path}: {what}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        what: String,
    },
}

impl IndexError {
    /// The message for whoever asked for a package: without this host's file names, hence also without `origin`, which may be one.
    #[must_use]
    pub fn for_callers(&self) -> String {
        match self {
            Self::Url { value, what, .. } => format!("the package index {value:?} {what}"),
            Self::Proxy { value, what, .. } => format!("the proxy {value:?} {what}"),
            Self::PackageHost { .. } => self.to_string(),
            Self::Certificates { .. } | Self::File { .. } => {
                "a file of this host with settings of its package index can't be used".to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_told_no_path() {
        let (path, origin) = (
            PathBuf::from("/root/secret.pem"),
            "/root/pip.conf".to_owned(),
        );
        for error in [
            IndexError::Url {
                value: "x".to_owned(),
                origin: origin.clone(),
                what: "is no URL",
            },
            IndexError::Proxy {
                value: "x".to_owned(),
                origin: origin.clone(),
                what: "is no URL",
            },
            IndexError::Certificates {
                path: path.clone(),
                origin,
                what: "are none".to_owned(),
            },
            IndexError::File {
                path,
                what: "line 3".to_owned(),
            },
        ] {
            assert!(error.to_string().contains("/root"), "{error}");
            assert!(
                !error.for_callers().contains("/root"),
                "{}",
                error.for_callers()
            );
        }
    }
}
