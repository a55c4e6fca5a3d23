//! The queue and the replies as a worker may leave them: any words before the bytes themselves. The
//! front finds out, or goes on by its own account; it neither panics nor loops.

use std::sync::atomic::{AtomicU64, Ordering};

use pyserve_wire::reply_ring::{CAPACITY, Replies};
use pyserve_wire::request_ring::{Handed, PushError, RequestRing};

const THREADS: usize = 70;

/// The first byte is the front's own account, the others are the words.
pub fn run(input: &[u8]) {
    let Some((account, rest)) = input.split_first() else {
        return;
    };
    let words: Vec<_> = rest
        .chunks(8)
        .map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        })
        .collect();
    requests(u64::from(*account), &words);
    replies(u64::from(*account) * 8, &words);
}

fn requests(tail: u64, overwritten: &[u64]) {
    let memory = memory(RequestRing::size(THREADS, 1), 0, overwritten);
    let ring = RequestRing::over(&memory, THREADS, 1);
    let head = memory[16].load(Ordering::Relaxed);
    let handed = Handed {
        seq: 1 << 40,
        entry: 0,
        has_descriptor: true,
    };
    let capacity = ring.capacity() as u64;
    match ring.push(tail, handed) {
        Ok(pushed) => {
            assert_eq!(pushed, tail + 1);
            assert!(head <= tail && tail - head < capacity);
            let popped = (0..capacity).map_while(|_| ring.pop());
            assert_eq!(popped.last(), Some(handed), "behind what was there");
            assert!(ring.is_drained(pushed) && ring.pop().is_none());
        }
        Err(PushError::Full) => assert_eq!(tail - head, capacity),
        Err(PushError::Damaged) => assert!(head > tail || tail - head > capacity),
    }
    assert!(ring.pending(tail + 1) <= ring.capacity());
    // Each waiting thread is chosen once.
    let chosen = (0..=THREADS).map_while(|_| ring.choose_waiting(tail as usize % 4));
    assert!(chosen.count() <= THREADS);
    let _either = (ring.is_intact(tail, false), ring.has_waiting());
    if let Ok(header) = ring.header(0) {
        let mut vars = Vec::new();
        ring.read_vars(0, &header, &mut vars);
        assert!(size_of_val(ring.body(0, &header)) >= header.inline_len());
    }
}

fn replies(read: u64, overwritten: &[u64]) {
    // Behind the page of the whole worker.
    let memory = memory(Replies::size(1), 512, overwritten);
    let ring = Replies::over(&memory, 1).ring(0);
    let written = memory[512].load(Ordering::Relaxed);
    match ring.unread(read, 1000) {
        Ok(parts) => {
            let length: usize = parts.into_iter().map(size_of_val).sum();
            assert!(length as u64 <= written - read && length <= 1000);
        }
        Err(_) => {
            assert!(
                written < read
                    || written - read > CAPACITY as u64
                    || !(written - read).is_multiple_of(8)
            )
        }
    }
    let _either = ring.free(read);
}

/// Zeroed memory with some words overwritten.
fn memory(bytes: usize, from: usize, overwritten: &[u64]) -> Vec<AtomicU64> {
    let words: Vec<_> = (0..bytes / 8).map(|_| AtomicU64::new(0)).collect();
    for (word, value) in words[from..].iter().zip(overwritten) {
        word.store(*value, Ordering::Relaxed);
    }
    words
}
