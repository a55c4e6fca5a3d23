//! The header of shared memory: a magic word, then the sizes by which the side that laid it out
//! arranged the rest.

use std::sync::atomic::{AtomicU64, Ordering};

/// Writes the sizes, then the magic word that makes them valid.
pub(crate) fn write<const N: usize>(words: &[AtomicU64], magic: u64, sizes: [usize; N]) {
    for (word, size) in words[1..].iter().zip(sizes) {
        word.store(size as u64, Ordering::Relaxed);
    }
    words[0].store(magic, Ordering::Release);
}

/// Reads the sizes. `None` if the magic word is another one, or a size is larger than the number
/// of words.
pub(crate) fn read<const N: usize>(words: &[AtomicU64], magic: u64) -> Option<[usize; N]> {
    if words.len() <= N || words[0].load(Ordering::Acquire) != magic {
        return None;
    }
    let mut sizes = [0; N];
    for (size, word) in sizes.iter_mut().zip(&words[1..]) {
        *size = usize::try_from(word.load(Ordering::Relaxed)).ok()?;
    }
    sizes
        .iter()
        .all(|size| *size <= words.len())
        .then_some(sizes)
}
