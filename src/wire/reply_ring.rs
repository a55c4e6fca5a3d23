//! The layout of the shared memory through which one worker sends its replies: a ring of bytes for
//! each of its threads. No other worker maps it.
//!
//! ```text
//! word 0          magic and version
//! word 1          threads
//! word 8          the front sleeps: a worker that has written rings the doorbell
//! page-aligned    one ring per thread:
//!   word 0        bytes written, by the thread
//!   word 8        bytes read, by the front
//!   word 16       the thread waits for room
//!   word 24       the futex on which it waits: the first four bytes
//!   from word 512 the bytes, see crate::frames
//! ```
//!
//! Bytes are written and read in whole words; frames have such lengths. The front keeps its own
//! account of what it has read, bounds what the worker has written, and copies bytes out before it
//! parses them.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::shared_bytes::WORD;
use crate::{Malformed, malformed, shared_header};

const MAGIC: u64 = u64::from_le_bytes(*b"pysrepl\x01");
const LINE: usize = 8;
const SLEEPS: usize = LINE;
const READ: usize = LINE;
const WAITS: usize = 2 * LINE;
const FUTEX: usize = 3 * LINE;
const PAGE: usize = 4096 / WORD;

/// Bytes that a ring holds: a whole page with its frames several times.
pub const CAPACITY: usize = 256 << 10;
/// Bytes that are written at once or not at all.
pub const WHOLE: usize = CAPACITY / 2;
const RING: usize = PAGE + CAPACITY / WORD;

/// The memory of one worker.
#[derive(Debug, Clone, Copy)]
pub struct Replies<'a> {
    words: &'a [AtomicU64],
    threads: usize,
}

/// The ring of one thread.
#[derive(Debug, Clone, Copy)]
pub struct ReplyRing<'a> {
    words: &'a [AtomicU64],
}

impl<'a> Replies<'a> {
    /// Bytes that the rings of so many threads take.
    pub fn size(threads: usize) -> usize {
        (PAGE + threads * RING) * WORD
    }

    /// Lays out fresh, zeroed memory.
    ///
    /// # Panics
    /// If `words` is smaller than [`Replies::size`].
    pub fn create(words: &'a [AtomicU64], threads: usize) -> Self {
        let replies = Self::over(words, threads);
        shared_header::write(words, MAGIC, [threads]);
        replies
    }

    /// The same memory again, by the side that laid it out.
    ///
    /// # Panics
    /// If `words` is smaller than [`Replies::size`].
    pub fn over(words: &'a [AtomicU64], threads: usize) -> Self {
        assert!(
            size_of_val(words) >= Self::size(threads),
            "reply memory too small"
        );
        Self { words, threads }
    }

    /// Opens memory that the other side laid out. `None` if it is not for replies.
    pub fn open(words: &'a [AtomicU64]) -> Option<Self> {
        let [threads] = shared_header::read(words, MAGIC)?;
        (size_of_val(words) >= Self::size(threads)).then_some(Self { words, threads })
    }

    /// Number of rings.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The ring of a thread of this worker.
    ///
    /// # Panics
    /// If there is no such thread.
    pub fn ring(&self, thread: usize) -> ReplyRing<'a> {
        assert!(thread < self.threads, "no such thread in the reply memory");
        let start = PAGE + thread * RING;
        ReplyRing {
            words: &self.words[start..start + RING],
        }
    }

    /// Front: it is about to sleep, and looks at all rings once more before it does; or it is awake.
    pub fn set_sleeps(&self, sleeps: bool) {
        self.words[SLEEPS].store(u64::from(sleeps), Ordering::SeqCst);
    }

    /// Worker, after a write: true if the front is to be woken.
    #[must_use]
    pub fn must_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        let sleeps = &self.words[SLEEPS];
        sleeps.load(Ordering::SeqCst) != 0 && sleeps.swap(0, Ordering::SeqCst) != 0
    }
}

impl<'a> ReplyRing<'a> {
    /// Thread: writes the first bytes of `bytes` for which there is room, and returns how many: all
    /// or none if they are at most [`WHOLE`]. The length is one of whole words. `copy` writes a piece.
    pub fn write(&self, bytes: &[u8], copy: impl Fn(&[AtomicU64], &[u8])) -> usize {
        let written = self.words[0].load(Ordering::Relaxed);
        let length = match self.room(written) {
            room if room < bytes.len() && bytes.len() <= WHOLE => 0,
            room => room.min(bytes.len()),
        };
        let start = written as usize % CAPACITY / WORD;
        let data = &self.words[PAGE..];
        let (first, second) = bytes[..length].split_at(length.min(CAPACITY - start * WORD));
        copy(&data[start..], first);
        copy(data, second);
        // A reader of the new number sees the bytes.
        self.words[0].store(written + length as u64, Ordering::Release);
        length
    }

    /// Thread: announces that it waits for room; it looks once more before it does.
    pub fn announce_wait(&self) {
        self.words[WAITS].store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Thread: true if [`ReplyRing::write`] of so many bytes writes something.
    pub fn has_room(&self, length: usize) -> bool {
        let needed = if length <= WHOLE { length } else { WORD };
        self.room(self.words[0].load(Ordering::Relaxed)) >= needed
    }

    /// The futex on which the thread waits for room: its first four bytes.
    pub fn futex(&self) -> &'a AtomicU64 {
        &self.words[FUTEX]
    }

    /// Front: the number of bytes written, as the worker says.
    pub fn written(&self) -> u64 {
        self.words[0].load(Ordering::Acquire)
    }

    /// Front: the words behind the first `read` bytes that have been written, at most `most` bytes of
    /// them. The second part follows the first. Both stay readable until [`ReplyRing::free`].
    ///
    /// # Errors
    /// [`Malformed`] if the worker says it has written what it cannot have.
    pub fn unread(&self, read: u64, most: usize) -> Result<[&'a [AtomicU64]; 2], Malformed> {
        const WHAT: &str = "reply ring";
        let written = self.written();
        let unread = written
            .checked_sub(read)
            .filter(|unread| *unread <= CAPACITY as u64)
            .ok_or(malformed(WHAT, "more written than fits"))? as usize;
        if !unread.is_multiple_of(WORD) {
            return Err(malformed(WHAT, "a part of a word written"));
        }
        let length = unread.min(most) / WORD;
        let start = read as usize % CAPACITY / WORD;
        let data = &self.words[PAGE..];
        let until_end = length.min(data.len() - start);
        Ok([&data[start..start + until_end], &data[..length - until_end]])
    }

    /// Front: gives room back after it has read so many bytes in all. True if the thread waits for
    /// it and is to be woken, which is left for later while little is free.
    #[must_use]
    pub fn free(&self, read: u64) -> bool {
        self.words[READ].store(read, Ordering::Release);
        fence(Ordering::SeqCst);
        let waits = &self.words[WAITS];
        let unread = self.written().wrapping_sub(read);
        waits.load(Ordering::SeqCst) != 0
            && unread <= (CAPACITY - WHOLE) as u64
            && waits.swap(0, Ordering::SeqCst) != 0
    }

    fn room(&self, written: u64) -> usize {
        let read = self.words[READ].load(Ordering::Acquire);
        let unread = written.checked_sub(read).map(|unread| unread as usize);
        unread.map_or(0, |unread| CAPACITY.saturating_sub(unread))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;
    use crate::shared_bytes::{copy_in, copy_out};

    fn memory(threads: usize) -> Vec<AtomicU64> {
        (0..Replies::size(threads) / WORD)
            .map(|_| AtomicU64::new(0))
            .collect()
    }

    fn put(ring: &ReplyRing<'_>, bytes: &[u8]) -> usize {
        ring.write(bytes, copy_in)
    }

    fn take(ring: &ReplyRing<'_>, read: u64, buffer: &mut [u8]) -> Result<usize, Malformed> {
        let [first, second] = ring.unread(read, buffer.len())?;
        let (until_end, behind) = buffer.split_at_mut(size_of_val(first));
        copy_out(first, until_end);
        copy_out(second, &mut behind[..size_of_val(second)]);
        Ok(size_of_val(first) + size_of_val(second))
    }

    fn pattern(length: usize, seed: u8) -> Vec<u8> {
        (0..length)
            .map(|at| (at as u8).wrapping_mul(7) ^ seed)
            .collect()
    }

    #[test]
    fn what_is_short_is_written_whole_or_not_at_all() {
        let words = memory(2);
        let front = Replies::create(&words, 2).ring(1);
        let worker = Replies::open(&words).unwrap().ring(1);
        let mut buffer = vec![0; CAPACITY];
        assert_eq!(take(&front, 0, &mut buffer), Ok(0));
        assert_eq!(put(&worker, &pattern(WHOLE, 1)), WHOLE);
        assert_eq!(put(&worker, &pattern(WHOLE - 8, 2)), WHOLE - 8);
        assert!(!worker.has_room(16) && worker.has_room(8));
        assert_eq!(put(&worker, &pattern(16, 3)), 0);
        assert_eq!(put(&worker, &pattern(WHOLE + 8, 3)), 8, "a part of it");
        assert!(!worker.has_room(CAPACITY));
        worker.announce_wait();
        assert_eq!(take(&front, 0, &mut buffer[..80_003]), Ok(80_000));
        assert!(!front.free(80_000), "little is free");
        assert_eq!(take(&front, 80_000, &mut buffer[80_000..]), Ok(182_144));
        assert!(front.free(CAPACITY as u64) && !front.free(CAPACITY as u64));
        assert_eq!(buffer[..WHOLE], pattern(WHOLE, 1));
        assert_eq!(buffer[WHOLE..CAPACITY - 8], pattern(WHOLE - 8, 2));
        assert_eq!(buffer[CAPACITY - 8..], pattern(8, 3));
    }

    #[test]
    fn what_a_worker_cannot_have_written_is_refused() {
        let words = memory(1);
        let ring = Replies::create(&words, 1).ring(0);
        let mut buffer = [0; 64];
        for (read, written) in [
            (0, CAPACITY as u64 + 8),
            (8, 0),
            (0, 9),
            (0, u64::MAX),
            (u64::MAX - 7, 0),
        ] {
            words[PAGE].store(written, Ordering::Relaxed);
            assert!(take(&ring, read, &mut buffer).is_err(), "{read} {written}");
            let _either = ring.free(read);
            // The worker survives a wrong number too.
            let _any = put(&ring, &[1; 64]);
        }
        for bad in [1 << 40, u64::MAX] {
            words[1].store(bad, Ordering::Relaxed);
            assert!(Replies::open(&words).is_none());
        }
        assert!(Replies::open(&[]).is_none());
    }

    #[test]
    fn the_front_is_woken_once_for_each_sleep() {
        let words = memory(1);
        let front = Replies::create(&words, 1);
        let worker = Replies::open(&words).unwrap();
        assert!(!worker.must_wake());
        front.set_sleeps(true);
        assert!(worker.must_wake() && !worker.must_wake());
        front.set_sleeps(true);
        front.set_sleeps(false);
        assert!(!worker.must_wake());
    }

    #[test]
    fn a_thread_that_waits_for_room_always_gets_it() {
        const TOTAL: usize = 4 << 20;
        let words = memory(1);
        let front = Replies::create(&words, 1).ring(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                let ring = Replies::open(&words).unwrap().ring(0);
                let bytes = pattern(TOTAL, 5);
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let piece = &rest[..rest.len().min(100_000 / 8 * 8)];
                    let written = put(&ring, piece);
                    rest = &rest[written..];
                    if written == 0 {
                        // Where it would wait on its futex, it looks at the flag.
                        ring.announce_wait();
                        while !ring.has_room(piece.len())
                            && words[PAGE + WAITS].load(Ordering::SeqCst) != 0
                        {
                            thread::yield_now();
                        }
                    }
                }
            });
            let (mut bytes, mut buffer) = (Vec::new(), [0; 70_001]);
            while bytes.len() < TOTAL {
                let length = take(&front, bytes.len() as u64, &mut buffer).unwrap();
                bytes.extend_from_slice(&buffer[..length]);
                let _to_be_woken = front.free(bytes.len() as u64);
                if length == 0 {
                    thread::yield_now();
                }
            }
            assert!(bytes == pattern(TOTAL, 5));
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn bytes_arrive_in_order_however_they_are_split(
            writes in prop::collection::vec((1usize..20_000, 1usize..90_000), 1..60),
        ) {
            let words = memory(1);
            let front = Replies::create(&words, 1).ring(0);
            let worker = Replies::open(&words).unwrap().ring(0);
            let (mut sent, mut got, mut buffer) = (Vec::new(), Vec::new(), vec![0; 90_000]);
            for (index, (write, read)) in writes.into_iter().enumerate() {
                let bytes = pattern(write * WORD, index as u8);
                let written = put(&worker, &bytes);
                sent.extend_from_slice(&bytes[..written]);
                let length = take(&front, got.len() as u64, &mut buffer[..read]).unwrap();
                got.extend_from_slice(&buffer[..length]);
                let _to_be_woken = front.free(got.len() as u64);
            }
            while got.len() < sent.len() {
                let length = take(&front, got.len() as u64, &mut buffer).unwrap();
                got.extend_from_slice(&buffer[..length]);
            }
            prop_assert!(got == sent);
        }
    }
}
