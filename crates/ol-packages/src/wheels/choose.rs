//! Chooses the wheel of a package on an index's page that suits an interpreter best.

use std::str::FromStr;

use crate::index::{FileLink, Page};
use crate::pin::{PackageName, Pin, Sha256};

use super::tags::{Fit, Tags, WheelName};

/// The result of [`choose`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice<'a> {
    /// A wheel that may be taken. Its hash is a wanted one, or the page lists none.
    This(&'a FileLink),
    /// A wheel would suit, but has this unwanted hash.
    OtherHash(&'a FileLink, Sha256),
    /// Nothing suits; holds the names of some files of that version, for the error.
    Nothing(Vec<&'a str>),
}

/// The most file names in an error.
const TOLD: usize = 3;

pub(super) fn choose<'a>(page: &'a Page, pin: &Pin, tags: &Tags) -> Choice<'a> {
    let (mut best, mut other) = (None::<(Fit, &FileLink)>, None::<(Fit, &FileLink, Sha256)>);
    let (mut instead, mut source) = (Vec::new(), false);
    for file in &page.files {
        let Some(name) = WheelName::parse(&file.filename).filter(|name| is_of(name, pin)) else {
            if is_source_of(&file.filename, pin) {
                source |= hash_of(file).is_some_and(|hash| pin.hashes().contains(&hash));
                if instead.len() < TOLD {
                    instead.push(file.filename.as_str());
                }
            }
            continue;
        };
        let Some(fit) = tags.fit(&name) else {
            if instead.len() < TOLD {
                instead.push(file.filename.as_str());
            }
            continue;
        };
        let unwanted = hash_of(file).filter(|hash| !pin.hashes().contains(hash));
        if let Some(hash) = unwanted {
            if other.is_none_or(|(best, ..)| fit > best) {
                other = Some((fit, file, hash));
            }
        } else if best.is_none_or(|(best, _)| fit > best) {
            best = Some((fit, file));
        }
    }
    match (best, other) {
        (Some((_, file)), _) => Choice::This(file),
        // If the hash of the sources is a wanted one, the sources were locked: then report that there is no wheel.
        (None, Some((_, file, hash))) if !source => Choice::OtherHash(file, hash),
        (None, _) => Choice::Nothing(instead),
    }
}

fn hash_of(file: &FileLink) -> Option<Sha256> {
    Sha256::parse(file.sha256.as_deref()?).ok()
}

/// Whether a wheel's name is that of the package and version of `pin`.
pub(super) fn is_of(name: &WheelName<'_>, pin: &Pin) -> bool {
    PackageName::parse(name.project).is_ok_and(|project| project == *pin.name())
        && pep440_rs::Version::from_str(pin.version().as_str())
            .is_ok_and(|version| version == name.version)
}

/// Whether a file looks like the sources of `pin`. Only roughly, as it affects only error messages.
fn is_source_of(file: &str, pin: &Pin) -> bool {
    let stem = file
        .strip_suffix(".tar.gz")
        .or_else(|| file.strip_suffix(".zip"));
    stem.and_then(|stem| stem.rsplit_once('-'))
        .is_some_and(|(project, version)| {
            PackageName::parse(project).is_ok_and(|project| project == *pin.name())
                && version == pin.version().as_str()
        })
}
