//! Which requests are handed out, and who waits for a place: pure bookkeeping under one lock.
//!
//! An *entry* is a place among the requests that may be handed out to a generation at a
//! time; it is also the request's index in the claim table of that generation's scoreboard.
//! The line of those who wait is above the generations: whichever is *current* serves it,
//! first come, first served.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Outcome;
use crate::front::request::context::Identity;

/// The bookkeeping of one pool.
pub(super) struct Table {
    generations: Vec<Entries>,
    /// Number of the generation that gets requests.
    current: Option<u32>,
    waiters: VecDeque<oneshot::Sender<Spot>>,
    waiting: usize,
    next_seq: u64,
    /// Who the last requests were: what they logged may be read after they ended.
    recent: VecDeque<(u64, Arc<Identity>)>,
}

/// How many ended requests are remembered. A log record is read within a moment of being
/// written, so this many can end in that moment without one losing its request's id.
const RECENT: usize = 1024;

/// A place among the requests that are handed out to a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    /// Number of the generation.
    pub(super) generation: u32,
    /// Index of the entry.
    pub(super) entry: usize,
}

/// The entries of one generation.
struct Entries {
    generation: u32,
    entries: Vec<Entry>,
    free: Vec<usize>,
    /// Threads that serve.
    threads: usize,
    /// Requests that may be handed out ahead of them; 0 while nobody serves.
    ahead: usize,
}

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
    /// The worker whose thread took it has exited; what it wrote may still be read.
    pub(super) orphaned: bool,
    /// It was taken back; the entry is free again when its message has been skipped.
    pub(super) withdrawn: bool,
    /// It was over its deadline, and its client knows.
    pub(super) timed_out: bool,
    /// It did not end in the grace after that either.
    pub(super) stuck: bool,
}

/// What somebody who wants an entry gets.
pub(super) enum Place {
    /// An entry at once.
    Entry(Spot),
    /// A place in the queue.
    Wait(oneshot::Receiver<Spot>),
    /// The queue is full.
    Full,
}

impl Entries {
    fn handed_out(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    fn reserve(&mut self) -> Option<usize> {
        if self.handed_out() >= self.threads + self.ahead {
            return None;
        }
        let entry = self.free.pop()?;
        self.entries[entry] = Entry::Reserved;
        Some(entry)
    }

    fn in_flight(&mut self) -> impl Iterator<Item = (usize, &mut InFlight)> {
        self.entries
            .iter_mut()
            .enumerate()
            .filter_map(|(entry, slot)| match slot {
                Entry::InFlight(request) => Some((entry, request)),
                _ => None,
            })
    }
}

impl Table {
    /// A table without generations: everybody waits.
    pub(super) fn new() -> Self {
        Self {
            generations: Vec::new(),
            current: None,
            waiters: VecDeque::new(),
            waiting: 0,
            next_seq: 0,
            recent: VecDeque::new(),
        }
    }

    /// Takes on a generation with room for `entries` requests, none of which may be handed
    /// out yet.
    pub(super) fn add(&mut self, generation: u32, entries: usize) {
        self.generations.push(Entries {
            generation,
            entries: (0..entries).map(|_| Entry::Free).collect(),
            free: (0..entries).rev().collect(),
            threads: 0,
            ahead: 0,
        });
    }

    /// Forgets a generation that nothing runs in any more.
    pub(super) fn remove(&mut self, generation: u32) {
        self.generations
            .retain(|entries| entries.generation != generation);
        if self.current == Some(generation) {
            self.current = None;
        }
    }

    /// From now on requests go to this generation.
    pub(super) fn switch(&mut self, generation: u32) {
        self.current = Some(generation);
        self.serve_waiters();
    }

    /// Whether requests go to this generation.
    pub(super) fn is_current(&self, generation: u32) -> bool {
        self.current == Some(generation)
    }

    /// Whether a later generation has taken over from this one.
    pub(super) fn is_past(&self, generation: u32) -> bool {
        self.current.is_some_and(|current| generation < current)
    }

    /// How many requests are handed out, in all generations.
    pub(super) fn handed_out(&self) -> usize {
        self.generations.iter().map(Entries::handed_out).sum()
    }

    /// How many requests wait for an entry.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether as many wait as may.
    pub(super) fn is_full(&mut self, limit: usize) -> bool {
        let (handed_out, threads) = self
            .current()
            .map_or((0, 0), |current| (current.handed_out(), current.threads));
        // What is handed out ahead of the threads waits as well, only elsewhere.
        let ahead = handed_out.saturating_sub(threads);
        handed_out >= threads && self.waiting + ahead >= limit
    }

    /// Asks for an entry, behind everybody who waits already.
    pub(super) fn ask(&mut self, limit: usize) -> Place {
        if self.is_full(limit) {
            return Place::Full;
        }
        if self.waiting == 0
            && let Some(spot) = self.reserve()
        {
            return Place::Entry(spot);
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

    /// Asks for an entry ahead of everybody who waits: for a request that had one already,
    /// in a generation that gets no more.
    pub(super) fn ask_again(&mut self) -> Place {
        if let Some(spot) = self.reserve() {
            return Place::Entry(spot);
        }
        let (sender, receiver) = oneshot::channel();
        self.waiters.push_front(sender);
        self.waiting += 1;
        Place::Wait(receiver)
    }

    /// Somebody stopped waiting, with or without an entry.
    pub(super) fn stopped_waiting(&mut self) {
        self.waiting -= 1;
    }

    /// Nobody who waits gets an entry: their receivers are closed.
    pub(super) fn turn_away(&mut self) {
        self.waiters.clear();
    }

    /// Changes how many threads of a generation serve, and how many requests may be handed
    /// out ahead of them.
    pub(super) fn set_capacity(&mut self, generation: u32, threads: usize, ahead: usize) {
        if let Some(entries) = self.entries(generation) {
            entries.threads = threads;
            entries.ahead = if threads == 0 { 0 } else { ahead };
        }
        self.serve_waiters();
    }

    /// Hands the request in `spot` out under a new number. `None`: its generation gets no
    /// more requests, and the entry has been given back.
    pub(super) fn begin(
        &mut self,
        spot: Spot,
        identity: Arc<Identity>,
    ) -> Option<(u64, oneshot::Receiver<Outcome>)> {
        if !self.is_current(spot.generation) {
            self.release(spot);
            return None;
        }
        let (reply, receiver) = oneshot::channel();
        self.next_seq += 1;
        let seq = self.next_seq;
        self.entries(spot.generation)?.entries[spot.entry] = Entry::InFlight(InFlight {
            seq,
            reply: Some(reply),
            identity,
            orphaned: false,
            withdrawn: false,
            timed_out: false,
            stuck: false,
        });
        Some((seq, receiver))
    }

    /// The request with this number in this generation, and its place.
    pub(super) fn find(&mut self, generation: u32, seq: u64) -> Option<(Spot, &mut InFlight)> {
        self.in_flight(generation)
            .find(|(_, request)| request.seq == seq)
    }

    /// Who the request with this number is or was.
    pub(super) fn identity(&mut self, seq: u64) -> Option<Arc<Identity>> {
        let mut running = self.generations.iter_mut().flat_map(Entries::in_flight);
        if let Some((_, request)) = running.find(|(_, request)| request.seq == seq) {
            return Some(Arc::clone(&request.identity));
        }
        let mut newest_first = self.recent.iter().rev();
        newest_first
            .find(|(ended, _)| *ended == seq)
            .map(|(_, identity)| Arc::clone(identity))
    }

    /// All requests that are handed out to a generation.
    pub(super) fn in_flight(
        &mut self,
        generation: u32,
    ) -> impl Iterator<Item = (Spot, &mut InFlight)> {
        self.entries(generation)
            .into_iter()
            .flat_map(Entries::in_flight)
            .map(move |(entry, request)| (Spot { generation, entry }, request))
    }

    /// The request is to be handed out once more: its entry stays reserved for whoever
    /// waits for the answer. `None`: nobody does, and the entry is free.
    pub(super) fn take_back(&mut self, spot: Spot) -> Option<oneshot::Sender<Outcome>> {
        let entry = self.entries(spot.generation)?.entries.get_mut(spot.entry)?;
        let Entry::InFlight(request) = entry else {
            return None;
        };
        match request.reply.take().filter(|reply| !reply.is_closed()) {
            Some(reply) => {
                *entry = Entry::Reserved;
                Some(reply)
            }
            None => {
                self.release(spot);
                None
            }
        }
    }

    /// Gives an entry back, to the first who waits.
    pub(super) fn release(&mut self, spot: Spot) {
        let Some(entries) = self.entries(spot.generation) else {
            return;
        };
        let was = std::mem::replace(&mut entries.entries[spot.entry], Entry::Free);
        if matches!(was, Entry::Free) {
            return;
        }
        entries.free.push(spot.entry);
        if let Entry::InFlight(request) = was {
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back((request.seq, request.identity));
        }
        self.serve_waiters();
    }

    fn entries(&mut self, generation: u32) -> Option<&mut Entries> {
        self.generations
            .iter_mut()
            .find(|entries| entries.generation == generation)
    }

    fn current(&mut self) -> Option<&mut Entries> {
        self.current.and_then(|generation| self.entries(generation))
    }

    fn reserve(&mut self) -> Option<Spot> {
        let current = self.current()?;
        let generation = current.generation;
        let entry = current.reserve()?;
        Some(Spot { generation, entry })
    }

    fn serve_waiters(&mut self) {
        while !self.waiters.is_empty() {
            let Some(spot) = self.reserve() else { return };
            let served = loop {
                match self.waiters.pop_front() {
                    None => break false,
                    Some(waiter) => {
                        if waiter.send(spot).is_ok() {
                            break true;
                        }
                    }
                }
            };
            if !served && let Some(entries) = self.entries(spot.generation) {
                entries.entries[spot.entry] = Entry::Free;
                entries.free.push(spot.entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table with generation 0 current.
    fn table(entries: usize) -> Table {
        let mut table = Table::new();
        table.add(0, entries);
        table.switch(0);
        table
    }

    fn spot(place: Place) -> Option<Spot> {
        match place {
            Place::Entry(spot) => Some(spot),
            _ => None,
        }
    }

    fn receiver(place: Place) -> oneshot::Receiver<Spot> {
        match place {
            Place::Wait(receiver) => receiver,
            _ => panic!("expected a place in the queue"),
        }
    }

    #[test]
    fn nothing_is_handed_out_before_there_is_a_worker() {
        let mut table = table(4);
        let mut first = receiver(table.ask(10));
        let mut second = receiver(table.ask(10));
        table.set_capacity(0, 1, 0);
        assert!(first.try_recv().is_ok(), "first come, first served");
        assert!(second.try_recv().is_err());
        assert_eq!((table.handed_out(), table.waiting()), (1, 2));
    }

    #[test]
    fn a_full_queue_says_so() {
        let mut table = table(1);
        table.set_capacity(0, 1, 0);
        assert!(spot(table.ask(1)).is_some());
        let _waiting = receiver(table.ask(1));
        assert!(matches!(table.ask(1), Place::Full));
        table.stopped_waiting();
        assert!(matches!(table.ask(1), Place::Wait(_)));
    }

    #[test]
    fn requests_handed_out_ahead_count_as_waiting() {
        let mut table = table(8);
        table.set_capacity(0, 1, 5);
        assert!(spot(table.ask(2)).is_some(), "for the thread");
        assert!(spot(table.ask(2)).is_some(), "ahead");
        assert!(spot(table.ask(2)).is_some(), "ahead");
        assert!(matches!(table.ask(2), Place::Full));
    }

    #[test]
    fn a_released_entry_goes_past_those_who_left() {
        let mut table = table(1);
        table.set_capacity(0, 1, 0);
        let held = spot(table.ask(9)).unwrap();
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
        let mut table = table(2);
        table.set_capacity(0, 2, 0);
        let place = spot(table.ask(1)).unwrap();
        let (seq, answer) = table.begin(place, Arc::default()).unwrap();
        assert_eq!(table.find(0, seq).map(|(spot, _)| spot), Some(place));
        drop(answer);
        assert!(
            table.take_back(place).is_none(),
            "nobody waits for the answer"
        );
        assert!(table.find(0, seq).is_none());
        assert!(
            table.identity(seq).is_some(),
            "what it logged last still has a name"
        );
        assert_eq!(table.handed_out(), 0);
    }

    #[test]
    fn those_who_wait_are_served_by_the_generation_that_takes_over() {
        let mut table = table(1);
        table.set_capacity(0, 1, 0);
        let held = spot(table.ask(9)).unwrap();
        let mut waiting = receiver(table.ask(9));
        table.add(1, 1);
        table.set_capacity(1, 1, 0);
        assert!(waiting.try_recv().is_err(), "it is not current yet");
        table.switch(1);
        assert_eq!(waiting.try_recv().unwrap().generation, 1);
        assert!(
            table.begin(held, Arc::default()).is_none(),
            "an entry of the one before is of no use any more"
        );
        table.stopped_waiting();
        let mut behind = receiver(table.ask(9));
        let mut again = receiver(table.ask_again());
        table.release(Spot {
            generation: 1,
            entry: 0,
        });
        assert!(again.try_recv().is_ok(), "it had a place already");
        assert!(behind.try_recv().is_err());
    }

    #[test]
    fn a_removed_generation_takes_nothing_along() {
        let mut table = table(1);
        table.set_capacity(0, 1, 0);
        let held = spot(table.ask(9)).unwrap();
        table.remove(0);
        table.release(held);
        assert!(matches!(table.ask(9), Place::Wait(_)));
        assert_eq!(table.handed_out(), 0);
    }
}
