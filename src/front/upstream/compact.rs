//! Received bytes that may wait long for a slow client, and the allocation that they keep.

use bytes::Bytes;

/// True if bytes of this length are worth a copy: their allocation is more than twice as long.
pub(super) fn is_short(length: usize, allocated: usize) -> bool {
    length < allocated / 2
}

/// The same bytes, copied if they are short for an allocation of `allocated` bytes.
pub(super) fn compact(bytes: Bytes, allocated: usize) -> Bytes {
    match is_short(bytes.len(), allocated) {
        true => Bytes::copy_from_slice(&bytes),
        false => bytes,
    }
}
