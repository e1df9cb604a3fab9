//! Versions of uv, and the wheel of one that fits a machine.
//!
//! uv changes the meaning of its options when the second number of its version rises. Thus only one series is used: the one that the
//! program inside the sandbox was written for.

use std::fmt;

use crate::index::{FileLink, Page};

/// The series that is used: any `0.13.x`.
pub const SERIES: &str = "0.13";
const SERIES_NUMBERS: (u32, u32) = (0, 13);

/// A release of uv.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(pub u32, pub u32, pub u32);

impl Release {
    /// Reads `0.13.9`; no pre-releases.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.').map(|part| part.parse().ok());
        let release = Self(parts.next()??, parts.next()??, parts.next()??);
        parts.next().is_none().then_some(release)
    }

    /// Whether it belongs to the supported series.
    #[must_use]
    pub fn is_known(self) -> bool {
        (self.0, self.1) == SERIES_NUMBERS
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// The newest release of the series and its wheel for this processor. `Err` holds what the page offers instead, for the error message.
///
/// The musl wheel of a release is preferred: it needs no C library, hence runs in a base image of any distribution.
pub(super) fn newest<'a>(
    page: &'a Page,
    processor: &str,
) -> Result<(Release, &'a FileLink), String> {
    let wheels = page
        .files
        .iter()
        .filter(|file| !file.yanked)
        .filter_map(|file| {
            let name = file.filename.strip_suffix(".whl")?;
            let mut parts = name.split('-');
            let release = (parts.next()? == "uv")
                .then(|| Release::parse(parts.next()?))
                .flatten()?;
            let platform = parts.next_back()?;
            let fits = platform
                .split('.')
                .filter(|tag| tag.ends_with(processor))
                .filter_map(rank)
                .max()?;
            Some((release, fits, file))
        });
    let mut wheels: Vec<_> = wheels.collect();
    wheels.sort_by_key(|(release, fits, _)| (*release, *fits));
    let best = wheels.iter().rev().find(|(release, ..)| release.is_known());
    match (best, wheels.last()) {
        (Some((release, _, file)), _) => Ok((*release, file)),
        (None, Some((other, ..))) => Err(format!(" (it has {other})")),
        (None, None) => Err(String::new()),
    }
}

/// How well a platform tag suits; more is better, `None` doesn't fit.
fn rank(tag: &str) -> Option<u8> {
    match tag {
        _ if tag.starts_with("musllinux_1_1_") => Some(2),
        _ if tag.starts_with("manylinux2014_") || tag.starts_with("manylinux_2_17_") => Some(1),
        _ if tag.starts_with("manylinux_2_28_") => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::page::parse;

    fn page(names: &[&str]) -> Page {
        let html: String = names
            .iter()
            .map(|name| format!("<a href='{name}'>x</a>"))
            .collect();
        let base = "https://h/simple/uv/".parse().expect("a URL");
        parse("text/html", html.as_bytes(), &base).expect("a page")
    }

    #[test]
    fn the_newest_of_the_series_for_any_c_library() {
        let page = page(&[
            "uv-0.13.9-py3-none-macosx_11_0_arm64.whl",
            "uv-0.13.10-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
            "uv-0.13.10-py3-none-musllinux_1_1_x86_64.whl",
            "uv-0.13.10-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64.whl",
            "uv-0.13.9-py3-none-musllinux_1_1_x86_64.whl",
            "uv-0.13.11rc1-py3-none-musllinux_1_1_x86_64.whl",
            "uv-0.14.0-py3-none-musllinux_1_1_x86_64.whl",
            "uv-0.13.99.tar.gz",
            "uv_build-0.13.99-py3-none-musllinux_1_1_x86_64.whl",
        ]);
        let name = |processor| newest(&page, processor).map(|(_, file)| file.filename.clone());
        assert_eq!(
            name("x86_64").as_deref(),
            Ok("uv-0.13.10-py3-none-musllinux_1_1_x86_64.whl")
        );
        assert!(name("aarch64").is_ok_and(|name| name.contains("aarch64")));
        assert_eq!(name("riscv64"), Err(String::new()));
    }

    #[test]
    fn another_series_is_named_not_used() {
        let page = page(&[
            "uv-0.12.0-py3-none-musllinux_1_1_x86_64.whl",
            "uv-0.14.0-py3-none-musllinux_1_1_x86_64.whl",
        ]);
        assert_eq!(
            newest(&page, "x86_64").map(|(release, _)| release),
            Err(" (it has 0.14.0)".to_owned())
        );
    }
}
