//! The layout of the shared memory through which requests reach the threads of a generation.
//!
//! ```text
//! word 0          magic and version
//! word 1          threads    word 2  claims
//! word 8          tail: words that the front has pushed
//! word 16         head: words that have been popped
//! word 24         end: no more requests follow those in the ring
//! from word 32    one bit per thread: it waits, or is about to
//! behind them     one line of 8 words per thread; the first is its futex
//! behind them     the ring: one word per request
//! page-aligned    one slot per claim: the request itself
//! ```
//!
//! The front writes a request into the slot of its claim, publishes the claim, and pushes
//! `seq << 16 | entry`. Any thread pops the word, and reads the slot after it has taken the claim
//! ([`crate::scoreboard`]). So a word that is lost, stale or pushed twice runs nothing, and
//! nothing writes to a slot that is being read.
//!
//! A thread that finds the ring empty sets its bit, looks again, and waits on its futex. The front
//! clears the bit of one waiting thread for each word, and wakes that thread.
//!
//! Both sides can write to all of it. Indices are bounded before they are used, the front keeps
//! its own tail, and bytes are copied out before they are parsed.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::frames::{BodyKind, REQUEST_HEADER, RequestHeader};
use crate::scoreboard::MAX_THREADS;
use crate::shared_bytes::{WORD, copy_in, copy_out};
use crate::{Malformed, malformed, shared_header};

const MAGIC: u64 = u64::from_le_bytes(*b"pysring\x01");
/// Words of a cache line: what different sides write lies in different lines.
const LINE: usize = 8;
const TAIL: usize = LINE;
const HEAD: usize = 2 * LINE;
const END: usize = 3 * LINE;
const WAITING: usize = 4 * LINE;
const PAGE: usize = 4096 / WORD;

/// Bytes of a slot. Only pages that a request needs are ever touched.
pub const SLOT: usize = 256 << 10;
/// Set in a word whose request has a descriptor, which waits in the socket beside the ring.
const WITH_DESCRIPTOR: u64 = 1 << 63;

/// One request in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handed {
    /// Number of the request.
    pub seq: u64,
    /// Its claim, and its slot.
    pub entry: usize,
    /// True if its header and descriptor are a message in the socket beside the ring.
    pub has_descriptor: bool,
}

/// The reason why a word cannot be pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// As many words as fit are in the ring.
    #[error("the request ring is full")]
    Full,
    /// More words seem to have been popped than were pushed.
    #[error("the request ring is overwritten")]
    Damaged,
}

/// Accessors over the mapped words.
#[derive(Debug, Clone, Copy)]
pub struct RequestRing<'a> {
    words: &'a [AtomicU64],
    threads: usize,
    claims: usize,
}

impl<'a> RequestRing<'a> {
    /// Bytes that a ring for so many threads and requests takes.
    pub fn size(threads: usize, claims: usize) -> usize {
        first_slot(threads, claims) * WORD + claims * SLOT
    }

    /// Lays out fresh, zeroed memory.
    ///
    /// # Panics
    /// If `words` is smaller than [`RequestRing::size`], or there are over [`MAX_THREADS`] threads.
    pub fn create(words: &'a [AtomicU64], threads: usize, claims: usize) -> Self {
        assert!(threads <= MAX_THREADS, "too many threads for a ring");
        let ring = Self::over(words, threads, claims);
        shared_header::write(words, MAGIC, [threads, claims]);
        ring
    }

    /// The same memory again, by the side that laid it out.
    ///
    /// # Panics
    /// If `words` is smaller than [`RequestRing::size`].
    pub fn over(words: &'a [AtomicU64], threads: usize, claims: usize) -> Self {
        assert!(
            size_of_val(words) >= Self::size(threads, claims),
            "ring memory too small"
        );
        Self {
            words,
            threads,
            claims,
        }
    }

    /// Opens memory that the other side laid out. `None` if it is not a ring.
    pub fn open(words: &'a [AtomicU64]) -> Option<Self> {
        let [threads, claims] = shared_header::read(words, MAGIC)?;
        (threads <= MAX_THREADS && size_of_val(words) >= Self::size(threads, claims)).then_some(
            Self {
                words,
                threads,
                claims,
            },
        )
    }

    /// True if the header says what [`RequestRing::create`] wrote, and tail and end what the front
    /// wrote.
    pub fn is_intact(&self, tail: u64, has_ended: bool) -> bool {
        let expected = [
            (0, MAGIC),
            (1, self.threads as u64),
            (2, self.claims as u64),
            (TAIL, tail),
            (END, u64::from(has_ended)),
        ];
        expected
            .iter()
            .all(|(at, word)| self.words[*at].load(Ordering::Relaxed) == *word)
    }

    /// Number of slots.
    pub fn claims(&self) -> usize {
        self.claims
    }

    /// Most words in the ring.
    pub fn capacity(&self) -> usize {
        capacity(self.claims)
    }

    /// Front: pushes a word behind `tail` others, and returns the new tail. One thread at a time.
    /// Afterwards one thread is to be woken, see [`RequestRing::choose_waiting`].
    ///
    /// # Errors
    /// [`PushError`]; nothing was pushed.
    pub fn push(&self, tail: u64, handed: Handed) -> Result<u64, PushError> {
        let capacity = self.capacity() as u64;
        let popped = self.words[HEAD].load(Ordering::Acquire);
        match tail.checked_sub(popped) {
            Some(pending) if pending < capacity => {}
            Some(pending) if pending == capacity => return Err(PushError::Full),
            _ => return Err(PushError::Damaged),
        }
        let flag = if handed.has_descriptor {
            WITH_DESCRIPTOR
        } else {
            0
        };
        let word = flag | handed.seq << 16 | handed.entry as u64;
        self.ring_word(tail).store(word, Ordering::Relaxed);
        // A reader of the new tail sees the word, the claim and the slot.
        self.words[TAIL].store(tail + 1, Ordering::Release);
        // Before a look at the waiting threads; they set their bit before they look at the tail.
        fence(Ordering::SeqCst);
        Ok(tail + 1)
    }

    /// True if all words up to `tail`, of which the front keeps account, have been popped.
    pub fn is_drained(&self, tail: u64) -> bool {
        self.words[HEAD].load(Ordering::Acquire) == tail
    }

    /// Pops a word. `None`: the ring is empty.
    pub fn pop(&self) -> Option<Handed> {
        let mut head = self.words[HEAD].load(Ordering::Acquire);
        loop {
            let pushed = self.words[TAIL].load(Ordering::Acquire);
            let pending = pushed.saturating_sub(head);
            if pending == 0 || pending > self.capacity() as u64 {
                return None;
            }
            let word = self.ring_word(head).load(Ordering::Relaxed);
            let popped = self.words[HEAD].compare_exchange(
                head,
                head + 1,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match popped {
                Ok(_) => {
                    return Some(Handed {
                        seq: (word & !WITH_DESCRIPTOR) >> 16,
                        entry: (word & 0xFFFF) as usize,
                        has_descriptor: word & WITH_DESCRIPTOR != 0,
                    });
                }
                Err(moved) => head = moved,
            }
        }
    }

    /// True if nothing is to be popped.
    pub fn is_empty(&self) -> bool {
        let head = self.words[HEAD].load(Ordering::Acquire);
        self.words[TAIL].load(Ordering::Acquire) == head
    }

    /// Front: no more words follow. All threads are to be woken.
    pub fn end(&self) {
        self.words[END].store(1, Ordering::SeqCst);
    }

    /// True if no more words follow.
    pub fn has_ended(&self) -> bool {
        self.words[END].load(Ordering::SeqCst) != 0
    }

    /// Thread: announces that it is about to wait. It looks at the ring once more before it does.
    pub fn announce_wait(&self, thread: usize) {
        let (word, bit) = self.waiting_bit(thread);
        word.fetch_or(bit, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// The thread does not wait any more. `false`: it was chosen for a word, which it pops itself or
    /// leaves to another thread that it wakes.
    pub fn withdraw_wait(&self, thread: usize) -> bool {
        let (word, bit) = self.waiting_bit(thread);
        word.fetch_and(!bit, Ordering::SeqCst) & bit != 0
    }

    /// True if this thread waits, or is about to.
    pub fn is_waiting(&self, thread: usize) -> bool {
        let (word, bit) = self.waiting_bit(thread);
        word.load(Ordering::SeqCst) & bit != 0
    }

    /// True if a thread waits, or is about to.
    pub fn has_waiting(&self) -> bool {
        let bits = &self.words[WAITING..WAITING + self.threads.div_ceil(64)];
        bits.iter().any(|bits| bits.load(Ordering::SeqCst) != 0)
    }

    /// Front: number of words that have not been popped, of `tail` pushed ones.
    pub fn pending(&self, tail: u64) -> usize {
        let popped = self.words[HEAD].load(Ordering::Acquire);
        let pending = tail.saturating_sub(popped) as usize;
        pending.min(self.capacity())
    }

    /// Chooses a waiting thread, which is then to be woken at its [`RequestRing::futex`]: the first
    /// threads of all workers before the second ones, where each worker has `each` of them. `None`:
    /// no thread waits.
    ///
    /// The same few threads are chosen while they suffice. Their caches are warm, the others sleep
    /// undisturbed, and those of one worker share its interpreter only if all workers are busy.
    pub fn choose_waiting(&self, each: usize) -> Option<usize> {
        // Bounded: a worker can set bits again and again.
        for _ in 0..=self.threads {
            let thread = self.first_waiting(each.max(1))?;
            let (word, bit) = (&self.words[WAITING + thread / 64], 1 << (thread % 64));
            // Otherwise the thread has withdrawn meanwhile.
            if word.fetch_and(!bit, Ordering::SeqCst) & bit != 0 {
                return Some(thread);
            }
        }
        None
    }

    fn first_waiting(&self, each: usize) -> Option<usize> {
        let mut first = None;
        for at in 0..self.threads.div_ceil(64) {
            let mut bits = self.words[WAITING + at].load(Ordering::SeqCst);
            while bits != 0 {
                let thread = at * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                // A worker can set bits of threads that do not exist.
                if thread >= self.threads {
                    break;
                }
                let rank = thread % each;
                if first.is_none_or(|(least, _)| rank < least) {
                    first = Some((rank, thread));
                }
                if rank == 0 {
                    return Some(thread);
                }
            }
        }
        first.map(|(_, thread)| thread)
    }

    /// The futex of a thread: its first four bytes, which are only accessed as such.
    pub fn futex(&self, thread: usize) -> &'a AtomicU64 {
        assert!(thread < self.threads, "no such thread in the ring");
        &self.words[first_futex(self.threads) + thread * LINE]
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Front: writes a request into the slot of its entry; `copy` writes the body, which is empty
    /// where it comes with a descriptor.
    ///
    /// # Panics
    /// If the request does not fit; see [`fits`].
    pub fn write(
        &self,
        entry: usize,
        header: RequestHeader,
        vars: &[u8],
        body: &[u8],
        copy: impl FnOnce(&[AtomicU64], &[u8]),
    ) {
        assert!(fits(vars.len(), body.len()), "request longer than a slot");
        let (fixed, rest) = self.slot(entry).split_at(REQUEST_HEADER / WORD);
        copy_in(fixed, &header.to_bytes());
        let (block, rest) = rest.split_at(vars.len().div_ceil(WORD));
        copy_in(block, vars);
        copy(rest, body);
    }

    /// Thread: the fixed part of the request in a slot, whose claim it has taken.
    ///
    /// # Errors
    /// [`Malformed`] if it is no request that fits into a slot.
    pub fn header(&self, entry: usize) -> Result<RequestHeader, Malformed> {
        const WHAT: &str = "request in its slot";
        if entry >= self.claims {
            return Err(malformed(WHAT, "no such slot"));
        }
        let mut bytes = [0; REQUEST_HEADER];
        copy_out(self.slot(entry), &mut bytes);
        let header = RequestHeader::from_bytes(&bytes)?;
        match fits(header.vars_len as usize, header.inline_len()) {
            true => Ok(header),
            false => Err(malformed(WHAT, "longer than a slot")),
        }
    }

    /// Thread: copies the variables of a request.
    pub fn read_vars(&self, entry: usize, header: &RequestHeader, vars: &mut Vec<u8>) {
        vars.resize(header.vars_len as usize, 0);
        copy_out(&self.slot(entry)[REQUEST_HEADER / WORD..], vars);
    }

    /// Thread: the words that begin with the body of a request.
    pub fn body(&self, entry: usize, header: &RequestHeader) -> &'a [AtomicU64] {
        let start = REQUEST_HEADER / WORD + (header.vars_len as usize).div_ceil(WORD);
        &self.slot(entry)[start..]
    }

    fn ring_word(&self, index: u64) -> &'a AtomicU64 {
        let within = index as usize % self.capacity();
        &self.words[first_ring_word(self.threads) + within]
    }

    fn waiting_bit(&self, thread: usize) -> (&'a AtomicU64, u64) {
        assert!(thread < self.threads, "no such thread in the ring");
        (&self.words[WAITING + thread / 64], 1 << (thread % 64))
    }

    /// Offset of a slot in the memory, in bytes. Slots begin with a page.
    pub fn slot_offset(&self, entry: usize) -> usize {
        (first_slot(self.threads, self.claims) + entry * (SLOT / WORD)) * WORD
    }

    fn slot(&self, entry: usize) -> &'a [AtomicU64] {
        assert!(entry < self.claims, "no such slot in the ring");
        let start = self.slot_offset(entry) / WORD;
        &self.words[start..start + SLOT / WORD]
    }
}

impl RequestHeader {
    /// Length of the body behind the variables.
    pub fn inline_len(&self) -> usize {
        match self.body {
            BodyKind::Inline => usize::try_from(self.body_len).unwrap_or(usize::MAX),
            BodyKind::File | BodyKind::Stream => 0,
        }
    }
}

/// True if a request with so many bytes of variables and body fits into a slot.
pub fn fits(vars: usize, body: usize) -> bool {
    let room = SLOT - REQUEST_HEADER - WORD;
    vars <= room && body <= room - vars
}

/// Words that the ring has room for: a power of two, and several times the requests that may be
/// handed out, because stale words stay until a thread pops them.
fn capacity(claims: usize) -> usize {
    (4 * claims).next_power_of_two()
}

fn first_futex(threads: usize) -> usize {
    WAITING + threads.div_ceil(64).next_multiple_of(LINE)
}

fn first_ring_word(threads: usize) -> usize {
    first_futex(threads) + threads * LINE
}

fn first_slot(threads: usize, claims: usize) -> usize {
    (first_ring_word(threads) + capacity(claims)).next_multiple_of(PAGE)
}

#[cfg(test)]
mod tests;
