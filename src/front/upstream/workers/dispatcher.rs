//! Decides which requests are handed out and which wait: pure bookkeeping under one lock.
//!
//! An *entry* is a slot among the requests that may be handed out to a generation at a time; it is
//! also the request's index in the claim table of that generation's scoreboard. The
//! [`RequestQueue`] of waiting requests is shared by the generations: the *current* one serves it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Outcome;
use super::dispatch_slot::DispatchSlot;
use super::request_queue::{Admission, QueueAddress, RequestQueue, Service};
use super::route_costs::{Cost, Route, RouteCosts};
use crate::front::context::RequestLabel;

/// The bookkeeping of one pool.
pub(super) struct Dispatcher {
    generations: Vec<Entries>,
    /// Number of the generation that gets requests.
    current: Option<u32>,
    line: RequestQueue,
    waiting: usize,
    next_ticket: u64,
    next_seq: u64,
    /// True if requests of several origins compete for slow workers: few are handed out ahead,
    /// because those cannot be overtaken.
    is_slow: bool,
    costs: RouteCosts,
    /// Labels of recent requests: their log records may be read after they ended.
    recent: VecDeque<(u64, Arc<RequestLabel>)>,
}

/// Number of ended requests that are remembered. A log record is read within a moment of being
/// written, so this many can end in that moment without one losing its request's id.
const RECENT: usize = 1024;

/// The entries of one generation.
struct Entries {
    generation: u32,
    entries: Vec<Entry>,
    /// The probable entry of the request with a number, by the remainder of the number.
    places: Box<[u32]>,
    free: Vec<usize>,
    /// Serving threads.
    threads: usize,
    /// Requests that may be handed out ahead of them; 0 while no thread serves.
    ahead: usize,
}

enum Entry {
    Free,
    /// Owned by a call between two attempts.
    Reserved,
    InFlight(InFlight),
}

/// A request that is handed out.
pub(super) struct InFlight {
    /// Its number.
    pub(super) seq: u64,
    /// The client's address.
    pub(super) origin: QueueAddress,
    /// Its route, if its cost is to be learned.
    route: Option<Route>,
    /// The time at which it began to wait for a thread.
    pub(super) asked: Instant,
    /// Sender of the response; `None` once it is sent, or if it is no longer wanted.
    pub(super) reply: Option<oneshot::Sender<Outcome>>,
    /// Its label in the log.
    pub(super) identity: Arc<RequestLabel>,
    /// The worker whose thread took it has exited; its output may still be read.
    pub(super) orphaned: bool,
    /// It was taken back; the entry is free again when its message has been skipped.
    pub(super) withdrawn: bool,
    /// It exceeded its deadline, and its client has the failure.
    pub(super) timed_out: bool,
    /// It did not end in the grace period either.
    pub(super) stuck: bool,
}

/// The result of a request for an entry.
pub(super) enum AdmissionOutcome {
    /// An entry, immediately.
    Entry(DispatchSlot),
    /// A position in the queue.
    Wait(oneshot::Receiver<Admission>),
    /// The queue is full.
    Full,
}

/// The position of a request among others that wait for an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueuePosition {
    origin: QueueAddress,
    /// Its route, if short requests may overtake long ones.
    route: Option<Route>,
    since: Option<Instant>,
    /// Assigned at the first request for an entry, with the cost that was expected then.
    ticket: Option<(u64, Option<Cost>)>,
}

impl QueuePosition {
    /// A position without a ticket.
    pub(super) fn new(origin: QueueAddress) -> Self {
        Self {
            origin,
            route: None,
            since: None,
            ticket: None,
        }
    }

    /// The same for a request of this route.
    pub(super) fn on(self, route: Option<Route>) -> Self {
        Self { route, ..self }
    }

    /// The same for a request that waits since then.
    pub(super) fn since(self, asked: Instant) -> Self {
        Self {
            since: Some(asked),
            ..self
        }
    }

    /// The client's address.
    pub(super) fn origin(&self) -> QueueAddress {
        self.origin
    }
}

/// Requests that may be handed out ahead of the threads.
#[derive(Debug, Clone, Copy)]
enum MostAhead {
    Any,
    OneEach,
    None,
}

impl Entries {
    fn handed_out(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    fn reserve(&mut self, most_ahead: MostAhead) -> Option<usize> {
        let most = match most_ahead {
            MostAhead::Any => usize::MAX,
            // It keeps the threads busy.
            MostAhead::OneEach => self.threads,
            MostAhead::None => 0,
        };
        if self.handed_out() >= self.threads + self.ahead.min(most) {
            return None;
        }
        let entry = self.free.pop()?;
        self.entries[entry] = Entry::Reserved;
        Some(entry)
    }

    fn find(&mut self, seq: u64) -> Option<(usize, &mut InFlight)> {
        let has = |entry: &Entry| matches!(entry, Entry::InFlight(request) if request.seq == seq);
        let place = self.places[seq as usize % self.places.len()] as usize;
        // Another request has the place where one has run for very long.
        let entry = match self.entries.get(place).is_some_and(has) {
            true => place,
            false => self.entries.iter().position(has)?,
        };
        match &mut self.entries[entry] {
            Entry::InFlight(request) => Some((entry, request)),
            _ => None,
        }
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

impl Dispatcher {
    /// A table without generations: all requests wait.
    pub(super) fn new() -> Self {
        Self {
            generations: Vec::new(),
            current: None,
            line: RequestQueue::default(),
            waiting: 0,
            next_ticket: 0,
            next_seq: 0,
            is_slow: false,
            costs: RouteCosts::default(),
            recent: VecDeque::new(),
        }
    }

    /// Adds a generation with room for `entries` requests, none of which may be handed out yet.
    pub(super) fn add(&mut self, generation: u32, entries: usize) {
        self.generations.push(Entries {
            generation,
            entries: (0..entries).map(|_| Entry::Free).collect(),
            // Larger, so that few numbers of running requests share a place.
            places: vec![0; (4 * entries).next_power_of_two()].into(),
            free: (0..entries).rev().collect(),
            threads: 0,
            ahead: 0,
        });
    }

    /// Entries of a generation that no request has.
    pub(super) fn free(&self, generation: u32) -> &[usize] {
        let entries = self.generations.iter();
        let mut entries = entries.filter(|entries| entries.generation == generation);
        entries.next().map_or(&[], |entries| &entries.free)
    }

    /// Removes a generation in which nothing runs any more.
    pub(super) fn remove(&mut self, generation: u32) {
        self.generations
            .retain(|entries| entries.generation != generation);
        if self.current == Some(generation) {
            self.current = None;
        }
    }

    /// Makes this generation the current one.
    pub(super) fn switch(&mut self, generation: u32) {
        self.current = Some(generation);
        self.serve_waiters();
    }

    /// True if requests go to this generation.
    pub(super) fn is_current(&self, generation: u32) -> bool {
        self.current == Some(generation)
    }

    /// True if a later generation has taken over from this one.
    pub(super) fn is_past(&self, generation: u32) -> bool {
        self.current.is_some_and(|current| generation < current)
    }

    /// Number of requests handed out, in all generations.
    pub(super) fn handed_out(&self) -> usize {
        self.generations.iter().map(Entries::handed_out).sum()
    }

    /// Number of requests that wait for an entry.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// True if the queue is full.
    pub(super) fn is_full(&mut self, limit: usize) -> bool {
        let (handed_out, threads) = self
            .current()
            .map_or((0, 0), |current| (current.handed_out(), current.threads));
        // Requests handed out ahead of the threads count as waiting too.
        let ahead = handed_out.saturating_sub(threads);
        handed_out >= threads && self.waiting + ahead >= limit
    }

    /// Requests an entry. A request that had one, in a generation that is no longer current or too
    /// far ahead of others, is never refused, and precedes later ones of its address.
    pub(super) fn ask(&mut self, claimant: &mut QueuePosition, limit: usize) -> AdmissionOutcome {
        let is_new = claimant.ticket.is_none();
        if is_new && self.is_full(limit) && !self.line.displace(claimant.origin) {
            return AdmissionOutcome::Full;
        }
        let (ticket, cost) = *claimant.ticket.get_or_insert_with(|| {
            self.next_ticket += 1;
            let cost = claimant.route.and_then(|route| self.costs.expect(route));
            (self.next_ticket, cost)
        });
        if self.waiting == 0
            && let Some(spot) = self.reserve(cost)
        {
            return AdmissionOutcome::Entry(spot);
        }
        // Waiters that left are skipped when their turn comes; without this, a long stall with many
        // disconnecting clients would keep their positions for its whole length.
        if self.line.len() > 2 * self.waiting + 16 {
            self.line.prune();
        }
        self.waiting += 1;
        let receiver = self
            .line
            .join(claimant.origin, ticket, cost, claimant.since);
        // An entry may be free although others have not left the queue yet.
        self.serve_waiters();
        AdmissionOutcome::Wait(receiver)
    }

    /// Hands out at most one request ahead of each thread, until the queue is empty.
    pub(super) fn set_slow(&mut self) {
        self.is_slow = true;
    }

    /// Records that a request stopped waiting, with or without an entry.
    pub(super) fn stopped_waiting(&mut self) {
        self.waiting -= 1;
    }

    /// Refuses all waiting requests by closing their receivers.
    pub(super) fn turn_away(&mut self) {
        self.line.clear();
    }

    /// Number of serving threads of a generation.
    pub(super) fn threads(&mut self, generation: u32) -> usize {
        self.entries(generation)
            .map_or(0, |entries| entries.threads)
    }

    /// Sets the number of serving threads of a generation, and of requests that may be handed out
    /// ahead of them.
    pub(super) fn set_capacity(&mut self, generation: u32, threads: usize, ahead: usize) {
        if let Some(entries) = self.entries(generation) {
            entries.threads = threads;
            entries.ahead = if threads == 0 { 0 } else { ahead };
        }
        self.serve_waiters();
    }

    /// Hands the request in `spot` out under a new number. `None`: its generation gets no more
    /// requests, and the entry was released.
    pub(super) fn begin(
        &mut self,
        spot: DispatchSlot,
        identity: Arc<RequestLabel>,
        position: QueuePosition,
        asked: Instant,
    ) -> Option<(u64, oneshot::Receiver<Outcome>)> {
        if !self.is_current(spot.generation) {
            self.release(spot);
            return None;
        }
        let (reply, receiver) = oneshot::channel();
        self.next_seq += 1;
        let seq = self.next_seq;
        let entries = self.entries(spot.generation)?;
        let places = entries.places.len();
        entries.places[seq as usize % places] = spot.entry as u32;
        entries.entries[spot.entry] = Entry::InFlight(InFlight {
            seq,
            origin: position.origin,
            route: position.route,
            asked,
            reply: Some(reply),
            identity,
            orphaned: false,
            withdrawn: false,
            timed_out: false,
            stuck: false,
        });
        Some((seq, receiver))
    }

    /// The request with this number in this generation, and its slot.
    pub(super) fn find(
        &mut self,
        generation: u32,
        seq: u64,
    ) -> Option<(DispatchSlot, &mut InFlight)> {
        let (entry, request) = self.entries(generation)?.find(seq)?;
        Some((DispatchSlot { generation, entry }, request))
    }

    /// The label of a current or recent request.
    pub(super) fn identity(&mut self, seq: u64) -> Option<Arc<RequestLabel>> {
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
    ) -> impl Iterator<Item = (DispatchSlot, &mut InFlight)> {
        self.entries(generation)
            .into_iter()
            .flat_map(Entries::in_flight)
            .map(move |(entry, request)| (DispatchSlot { generation, entry }, request))
    }

    /// Prepares a request for another attempt: its entry stays reserved for the call that waits.
    /// `None`: no call waits, and the entry is free.
    pub(super) fn take_back(&mut self, spot: DispatchSlot) -> Option<oneshot::Sender<Outcome>> {
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

    /// Learns from a request that has ended how long it took.
    pub(super) fn learn(&mut self, spot: DispatchSlot, took: Duration) {
        let entries = self.entries(spot.generation);
        if let Some(Entry::InFlight(request)) = entries.map(|it| &it.entries[spot.entry])
            && let Some(route) = request.route
        {
            self.costs.learn(route, took);
        }
    }

    /// The time since which the oldest request waits for an entry.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.line.oldest()
    }

    /// Requests that have overtaken others so far.
    pub(super) fn overtaken(&self) -> u64 {
        self.line.overtaken()
    }

    /// Releases an entry to the first waiting request.
    pub(super) fn release(&mut self, spot: DispatchSlot) {
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

    /// Reserves an entry for a request of this cost. A long request among short ones is handed out
    /// to a free thread only: they could not overtake it any more.
    fn reserve(&mut self, cost: Option<Cost>) -> Option<DispatchSlot> {
        let most_ahead = most_ahead(&self.costs, self.is_slow, cost);
        reserve(&mut self.generations, self.current, most_ahead)
    }

    fn serve_waiters(&mut self) {
        loop {
            let (generations, current) = (&mut self.generations, self.current);
            let (costs, is_slow) = (&self.costs, self.is_slow);
            let served = self
                .line
                .serve(|cost| reserve(generations, current, most_ahead(costs, is_slow, cost)));
            match served {
                Service::Served => {}
                Service::NoEntry => return,
                Service::Empty(unused) => {
                    if let Some(spot) = unused
                        && let Some(entries) = self.entries(spot.generation)
                    {
                        entries.entries[spot.entry] = Entry::Free;
                        entries.free.push(spot.entry);
                    }
                    break;
                }
            }
        }
        self.is_slow = false;
    }
}

fn most_ahead(costs: &RouteCosts, is_slow: bool, cost: Option<Cost>) -> MostAhead {
    match cost {
        Some(cost) if costs.has_shorter(cost) => MostAhead::None,
        _ if is_slow => MostAhead::OneEach,
        _ => MostAhead::Any,
    }
}

fn reserve(
    generations: &mut [Entries],
    current: Option<u32>,
    most_ahead: MostAhead,
) -> Option<DispatchSlot> {
    let mut generations = generations.iter_mut();
    let entries = generations.find(|entries| Some(entries.generation) == current)?;
    let generation = entries.generation;
    let entry = entries.reserve(most_ahead)?;
    Some(DispatchSlot { generation, entry })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table with generation 0 current.
    fn table(entries: usize) -> Dispatcher {
        let mut table = Dispatcher::new();
        table.add(0, entries);
        table.switch(0);
        table
    }

    fn spot(place: AdmissionOutcome) -> Option<DispatchSlot> {
        match place {
            AdmissionOutcome::Entry(spot) => Some(spot),
            _ => None,
        }
    }

    fn ask(table: &mut Dispatcher, limit: usize) -> AdmissionOutcome {
        table.ask(&mut QueuePosition::new(None), limit)
    }

    fn receiver(place: AdmissionOutcome) -> oneshot::Receiver<Admission> {
        match place {
            AdmissionOutcome::Wait(receiver) => receiver,
            _ => panic!("expected a place in the queue"),
        }
    }

    #[test]
    fn nothing_is_handed_out_before_there_is_a_worker() {
        let mut table = table(4);
        let mut first = receiver(ask(&mut table, 10));
        let mut second = receiver(ask(&mut table, 10));
        table.set_capacity(0, 1, 0);
        assert!(first.try_recv().is_ok(), "first come, first served");
        assert!(second.try_recv().is_err());
        assert_eq!((table.handed_out(), table.waiting()), (1, 2));
    }

    #[test]
    fn a_full_queue_says_so() {
        let mut table = table(1);
        table.set_capacity(0, 1, 0);
        assert!(spot(ask(&mut table, 1)).is_some());
        let _waiting = receiver(ask(&mut table, 1));
        assert!(matches!(ask(&mut table, 1), AdmissionOutcome::Full));
        table.stopped_waiting();
        assert!(matches!(ask(&mut table, 1), AdmissionOutcome::Wait(_)));
    }

    #[test]
    fn requests_handed_out_ahead_count_as_waiting() {
        let mut table = table(8);
        table.set_capacity(0, 1, 5);
        assert!(spot(ask(&mut table, 2)).is_some(), "for the thread");
        assert!(spot(ask(&mut table, 2)).is_some(), "ahead");
        assert!(spot(ask(&mut table, 2)).is_some(), "ahead");
        assert!(matches!(ask(&mut table, 2), AdmissionOutcome::Full));
    }

    #[test]
    fn a_released_entry_goes_past_those_who_left() {
        let mut table = table(1);
        table.set_capacity(0, 1, 0);
        let held = spot(ask(&mut table, 9)).unwrap();
        drop(receiver(ask(&mut table, 9)));
        table.stopped_waiting();
        let mut staying = receiver(ask(&mut table, 9));
        table.release(held);
        assert_eq!(staying.try_recv().unwrap(), Ok(held));
        table.release(held);
        table.release(held);
        table.stopped_waiting();
        assert_eq!(table.handed_out(), 0, "releasing twice frees once");
    }

    #[test]
    fn a_request_is_found_by_its_number_until_it_is_released() {
        let mut table = table(2);
        table.set_capacity(0, 2, 0);
        let place = spot(ask(&mut table, 1)).unwrap();
        let (seq, answer) = table
            .begin(
                place,
                Arc::default(),
                QueuePosition::new(None),
                Instant::now(),
            )
            .unwrap();
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
    fn a_request_that_runs_for_very_long_is_found_among_many() {
        let mut table = table(2);
        table.set_capacity(0, 2, 0);
        let old = spot(ask(&mut table, 1)).unwrap();
        let begun = table.begin(
            old,
            Arc::default(),
            QueuePosition::new(None),
            Instant::now(),
        );
        let (first, _old_answer) = begun.unwrap();
        for _ in 0..50 {
            let place = spot(ask(&mut table, 1)).unwrap();
            let position = QueuePosition::new(None);
            let begun = table.begin(place, Arc::default(), position, Instant::now());
            let (seq, _answer) = begun.unwrap();
            let mut found = |seq| table.find(0, seq).map(|(spot, _)| spot);
            assert_eq!((found(first), found(seq)), (Some(old), Some(place)));
            assert_eq!(found(seq + 1), None);
            table.release(place);
        }
    }

    #[test]
    fn those_who_wait_are_served_by_the_generation_that_takes_over() {
        let mut table = table(1);
        table.set_capacity(0, 1, 0);
        let mut again = QueuePosition::new(None);
        let held = spot(table.ask(&mut again, 9)).unwrap();
        let mut waiting = receiver(ask(&mut table, 9));
        table.add(1, 1);
        table.set_capacity(1, 1, 0);
        assert!(waiting.try_recv().is_err(), "it is not current yet");
        table.switch(1);
        assert_eq!(waiting.try_recv().unwrap().unwrap().generation, 1);
        assert!(
            table
                .begin(
                    held,
                    Arc::default(),
                    QueuePosition::new(None),
                    Instant::now()
                )
                .is_none(),
            "an entry of the one before is of no use any more"
        );
        table.stopped_waiting();
        let mut behind = receiver(ask(&mut table, 9));
        let mut again = receiver(table.ask(&mut again, 9));
        table.release(DispatchSlot {
            generation: 1,
            entry: 0,
        });
        assert!(again.try_recv().is_ok(), "it had a place already");
        assert!(behind.try_recv().is_err());
    }

    #[test]
    fn while_slow_requests_of_several_addresses_compete_few_are_handed_out_ahead() {
        let mut table = table(8);
        table.set_capacity(0, 1, 6);
        let spots: Vec<_> = (0..7).map(|_| spot(ask(&mut table, 9)).unwrap()).collect();
        let mut waiting: Vec<_> = (0..3).map(|_| receiver(ask(&mut table, 9))).collect();
        table.set_slow();
        for (at, spot) in spots.iter().enumerate() {
            table.release(*spot);
            let served = waiting.iter_mut().map(|waiter| waiter.try_recv().is_ok());
            // One runs and one is ahead of it: the sixth of seven makes room for another.
            assert_eq!(
                served.filter(|served| *served).count(),
                usize::from(at >= 5),
                "{at}"
            );
        }
        assert_eq!(table.handed_out(), 2);
    }

    #[test]
    fn an_address_with_few_waiting_requests_is_not_refused_for_one_with_many() {
        let address = |last| Some(std::net::IpAddr::from([192, 0, 2, last]).into());
        let mut table = table(1);
        table.set_capacity(0, 1, 0);
        let _runs = spot(ask(&mut table, 3)).unwrap();
        let mut many: Vec<_> = (0..3)
            .map(|_| receiver(table.ask(&mut QueuePosition::new(address(1)), 3)))
            .collect();
        let place = table.ask(&mut QueuePosition::new(address(1)), 3);
        assert!(matches!(place, AdmissionOutcome::Full));
        let _waits = receiver(table.ask(&mut QueuePosition::new(address(2)), 3));
        let refused = many.iter_mut().map(|waiter| waiter.try_recv().is_ok());
        assert_eq!(refused.collect::<Vec<_>>(), [false, false, true]);
    }

    #[test]
    fn a_removed_generation_takes_nothing_along() {
        let mut table = table(1);
        table.set_capacity(0, 1, 0);
        let held = spot(ask(&mut table, 9)).unwrap();
        table.remove(0);
        table.release(held);
        assert!(matches!(ask(&mut table, 9), AdmissionOutcome::Wait(_)));
        assert_eq!(table.handed_out(), 0);
    }

    /// Hands out so many requests of a route one after the other, each of which takes `ms`.
    fn teach(table: &mut Dispatcher, route: Route, ms: u64) {
        let position = QueuePosition::new(None).on(Some(route));
        for _ in 0..4 {
            let place = spot(table.ask(&mut position.clone(), 9)).unwrap();
            let begun = table.begin(place, Arc::default(), position, Instant::now());
            table.learn(place, Duration::from_millis(ms));
            table.release(place);
            drop(begun);
        }
    }

    #[test]
    fn a_long_request_among_short_ones_is_handed_out_to_a_free_thread_only() {
        let route = |target: &str| {
            Route::of(&RequestLabel {
                target: crate::front::context::Target(target.to_owned()),
                ..RequestLabel::default()
            })
        };
        let mut table = table(8);
        table.set_capacity(0, 1, 6);
        let (long, short) = (route("/long"), route("/short"));
        let ask = |table: &mut Dispatcher, route| {
            table.ask(&mut QueuePosition::new(None).on(Some(route)), 99)
        };
        teach(&mut table, long, 50);
        let first = spot(ask(&mut table, long)).unwrap();
        let ahead = spot(ask(&mut table, long)).expect("there are no short ones");
        table.release(ahead);
        table.release(first);
        teach(&mut table, short, 1);
        let runs = spot(ask(&mut table, long)).unwrap();
        let mut waits = receiver(ask(&mut table, long));
        let mut overtakes = receiver(ask(&mut table, short));
        assert!(waits.try_recv().is_err(), "no thread is free");
        let overtaking = overtakes.try_recv().unwrap().unwrap();
        assert_eq!(table.overtaken(), 1);
        table.release(runs);
        assert!(waits.try_recv().is_err(), "a short one runs");
        table.release(overtaking);
        assert!(waits.try_recv().is_ok());
    }
}
