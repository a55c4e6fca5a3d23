//! The queue of requests that wait for a worker: round robin over client addresses, first come
//! first served within one address. So a client with a thousand waiting requests delays another
//! client by one of them.
//!
//! Pure bookkeeping: it knows neither the requests nor the entries that they wait for. With one
//! client it is a plain FIFO.

use std::collections::{HashMap, VecDeque};

use tokio::sync::oneshot;

use super::dispatch_slot::DispatchSlot;
use crate::front::client_limits::network::Network;

/// The address by which requests are kept apart; `None` for peers without one (a Unix socket).
pub(super) type QueueAddress = Option<Network>;

/// The answer to a waiting request: its entry, or the refusal of a full queue.
pub(super) type Admission = Result<DispatchSlot, DisplacedError>;

/// The queue is full, and a request of an address with fewer waiting requests needs the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DisplacedError;

/// All waiting requests.
#[derive(Default)]
pub(super) struct RequestQueue {
    queues: HashMap<QueueAddress, VecDeque<Waiter>>,
    /// Origins with waiting requests, in the order in which they are served.
    turns: VecDeque<QueueAddress>,
    /// Requests in all queues, those of clients that have left included.
    length: usize,
}

struct Waiter {
    /// Lower for a request that came earlier.
    ticket: u64,
    sender: oneshot::Sender<Admission>,
}

impl RequestQueue {
    /// Requests in the queue, those of disconnected clients included.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Adds a request, in the order of tickets among those of its origin.
    pub(super) fn join(
        &mut self,
        origin: QueueAddress,
        ticket: u64,
    ) -> oneshot::Receiver<Admission> {
        let (sender, receiver) = oneshot::channel();
        let queue = self.queues.entry(origin).or_default();
        if queue.is_empty() {
            self.turns.push_back(origin);
        }
        // A new request has the highest ticket; one that returns has its old ticket.
        let at = match queue.back() {
            Some(last) if last.ticket > ticket => {
                queue.partition_point(|waiter| waiter.ticket < ticket)
            }
            _ => queue.len(),
        };
        queue.insert(at, Waiter { ticket, sender });
        self.length += 1;
        receiver
    }

    /// Gives the entry to the next request. False: no request waits.
    pub(super) fn serve(&mut self, spot: DispatchSlot) -> bool {
        while let Some(origin) = self.turns.pop_front() {
            let Some(queue) = self.queues.get_mut(&origin) else {
                continue;
            };
            let before = queue.len();
            let mut served = false;
            while let Some(waiter) = queue.pop_front() {
                // A client that has disconnected is skipped.
                if waiter.sender.send(Ok(spot)).is_ok() {
                    served = true;
                    break;
                }
            }
            self.length -= before - queue.len();
            if queue.is_empty() {
                self.queues.remove(&origin);
            } else {
                self.turns.push_back(origin);
            }
            if served {
                return true;
            }
        }
        false
    }

    /// Refuses the newest request of the origin with the most waiting requests, for a new
    /// request of `origin`. False: no origin has at least two more than `origin`.
    pub(super) fn displace(&mut self, origin: QueueAddress) -> bool {
        let own = self.queues.get(&origin).map_or(0, VecDeque::len);
        let longest = self.queues.iter_mut().max_by_key(|(_, queue)| queue.len());
        let Some((_, queue)) = longest.filter(|(_, queue)| queue.len() > own + 1) else {
            return false;
        };
        while let Some(waiter) = queue.pop_back() {
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
            queue.retain(|waiter| !waiter.sender.is_closed());
            !queue.is_empty()
        });
        self.turns.retain(|origin| self.queues.contains_key(origin));
        self.length = self.queues.values().map(VecDeque::len).sum();
    }

    /// Forgets all requests; their receivers are closed.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
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
        while line.serve(SPOT) {
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
            .map(|(last, ticket)| (ticket, line.join(origin(last), ticket)))
            .into();
        assert_eq!(served(&mut line, receivers), [0, 3, 5, 1, 6, 2, 4]);
        assert_eq!((line.len(), line.turns.len()), (0, 0));
    }

    #[test]
    fn peers_without_an_address_are_one_client() {
        let mut line = RequestQueue::default();
        let receivers = (0..4).map(|ticket| (ticket, line.join(None, ticket)));
        let receivers = receivers.collect();
        assert_eq!(served(&mut line, receivers), [0, 1, 2, 3]);
    }

    #[test]
    fn a_request_that_comes_back_has_its_old_place_among_those_of_its_address() {
        let mut line = RequestQueue::default();
        let receivers = [5, 7, 6, 3]
            .map(|ticket| (ticket, line.join(origin(1), ticket)))
            .into();
        assert_eq!(served(&mut line, receivers), [3, 5, 6, 7]);
    }

    #[test]
    fn clients_that_have_left_cost_no_turn() {
        let mut line = RequestQueue::default();
        drop(line.join(origin(1), 0));
        drop(line.join(origin(2), 1));
        let receivers = vec![(2, line.join(origin(2), 2))];
        assert_eq!(served(&mut line, receivers), [2]);
        drop(line.join(origin(1), 3));
        line.prune();
        assert_eq!((line.len(), line.turns.len()), (0, 0));
    }

    #[test]
    fn in_a_full_line_the_newest_request_of_the_longest_queue_makes_room() {
        let mut line = RequestQueue::default();
        let mut first = line.join(origin(1), 0);
        assert!(!line.displace(origin(2)), "one each is fair");
        let mut second = line.join(origin(1), 1);
        assert!(!line.displace(origin(1)), "it is its own");
        assert!(line.displace(origin(2)));
        assert_eq!(second.try_recv(), Ok(Err(DisplacedError)));
        assert!(first.try_recv().is_err(), "it waits on");
        assert_eq!(line.len(), 1);
    }
}
