//! PyPI, with each page and file fetched once and kept: suites that need numpy download it once per machine.
//!
//! Pages are kept too, thus later runs test the same versions; remove the folder `pypi` to get newer ones. curl is used, because it finds
//! its way (proxies, certificates) as other programs on the machine do.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use super::Dist;

/// The wheel of a pure Python package from PyPI, to be served by a test's own index. Kept in `kept_in` (`CARGO_TARGET_TMPDIR`).
///
/// # Panics
/// When it can't be fetched.
#[must_use]
pub fn pypi_wheel(kept_in: &Path, project: &str, version: &str) -> Dist {
    let pypi = PyPi::kept_in(kept_in);
    let filename = format!("{project}-{version}-py3-none-any.whl");
    let file = pypi.page(project).and_then(|_| pypi.file(&filename));
    Dist {
        project: super::normalised(project),
        bytes: file.unwrap_or_else(|| panic!("{filename} can't be had from PyPI")),
        filename,
    }
}

#[derive(Debug)]
pub(super) struct PyPi {
    folder: PathBuf,
}

impl PyPi {
    pub(super) fn kept_in(folder: &Path) -> Self {
        let folder = folder.join("pypi");
        fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        Self { folder }
    }

    /// A project's page, with links to this server. They are relative, thus valid for any port.
    pub(super) fn page(&self, project: &str) -> Option<Vec<u8>> {
        let index =
            std::env::var("PIP_INDEX_URL").unwrap_or_else(|_| "https://pypi.org/simple".to_owned());
        let url = format!("{}/{project}/", index.trim_end_matches('/'));
        let page = fs::read(self.kept(&format!("{project}.page"), &url)?).ok()?;
        let mut page: Value = serde_json::from_slice(&page).ok()?;
        for file in page.get_mut("files")?.as_array_mut()? {
            let name = file.get("filename")?.as_str()?.to_owned();
            // The page on disk keeps the real URL, for when the file is asked for.
            file["url"] = Value::String(format!("../../files/{name}"));
        }
        Some(page.to_string().into_bytes())
    }

    /// A file, or a wheel's metadata.
    pub(super) fn file(&self, name: &str) -> Option<Vec<u8>> {
        let (wheel, suffix) = name
            .strip_suffix(".metadata")
            .map_or((name, ""), |wheel| (wheel, ".metadata"));
        let project = super::normalised(project_of(wheel)?);
        let page = fs::read(self.folder.join(format!("{project}.page"))).ok()?;
        let page: Value = serde_json::from_slice(&page).ok()?;
        let files = page.get("files")?.as_array()?;
        let url = files.iter().find(|file| file["filename"] == wheel)?["url"].as_str()?;
        fs::read(self.kept(name, &format!("{url}{suffix}"))?).ok()
    }

    /// The path of a file, which is fetched if it isn't there. One process fetches; others wait for it.
    fn kept(&self, name: &str, url: &str) -> Option<PathBuf> {
        if name.contains('/') {
            return None;
        }
        let path = self.folder.join(name);
        if path.exists() {
            return Some(path);
        }
        let lock = File::create(self.folder.join(format!("{name}.lock"))).ok()?;
        flock(&lock, FlockOperation::LockExclusive).ok()?;
        if path.exists() {
            return Some(path);
        }
        let part = self.folder.join(format!("{name}.part"));
        let fetched = Command::new("curl")
            .args([
                "-fsSL",
                "--retry",
                "3",
                "-H",
                "Accept: application/vnd.pypi.simple.v1+json, */*;q=0.1",
                "-o",
            ])
            .arg(&part)
            .arg(url)
            .status()
            .expect("curl is needed: install it with `apt-get install curl`");
        if !fetched.success() {
            return None;
        }
        fs::rename(part, &path).ok()?;
        Some(path)
    }
}

/// The project in a file's name. In the name of sources the project may contain dashes; the version follows the last one.
fn project_of(filename: &str) -> Option<&str> {
    if filename.ends_with(".whl") {
        return filename.split('-').next();
    }
    filename.rsplit_once('-').map(|(project, _)| project)
}
