//! `cargo xtask deps`: fails when a dependency between crates points up, when modules of a crate know each other in a circle, or when `unsafe` is outside ol-sys.
//!
//! Exists because the layers are the design's main promise to a reader, and cargo doesn't enforce them: a crate may declare any dependency.
//! The order, from the top:
//!
//! ```text
//! ol (cli) → ol-worker → ol-event → ol-lambda → ol-sandbox → ol-warden → { ol-sys, ol-model }
//!
//! ol-testkit      only ever a dev-dependency
//! ol-conformance  tests the binary from outside: may use only ol-testkit of this workspace, and only in tests
//! ol-packages     used by ol-lambda and the layers above it; has nothing to do with sandboxes, thus may use ol-model and ol-archive only
//! ol-install      used by ol-lambda, which makes its sandboxes; has nothing to do with them itself, thus may use what ol-packages may, and that
//! ol-archive      used by ol-packages and ol-lambda; uses no crate of this workspace
//! xtask           measures from outside: may use only ol-sys; no crate depends on it
//! ```
//!
//! A crate that is not in the table is an error too, so that whoever adds one must say where it belongs.

use anyhow::{Result, bail};

use crate::cargo::{self, Dependency, Package};
use crate::cycles;
use crate::find_unsafe;

/// Where a crate belongs, and which other crates of the workspace it may use.
enum Place {
    /// One of the layers; may use every layer with a lower number.
    Layer(u8),
    /// Used by the layers from this number up; may use exactly these crates.
    Serves(u8, &'static [&'static str]),
    /// Outside the layers; may use exactly these crates.
    Beside(&'static [&'static str]),
}

use Place::{Beside, Layer, Serves};

const PLACES: &[(&str, Place)] = &[
    ("ol", Layer(6)),
    ("ol-worker", Layer(5)),
    ("ol-event", Layer(4)),
    ("ol-lambda", Layer(3)),
    ("ol-sandbox", Layer(2)),
    ("ol-warden", Layer(1)),
    (
        "ol-install",
        Serves(3, &["ol-model", "ol-archive", "ol-packages"]),
    ),
    ("ol-packages", Serves(3, &["ol-model", "ol-archive"])),
    ("ol-archive", Serves(3, &[])),
    ("ol-sys", Layer(0)),
    ("ol-model", Layer(0)),
    (TESTKIT, Beside(&[])),
    (FAKE, Beside(&["ol-model", "ol-sandbox"])),
    ("ol-conformance", Beside(&[])),
    ("xtask", Beside(&["ol-sys"])),
];

const TESTKIT: &str = "ol-testkit";
const FAKE: &str = "ol-sandbox-fake";

fn place(name: &str) -> Option<&'static Place> {
    PLACES
        .iter()
        .find(|(crate_name, _)| *crate_name == name)
        .map(|(_, place)| place)
}

/// Checks all dependencies between the workspace's crates, that modules have no circles, and that only `ol-sys`
/// contains `unsafe`.
pub(crate) fn run() -> Result<()> {
    let workspace = cargo::workspace()?;
    let names: Vec<&str> = workspace
        .packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();

    let mut complaints = Vec::new();
    let mut arrows = 0;
    for package in &workspace.packages {
        if place(&package.name).is_none() {
            complaints.push(format!(
                "crate {} has no place; add it to PLACES in xtask/src/deps.rs",
                package.name
            ));
            continue;
        }
        for dependency in own_dependencies(package, &names) {
            arrows += 1;
            complaints.extend(complaint(&package.name, dependency));
        }
        let src = package.manifest_path.with_file_name("src");
        // Some crates contain only tests.
        if src.is_dir() {
            complaints.extend(cycles::complaints(&package.name, &src)?);
        }
    }
    complaints.extend(find_unsafe::outside_its_room(&workspace)?);

    if complaints.is_empty() {
        println!(
            "deps: {} crates, {arrows} arrows between them, none points up; `unsafe` only in ol-sys",
            names.len()
        );
        return Ok(());
    }
    bail!("{}", complaints.join("\n"))
}

fn own_dependencies<'a>(
    package: &'a Package,
    names: &'a [&str],
) -> impl Iterator<Item = &'a Dependency> {
    package
        .dependencies
        .iter()
        .filter(|dependency| names.contains(&dependency.name.as_str()))
}

/// Why the dependency `from → dependency` is not allowed; `None` when it is.
fn complaint(from: &str, dependency: &Dependency) -> Option<String> {
    let to = dependency.name.as_str();
    if to == TESTKIT || to == FAKE {
        return (dependency.kind.as_deref() != Some("dev"))
            .then(|| format!("{from} → {to}: what is for tests may only be a dev-dependency"));
    }
    let allowed = match (place(from)?, place(to)) {
        (Layer(high), Some(Layer(low))) => low < high,
        (Layer(high), Some(Serves(lowest, _))) => high >= lowest,
        (Beside(list) | Serves(_, list), _) => list.contains(&to),
        (Layer(_), _) => false,
    };
    (!allowed).then(|| match place(from) {
        Some(Beside(list) | Serves(_, list)) => format!(
            "{from} → {to}: {from} may use nothing of ours{}",
            if list.is_empty() {
                String::new()
            } else {
                format!(" but {}", list.join(", "))
            }
        ),
        _ => format!("{from} → {to}: the arrow points up (or sideways); see xtask/src/deps.rs"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrow(from: &str, to: &str, kind: Option<&str>) -> Option<String> {
        complaint(
            from,
            &Dependency {
                name: to.into(),
                kind: kind.map(Into::into),
            },
        )
    }

    #[test]
    fn layers_may_only_name_lower_ones() {
        let layers: Vec<(&str, u8)> = PLACES
            .iter()
            .filter_map(|(name, place)| match place {
                Layer(height) => Some((*name, *height)),
                Beside(_) | Serves(..) => None,
            })
            .collect();
        for (from, high) in &layers {
            for (to, low) in &layers {
                assert_eq!(arrow(from, to, None).is_none(), low < high, "{from} → {to}");
            }
        }
    }

    #[test]
    fn each_crate_has_one_place() {
        let mut names: Vec<&str> = PLACES.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        assert!(names.is_sorted_by(|one, next| one < next), "{names:?}");
    }

    #[test]
    fn what_is_for_tests_is_for_tests() {
        for from in ["ol-lambda", "ol-conformance", "ol-model"] {
            for to in [TESTKIT, FAKE] {
                assert_eq!(arrow(from, to, Some("dev")), None);
                assert!(arrow(from, to, None).is_some());
                assert!(arrow(from, to, Some("build")).is_some());
            }
        }
    }

    #[test]
    fn what_serves_a_layer_knows_none() {
        assert_eq!(arrow("ol-lambda", "ol-packages", None), None);
        assert_eq!(arrow("ol-event", "ol-archive", None), None);
        assert_eq!(arrow("ol-packages", "ol-archive", None), None);
        for (from, to) in [
            ("ol-sandbox", "ol-packages"),
            ("ol-warden", "ol-archive"),
            ("ol-packages", "ol-sandbox"),
            ("ol-packages", "ol-sys"),
            ("ol-archive", "ol-model"),
        ] {
            assert!(arrow(from, to, None).is_some(), "{from} → {to}");
        }
    }

    #[test]
    fn the_crates_beside_the_layers_stay_outside() {
        assert!(arrow("ol-conformance", "ol-model", Some("dev")).is_some());
        assert!(arrow("xtask", "ol-worker", None).is_some());
        assert!(arrow("ol", "xtask", None).is_some());
        assert_eq!(arrow("xtask", "ol-sys", None), None);
    }
}
