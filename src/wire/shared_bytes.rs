//! Bytes in words of shared memory, which another process may change at any moment: each word is
//! written and read as a whole.
//!
//! This is for the few bytes of headers and variables. The owners of the mappings copy bodies and
//! replies faster, with the unsafe code that this crate does not have; they pass their function to
//! [`RequestRing::write`](crate::request_ring::RequestRing::write) and
//! [`ReplyRing::write`](crate::reply_ring::ReplyRing::write).

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a word.
pub(crate) const WORD: usize = size_of::<u64>();
/// Words of a cache line, which are copied without a branch between them.
const LINE: usize = 8;

/// Writes bytes into words; those of the last word that are beyond them become zero.
///
/// # Panics
/// If there are fewer words than the bytes need.
pub fn copy_in(words: &[AtomicU64], bytes: &[u8]) {
    let (chunks, rest) = bytes.as_chunks::<WORD>();
    let (first, last) = words.split_at(chunks.len());
    let (lines, few) = first.as_chunks::<LINE>();
    let (chunk_lines, few_chunks) = chunks.as_chunks::<LINE>();
    for (words, chunks) in lines.iter().zip(chunk_lines) {
        for at in 0..LINE {
            words[at].store(u64::from_le_bytes(chunks[at]), Ordering::Relaxed);
        }
    }
    for (word, chunk) in few.iter().zip(few_chunks) {
        word.store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
    }
    if !rest.is_empty() {
        let mut bytes = [0; WORD];
        bytes[..rest.len()].copy_from_slice(rest);
        last[0].store(u64::from_le_bytes(bytes), Ordering::Relaxed);
    }
}

/// Reads bytes from words.
///
/// # Panics
/// As [`copy_in`].
pub fn copy_out(words: &[AtomicU64], bytes: &mut [u8]) {
    let (chunks, rest) = bytes.as_chunks_mut::<WORD>();
    let (first, last) = words.split_at(chunks.len());
    let (lines, few) = first.as_chunks::<LINE>();
    let (chunk_lines, few_chunks) = chunks.as_chunks_mut::<LINE>();
    for (words, chunks) in lines.iter().zip(chunk_lines) {
        for at in 0..LINE {
            chunks[at] = words[at].load(Ordering::Relaxed).to_le_bytes();
        }
    }
    for (word, chunk) in few.iter().zip(few_chunks) {
        *chunk = word.load(Ordering::Relaxed).to_le_bytes();
    }
    if !rest.is_empty() {
        let bytes = last[0].load(Ordering::Relaxed).to_le_bytes();
        rest.copy_from_slice(&bytes[..rest.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_every_length_read_back_and_leave_the_words_behind_them_alone() {
        for length in 0..200 {
            let words: Vec<_> = (0..30).map(|_| AtomicU64::new(u64::MAX)).collect();
            let bytes: Vec<_> = (0..length).map(|at| at as u8 ^ 0x5A).collect();
            copy_in(&words, &bytes);
            let mut read = vec![0; length];
            copy_out(&words, &mut read);
            assert_eq!(read, bytes);
            let behind = &words[length.div_ceil(WORD)..];
            let is_untouched = |word: &AtomicU64| word.load(Ordering::Relaxed) == u64::MAX;
            assert!(behind.iter().all(is_untouched), "{length}");
        }
    }
}
