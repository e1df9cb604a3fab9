//! How much may come out of an archive: gunzips it if it is packed, counts both sides, and stops a bomb early.
//!
//! The tar reader sits on top and turns every trouble into an `io::Error` of its own making, so the
//! reason is kept here, beside the stream, where `extract` can ask for it.

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::extract::ExtractLimits;

/// Below this much output the ratio isn't judged: small files of zeros compress 1000:1 and hurt nobody.
const RATIO_FREE_BYTES: u64 = 64 << 20;

/// Why the stream ended before the archive did.
#[derive(Debug)]
pub(super) enum Stop {
    /// The file under the gzip stream could not be read: the host's fault.
    Source(io::Error),
    /// The gzip stream ends in the middle.
    CutShort,
    /// These bytes are not gzip, or its checksum is wrong.
    NotGzip,
    /// More came out than `ExtractLimits::bytes`.
    Bytes,
    /// More came out per byte that went in than `ExtractLimits::ratio`.
    Ratio,
}

/// What is known of the stream while the tar reader owns it.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    went_in: Cell<u64>,
    came_out: Cell<u64>,
    ended: Cell<bool>,
    stop: RefCell<Option<Stop>>,
}

impl Gauge {
    /// The reason for the `io::Error` that just came up through the tar reader, if it began here.
    pub(super) fn take_stop(&self) -> Option<Stop> {
        self.stop.borrow_mut().take()
    }

    /// Whether the stream was read to its (proper) end.
    pub(super) fn ended(&self) -> bool {
        self.ended.get()
    }

    fn stop(&self, why: Stop) -> io::Error {
        // The first reason is the cause; what follows are its echoes.
        self.stop.borrow_mut().get_or_insert(why);
        io::Error::other("the bundle was stopped")
    }
}

/// The unpacked stream of an archive, under a [`Gauge`].
pub(super) struct Metered<'g, R: Read> {
    stream: Stream<BufReader<Source<'g, R>>>,
    gauge: &'g Gauge,
    bytes: u64,
    ratio: u64,
}

impl<'g, R: Read> Metered<'g, R> {
    /// Of a tar.gz.
    pub(super) fn gzip(bundle: R, gauge: &'g Gauge, limits: &ExtractLimits) -> Self {
        let source = Source::buffered(bundle, gauge);
        Self::new(Stream::Gzip(MultiGzDecoder::new(source)), gauge, limits)
    }

    /// Of a tar.
    pub(super) fn plain(archive: R, gauge: &'g Gauge, limits: &ExtractLimits) -> Self {
        let source = Source::buffered(archive, gauge);
        Self::new(Stream::Plain(source), gauge, limits)
    }

    fn new(
        stream: Stream<BufReader<Source<'g, R>>>,
        gauge: &'g Gauge,
        limits: &ExtractLimits,
    ) -> Self {
        Metered {
            stream,
            gauge,
            bytes: limits.bytes,
            ratio: limits.ratio,
        }
    }
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match self.stream.read(buffer) {
            Ok(0) if buffer.is_empty() => return Ok(0),
            Ok(0) => {
                self.gauge.ended.set(true);
                return Ok(0);
            }
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(self.gauge.stop(Stop::CutShort));
            }
            // A plain stream fails where its source does, which was first to tell the gauge.
            Err(_) => return Err(self.gauge.stop(Stop::NotGzip)),
        };
        let out = self.gauge.came_out.get() + read as u64;
        self.gauge.came_out.set(out);
        if out > self.bytes {
            return Err(self.gauge.stop(Stop::Bytes));
        }
        if out > RATIO_FREE_BYTES && out / self.ratio.max(1) > self.gauge.went_in.get() {
            return Err(self.gauge.stop(Stop::Ratio));
        }
        Ok(read)
    }
}

/// What lies between the source and the tar reader.
enum Stream<S> {
    Gzip(MultiGzDecoder<S>),
    Plain(S),
}

impl<S: BufRead> Read for Stream<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Gzip(gunzip) => gunzip.read(buffer),
            Stream::Plain(source) => source.read(buffer),
        }
    }
}

/// The packed side: counts what goes in, and tells a failing disk from a broken bundle.
struct Source<'g, R> {
    archive: R,
    gauge: &'g Gauge,
}

impl<'g, R: Read> Source<'g, R> {
    fn buffered(archive: R, gauge: &'g Gauge) -> BufReader<Self> {
        BufReader::with_capacity(64 << 10, Source { archive, gauge })
    }
}

impl<R: Read> Read for Source<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.archive.read(buffer) {
                Ok(read) => {
                    let went_in = self.gauge.went_in.get() + read as u64;
                    self.gauge.went_in.set(went_in);
                    return Ok(read);
                }
                // Not every layer above retries these.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.gauge.stop(Stop::Source(error))),
            }
        }
    }
}
