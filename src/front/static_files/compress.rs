//! Compresses files once, in the background, on a thread of low priority. The caller selects the
//! files and keeps the results.
//!
//! One file at a time, regardless of its size, with an encoder of bounded memory that is freed
//! afterwards: in a small container the memory of an idle encoder matters.
//!
//! At most [`WAITING`] files wait; further ones are dropped, and requested again at the next lookup
//! of the file. The thread starts with the first file.

use parking_lot::Mutex;
use std::io::{self, Write};
use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;

use super::negotiate::Coding;
use crate::os::memory;

/// The queue of the thread.
#[derive(Debug, Default)]
pub(super) struct Background {
    jobs: OnceLock<Option<SyncSender<Job>>>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Background {
    /// Runs `job` on the thread, unless too many wait already.
    pub(super) fn submit(&self, job: impl FnOnce() + Send + 'static) {
        let jobs = self.jobs.get_or_init(|| {
            let (sender, receiver) = sync_channel(WAITING);
            let thread = std::thread::Builder::new().name("compress".to_owned());
            match thread.spawn(move || work(&receiver)) {
                Ok(_) => Some(sender),
                Err(error) => {
                    tracing::warn!(%error, "static files stay uncompressed: cannot start a thread");
                    None
                }
            }
        });
        if let Some(jobs) = jobs {
            // Full: the file is requested again.
            let _ = jobs.try_send(Box::new(job));
        }
    }
}

fn work(jobs: &Receiver<Job>) {
    // Of this thread only: in Linux each has a priority of its own (setpriority(2)). If it is
    // refused, the thread competes like any other.
    let _ = rustix::process::setpriority_process(None, LOWEST_PRIORITY);
    for job in jobs {
        // After a change of settings a new thread starts, while the previous one may still run.
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock();
        if std::panic::catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a static file stays uncompressed: the encoder panicked");
        }
        memory::give_back();
    }
}

/// Encodes `bytes` in this coding. `None`: it does not pay, or there is no encoder.
pub(super) fn encode(bytes: &[u8], coding: Coding) -> Option<Vec<u8>> {
    let encoded = match coding {
        Coding::Brotli => brotli(bytes),
        Coding::Gzip => gzip(bytes),
        Coding::Zstd => return None,
    };
    // Writing to memory does not fail.
    let mut encoded = encoded.ok()?;
    encoded.shrink_to_fit();
    Some(encoded).filter(|encoded| encoded.len() < bytes.len() / 10 * 9)
}

fn brotli(bytes: &[u8]) -> io::Result<Vec<u8>> {
    // No larger than the file, as far as that saves memory: below 17 bits the encoder uses another
    // way to look for repetitions, with tables of 32 MB.
    let window_bits = (usize::BITS - bytes.len().leading_zeros()).clamp(17, 21);
    let params = BrotliEncoderParams {
        quality: BROTLI_QUALITY,
        lgwin: window_bits as i32,
        size_hint: bytes.len(),
        ..BrotliEncoderParams::default()
    };
    let mut encoder = CompressorWriter::with_params(Vec::new(), BUFFER, &params);
    for (index, piece) in bytes.chunks(BLOCK).enumerate() {
        // Output that is still inside an encoder takes several times its size.
        if index > 0 {
            encoder.flush()?;
        }
        encoder.write_all(piece)?;
    }
    Ok(encoder.into_inner())
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Of Wagtail's scripts, those of 61 and 669 kB become 18.8 and 160 kB and take 11 and 17 MB of
/// memory; with quality 9 18.2 and 157 kB, 43 and 49 MB, and twice the time.
const BROTLI_QUALITY: i32 = 6;

/// Bytes that are encoded together. 4 MiB in one piece take 10 MB more, to become 1 % smaller.
const BLOCK: usize = 256 * 1024;

/// Size of the encoder's output buffer.
const BUFFER: usize = 64 * 1024;

/// Number of files of one page of a large site.
const WAITING: usize = 256;

const LOWEST_PRIORITY: i32 = 19;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;
    use std::sync::mpsc::channel;

    fn decode(encoded: &[u8], coding: Coding) -> Vec<u8> {
        let mut bytes = Vec::new();
        match coding {
            Coding::Brotli => brotli::Decompressor::new(encoded, 4096).read_to_end(&mut bytes),
            _ => flate2::read::GzDecoder::new(encoded).read_to_end(&mut bytes),
        }
        .unwrap();
        bytes
    }

    #[test]
    fn text_becomes_smaller_and_noise_stays() {
        let text = "body { margin: 0 }\n".repeat(1000);
        let noise: Vec<u8> = (0..4000u32)
            .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        for coding in [Coding::Brotli, Coding::Gzip] {
            let encoded = encode(text.as_bytes(), coding).unwrap();
            assert!(encoded.len() < text.len() / 10);
            assert_eq!(decode(&encoded, coding), text.as_bytes());
            assert!(encode(b"", coding).is_none());
            if let Some(encoded) = encode(&noise, coding) {
                assert_eq!(decode(&encoded, coding), noise);
            }
        }
        assert!(encode(text.as_bytes(), Coding::Zstd).is_none());
    }

    #[test]
    fn a_panic_costs_one_file() {
        let background = Background::default();
        let (done, wait) = channel();
        background.submit(|| panic!("expected"));
        background.submit(move || done.send(()).unwrap());
        wait.recv().unwrap();
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_the_same(
            piece in prop::collection::vec(any::<u8>(), 1..200), times in 1usize..50
        ) {
            let bytes = piece.repeat(times);
            for coding in [Coding::Brotli, Coding::Gzip] {
                if let Some(encoded) = encode(&bytes, coding) {
                    prop_assert_eq!(decode(&encoded, coding), &bytes[..]);
                }
            }
        }
    }
}
