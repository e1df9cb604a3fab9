//! An archive's bytes, decompressed and counted.
//!
//! The tar reader above it replaces every error by its own, thus the original one is kept here for `unpack`.

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::unpack::UnpackError;

/// The most bytes of an unpacked image, to stop an archive that is made to fill the disk.
const MOST_BYTES: u64 = 32 << 30;

/// The plain archive, decompressed if it is gzip.
pub(super) fn decompressed<'a>(archive: impl Read + 'a) -> Result<Box<dyn Read + 'a>, UnpackError> {
    let mut archive = BufReader::with_capacity(256 << 10, archive);
    let start = archive.fill_buf().map_err(UnpackError::Read)?;
    for (magic, name) in [
        (&b"\x28\xb5\x2f\xfd"[..], "zstd"),
        (b"\xfd7zXZ", "xz"),
        (b"BZh", "bzip2"),
    ] {
        if start.starts_with(magic) {
            return Err(UnpackError::Compression(name));
        }
    }
    if start.starts_with(b"\x1f\x8b") {
        return Ok(Box::new(MultiGzDecoder::new(archive)));
    }
    Ok(Box::new(archive))
}

/// What is known about the stream while the tar reader owns it.
#[derive(Default)]
pub(super) struct Gauge {
    bytes: Cell<u64>,
    ended: Cell<bool>,
    error: RefCell<Option<io::Error>>,
}

impl Gauge {
    /// How many bytes were read so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Whether these are more than any image has.
    pub(super) fn is_too_much(&self) -> bool {
        self.bytes.get() > MOST_BYTES
    }

    /// Whether the stream was read to its end.
    pub(super) fn ended(&self) -> bool {
        self.ended.get()
    }

    /// The error behind the one that the tar reader just returned, if the stream caused it.
    pub(super) fn take_error(&self) -> Option<io::Error> {
        self.error.take()
    }
}

/// A stream that reports to a [`Gauge`].
pub(super) struct Metered<'g, R> {
    inner: R,
    gauge: &'g Gauge,
}

impl<'g, R> Metered<'g, R> {
    pub(super) fn new(inner: R, gauge: &'g Gauge) -> Self {
        Self { inner, gauge }
    }
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(read) => {
                self.gauge.bytes.set(self.gauge.bytes.get() + read as u64);
                if read == 0 && !buffer.is_empty() {
                    self.gauge.ended.set(true);
                }
                if self.gauge.is_too_much() {
                    return Err(io::Error::other("too much"));
                }
                Ok(read)
            }
            Err(error) => {
                let kind = error.kind();
                self.gauge.error.replace(Some(error));
                Err(kind.into())
            }
        }
    }
}
