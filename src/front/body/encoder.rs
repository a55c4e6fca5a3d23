//! Content codings of dynamic responses: fast settings, a small window, and a flush whenever the
//! application pauses.
//!
//! Measured with 30 KB of JSON, µs of CPU and bytes: gzip 4 130 and 4,626, zstd 3 61 and 4,226,
//! zstd 1 52 and 4,122, brotli 3 168 and 4,318, brotli 4 250 and 4,278. [`super::negotiate`]
//! selects the coding; files are compressed once, at higher levels, by
//! [`crate::front::static_files`].

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use brotli::CompressorWriter;
use bytes::Bytes;
use flate2::write::GzEncoder;

use super::negotiate::Coding;
use crate::front::client_limits::memory_budget::{Account, Reservation, Resource};
use crate::front::sendfile::file_pool::FilePool;

/// Codings in the order of preference at equal weight: the cheapest first.
pub const PREFERRED: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

/// The threads that encode, and the limit of the bodies encoded on the connection's own thread.
#[derive(Debug, Clone)]
pub struct Encoders {
    /// Threads for long bodies, separate from those for the disk, so that no body waits for a disk.
    pub pool: FilePool,
    streams: Arc<AtomicUsize>,
}

impl Encoders {
    /// Number of threads that encode. Each encodes some 400 MB/s with zstd.
    pub const THREADS: usize = 4;

    /// Takes one of [`STREAMS`] slots; `None`: all are taken, or the memory budget has no room.
    pub fn stream(&self, coding: Coding, account: &Arc<Account>) -> Option<Slot> {
        let memory = account.try_reserve(Resource::Memory, memory(coding))?;
        let more = |streams: usize| (streams < STREAMS).then_some(streams + 1);
        let taken = self
            .streams
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.ok().map(|_| Slot {
            streams: Arc::clone(&self.streams),
            _memory: memory,
        })
    }
}

impl Default for Encoders {
    fn default() -> Self {
        Self {
            pool: FilePool::new(Self::THREADS),
            streams: Arc::default(),
        }
    }
}

/// Held while a stream is being encoded.
#[derive(Debug)]
pub struct Slot {
    streams: Arc<AtomicUsize>,
    _memory: Reservation,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns all of `bytes` in this coding.
///
/// # Errors
/// The encoder's error; there is none as long as it writes to memory.
pub fn whole(bytes: &[u8], coding: Coding) -> io::Result<Bytes> {
    if coding == Coding::Zstd {
        // This function knows the length, and sizes its tables accordingly.
        return zstd::bulk::compress(bytes, ZSTD_WHOLE).map(Bytes::from);
    }
    let mut encoder = Encoder::new(coding)?;
    encoder.write(bytes)?;
    encoder.finish()
}

/// Encodes a stream.
pub struct Encoder(Inner);

enum Inner {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    /// Creates an encoder for this coding.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(coding: Coding) -> io::Result<Self> {
        let out = Vec::new();
        Ok(Self(match coding {
            Coding::Gzip => Inner::Gzip(GzEncoder::new(out, flate2::Compression::new(GZIP))),
            Coding::Brotli => Inner::Brotli(Box::new(CompressorWriter::new(
                out,
                4096,
                BROTLI,
                WINDOW_BITS,
            ))),
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(out, ZSTD_STREAM)?;
                encoder.window_log(WINDOW_BITS)?;
                Inner::Zstd(encoder)
            }
        }))
    }

    /// Encodes `bytes`; the output may be available only after later calls.
    ///
    /// # Errors
    /// The encoder's error.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.0 {
            Inner::Gzip(encoder) => encoder.write_all(bytes),
            Inner::Brotli(encoder) => encoder.write_all(bytes),
            Inner::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    /// Flushes, so that the client can decode everything written so far.
    ///
    /// # Errors
    /// The encoder's error.
    pub fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Inner::Gzip(encoder) => encoder.flush(),
            Inner::Brotli(encoder) => encoder.flush(),
            Inner::Zstd(encoder) => encoder.flush(),
        }
    }

    /// Length of the output that is ready.
    pub fn ready(&self) -> usize {
        match &self.0 {
            Inner::Gzip(encoder) => encoder.get_ref().len(),
            Inner::Brotli(encoder) => encoder.get_ref().len(),
            Inner::Zstd(encoder) => encoder.get_ref().len(),
        }
    }

    /// Takes the output that is ready.
    pub fn take(&mut self) -> Bytes {
        let out = match &mut self.0 {
            Inner::Gzip(encoder) => encoder.get_mut(),
            Inner::Brotli(encoder) => encoder.get_mut(),
            Inner::Zstd(encoder) => encoder.get_mut(),
        };
        Bytes::from(std::mem::take(out))
    }

    /// Ends the stream and returns the remaining output.
    ///
    /// # Errors
    /// The encoder's error.
    pub fn finish(self) -> io::Result<Bytes> {
        let out = match self.0 {
            Inner::Gzip(encoder) => encoder.finish()?,
            Inner::Brotli(encoder) => encoder.into_inner(),
            Inner::Zstd(encoder) => encoder.finish()?,
        };
        Ok(Bytes::from(out))
    }
}

const GZIP: u32 = 4;
const BROTLI: u32 = 3;
const ZSTD_WHOLE: i32 = 3;
/// Level 1 has tables of some 100 KB where level 3 has a megabyte.
const ZSTD_STREAM: i32 = 1;
/// 128 KiB: larger windows do not pay for generated text.
const WINDOW_BITS: u32 = 17;

/// Memory of a stream's encoder, which it holds for as long as its client reads. Measured as the
/// resident set of 64 streams that are flushed after every piece: brotli allocates anew for each,
/// and the allocator keeps what its threads have freed.
fn memory(coding: Coding) -> usize {
    match coding {
        Coding::Gzip => 768 << 10,
        Coding::Zstd => 512 << 10,
        Coding::Brotli => 6 << 20,
    }
}

/// Most streams encoded at a time.
const STREAMS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;

    fn decode(mut encoded: &[u8], coding: Coding) -> Vec<u8> {
        let mut bytes = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(encoded).read_to_end(&mut bytes),
            Coding::Brotli => brotli::Decompressor::new(encoded, 4096).read_to_end(&mut bytes),
            Coding::Zstd => zstd::stream::copy_decode(&mut encoded, &mut bytes).map(|()| 0),
        }
        .unwrap();
        bytes
    }

    #[test]
    fn streams_are_counted() {
        let encoders = Encoders::default();
        let account = Arc::new(Account::of_address());
        let one = || encoders.stream(Coding::Gzip, &account);
        let all: Vec<_> = std::iter::from_fn(one).collect();
        assert_eq!(all.len(), STREAMS);
        drop(all);
        assert!(one().is_some());
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_the_same_however_it_is_split(
            pieces in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), 1usize..40, any::<bool>()), 0..6)
        ) {
            for coding in Coding::ALL {
                let mut encoder = Encoder::new(coding).unwrap();
                let (mut encoded, mut bytes) = (Vec::new(), Vec::new());
                for (piece, times, flush) in &pieces {
                    let piece = piece.repeat(*times);
                    encoder.write(&piece).unwrap();
                    bytes.extend(piece);
                    if *flush {
                        encoder.flush().unwrap();
                        encoded.extend_from_slice(&encoder.take());
                    }
                }
                encoded.extend_from_slice(&encoder.finish().unwrap());
                prop_assert_eq!(decode(&encoded, coding), &bytes[..]);
                let once = whole(&bytes, coding).unwrap();
                prop_assert_eq!(decode(&once, coding), &bytes[..]);
            }
        }
    }
}
