//! The buffer into which the responses of servers are read: its size and its memory.
//!
//! The memory is charged to the account of the client. Without room in the budget little is read at
//! a time, and nothing ahead of the client. A buffer begins small, and grows for servers that fill
//! it.
//!
//! Bytes that leave the buffer may wait long for a slow client. They are copied where they would
//! keep an allocation twice as long as they are.

use std::ops::Deref;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use crate::front::client_limits::memory_budget::{Account, Reservation, Resource, SMALL};
use crate::front::upstream::compact::{compact, is_short};

/// Size of the first read: a usual head with a small page.
pub const READ: usize = 16 << 10;
/// Most bytes of a read.
pub const READ_BODY: usize = 64 << 10;

/// Received bytes that have not been passed on.
pub struct ReadBuffer {
    bytes: BytesMut,
    /// Length of the allocation.
    allocated: usize,
    memory: Reservation,
    /// The last read filled the buffer.
    is_filled: bool,
}

impl ReadBuffer {
    /// An empty buffer of a client.
    pub fn new(account: Arc<Account>) -> Self {
        Self {
            bytes: BytesMut::new(),
            allocated: 0,
            memory: Reservation::none(account, Resource::Memory),
            is_filled: false,
        }
    }

    /// Makes room for a read of `most` bytes, or of fewer. Returns false without room in the budget:
    /// then there is some for [`SMALL`] bytes.
    pub fn make_room(&mut self, most: usize) -> bool {
        let wanted = match self.is_filled {
            true => READ_BODY.min(most),
            false => READ.min(most),
        };
        let length = self.bytes.len();
        let has_memory = self.memory.grow(length + wanted);
        let room = match has_memory {
            true => wanted,
            false => wanted.min(SMALL),
        };
        let spare = self.bytes.capacity() - length;
        if spare < room && !self.bytes.try_reclaim(room) {
            let mut fresh = BytesMut::with_capacity(length + room);
            fresh.extend_from_slice(&self.bytes);
            self.allocated = fresh.capacity();
            self.bytes = fresh;
            if !has_memory && length > 0 {
                // A head or a line of chunks that is longer than SMALL.
                self.memory.shrink(self.allocated);
                self.memory.hold(self.allocated);
            }
        }
        has_memory
    }

    /// The buffer to read into.
    pub fn for_read(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Called after a read.
    pub fn was_read(&mut self) {
        self.is_filled = self.bytes.len() == self.bytes.capacity();
    }

    /// Takes the first `length` bytes.
    pub fn take(&mut self, length: usize) -> Bytes {
        if is_short(length, self.allocated) {
            let bytes = Bytes::copy_from_slice(&self.bytes[..length]);
            self.bytes.advance(length);
            bytes
        } else {
            self.bytes.split_to(length).freeze()
        }
    }

    /// The same bytes, which were taken by [`ReadBuffer::for_read`].
    pub fn compact(&self, bytes: Bytes) -> Bytes {
        compact(bytes, self.allocated)
    }

    /// Returns the memory of a buffer that holds nothing: the client is waited for.
    pub fn release(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
            self.allocated = 0;
            self.memory.shrink(0);
        }
    }

    /// The bytes that were not taken.
    pub fn into_rest(self) -> Bytes {
        self.bytes.freeze()
    }
}

impl Deref for ReadBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(buffer: &mut ReadBuffer, bytes: usize) {
        buffer.for_read().extend_from_slice(&vec![b'x'; bytes]);
        buffer.was_read();
    }

    #[test]
    fn what_waits_keeps_no_allocation_much_longer_than_itself() {
        let mut buffer = ReadBuffer::new(Arc::new(Account::of_address()));
        assert!(buffer.make_room(READ_BODY));
        let memory = buffer.as_ptr();
        filled(&mut buffer, 100);
        let few = buffer.take(100);
        assert!(!(memory as usize..memory as usize + READ).contains(&(few.as_ptr() as usize)));
        // The buffer is used again, and grows when it was filled.
        assert!(buffer.make_room(READ_BODY));
        assert_eq!(buffer.as_ptr(), memory);
        filled(&mut buffer, READ);
        let many = buffer.take(READ);
        assert_eq!(many.as_ptr(), memory);
        assert!(buffer.make_room(READ_BODY));
        assert_eq!(buffer.memory.amount(), READ_BODY);
        buffer.release();
        assert_eq!(buffer.memory.amount(), 0);
    }

    #[test]
    fn without_room_in_the_budget_reads_are_short() {
        let account = Arc::new(Account::of_address());
        let _all = account.hold(Resource::Memory.pool().limit());
        let mut buffer = ReadBuffer::new(account);
        assert!(!buffer.make_room(READ_BODY));
        assert!(buffer.for_read().capacity() <= SMALL);
        filled(&mut buffer, SMALL);
        assert!(!buffer.make_room(READ_BODY));
        assert_eq!(buffer.len(), SMALL);
        assert!(buffer.for_read().capacity() <= 2 * SMALL);
    }
}
