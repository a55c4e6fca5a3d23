//! The queue of requests that wait for a worker: round robin over client addresses. So a client with a
//! thousand waiting requests delays another client by one of them.
//!
//! Within one address first come, first served, but a short request may overtake long ones: those
//! whose expected cost is at least four times as high ([`APART`]). The requests that overtake one
//! cost no more than itself together ([`Waiter::allows`]), so that long requests get half of the
//! workers' time at least while they wait. A request of unknown cost neither overtakes nor is
//! overtaken.
//!
//! Pure bookkeeping: it knows neither the requests nor the entries that they wait for. With one
//! client, and requests of one kind, it is a plain FIFO.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use tokio::sync::oneshot;

use super::dispatch_slot::DispatchSlot;
use super::route_costs::{APART, CLASSES, Cost};
use crate::front::client_limits::network::Network;

/// The address by which requests are kept apart; `None` for peers without one (a Unix socket).
pub(super) type QueueAddress = Option<Network>;

/// The answer to a waiting request: its entry, or the refusal of a full queue.
pub(super) type Admission = Result<DispatchSlot, DisplacedError>;

/// The queue is full, and a request of an address with fewer waiting requests needs the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DisplacedError;

/// The outcome of [`RequestQueue::serve`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// A request has an entry.
    Served,
    /// There is no entry for the next request.
    NoEntry,
    /// No request waits; with the entry of one whose client has just left.
    Empty(Option<DispatchSlot>),
}

/// Most requests that overtake one: each counts as this part of its cost at least.
const MOST_OVERTAKING: u64 = 64;
/// The lane of requests of unknown cost.
const UNKNOWN: usize = CLASSES;

/// All waiting requests.
#[derive(Default)]
pub(super) struct RequestQueue {
    queues: HashMap<QueueAddress, OfAddress>,
    /// Origins with waiting requests, in the order in which they are served.
    turns: VecDeque<QueueAddress>,
    /// Requests in all queues, those of clients that have left included.
    length: usize,
    /// Requests that have overtaken others.
    overtaken: u64,
}

/// The waiting requests of one address: a lane for each class of costs, in the order of tickets.
#[derive(Default)]
struct OfAddress {
    lanes: [VecDeque<Waiter>; CLASSES + 1],
    /// A bit for each lane that is not empty.
    used: u16,
    length: usize,
}

struct Waiter {
    /// Lower for a request that came earlier.
    ticket: u64,
    cost: Option<Cost>,
    since: Option<Instant>,
    /// Microseconds of the requests that have overtaken it.
    overtaken_us: u64,
    sender: oneshot::Sender<Admission>,
}

impl RequestQueue {
    /// Requests in the queue, those of disconnected clients included.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Requests that have overtaken others so far.
    pub(super) fn overtaken(&self) -> u64 {
        self.overtaken
    }

    /// The time since which the oldest request waits.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let lanes = self.queues.values().flat_map(|queue| &queue.lanes);
        let heads = lanes.filter_map(VecDeque::front);
        let heads = heads.filter(|head| !head.sender.is_closed());
        heads.filter_map(|head| head.since).min()
    }

    /// Adds a request that waits since then, in the order of tickets among those of its origin and
    /// cost.
    pub(super) fn join(
        &mut self,
        origin: QueueAddress,
        ticket: u64,
        cost: Option<Cost>,
        since: Option<Instant>,
    ) -> oneshot::Receiver<Admission> {
        let (sender, receiver) = oneshot::channel();
        let queue = self.queues.entry(origin).or_default();
        if queue.length == 0 {
            self.turns.push_back(origin);
        }
        let waiter = Waiter {
            ticket,
            cost,
            since,
            overtaken_us: 0,
            sender,
        };
        queue.insert(waiter);
        self.length += 1;
        receiver
    }

    /// Gives the next request the entry that `reserve` has for a request of its cost.
    pub(super) fn serve(
        &mut self,
        reserve: impl FnOnce(Option<Cost>) -> Option<DispatchSlot>,
    ) -> Service {
        let mut reserve = Some(reserve);
        let mut spot = None;
        while let Some(origin) = self.turns.front().copied() {
            if let Some(queue) = self.queues.get_mut(&origin) {
                self.length -= queue.forget_closed_heads();
                if let Some(lane) = queue.next() {
                    let cost = queue.lanes[lane].front().and_then(|head| head.cost);
                    // A client may leave now: its entry goes to the next request.
                    spot = spot.or_else(|| reserve.take().and_then(|reserve| reserve(cost)));
                    let Some(entry) = spot else {
                        return Service::NoEntry;
                    };
                    self.length -= 1;
                    let Some(overtakes) = queue.serve(lane, entry) else {
                        continue;
                    };
                    self.overtaken += u64::from(overtakes);
                    self.turns.pop_front();
                    match queue.length {
                        0 => drop(self.queues.remove(&origin)),
                        _ => self.turns.push_back(origin),
                    }
                    return Service::Served;
                }
            }
            // A client that has disconnected costs no turn.
            self.queues.remove(&origin);
            self.turns.pop_front();
        }
        Service::Empty(spot)
    }

    /// Refuses the newest request of the origin with the most waiting requests, for a new
    /// request of `origin`. False: no origin has at least two more than `origin`.
    pub(super) fn displace(&mut self, origin: QueueAddress) -> bool {
        let own = self.queues.get(&origin).map_or(0, |queue| queue.length);
        let longest = self.queues.iter_mut().max_by_key(|(_, queue)| queue.length);
        let Some((_, queue)) = longest.filter(|(_, queue)| queue.length > own + 1) else {
            return false;
        };
        while let Some(waiter) = queue.pop_newest() {
            self.length -= 1;
            if waiter.sender.send(Err(DisplacedError)).is_ok() {
                break;
            }
        }
        true
    }

    /// Forgets requests of clients that have left.
    pub(super) fn prune(&mut self) {
        self.queues.retain(|_, queue| {
            queue.prune();
            queue.length > 0
        });
        self.turns.retain(|origin| self.queues.contains_key(origin));
        self.length = self.queues.values().map(|queue| queue.length).sum();
    }

    /// Forgets all requests; their receivers are closed.
    pub(super) fn clear(&mut self) {
        *self = Self {
            overtaken: self.overtaken,
            ..Self::default()
        };
    }
}

impl OfAddress {
    /// The lanes that are not empty, by class.
    fn used(&self) -> impl Iterator<Item = usize> + use<> {
        let mut used = self.used;
        std::iter::from_fn(move || {
            let lane = used.trailing_zeros() as usize;
            used &= used.wrapping_sub(1);
            (lane <= UNKNOWN).then_some(lane)
        })
    }

    fn heads(&self) -> impl Iterator<Item = &Waiter> {
        self.used().filter_map(|lane| self.lanes[lane].front())
    }

    /// The lane of the next request: the shortest one that all older ones allow to overtake.
    fn next(&self) -> Option<usize> {
        let may_go = |lane: &usize| {
            self.lanes[*lane].front().is_some_and(|head| {
                self.heads()
                    .all(|other| other.ticket >= head.ticket || other.allows(head))
            })
        };
        self.used().find(may_go)
    }

    fn insert(&mut self, waiter: Waiter) {
        let lane = waiter.cost.map_or(UNKNOWN, Cost::class);
        let waiters = &mut self.lanes[lane];
        // A new request has the highest ticket; one that returns has its old ticket.
        let at = match waiters.back() {
            Some(last) if last.ticket > waiter.ticket => {
                waiters.partition_point(|other| other.ticket < waiter.ticket)
            }
            _ => waiters.len(),
        };
        waiters.insert(at, waiter);
        self.used |= 1 << lane;
        self.length += 1;
    }

    /// Records that a request has left a lane.
    fn left(&mut self, lane: usize) {
        self.length -= 1;
        if self.lanes[lane].is_empty() {
            self.used &= !(1 << lane);
        }
    }

    /// Serves the first request of a lane. Returns if it has overtaken others; `None`: its client
    /// has left.
    fn serve(&mut self, lane: usize, spot: DispatchSlot) -> Option<bool> {
        let waiter = self.lanes[lane].pop_front()?;
        self.left(lane);
        let Waiter { ticket, cost, .. } = waiter;
        waiter.sender.send(Ok(spot)).ok()?;
        let mut overtakes = false;
        for lane in self.used() {
            if let Some(other) = self.lanes[lane].front_mut()
                && other.ticket < ticket
            {
                other.overtaken_us += other.charge(cost);
                overtakes = true;
            }
        }
        Some(overtakes)
    }

    /// Forgets requests at the beginning of lanes whose clients have left, and returns their number.
    fn forget_closed_heads(&mut self) -> usize {
        let before = self.length;
        for lane in self.used() {
            let is_closed = |head: &Waiter| head.sender.is_closed();
            while self.lanes[lane].front().is_some_and(is_closed) {
                self.lanes[lane].pop_front();
                self.left(lane);
            }
        }
        before - self.length
    }

    /// Forgets all requests whose clients have left.
    fn prune(&mut self) {
        for lane in self.used() {
            let before = self.lanes[lane].len();
            self.lanes[lane].retain(|waiter| !waiter.sender.is_closed());
            for _ in self.lanes[lane].len()..before {
                self.left(lane);
            }
        }
    }

    fn pop_newest(&mut self) -> Option<Waiter> {
        let newest = |lane: &usize| self.lanes[*lane].back().map(|waiter| waiter.ticket);
        let lane = self.used().max_by_key(newest)?;
        let waiter = self.lanes[lane].pop_back()?;
        self.left(lane);
        Some(waiter)
    }
}

impl Waiter {
    /// True if `other`, which came later, may overtake this request.
    fn allows(&self, other: &Self) -> bool {
        let (Some(cost), Some(shorter)) = (self.cost, other.cost) else {
            return false;
        };
        cost.class() >= shorter.class() + APART
            && self.overtaken_us + self.charge(other.cost) <= cost.micros()
    }

    /// The charge of a request of this cost, if it overtakes this one.
    fn charge(&self, cost: Option<Cost>) -> u64 {
        let least = self.cost.map_or(0, Cost::micros) / MOST_OVERTAKING;
        cost.map_or(0, Cost::micros).max(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    const SPOT: DispatchSlot = DispatchSlot {
        generation: 0,
        entry: 0,
    };

    fn origin(last: u8) -> QueueAddress {
        Some(Network::from(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))))
    }

    /// Serves one request after the other; the tickets in the order in which they are served.
    fn served(
        line: &mut RequestQueue,
        mut receivers: Vec<(u64, oneshot::Receiver<Admission>)>,
    ) -> Vec<u64> {
        let mut order = Vec::new();
        while line.serve(|_| Some(SPOT)) == Service::Served {
            receivers.retain_mut(|(ticket, receiver)| match receiver.try_recv() {
                Ok(_) => {
                    order.push(*ticket);
                    false
                }
                Err(_) => true,
            });
        }
        order
    }

    #[test]
    fn addresses_take_turns_and_each_is_served_first_come_first_served() {
        let mut line = RequestQueue::default();
        let wanted = [(1, 0), (1, 1), (1, 2), (2, 3), (1, 4), (3, 5), (2, 6)];
        let receivers = wanted
            .map(|(last, ticket)| (ticket, line.join(origin(last), ticket, None, None)))
            .into();
        assert_eq!(served(&mut line, receivers), [0, 3, 5, 1, 6, 2, 4]);
        assert_eq!((line.len(), line.turns.len()), (0, 0));
    }

    #[test]
    fn peers_without_an_address_are_one_client() {
        let mut line = RequestQueue::default();
        let receivers = (0..4).map(|ticket| (ticket, line.join(None, ticket, None, None)));
        let receivers = receivers.collect();
        assert_eq!(served(&mut line, receivers), [0, 1, 2, 3]);
    }

    #[test]
    fn a_request_that_comes_back_has_its_old_place_among_those_of_its_address() {
        let mut line = RequestQueue::default();
        let receivers = [5, 7, 6, 3]
            .map(|ticket| (ticket, line.join(origin(1), ticket, None, None)))
            .into();
        assert_eq!(served(&mut line, receivers), [3, 5, 6, 7]);
    }

    #[test]
    fn clients_that_have_left_cost_no_turn() {
        let mut line = RequestQueue::default();
        drop(line.join(origin(1), 0, None, None));
        drop(line.join(origin(2), 1, None, None));
        let receivers = vec![(2, line.join(origin(2), 2, None, None))];
        assert_eq!(served(&mut line, receivers), [2]);
        drop(line.join(origin(1), 3, None, None));
        line.prune();
        assert_eq!((line.len(), line.turns.len()), (0, 0));
    }

    #[test]
    fn in_a_full_line_the_newest_request_of_the_longest_queue_makes_room() {
        let mut line = RequestQueue::default();
        let mut first = line.join(origin(1), 0, None, None);
        assert!(!line.displace(origin(2)), "one each is fair");
        let mut second = line.join(origin(1), 1, None, None);
        assert!(!line.displace(origin(1)), "it is its own");
        assert!(line.displace(origin(2)));
        assert_eq!(second.try_recv(), Ok(Err(DisplacedError)));
        assert!(first.try_recv().is_err(), "it waits on");
        assert_eq!(line.len(), 1);
    }

    const SHORT: u64 = 1;
    const LONG: u64 = 50;

    /// Requests of one address, each with the milliseconds that it is expected to take; the
    /// order in which they are served.
    fn order(wanted: &[Option<u64>]) -> Vec<u64> {
        let mut line = RequestQueue::default();
        let join = |(ticket, ms): (usize, &Option<u64>)| {
            let cost = ms.map(Cost::of_ms);
            (
                ticket as u64,
                line.join(origin(1), ticket as u64, cost, None),
            )
        };
        let receivers = wanted.iter().enumerate().map(join).collect();
        let order = served(&mut line, receivers);
        assert_eq!((line.len(), line.turns.len(), line.queues.len()), (0, 0, 0));
        order
    }

    #[test]
    fn short_requests_overtake_long_ones_and_each_kind_keeps_its_order() {
        let (short, long) = (Some(SHORT), Some(LONG));
        assert_eq!(
            order(&[long, long, short, short, long, short]),
            [2, 3, 5, 0, 1, 4]
        );
        assert_eq!(order(&[short, long, short]), [0, 2, 1]);
    }

    #[test]
    fn requests_of_similar_or_unknown_cost_overtake_none() {
        assert_eq!(order(&[Some(7), Some(2), Some(3)]), [0, 1, 2]);
        assert_eq!(order(&[Some(LONG), None, Some(SHORT)]), [0, 1, 2]);
        assert_eq!(order(&[None, Some(SHORT), None]), [0, 1, 2]);
        // The short one would have to overtake the middle one, too.
        assert_eq!(order(&[Some(LONG), Some(3), Some(SHORT)]), [1, 2, 0]);
        assert_eq!(order(&[Some(LONG), Some(12), Some(6)]), [0, 1, 2]);
    }

    #[test]
    fn a_request_is_overtaken_only_by_as_much_as_it_costs_itself() {
        let mut wanted = vec![Some(LONG), Some(LONG)];
        wanted.extend([Some(SHORT); 120]);
        let order = order(&wanted);
        let place = |ticket| order.iter().position(|it| *it == ticket);
        assert_eq!(place(0), Some(50), "fifty of one millisecond");
        assert_eq!(place(1), Some(101), "and the same for the next one");
    }

    #[test]
    fn requests_that_cost_nothing_overtake_only_so_often() {
        let mut wanted = vec![Some(LONG)];
        wanted.extend([Some(0); 100]);
        let place = order(&wanted).iter().position(|it| *it == 0);
        assert_eq!(place, Some(MOST_OVERTAKING as usize));
    }

    #[test]
    fn addresses_take_turns_whatever_their_requests_cost() {
        let mut line = RequestQueue::default();
        let wanted = [(1, LONG), (2, SHORT), (2, SHORT), (1, LONG), (1, SHORT)];
        let join = |(ticket, (last, ms)): (usize, (u8, u64))| {
            let cost = Some(Cost::of_ms(ms));
            (
                ticket as u64,
                line.join(origin(last), ticket as u64, cost, None),
            )
        };
        let receivers = wanted.into_iter().enumerate().map(join).collect();
        assert_eq!(served(&mut line, receivers), [4, 1, 0, 2, 3]);
        assert_eq!(line.overtaken(), 1);
    }

    #[test]
    fn an_entry_is_reserved_for_the_cost_of_the_request_that_is_next() {
        let mut line = RequestQueue::default();
        let next = |line: &mut RequestQueue| {
            let mut asked = Vec::new();
            let service = line.serve(|cost| {
                asked.push(cost);
                None
            });
            (service, asked)
        };
        assert_eq!(next(&mut line), (Service::Empty(None), vec![]));
        let cost = |ms| Some(Cost::of_ms(ms));
        let _long = line.join(None, 0, cost(LONG), None);
        assert_eq!(next(&mut line), (Service::NoEntry, vec![cost(LONG)]));
        let short = line.join(None, 1, cost(SHORT), None);
        assert_eq!(next(&mut line), (Service::NoEntry, vec![cost(SHORT)]));
        drop(short);
        assert_eq!(next(&mut line), (Service::NoEntry, vec![cost(LONG)]));
        assert_eq!((line.len(), line.overtaken()), (1, 0));
    }

    #[test]
    fn the_oldest_request_is_known_whatever_has_overtaken_it() {
        let mut line = RequestQueue::default();
        let now = Instant::now();
        let at = |ms| Some(now + std::time::Duration::from_millis(ms));
        let cost = |ms| Some(Cost::of_ms(ms));
        assert_eq!(line.oldest(), None);
        let _later = line.join(origin(2), 2, cost(SHORT), at(2));
        let _between = line.join(origin(1), 1, cost(SHORT), at(1));
        let left = line.join(origin(1), 0, cost(LONG), at(0));
        assert_eq!(line.oldest(), at(0));
        drop(left);
        assert_eq!(line.oldest(), at(1));
    }

    #[test]
    fn in_a_full_line_the_newest_request_makes_room_whatever_it_costs() {
        let mut line = RequestQueue::default();
        let _first = line.join(origin(1), 0, Some(Cost::of_ms(LONG)), None);
        let mut newest = line.join(origin(1), 2, Some(Cost::of_ms(SHORT)), None);
        let _second = line.join(origin(1), 1, Some(Cost::of_ms(LONG)), None);
        assert!(line.displace(origin(2)));
        assert_eq!(newest.try_recv(), Ok(Err(DisplacedError)));
    }
}
