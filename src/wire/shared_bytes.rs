//! Bytes in words of shared memory, which another process may change at any moment: each word is
//! written and read as a whole.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a word.
pub(crate) const WORD: usize = size_of::<u64>();

/// Writes bytes into words; those of the last word that are beyond them become zero.
///
/// # Panics
/// If there are fewer words than the bytes need.
pub(crate) fn copy_in(words: &[AtomicU64], bytes: &[u8]) {
    let (whole, rest) = bytes.as_chunks::<WORD>();
    let (first, last) = words.split_at(whole.len());
    for (word, chunk) in first.iter().zip(whole) {
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
pub(crate) fn copy_out(words: &[AtomicU64], bytes: &mut [u8]) {
    let (whole, rest) = bytes.as_chunks_mut::<WORD>();
    let (first, last) = words.split_at(whole.len());
    for (word, chunk) in first.iter().zip(whole) {
        *chunk = word.load(Ordering::Relaxed).to_le_bytes();
    }
    if !rest.is_empty() {
        let bytes = last[0].load(Ordering::Relaxed).to_le_bytes();
        rest.copy_from_slice(&bytes[..rest.len()]);
    }
}
