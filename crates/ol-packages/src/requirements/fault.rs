//! Why a requirement is refused. The function's author reads these messages, so each says what to write instead.

use thiserror::Error;

use crate::pin::PinError;

/// Why a file of requirements was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RequirementsError {
    /// One line is wrong.
    #[error("line {line}: {fault}")]
    Line {
        /// The line where the requirement begins, counted from 1.
        line: usize,
        /// What is wrong with it.
        fault: Fault,
    },
    /// The file is over the limit in bytes.
    #[error("the file is over {0} bytes long; list only what the function imports")]
    Bytes(usize),
    /// The file is over the limit in lines.
    #[error("the file is over {0} lines long; list only what the function imports")]
    Lines(usize),
    /// The file is over the limit in requirements.
    #[error("the file holds over {0} requirements; list only what the function imports")]
    Entries(usize),
    /// The file is not UTF-8.
    #[error("the file is not UTF-8; save it as UTF-8")]
    Encoding,
    /// pyproject.toml doesn't parse.
    #[error("pyproject.toml is not sound TOML, at line {line}: {what}; correct it")]
    Toml {
        /// Counted from 1.
        line: usize,
        /// The parser's words.
        what: String,
    },
}

/// What is wrong with a requirement; each message names a remedy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fault {
    /// An option of pip.
    #[error("option {option} is not taken here; {remedy}")]
    Option {
        /// The option as written, without its value.
        option: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// `${NAME}`.
    #[error("{0} of the environment is not filled in here; write the value itself")]
    Variable(String),
    /// `NAME @ URL`.
    #[error("\"{0}\" comes from a URL; name a version that the package index has, like {0}==1.0")]
    Direct(String),
    /// `git+https://…` and similar.
    #[error(
        "\"{0}\" is version control, which is not fetched from; name a version that the package index has, or put the code into the bundle"
    )]
    VersionControl(String),
    /// `https://…`.
    #[error("\"{0}\" is a URL; name a package that the package index has, like NAME==1.0")]
    Url(String),
    /// A directory or archive.
    #[error(
        "\"{0}\" is a path, and there is no such file where packages are installed; name a package of the index, or put the code into the bundle"
    )]
    Path(String),
    /// A name, version or hash is not valid.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// What follows the name is no version condition.
    #[error("\"{0}\" is no condition on a version; write one like ==1.26.4 or >=1.26,<2")]
    Specifier(String),
    /// Extras that aren't `[NAME,…]`.
    #[error("\"{0}\" are no extras; write them like [standard,http2]")]
    Extras(String),
    /// A marker that isn't one.
    #[error(
        "the marker \"{marker}\" is not understood: {why}; write one like python_version < \"3.11\" (PEP 508)"
    )]
    Marker {
        /// As it was written.
        marker: String,
        /// The parser's reason.
        why: String,
    },
    /// A hash of another kind than SHA-256.
    #[error(
        "a hash by {0} is not taken; use --hash=sha256:…, as 'uv pip compile --generate-hashes' writes"
    )]
    HashKind(String),
    /// A control character, which no requirement may contain.
    #[error("it holds the control character {0}; remove it")]
    Control(String),
    /// The requirement, without its hashes, is over the limit in bytes.
    #[error("the requirement is over {0} bytes long; shorten it")]
    Long(usize),
    /// More hashes than any release has files.
    #[error("it has over {0} hashes; leave out those of other versions")]
    Hashes(usize),
    /// `dynamic = ["dependencies"]` in pyproject.toml.
    #[error(
        "the dependencies are dynamic, which would take running the build; list them in [project] dependencies or in a requirements.txt"
    )]
    Dynamic,
}

/// What to do instead of using `option`. The list follows the reference of pip 24.
pub(super) fn remedy(option: &str) -> &'static str {
    match option {
        "-r" | "--requirement" | "-c" | "--constraint" => "put that file's lines here",
        "-e" | "--editable" => "put the code into the bundle",
        "-i" | "--index-url" | "--extra-index-url" | "--no-index" | "--trusted-host" => {
            "the worker's operator sets the index, with pip_mirror in config.json"
        }
        "-f" | "--find-links" => "name packages that the package index has",
        "--require-hashes" => "remove it: hashes are checked wherever they are given",
        "--pre" => "ask for the version itself, like ==2.0rc1",
        "--no-binary"
        | "--only-binary"
        | "--prefer-binary"
        | "--config-settings"
        | "--global-option"
        | "--use-feature"
        | "--no-build-isolation" => "remove it: wheels are what is installed",
        _ => "remove it",
    }
}
