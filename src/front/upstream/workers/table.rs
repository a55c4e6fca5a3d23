//! Which requests are handed out, and who waits for a place: pure bookkeeping under one lock.
//!
//! An *entry* is a place among the requests that may be handed out at a time; it is also
//! the request's index in the scoreboard's claim table. Waiting requests get entries first
//! come, first served.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Outcome;
use crate::front::request::context::Identity;

/// The bookkeeping of one pool.
pub(super) struct Table {
    entries: Vec<Entry>,
    free: Vec<usize>,
    /// Threads that serve.
    threads: usize,
    /// Requests that may be handed out ahead of them; 0 while nobody serves.
    ahead: usize,
    waiters: VecDeque<oneshot::Sender<usize>>,
    waiting: usize,
    next_seq: u64,
    /// Who the last requests were: what they logged may be read after they ended.
    recent: VecDeque<(u64, Arc<Identity>)>,
}

/// How many ended requests are remembered. A log record is read within a moment of being
/// written, so this many can end in that moment without one losing its request's id.
const RECENT: usize = 1024;

enum Entry {
    Free,
    /// Somebody owns the place and is between two attempts.
    Reserved,
    InFlight(InFlight),
}

/// A request that is handed out.
pub(super) struct InFlight {
    /// Its number.
    pub(super) seq: u64,
    /// Where the answer goes; `None` once it went, or if nobody wants it any more.
    pub(super) reply: Option<oneshot::Sender<Outcome>>,
    /// What the log says about it.
    pub(super) identity: Arc<Identity>,
    /// It was taken back; the entry is free again when its message has been skipped.
    pub(super) withdrawn: bool,
}

/// What somebody who wants an entry gets.
pub(super) enum Place {
    /// An entry at once.
    Entry(usize),
    /// A place in the queue.
    Wait(oneshot::Receiver<usize>),
    /// The queue is full.
    Full,
}

impl Table {
    /// A table with room for `entries` requests, none of which may be handed out yet.
    pub(super) fn new(entries: usize) -> Self {
        Self {
            entries: (0..entries).map(|_| Entry::Free).collect(),
            free: (0..entries).rev().collect(),
            threads: 0,
            ahead: 0,
            waiters: VecDeque::new(),
            waiting: 0,
            next_seq: 0,
            recent: VecDeque::new(),
        }
    }

    /// How many requests are handed out.
    pub(super) fn handed_out(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// How many requests wait for an entry.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Asks for an entry, behind everybody who waits already.
    pub(super) fn ask(&mut self, limit: usize) -> Place {
        // What is handed out ahead of the threads waits as well, only elsewhere.
        let ahead = self.handed_out().saturating_sub(self.threads);
        if self.handed_out() >= self.threads && self.waiting + ahead >= limit {
            return Place::Full;
        }
        if self.waiting == 0
            && let Some(entry) = self.reserve()
        {
            return Place::Entry(entry);
        }
        // Waiters that left are skipped when their turn comes; without this, a long stall
        // with many leaving clients would keep their places for its whole length.
        if self.waiters.len() > 2 * self.waiting + 16 {
            self.waiters.retain(|waiter| !waiter.is_closed());
        }
        let (sender, receiver) = oneshot::channel();
        self.waiters.push_back(sender);
        self.waiting += 1;
        Place::Wait(receiver)
    }

    /// Somebody stopped waiting, with or without an entry.
    pub(super) fn stopped_waiting(&mut self) {
        self.waiting -= 1;
    }

    /// Changes how many threads serve, and how many requests may be handed out ahead of them.
    pub(super) fn set_capacity(&mut self, threads: usize, ahead: usize) {
        self.threads = threads;
        self.ahead = if threads == 0 { 0 } else { ahead };
        self.serve_waiters();
    }

    /// Hands the request in `entry` out under a new number.
    pub(super) fn begin(
        &mut self,
        entry: usize,
        identity: Arc<Identity>,
    ) -> (u64, oneshot::Receiver<Outcome>) {
        let (reply, receiver) = oneshot::channel();
        self.next_seq += 1;
        let seq = self.next_seq;
        self.entries[entry] = Entry::InFlight(InFlight {
            seq,
            reply: Some(reply),
            identity,
            withdrawn: false,
        });
        (seq, receiver)
    }

    /// The request with this number, and its entry.
    pub(super) fn find(&mut self, seq: u64) -> Option<(usize, &mut InFlight)> {
        self.entries
            .iter_mut()
            .enumerate()
            .find_map(|(entry, slot)| match slot {
                Entry::InFlight(request) if request.seq == seq => Some((entry, request)),
                _ => None,
            })
    }

    /// Who the request with this number is or was.
    pub(super) fn identity(&mut self, seq: u64) -> Option<Arc<Identity>> {
        if let Some((_, request)) = self.find(seq) {
            return Some(Arc::clone(&request.identity));
        }
        let mut newest_first = self.recent.iter().rev();
        newest_first
            .find(|(ended, _)| *ended == seq)
            .map(|(_, identity)| Arc::clone(identity))
    }

    /// All requests that are handed out.
    pub(super) fn in_flight(&mut self) -> impl Iterator<Item = (usize, &mut InFlight)> {
        self.entries
            .iter_mut()
            .enumerate()
            .filter_map(|(entry, slot)| match slot {
                Entry::InFlight(request) => Some((entry, request)),
                _ => None,
            })
    }

    /// The request is to be handed out once more: its entry stays reserved for whoever
    /// waits for the answer. `None`: nobody does, and the entry is free.
    pub(super) fn take_back(&mut self, entry: usize) -> Option<oneshot::Sender<Outcome>> {
        let Entry::InFlight(request) = &mut self.entries[entry] else {
            return None;
        };
        match request.reply.take().filter(|reply| !reply.is_closed()) {
            Some(reply) => {
                self.entries[entry] = Entry::Reserved;
                Some(reply)
            }
            None => {
                self.release(entry);
                None
            }
        }
    }

    /// Gives an entry back, to the first who waits.
    pub(super) fn release(&mut self, entry: usize) {
        match std::mem::replace(&mut self.entries[entry], Entry::Free) {
            Entry::Free => return,
            Entry::Reserved => {}
            Entry::InFlight(request) => {
                if self.recent.len() == RECENT {
                    self.recent.pop_front();
                }
                self.recent.push_back((request.seq, request.identity));
            }
        }
        self.free.push(entry);
        self.serve_waiters();
    }

    fn reserve(&mut self) -> Option<usize> {
        if self.handed_out() >= self.threads + self.ahead {
            return None;
        }
        let entry = self.free.pop()?;
        self.entries[entry] = Entry::Reserved;
        Some(entry)
    }

    fn serve_waiters(&mut self) {
        while !self.waiters.is_empty() {
            let Some(entry) = self.reserve() else { return };
            let served = loop {
                match self.waiters.pop_front() {
                    None => break false,
                    Some(waiter) => {
                        if waiter.send(entry).is_ok() {
                            break true;
                        }
                    }
                }
            };
            if !served {
                self.entries[entry] = Entry::Free;
                self.free.push(entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(place: Place) -> Option<usize> {
        match place {
            Place::Entry(entry) => Some(entry),
            _ => None,
        }
    }

    fn receiver(place: Place) -> oneshot::Receiver<usize> {
        match place {
            Place::Wait(receiver) => receiver,
            _ => panic!("expected a place in the queue"),
        }
    }

    #[test]
    fn nothing_is_handed_out_before_there_is_a_worker() {
        let mut table = Table::new(4);
        let mut first = receiver(table.ask(10));
        let mut second = receiver(table.ask(10));
        table.set_capacity(1, 0);
        assert!(first.try_recv().is_ok(), "first come, first served");
        assert!(second.try_recv().is_err());
        assert_eq!((table.handed_out(), table.waiting()), (1, 2));
    }

    #[test]
    fn a_full_queue_says_so() {
        let mut table = Table::new(1);
        table.set_capacity(1, 0);
        assert!(entry(table.ask(1)).is_some());
        let _waiting = receiver(table.ask(1));
        assert!(matches!(table.ask(1), Place::Full));
        table.stopped_waiting();
        assert!(matches!(table.ask(1), Place::Wait(_)));
    }

    #[test]
    fn requests_handed_out_ahead_count_as_waiting() {
        let mut table = Table::new(8);
        table.set_capacity(1, 5);
        assert!(entry(table.ask(2)).is_some(), "for the thread");
        assert!(entry(table.ask(2)).is_some(), "ahead");
        assert!(entry(table.ask(2)).is_some(), "ahead");
        assert!(matches!(table.ask(2), Place::Full));
    }

    #[test]
    fn a_released_entry_goes_past_those_who_left() {
        let mut table = Table::new(1);
        table.set_capacity(1, 0);
        let held = entry(table.ask(9)).unwrap();
        drop(receiver(table.ask(9)));
        table.stopped_waiting();
        let mut staying = receiver(table.ask(9));
        table.release(held);
        assert_eq!(staying.try_recv().unwrap(), held);
        table.release(held);
        table.release(held);
        table.stopped_waiting();
        assert_eq!(table.handed_out(), 0, "releasing twice frees once");
    }

    #[test]
    fn a_request_is_found_by_its_number_until_it_is_released() {
        let mut table = Table::new(2);
        table.set_capacity(2, 0);
        let place = entry(table.ask(1)).unwrap();
        let (seq, answer) = table.begin(place, Arc::default());
        assert_eq!(table.find(seq).map(|(entry, _)| entry), Some(place));
        drop(answer);
        assert!(
            table.take_back(place).is_none(),
            "nobody waits for the answer"
        );
        assert!(table.find(seq).is_none());
        assert!(
            table.identity(seq).is_some(),
            "what it logged last still has a name"
        );
        assert_eq!(table.handed_out(), 0);
    }
}
