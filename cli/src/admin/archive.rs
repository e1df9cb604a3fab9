//! A `tar.gz` that somebody packed already. It is uploaded unchanged, and the worker checks every member. Here it is only read, so that the
//! same checks as for a directory apply.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};
use flate2::read::MultiGzDecoder;
use ol_archive::open_regular;
use tar::Archive as Tar;

use super::check::Files;
use super::pack::TEXT_BYTES;

/// The most bytes that a bundle may unpack to, as in the worker.
const UNPACKED_BYTES: u64 = 1 << 30;

/// The most bytes of a file that are read. The worker has its own limit, `max_body_mb`, and reports it.
const PACKED_BYTES: u64 = 4 << 30;

/// The files whose content is checked.
const READ: [&str; 3] = ["ol.yaml", ".env", "requirements.txt"];

/// A packed function.
pub(super) struct Archive {
    bytes: Vec<u8>,
    files: BTreeSet<PathBuf>,
    texts: BTreeMap<PathBuf, Vec<u8>>,
}

impl Archive {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let unread = || format!("failed to read {}; check that you may", path.display());
        let mut bytes = Vec::new();
        let file = open_regular(path).with_context(unread)?;
        file.take(PACKED_BYTES)
            .read_to_end(&mut bytes)
            .with_context(unread)?;
        let mut archive = Self {
            bytes: Vec::new(),
            files: BTreeSet::new(),
            texts: BTreeMap::new(),
        };
        archive.list(&bytes).with_context(|| {
            format!(
                "{} is no tar.gz that can be read; pack it anew, or give the directory",
                path.display()
            )
        })?;
        archive.bytes = bytes;
        Ok(archive)
    }

    fn list(&mut self, bytes: &[u8]) -> Result<()> {
        let unpacked = MultiGzDecoder::new(bytes).take(UNPACKED_BYTES);
        let mut tar = Tar::new(unpacked);
        for entry in tar.entries()? {
            let mut entry = entry?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            // `tar -C DIR -cz .` writes ./f.py; to the worker, this is f.py.
            let path: PathBuf = entry
                .path()?
                .components()
                .filter(|part| *part != Component::CurDir)
                .collect();
            if READ.iter().any(|name| path == Path::new(name)) {
                let mut content = Vec::new();
                { &mut entry }.take(TEXT_BYTES).read_to_end(&mut content)?;
                self.texts.insert(path.clone(), content);
            }
            self.files.insert(path);
        }
        Ok(())
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn files(&self) -> usize {
        self.files.len()
    }
}

impl Files for Archive {
    fn has_file(&self, name: &str) -> bool {
        self.files.contains(Path::new(name))
    }

    fn text(&self, name: &str) -> Result<Option<String>> {
        let Some(bytes) = self.texts.get(Path::new(name)) else {
            return Ok(None);
        };
        let text = String::from_utf8(bytes.clone());
        text.map(Some)
            .with_context(|| format!("failed to read {name} as text"))
    }
}
