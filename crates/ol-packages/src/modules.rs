//! What can be imported from an installed package.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Metadata files longer than this, in bytes, are ignored: no real list of modules is that long.
const MAX_METADATA: u64 = 64 << 10;

/// The top-level modules of what was installed into `files`, sorted. Blocking.
///
/// Taken from the metadata (`top_level.txt`), else from the packages and modules that lie there, else the name of `package`.
#[must_use]
pub fn top_level(files: &Path, package: &str) -> Vec<String> {
    let mut told = BTreeSet::new();
    let mut there = BTreeSet::new();
    for item in fs::read_dir(files).into_iter().flatten().flatten() {
        let name = item.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.ends_with(".dist-info") {
            told.extend(listed(&item.path().join("top_level.txt")));
        } else {
            there.extend(module(name, &item.path()));
        }
    }
    for modules in [told, there] {
        if !modules.is_empty() {
            return modules.into_iter().collect();
        }
    }
    vec![package.replace(['-', '.'], "_")]
}

fn listed(file: &Path) -> Vec<String> {
    let short = fs::metadata(file).is_ok_and(|file| file.is_file() && file.len() <= MAX_METADATA);
    let text = short.then(|| fs::read_to_string(file).ok()).flatten();
    let text = text.unwrap_or_default();
    // Old tools list nested modules as paths, which aren't identifiers.
    let words = text.split_whitespace().filter(|word| is_identifier(word));
    words.map(str::to_owned).collect()
}

/// The module that the file or directory `name` provides, if any.
fn module(name: &str, path: &Path) -> Option<String> {
    let module = if path.is_dir() {
        // Without `__init__.py` it may be a namespace package or a folder of scripts; which one can't be told from here.
        path.join("__init__.py").is_file().then_some(name)?
    } else if let Some(module) = name.strip_suffix(".py") {
        module
    } else {
        // `_x.cpython-311-x86_64-linux-gnu.so`, `_x.abi3.so`, `_x.so`
        name.strip_suffix(".so")?.split('.').next()?
    };
    is_identifier(module).then(|| module.to_owned())
}

fn is_identifier(word: &str) -> bool {
    let goes_on = |c: char| c == '_' || c.is_alphanumeric();
    !word.is_empty() && !word.starts_with(|c: char| c.is_ascii_digit()) && word.chars().all(goes_on)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(files: &[(&str, &str)]) -> Vec<String> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for (name, contents) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, contents).expect("written");
        }
        top_level(directory.path(), "the-package")
    }

    #[test]
    fn modules_are_those_of_the_metadata() {
        let files = [
            ("x-1.dist-info/top_level.txt", "tell\n_tell\na/b\n../c\n"),
            ("other.py", ""),
        ];
        assert_eq!(with(&files), ["_tell", "tell"]);
    }

    #[test]
    fn or_those_that_lie_there() {
        let files = [
            ("x-1.dist-info/RECORD", ""),
            ("pkg/__init__.py", ""),
            ("bin/script.py", ""),
            ("six.py", ""),
            ("_c.cpython-311-x86_64-linux-gnu.so", ""),
            ("not-one.py", ""),
            ("x.pth", ""),
            ("__pycache__/six.cpython-311.pyc", ""),
        ];
        assert_eq!(with(&files), ["_c", "pkg", "six"]);
    }

    #[test]
    fn or_one_called_like_the_package() {
        assert_eq!(with(&[]), ["the_package"]);
        assert_eq!(
            with(&[("x-1.dist-info/top_level.txt", "\n")]),
            ["the_package"]
        );
    }
}
