//! Compresses files once, in the background, on a thread of its own that yields to all
//! others. Which files, and what becomes of the result, is decided elsewhere.
//!
//! At most [`WAITING`] files wait; what comes while they do is left out, and is asked for
//! again with the next look at the file. The thread begins with the first file.

use std::io::{self, Write};
use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use brotli::enc::BrotliEncoderParams;

use super::negotiate::Coding;

/// The way to the thread.
#[derive(Debug, Default)]
pub(super) struct Background {
    jobs: OnceLock<Option<SyncSender<Job>>>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Background {
    /// Has `job` run on the thread, unless too many wait already.
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
            // Full: the file is asked for again.
            let _ = jobs.try_send(Box::new(job));
        }
    }
}

fn work(jobs: &Receiver<Job>) {
    // Of this thread alone: in Linux each has a priority of its own (setpriority(2)). If it
    // is refused, the thread competes like any other.
    let _ = rustix::process::setpriority_process(None, LOWEST_PRIORITY);
    for job in jobs {
        if std::panic::catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a static file stays uncompressed: the encoder panicked");
        }
    }
}

/// `bytes` in this coding. `None`: that does not pay, or we have no encoder.
pub(super) fn encode(bytes: &[u8], coding: Coding) -> Option<Vec<u8>> {
    let encoded = match coding {
        Coding::Brotli => brotli(bytes),
        Coding::Gzip => gzip(bytes),
        Coding::Zstd => return None,
    };
    // Writing to memory does not fail.
    encoded
        .ok()
        .filter(|encoded| encoded.len() < bytes.len() / 10 * 9)
}

fn brotli(mut bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoded = Vec::new();
    // No larger than the file: the encoder clears memory in proportion, which is most of its
    // work on a small one.
    let window_bits = (usize::BITS - bytes.len().leading_zeros()).clamp(10, 22);
    let params = BrotliEncoderParams {
        quality: BROTLI_QUALITY,
        lgwin: window_bits as i32,
        size_hint: bytes.len(),
        ..BrotliEncoderParams::default()
    };
    brotli::BrotliCompress(&mut bytes, &mut encoded, &params)?;
    Ok(encoded)
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// The best before those that take ten times as long for a tenth less (1 MiB of scripts:
/// 129 kB in 57 ms, with the next level 116 kB in 500 ms).
const BROTLI_QUALITY: i32 = 9;

/// As many files as a page of a large site brings along.
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
