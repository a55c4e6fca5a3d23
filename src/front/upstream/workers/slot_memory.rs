//! Resident memory of the slots of a queue: counted by the memory budget, and given back when it is
//! not needed any more.
//!
//! A slot has room for the longest request, but only pages to which a request was written are
//! resident. They would stay so after a burst of long bodies, since a memory file has no owner that
//! frees them. So all pages but the first of a slot are given back once the slot has been free for
//! two checks ([`super::audit`]).

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::front::client_limits::memory_budget::Resource;

const PAGE: usize = 4096;

/// The slots of one queue.
#[derive(Debug)]
pub(super) struct SlotMemory {
    slots: Box<[Slot]>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Resident bytes, whole pages.
    resident: AtomicUsize,
    /// More than the first page was written since the last check.
    is_recent: AtomicBool,
}

impl SlotMemory {
    /// Memory of which nothing is resident yet.
    pub(super) fn new(slots: usize) -> Self {
        Self {
            slots: (0..slots).map(|_| Slot::default()).collect(),
        }
    }

    /// Counts a request of `bytes` that was written to a slot, which its caller alone uses.
    pub(super) fn wrote(&self, slot: usize, bytes: usize) {
        let slot = &self.slots[slot];
        let bytes = bytes.next_multiple_of(PAGE);
        let before = slot.resident.load(Ordering::Relaxed);
        if bytes > before {
            slot.resident.store(bytes, Ordering::Relaxed);
            Resource::Memory.pool().add(bytes - before);
        }
        if bytes > PAGE {
            slot.is_recent.store(true, Ordering::Relaxed);
        }
    }

    /// Gives pages of the slots in `free`, which no request has during the call, back by
    /// `discard`: its arguments are a slot and a range of bytes in it.
    pub(super) fn give_back(&self, free: &[usize], discard: impl Fn(usize, Range<usize>) -> bool) {
        for &at in free {
            let slot = &self.slots[at];
            let resident = slot.resident.load(Ordering::Relaxed);
            let is_recent = slot.is_recent.swap(false, Ordering::Relaxed);
            if resident > PAGE && !is_recent && discard(at, PAGE..resident) {
                slot.resident.store(PAGE, Ordering::Relaxed);
                Resource::Memory.pool().take(resident - PAGE);
            }
        }
    }

    /// Resident bytes of all slots.
    pub(super) fn resident(&self) -> usize {
        let resident = |slot: &Slot| slot.resident.load(Ordering::Relaxed);
        self.slots.iter().map(resident).sum()
    }
}

impl Drop for SlotMemory {
    fn drop(&mut self) {
        Resource::Memory.pool().take(self.resident());
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn pages_are_given_back_when_their_slot_was_free_for_two_checks() {
        let memory = SlotMemory::new(3);
        let given = RefCell::new(Vec::new());
        let check = |free: &[usize]| {
            memory.give_back(free, |slot, bytes| {
                given.borrow_mut().push((slot, bytes));
                true
            });
            std::mem::take(&mut *given.borrow_mut())
        };
        memory.wrote(0, 100);
        memory.wrote(1, 65_000);
        memory.wrote(2, 5000);
        assert_eq!(memory.resident(), 4096 + 65_536 + 8192);
        assert_eq!(check(&[0, 1]), []);
        memory.wrote(1, 100);
        assert_eq!(check(&[0, 1]), [(1, 4096..65_536)]);
        assert_eq!(check(&[0, 1]), []);
        assert_eq!(memory.resident(), 4096 + 4096 + 8192);
        // It is used again, and was not free before.
        memory.wrote(1, 9000);
        assert_eq!(check(&[1, 2]), []);
        assert_eq!(check(&[1, 2]), [(1, 4096..12_288), (2, 4096..8192)]);
    }

    #[test]
    fn what_the_system_refuses_to_take_stays_counted() {
        let memory = SlotMemory::new(1);
        memory.wrote(0, 5000);
        for _ in 0..3 {
            memory.give_back(&[0], |_, _| false);
        }
        assert_eq!(memory.resident(), 8192);
    }
}
