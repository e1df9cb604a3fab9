//! An index's page of one project: its files and their hashes. JSON (PEP 691) or HTML (PEP 503).
//!
//! In HTML only the `<a>` tags are looked for: an index's pages are lists of links, and a full HTML parser would be larger than everything
//! else here.

use serde::Deserialize;
use url::Url;

/// A project's files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// In the page's order.
    pub files: Vec<FileLink>,
}

/// One file of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileLink {
    /// Like `name-1.0-py3-none-any.whl`.
    pub filename: String,
    /// Absolute, without a fragment.
    pub url: Url,
    /// In lower-case hexadecimal digits, if the index gives it.
    pub sha256: Option<String>,
    /// Whether the author withdrew it.
    pub yanked: bool,
}

/// Why a page can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotAPage(String);

#[derive(Deserialize)]
struct Json {
    files: Vec<JsonFile>,
}

#[derive(Deserialize)]
struct JsonFile {
    filename: String,
    url: String,
    #[serde(default)]
    hashes: std::collections::HashMap<String, String>,
    #[serde(default)]
    yanked: serde_json::Value,
}

/// Reads a page; `base` is its URL, `content_type` the type that the server gave.
///
/// # Errors
/// When it is neither JSON of the simple API nor HTML.
pub fn parse(content_type: &str, body: &[u8], base: &Url) -> Result<Page, NotAPage> {
    let text = std::str::from_utf8(body).map_err(|_| NotAPage("it is not UTF-8".into()))?;
    if content_type.contains("json") {
        let json: Json = serde_json::from_str(text)
            .map_err(|error| NotAPage(format!("it is not JSON of the simple API: {error}")))?;
        let files = json
            .files
            .into_iter()
            .filter_map(|file| from_json(file, base));
        return Ok(Page {
            files: files.collect(),
        });
    }
    if !content_type.contains("html") {
        return Err(NotAPage(format!(
            "its type is {content_type:?}, not JSON of the simple API or HTML"
        )));
    }
    Ok(Page {
        files: from_html(text, base),
    })
}

fn from_json(file: JsonFile, base: &Url) -> Option<FileLink> {
    let sha256 = file
        .hashes
        .get("sha256")
        .and_then(|digits| hexadecimal(digits));
    Some(FileLink {
        url: base.join(&file.url).ok()?,
        filename: file.filename,
        sha256,
        yanked: file.yanked.as_bool().unwrap_or(file.yanked.is_string()),
    })
}

fn from_html(text: &str, page: &Url) -> Vec<FileLink> {
    let mut base = page.clone();
    let mut files = Vec::new();
    for tag in tags(text) {
        let href = attribute(tag, "href");
        if is(tag, "base") {
            base = href.and_then(|href| page.join(&href).ok()).unwrap_or(base);
        } else if let Some(mut url) = href
            .filter(|_| is(tag, "a"))
            .and_then(|href| base.join(&href).ok())
        {
            let sha256 = url
                .fragment()
                .and_then(|text| text.strip_prefix("sha256="))
                .and_then(hexadecimal);
            url.set_fragment(None);
            let filename = url
                .path_segments()
                .and_then(|mut parts| parts.next_back())
                .unwrap_or("");
            let filename = filename.replace("%2B", "+").replace("%2b", "+");
            if !filename.is_empty() {
                files.push(FileLink {
                    filename,
                    sha256,
                    yanked: attribute(tag, "data-yanked").is_some(),
                    url,
                });
            }
        }
    }
    files
}

/// The text between `<` and `>` of all tags, closing ones included.
fn tags(text: &str) -> impl Iterator<Item = &str> {
    text.split('<')
        .skip(1)
        .filter_map(|part| Some(&part[..part.find('>')?]))
}

fn is(tag: &str, name: &str) -> bool {
    let word = tag.split([' ', '\t', '\n', '\r', '/']).next().unwrap_or("");
    word.eq_ignore_ascii_case(name)
}

/// An attribute's value, in either kind of quotes or none; empty for an attribute without a value.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let mut rest = tag.split_once(char::is_whitespace)?.1.trim_start();
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| c == '=' || c.is_whitespace())
            .unwrap_or(rest.len());
        let (key, after) = rest.split_at(end);
        let after = after.trim_start();
        let (value, next) = match after.strip_prefix('=').map(str::trim_start) {
            None => ("", after),
            Some(quoted) if quoted.starts_with(['"', '\'']) => {
                let (quote, inner) = quoted.split_at(1);
                inner.split_once(quote).unwrap_or((inner, ""))
            }
            Some(bare) => bare.split_once(char::is_whitespace).unwrap_or((bare, "")),
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(
                value
                    .replace("&amp;", "&")
                    .replace("&gt;", ">")
                    .replace("&lt;", "<"),
            );
        }
        rest = next.trim_start();
    }
    None
}

fn hexadecimal(digits: &str) -> Option<String> {
    let good = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    good.then(|| digits.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Url {
        Url::parse("https://h/simple/x/").expect("a URL")
    }

    #[test]
    fn html_as_indexes_write_it() {
        let hash = "ab".repeat(32);
        let html = format!(
            "<!DOCTYPE html><html><head><meta name=\"x\"></head><body><h1>Links</h1>\n<a href=\"../../f/x-1-py3-none-any.whl#sha256={hash}\" data-requires-python=\"&gt;=3.8\">x</a><br>\n<A HREF='https://o/x-2%2Bcu.whl?a=1&amp;b=2' data-yanked>y</A><a name=z>z</a><a href=x-3.zip#sha256=short></a></body>"
        );
        let page = parse("text/html; charset=utf-8", html.as_bytes(), &base()).expect("a page");
        let seen: Vec<_> = page
            .files
            .iter()
            .map(|f| {
                (
                    f.filename.as_str(),
                    f.url.as_str(),
                    f.sha256.is_some(),
                    f.yanked,
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                (
                    "x-1-py3-none-any.whl",
                    "https://h/f/x-1-py3-none-any.whl",
                    true,
                    false
                ),
                ("x-2+cu.whl", "https://o/x-2%2Bcu.whl?a=1&b=2", false, true),
                ("x-3.zip", "https://h/simple/x/x-3.zip", false, false),
            ]
        );
    }

    #[test]
    fn json_as_indexes_write_it() {
        let json = r#"{"meta":{"api-version":"1.1"},"name":"x","files":[
            {"filename":"x-1.whl","url":"https://o/x-1.whl","hashes":{"sha256":"AB"},"yanked":false},
            {"filename":"x-2.whl","url":"../x-2.whl","hashes":{},"yanked":"broken"}]}"#;
        let page = parse(
            "application/vnd.pypi.simple.v1+json",
            json.as_bytes(),
            &base(),
        )
        .expect("a page");
        let seen: Vec<_> = page
            .files
            .iter()
            .map(|f| (f.url.as_str(), f.sha256.clone(), f.yanked))
            .collect();
        assert_eq!(
            seen,
            [
                ("https://o/x-1.whl", None, false),
                ("https://h/simple/x-2.whl", None, true)
            ]
        );
    }

    #[test]
    fn garbage_is_no_page() {
        for (kind, body) in [
            ("application/json", &b"<html>"[..]),
            ("text/plain", b"x"),
            ("text/html", b"\xff\xfe"),
        ] {
            assert!(parse(kind, body, &base()).is_err(), "{kind}");
        }
        for html in [
            "<",
            "<a",
            "<a href",
            "<a href=",
            "<a href=\"",
            "<a =>",
            "<a href='x",
            "<base href='::'>",
        ] {
            assert_eq!(
                parse("text/html", html.as_bytes(), &base())
                    .expect("empty")
                    .files,
                [],
                "{html}"
            );
        }
    }
}
