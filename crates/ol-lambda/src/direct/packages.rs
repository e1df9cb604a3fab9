//! Packages of the store, as sandboxes see them: `NAME==VERSION/files`.

use super::DirectError;
use ol_packages::modules;
use std::path::Path;

/// The packages that an order names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Packages {
    /// Where the packages lie inside a sandbox.
    pub path: Vec<String>,
    /// The modules of the packages.
    pub modules: Vec<String>,
}

/// Looks `entries` up in `store`. Blocking.
pub(super) fn look_up(store: &Path, entries: &[String]) -> Result<Packages, DirectError> {
    let mut packages = Packages::default();
    for entry in entries {
        let sound = |c: char| c.is_ascii_alphanumeric() || "._-=+!".contains(c);
        if entry.is_empty() || entry.starts_with('.') || !entry.chars().all(sound) {
            return Err(DirectError::bad(format!(
                "{entry:?} is no package: write NAME or NAME==VERSION"
            )));
        }
        let files = store.join(entry).join("files");
        if !files.is_dir() {
            return Err(DirectError::bad(format!(
                "package {entry} is not in the store: put it there with `pip install --target PKGS_DIR/{entry}/files {entry}`, where PKGS_DIR is Pkgs_dir of config.json"
            )));
        }
        packages.path.push(format!("/packages/{entry}/files"));
        let name = entry.split("==").next().unwrap_or(entry);
        packages.modules.extend(modules::top_level(&files, name));
    }
    Ok(packages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn modules_are_those_of_the_metadata_or_called_like_the_package() {
        let store = tempfile::tempdir().expect("a temporary directory");
        let told = store.path().join("told==1.0/files/told-1.0.dist-info");
        fs::create_dir_all(&told).expect("made");
        fs::write(told.join("top_level.txt"), "tell\n_tell\n").expect("written");
        fs::create_dir_all(store.path().join("un-told/files")).expect("made");
        let entries = ["told==1.0".to_owned(), "un-told".to_owned()];
        let packages = look_up(store.path(), &entries).expect("both are there");
        assert_eq!(packages.modules, ["_tell", "tell", "un_told"]);
        assert_eq!(packages.path[0], "/packages/told==1.0/files");
        for (entry, named) in [("absent==2", "pip install"), ("../x", "NAME==VERSION")] {
            let error = look_up(store.path(), &[entry.to_owned()]).expect_err("refused");
            let text = error.to_string();
            assert!(text.contains(named) && text.contains(entry), "{text}");
        }
    }
}
