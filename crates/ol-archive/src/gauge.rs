//! Limits how much is unpacked from an archive: gunzips it if it is packed, counts both sides, and stops a bomb early.
//!
//! The tar reader above turns every failure into an `io::Error` of its own, so the reason is noted here, beside the stream, where
//! `extract` can ask for it.

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::limits::ExtractLimits;

/// Below this much output the ratio isn't checked: small files of zeros compress 1000:1 and do no harm.
const RATIO_FREE_BYTES: u64 = 64 << 20;

/// Why the stream ended before the archive did.
#[derive(Debug)]
pub(super) enum Stop {
    /// The stored archive could not be read, which is the host's fault.
    Source(io::Error),
    /// The gzip stream ends before its proper end.
    CutShort,
    /// These bytes are not gzip, or its checksum is wrong.
    NotGzip,
    /// More bytes came out than `ExtractLimits::bytes`.
    Bytes,
    /// More bytes came out for each byte that went in than `ExtractLimits::ratio`.
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
    /// Takes the reason for the `io::Error` that the tar reader just returned, if that error began here.
    pub(super) fn take_stop(&self) -> Option<Stop> {
        self.stop.borrow_mut().take()
    }

    /// Whether the stream was read to its (proper) end.
    pub(super) fn ended(&self) -> bool {
        self.ended.get()
    }

    fn stop(&self, why: Stop) -> io::Error {
        // Only the first reason counts; later ones are its consequences.
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
    /// The stream of a tar.gz.
    pub(super) fn gzip(bundle: R, gauge: &'g Gauge, limits: &ExtractLimits) -> Self {
        let source = Source::buffered(bundle, gauge);
        Self::new(Stream::Gzip(MultiGzDecoder::new(source)), gauge, limits)
    }

    /// The stream of a plain tar.
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
            // A plain stream fails only if its source does, and the source has told the gauge its reason already.
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

/// The layer between the source and the tar reader.
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

/// The packed side: counts the bytes that go in, and notes if reading the stored archive fails.
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
                // Retried here, since not every layer above does that.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.gauge.stop(Stop::Source(error))),
            }
        }
    }
}
