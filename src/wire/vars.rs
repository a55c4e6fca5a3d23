//! Key/value blocks: `u16le key length, key, u16le value length, value`, repeated.
//!
//! This is the variables block of the uwsgi protocol (uWSGI manual, "The uwsgi Protocol"), used
//! towards an external uWSGI and towards our own workers alike. There is no count and no
//! terminator: the length comes with the message that carries the block.

use crate::{Malformed, malformed};

/// A pair was longer than the format's 16-bit lengths allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key or value of {length} bytes does not fit into a variables block (at most 65535)")]
pub struct TooLong {
    /// Length in bytes of the key or value that did not fit.
    pub length: usize,
}

/// Appends one pair to `block`.
///
/// # Errors
/// [`TooLong`] if the key or the value is longer than 65,535 bytes; `block` is unchanged.
pub fn push(block: &mut Vec<u8>, key: &[u8], value: &[u8]) -> Result<(), TooLong> {
    let key_length = length_of(key)?;
    let value_length = length_of(value)?;
    block.extend_from_slice(&key_length);
    block.extend_from_slice(key);
    block.extend_from_slice(&value_length);
    block.extend_from_slice(value);
    Ok(())
}

/// Walks over the pairs of a block, in order. Ends after the first malformed pair.
pub fn pairs(block: &[u8]) -> Pairs<'_> {
    Pairs { rest: block }
}

/// Iterator over the pairs of a block; see [`pairs`].
#[derive(Debug, Clone)]
pub struct Pairs<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let pair = take(self.rest)
            .and_then(|(key, rest)| take(rest).map(|(value, rest)| ((key, value), rest)));
        match pair {
            Some((pair, rest)) => {
                self.rest = rest;
                Some(Ok(pair))
            }
            None => {
                self.rest = &[];
                Some(Err(malformed("variables block", "ends inside a pair")))
            }
        }
    }
}

fn length_of(bytes: &[u8]) -> Result<[u8; 2], TooLong> {
    u16::try_from(bytes.len())
        .map(u16::to_le_bytes)
        .map_err(|_| TooLong {
            length: bytes.len(),
        })
}

fn take(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_block_reads_back_as_written(
            written in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), prop::collection::vec(any::<u8>(), 0..400)), 0..20)
        ) {
            let mut block = Vec::new();
            for (key, value) in &written {
                push(&mut block, key, value).unwrap();
            }
            let read: Vec<_> = pairs(&block).map(|pair| pair.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap()).collect();
            prop_assert_eq!(read, written);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic_and_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let errors = pairs(&bytes).filter(Result::is_err).count();
            prop_assert!(errors <= 1);
        }
    }

    #[test]
    fn a_value_over_the_limit_is_refused_and_leaves_the_block_alone() {
        let mut block = b"kept".to_vec();
        assert_eq!(
            push(&mut block, b"k", &vec![0; 65_536]),
            Err(TooLong { length: 65_536 })
        );
        assert_eq!(block, b"kept");
        push(&mut block, b"k", &vec![0; 65_535]).unwrap();
    }
}
