//! `URL#REF:DIRECTORY`: a function in a git repository, written as for `docker build`.
//!
//! ```text
//!   https://host/owner/repo.git             the default branch, the whole of it
//!   https://host/owner/repo.git#v1.2        a branch, a tag, or a commit
//!   git@host:owner/repo.git#main:apps/one   a directory of it
//!   file:///srv/git/repo.git#:apps/one      a directory of the default branch
//! ```
//!
//! Everything is checked before git gets it: git takes an argument that begins with `-` for an option, and `:` or `*` in a ref for a
//! mapping of refs.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use ol_model::FunctionName;

/// The schemes that git's own client can fetch from.
const SCHEMES: [&str; 5] = ["https", "http", "ssh", "git", "file"];

/// A repository, and what to fetch from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GitUrl {
    /// The URL for git.
    pub(super) url: String,
    /// A branch, a tag or a commit.
    pub(super) reference: Option<String>,
    /// Relative, without `..`.
    pub(super) directory: Option<PathBuf>,
}

impl GitUrl {
    /// Parses a git URL; `None` when `text` is no URL, but perhaps a path.
    pub(super) fn parse(text: &str) -> Option<Result<Self>> {
        // pip writes git+https://; it means the same.
        let text = text.strip_prefix("git+").unwrap_or(text);
        match text.split_once("://") {
            Some((scheme, rest)) => {
                let known = SCHEMES.contains(&scheme.to_ascii_lowercase().as_str());
                Some(if !known {
                    Err(anyhow::anyhow!(
                        "{scheme}:// is not a scheme that functions are installed from; use one of {}, or a directory",
                        SCHEMES.join(", ")
                    ))
                } else if rest.is_empty() || rest.starts_with('#') {
                    Err(anyhow::anyhow!(
                        "{text} names no repository; write it as in https://host/owner/repo.git"
                    ))
                } else {
                    Self::split(text)
                })
            }
            // user@host:path, as ssh and scp write it.
            None => {
                let (host, path) = text.split_once(':')?;
                let remote = host.contains('@') && !host.contains('/') && !host.starts_with('-');
                (remote && !path.is_empty()).then(|| Self::split(text))
            }
        }
    }

    fn split(text: &str) -> Result<Self> {
        let (url, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        if url.contains(|c: char| c.is_control() || c == ' ') {
            bail!("{url:?} holds white space; encode it as %20");
        }
        if !reference.is_empty() {
            check_reference(reference)?;
        }
        let inside = Path::new(directory).components();
        let plain = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        if !inside.clone().all(|part| plain(&part)) {
            bail!(
                "{directory:?} leads out of the repository; name a directory in it, as in #main:apps/one"
            );
        }
        let directory: PathBuf = inside.filter(|part| *part != Component::CurDir).collect();
        Ok(Self {
            url: url.to_owned(),
            reference: (!reference.is_empty()).then(|| reference.to_owned()),
            directory: (!directory.as_os_str().is_empty()).then_some(directory),
        })
    }

    /// The default name of the function: that of the directory, or else of the repository.
    pub(super) fn name(&self) -> Result<FunctionName> {
        let of_directory = self.directory.as_ref().and_then(|path| path.file_name());
        let last = match of_directory {
            Some(name) => name.to_string_lossy().into_owned(),
            None => {
                let path = self.url.split('?').next().unwrap_or_default();
                let path = path.trim_end_matches('/');
                let last = path.rsplit(['/', ':']).next().unwrap_or_default();
                last.strip_suffix(".git").unwrap_or(last).to_owned()
            }
        };
        FunctionName::parse(&last).with_context(|| {
            format!("{last:?} can't be the function's name; give it one with -n NAME")
        })
    }

    /// The URL for messages, without what may be a password.
    pub(super) fn shown(&self) -> String {
        let Some((scheme, rest)) = self.url.split_once("://") else {
            return self.url.clone();
        };
        let end = rest.find('/').unwrap_or(rest.len());
        match rest[..end].rsplit_once('@') {
            Some((_, host)) => format!("{scheme}://{host}{}", &rest[end..]),
            None => self.url.clone(),
        }
    }
}

/// Checks those rules of git-check-ref-format(1) that matter here.
fn check_reference(reference: &str) -> Result<()> {
    let forbidden = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
    if reference.starts_with(['-', '+'])
        || reference.contains(forbidden)
        || reference.contains("..")
    {
        bail!("{reference:?} is no branch, tag or commit; write it behind #, as in URL#main");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> GitUrl {
        let url = GitUrl::parse(text).unwrap_or_else(|| panic!("{text} is a URL"));
        url.unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn refused(text: &str) -> String {
        let url = GitUrl::parse(text).unwrap_or_else(|| panic!("{text} is a URL"));
        url.expect_err("it is refused").to_string()
    }

    #[test]
    fn the_parts_of_a_url() {
        for (text, url, reference, directory, name) in [
            ("https://h/o/r.git", "https://h/o/r.git", None, None, "r"),
            ("https://h/o/r/", "https://h/o/r/", None, None, "r"),
            (
                "git+https://h/r#v1.2",
                "https://h/r",
                Some("v1.2"),
                None,
                "r",
            ),
            (
                "git@h:o/r.git#a/b:c/./d/",
                "git@h:o/r.git",
                Some("a/b"),
                Some("c/d"),
                "d",
            ),
            ("me@h:r.git", "me@h:r.git", None, None, "r"),
            (
                "file:///srv/r.git#:x",
                "file:///srv/r.git",
                None,
                Some("x"),
                "x",
            ),
            (
                "ssh://git@h:2222/~/r.git#",
                "ssh://git@h:2222/~/r.git",
                None,
                None,
                "r",
            ),
            ("HTTP://h/r.git?x=1", "HTTP://h/r.git?x=1", None, None, "r"),
        ] {
            let got = parsed(text);
            assert_eq!(
                (
                    got.url.as_str(),
                    got.reference.as_deref(),
                    got.directory.as_deref()
                ),
                (url, reference, directory.map(Path::new)),
                "{text}"
            );
            assert_eq!(got.name().expect("a name").as_str(), name, "{text}");
        }
    }

    #[test]
    fn paths_are_no_urls() {
        for path in [
            "f",
            "./f",
            "/srv/r.git",
            "a:b",
            "./a@b:c",
            "dir/a@b:c",
            "a@b:",
            "-x@h:p",
            "C#",
        ] {
            assert!(GitUrl::parse(path).is_none(), "{path}");
        }
    }

    #[test]
    fn what_git_would_take_otherwise_is_refused() {
        for reference in ["-x", "--upload-pack=x", "+main", "a b", "a*", "a..b", "^a"] {
            let error = refused(&format!("https://h/r#{reference}"));
            assert!(error.contains("no branch, tag or commit"), "{error}");
        }
        for directory in ["../x", "a/../../x", "/etc"] {
            let error = refused(&format!("https://h/r#main:{directory}"));
            assert!(error.contains("leads out of the repository"), "{error}");
        }
        assert!(refused("s3://bucket/x").contains("https, http, ssh"));
        assert!(refused("ext::sh://x").contains("not a scheme"));
        assert!(refused("https://").contains("names no repository"));
        assert!(refused("https://h/a b").contains("%20"));
        let unnamed = parsed("https://h/%20.git").name().expect_err("no name");
        assert!(unnamed.to_string().contains("-n NAME"), "{unnamed}");
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(parsed("https://me:secret@h/r@1").shown(), "https://h/r@1");
        assert_eq!(parsed("https://h/r").shown(), "https://h/r");
        assert_eq!(parsed("git@h:r").shown(), "git@h:r");
    }
}
