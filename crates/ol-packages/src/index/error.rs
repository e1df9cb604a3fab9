//! What can be wrong with what a host says about its index.

use std::path::PathBuf;

/// Why the settings can't be used. None of the texts holds a password.
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
    /// A host of `package_hosts` is none.
    #[error("{value:?} is no host: write HOST or HOST:PORT")]
    PackageHost {
        /// What was written.
        value: String,
    },
    /// A proxy that can't be used.
    #[error("the proxy {value:?} ({origin}) {what}: only http://HOST:PORT can be used")]
    Proxy {
        /// What was written, without its password.
        value: String,
        /// Where it was written.
        origin: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The named file of certificates can't be used.
    #[error("the certificates {path} ({origin}) {what}: name a PEM file of certificate authorities there, or unset it", path = path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Where it was named.
        origin: String,
        /// What is wrong with it.
        what: String,
    },
    /// A file of settings can't be read, or not be understood.
    #[error("{path}: {what}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        what: String,
    },
}
