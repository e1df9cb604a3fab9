//! The URL of an index. It may contain a name and password, which must not appear in logs.

use std::fmt;

use url::Url;

use super::IndexError;

/// An index's URL: http or https, with a host. Printing it hides its password.
#[derive(Clone, PartialEq, Eq)]
pub struct IndexUrl(Url);

impl IndexUrl {
    /// Takes what an operator wrote; `origin` says where, for the error.
    ///
    /// # Errors
    /// When it is no URL, not http or https, or has no host.
    pub fn parse(text: &str, origin: &str) -> Result<Self, IndexError> {
        let refused = |what| IndexError::Url {
            value: masked(text),
            origin: origin.to_owned(),
            what,
        };
        let mut url = Url::parse(text.trim()).map_err(|_| refused("is no URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused("is neither http nor https"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(refused("names no host"));
        }
        url.set_fragment(None);
        Ok(Self(url))
    }

    /// The URL including its name and password, for the program that asks the index.
    #[must_use]
    pub fn with_secrets(&self) -> &str {
        self.0.as_str()
    }

    /// The name and password, decoded.
    #[must_use]
    pub fn credentials(&self) -> Option<(String, String)> {
        let decoded = |text: &str| {
            let bytes =
                url::form_urlencoded::parse(format!("x={}", text.replace('+', "%2B")).as_bytes())
                    .next()
                    .map(|(_, value)| value.into_owned());
            bytes.unwrap_or_default()
        };
        if self.0.username().is_empty() && self.0.password().is_none() {
            return None;
        }
        Some((
            decoded(self.0.username()),
            decoded(self.0.password().unwrap_or("")),
        ))
    }

    /// Gives it a name and password if it has none (as `.netrc` does).
    pub(super) fn with_credentials(mut self, user: &str, password: &str) -> Self {
        if self.credentials().is_none() {
            // Neither call fails for a URL with a host.
            let _ = self.0.set_username(user);
            let _ = self.0.set_password(Some(password));
        }
        self
    }

    /// The host in lower case; an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> String {
        bare_host(&self.0)
    }

    /// The port, or else the scheme's default.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(443)
    }

    /// Whether the scheme is https.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// The URL of a project's page. The name must be normalised.
    pub(super) fn page(&self, project: &str) -> Url {
        let mut url = self.0.clone();
        // Credentials are sent in a header instead.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push(project).push("");
        }
        url
    }

    /// Whether this URL has the same scheme, host and port: only then does it get the index's credentials.
    pub(super) fn is_origin_of(&self, url: &Url) -> bool {
        self.0.origin() == url.origin()
    }
}

/// A URL's host in the form used for comparison: no brackets, no final dot, lower case.
pub(super) fn bare_host(url: &Url) -> String {
    let host = url.host_str().unwrap_or("");
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .trim_end_matches('.')
        .to_ascii_lowercase()
}

impl fmt::Display for IndexUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(self.0.as_str()))
    }
}

impl fmt::Debug for IndexUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IndexUrl({self})")
    }
}

/// A text in which the names and passwords of URLs are replaced by `****`.
#[must_use]
pub fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("//") {
        let (before, after) = rest.split_at(at + 2);
        out.push_str(before);
        // Credentials end at the last `@` before the next `/` or blank; a password can contain a raw `/` only in an invalid URL.
        let end = after
            .find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '/' | '?' | '#'))
            .unwrap_or(after.len());
        match after[..end].rfind('@') {
            Some(at) => {
                out.push_str("****");
                rest = &after[at..];
            }
            None => rest = after,
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_never_printed() {
        let url =
            IndexUrl::parse("https://me:se%40cret@pypi.example.com/simple", "test").expect("good");
        assert_eq!(url.to_string(), "https://****@pypi.example.com/simple");
        assert!(!format!("{url:?}").contains("cret"));
        assert_eq!(url.credentials(), Some(("me".into(), "se@cret".into())));
        let error = IndexUrl::parse("ftp://me:secret@host/", "test").expect_err("not http");
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(
            masked("see https://a:b@c/d and http://e@f:1, not me@mail.com; //g"),
            "see https://****@c/d and http://****@f:1, not me@mail.com; //g"
        );
        assert_eq!(masked("https://a:p@ss@c/d"), "https://****@c/d");
    }

    #[test]
    fn pages_lie_below() {
        for text in ["http://h:81/simple", "http://u:p@h:81/simple/"] {
            let url = IndexUrl::parse(text, "test").expect("good");
            assert_eq!(url.page("uv").as_str(), "http://h:81/simple/uv/");
        }
    }

    #[test]
    fn what_is_no_index_is_refused() {
        for text in ["", "pypi.org/simple", "file:///x", "https://", "ssh://h/x"] {
            assert!(IndexUrl::parse(text, "test").is_err(), "{text}");
        }
    }
}
