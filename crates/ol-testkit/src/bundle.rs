//! Functions as `.tar.gz`.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write as _;
use tar::{Builder, EntryType, Header};

/// A bundle of these files: name and content.
#[must_use]
pub fn bundle(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, name, content.as_bytes())
            .expect("written to memory");
    }
    gzip(&archive.into_inner().expect("written to memory"))
}

/// A bundle with a valid `f.py` and one more member as given, which no honest tar program would write.
#[must_use]
pub fn with_member(name: &str, kind: EntryType, target: &str, content: &[u8]) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    let mut append = |name: &str, kind: EntryType, target: &str, content: &[u8]| {
        let mut header = Header::new_ustar();
        let bytes = header.as_mut_bytes();
        // The tar crate refuses some of these names, thus they are written into the header directly.
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        bytes[157..157 + target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive.append(&header, content).expect("written to memory");
    };
    append(
        "f.py",
        EntryType::Regular,
        "",
        b"def f(event):\n    return event\n",
    );
    append(name, kind, target, content);
    gzip(&archive.into_inner().expect("written to memory"))
}

/// `bytes`, compressed.
#[must_use]
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("written to memory");
    encoder.finish().expect("written to memory")
}
