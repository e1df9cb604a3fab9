//! One requirement: name, extras, version conditions, marker, hashes (PEP 508 without URLs).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use pep440_rs::{Operator, VersionSpecifier};

use super::fault::Fault;
use super::marker;
use crate::pin::{PackageName, Sha256, Version, shown};

/// The longest requirement in bytes, its hashes not counted.
const MAX_BYTES: usize = 4 << 10;

/// The most hashes of one requirement; no release has this many files.
const MAX_HASHES: usize = 2_000;

/// One requirement of a function. Displays in a normal form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requirement {
    name: PackageName,
    extras: BTreeSet<PackageName>,
    /// As `pep440_rs` writes them; a set, since their order has no meaning.
    specifiers: BTreeSet<String>,
    exact: Option<Version>,
    marker: Option<String>,
    hashes: BTreeSet<Sha256>,
}

impl Requirement {
    /// The package.
    #[must_use]
    pub fn name(&self) -> &PackageName {
        &self.name
    }

    /// The version, if the only condition is one `==`.
    #[must_use]
    pub fn exact(&self) -> Option<&Version> {
        self.exact.as_ref()
    }

    /// Hashes of the acceptable archives, sorted; empty when any archive is acceptable.
    pub fn hashes(&self) -> impl ExactSizeIterator<Item = &Sha256> {
        self.hashes.iter()
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if !self.extras.is_empty() {
            let extras: Vec<_> = self.extras.iter().map(PackageName::as_str).collect();
            write!(f, "[{}]", extras.join(","))?;
        }
        let specifiers: Vec<_> = self.specifiers.iter().map(String::as_str).collect();
        f.write_str(&specifiers.join(","))?;
        if let Some(marker) = &self.marker {
            write!(f, " ; {marker}")?;
        }
        let mut hashes = self.hashes.iter();
        hashes.try_for_each(|hash| write!(f, " \\\n    --hash=sha256:{hash}"))
    }
}

/// Reads the hashes among a requirement's options. For any other option, returns the fault that `refuse` makes of it.
pub(super) fn hashes<'a>(
    mut words: impl Iterator<Item = &'a str>,
    refuse: impl Fn(&str) -> Fault,
) -> Result<BTreeSet<Sha256>, Fault> {
    let mut hashes = BTreeSet::new();
    while let Some(word) = words.next() {
        let hash = match word.strip_prefix("--hash=") {
            Some(hash) => hash,
            None if word == "--hash" => words.next().unwrap_or_default(),
            None => return Err(refuse(word)),
        };
        let (kind, digits) = hash.split_once(':').unwrap_or((hash, ""));
        if kind != "sha256" {
            return Err(Fault::HashKind(shown(kind)));
        }
        hashes.insert(Sha256::parse(digits)?);
        if hashes.len() > MAX_HASHES {
            return Err(Fault::Hashes(MAX_HASHES));
        }
    }
    Ok(hashes)
}

/// Reads one requirement without its options.
pub(super) fn parse(text: &str, hashes: BTreeSet<Sha256>) -> Result<Requirement, Fault> {
    if text.len() > MAX_BYTES {
        return Err(Fault::Long(MAX_BYTES));
    }
    let text = text.trim();
    elsewhere(text)?;
    let (wanted, marker) = match text.split_once(';') {
        Some((wanted, marker)) => (wanted.trim(), Some(marker::parse(marker)?)),
        None => (text, None),
    };
    let belongs = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let name_ends = wanted.find(|c| !belongs(c)).unwrap_or(wanted.len());
    let (name, rest) = wanted.split_at(name_ends);
    // If the text doesn't start with a name, the error shows all of it.
    let name = PackageName::parse(if name.is_empty() { wanted } else { name })?;
    let (extras, rest) = extras(rest.trim())?;
    let (specifiers, exact) = specifiers(rest)?;
    Ok(Requirement {
        name,
        extras,
        specifiers,
        exact,
        marker,
        hashes,
    })
}

/// Refuses requirements that don't come from the index: URLs, paths, version control.
fn elsewhere(text: &str) -> Result<(), Fault> {
    // Strings in the marker may contain anything, thus only the part before it is examined.
    let wanted = text.split(';').next().unwrap_or(text).trim();
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| wanted.starts_with(prefix));
    if starts(&["git+", "hg+", "svn+", "bzr+"]) {
        return Err(Fault::VersionControl(shown(wanted)));
    }
    if let Some((name, _)) = wanted.split_once('@') {
        return Err(
            match PackageName::parse(name.split('[').next().unwrap_or(name).trim()) {
                Ok(name) => Fault::Direct(name.to_string()),
                Err(_) => Fault::Url(shown(wanted)),
            },
        );
    }
    if wanted.contains("://") || starts(&["file:", "http:", "https:"]) {
        return Err(Fault::Url(shown(wanted)));
    }
    let archive = [".whl", ".tar.gz", ".tgz", ".tar.bz2", ".zip", ".txt"];
    let conditioned = wanted.contains(['=', '<', '>', '~']) && !wanted.starts_with('~');
    let names_a_file = archive.iter().any(|suffix| wanted.ends_with(suffix)) && !conditioned;
    if starts(&[".", "~"]) || wanted.contains(['/', '\\']) || names_a_file {
        return Err(Fault::Path(shown(wanted)));
    }
    Ok(())
}

/// Splits `text` into the extras that it begins with and the rest.
fn extras(text: &str) -> Result<(BTreeSet<PackageName>, &str), Fault> {
    let Some(inner) = text.strip_prefix('[') else {
        return Ok((BTreeSet::new(), text));
    };
    let wrong = || Fault::Extras(shown(text));
    let (inner, rest) = inner.split_once(']').ok_or_else(wrong)?;
    if inner.trim().is_empty() {
        return Ok((BTreeSet::new(), rest.trim()));
    }
    let names = inner.split(',').map(|name| PackageName::parse(name.trim()));
    let names = names.collect::<Result<_, _>>().map_err(|_| wrong())?;
    Ok((names, rest.trim()))
}

/// The version conditions, and the exact version if one `==` is the only condition.
fn specifiers(text: &str) -> Result<(BTreeSet<String>, Option<Version>), Fault> {
    let wrong = |part: &str| Fault::Specifier(shown(part.trim()));
    // PEP 508 also allows parentheses around them; old metadata has them.
    let inner = match text.strip_prefix('(') {
        Some(inner) => inner.strip_suffix(')').ok_or_else(|| wrong(text))?,
        None => text,
    };
    let mut specifiers = BTreeSet::new();
    let mut exact = None;
    if inner.trim().is_empty() {
        return Ok((specifiers, exact));
    }
    for part in inner.split(',') {
        let specifier = VersionSpecifier::from_str(part).map_err(|_| wrong(part))?;
        if specifier.version().release().len() > 32 {
            return Err(wrong(part));
        }
        if *specifier.operator() == Operator::Equal {
            exact = Some(Version::of(specifier.version()).ok_or_else(|| wrong(part))?);
        }
        specifiers.insert(specifier.to_string());
    }
    let exact = exact.filter(|_| specifiers.len() == 1);
    Ok((specifiers, exact))
}
