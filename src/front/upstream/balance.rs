//! Load balancing: picks the server with the fewest requests in flight, and skips servers that have
//! just failed, except for one request at a time that retries such a server.
//!
//! Health checks are passive: only the results of requests count. A server fails when it cannot be
//! connected to, and when no usable response head arrives; a status is no failure. Times are passed
//! in; nothing here waits or connects.

use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Consecutive failures after which a server is skipped. nginx's default is one, which one full
/// backlog reaches.
const MOST_FAILURES: u32 = 3;
/// Number of responses that cancel one failure: a server with a broken worker, which fails now and
/// then, has the fewest requests in flight and would get more than its share.
const ANSWERS_FOR_ONE: u32 = 4;
/// Time for which a failure counts. nginx's `fail_timeout` is 10 s.
const FAILURE_COUNTS: Duration = Duration::from_secs(10);
/// Time for which a server is skipped at first; doubled each time a retry fails.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
/// Longest time for which a server is skipped. nginx's `fail_timeout` is 10 s.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);

/// Servers to choose from.
#[derive(Debug)]
pub struct Balance(Mutex<State>);

#[derive(Debug)]
struct State {
    servers: Vec<Server>,
    /// Index at which the search among equals begins (round robin).
    turn: usize,
}

#[derive(Debug, Clone, Default)]
struct Server {
    in_flight: usize,
    /// Failures not cancelled by responses, times [`ANSWERS_FOR_ONE`].
    debt: u32,
    last_failure: Option<Instant>,
    down: Option<Down>,
    has_been_reached: bool,
    has_worked: bool,
}

#[derive(Debug, Clone, Copy)]
struct Down {
    until: Instant,
    back_off: Duration,
    is_tried: bool,
}

impl Down {
    /// True if a request may retry the server; see [`Balance::pick`].
    fn is_due(&self, now: Instant, may_repeat: bool) -> bool {
        let grace = if may_repeat {
            Duration::ZERO
        } else {
            self.back_off
        };
        !self.is_tried && self.until + grace <= now
    }
}

/// A request's slot at a server, released on drop.
#[derive(Debug)]
pub struct Slot {
    balance: Arc<Balance>,
    server: usize,
    /// True if this request retries a failed server.
    is_try: bool,
}

impl Balance {
    /// A set of `servers` servers, all presumed healthy.
    pub fn new(servers: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            servers: vec![Server::default(); servers],
            turn: 0,
        })))
    }

    /// A slot for one request at none of the servers in `tried`. If all the others are being
    /// skipped, it is the least loaded of them, among equals the one whose back-off ends first: a
    /// request is never refused before all of them were tried.
    ///
    /// A request that `may_repeat` on another server retries a failed server as soon as its
    /// back-off is over; other requests do when it has been over for as long again.
    pub fn pick(self: &Arc<Self>, tried: &[usize], now: Instant, may_repeat: bool) -> Option<Slot> {
        let mut state = self.lock();
        let count = state.servers.len();
        let turn = state.turn;
        let order = |server: &usize| (server + count - turn % count) % count;
        let untried = (0..count).filter(|server| !tried.contains(server));
        let servers = &state.servers;
        let well = untried
            .clone()
            .filter(|server| servers[*server].down.is_none())
            .min_by_key(|server| (servers[*server].in_flight, order(server)));
        let to_try = untried.clone().find(|server| {
            let down = servers[*server].down;
            down.is_some_and(|down| down.is_due(now, may_repeat))
        });
        // No request waits for a retry that is due while other servers are healthy: retry now.
        let (server, is_try) = match (to_try, well) {
            (Some(server), _) => (server, true),
            (None, Some(server)) => (server, false),
            (None, None) => {
                let soonest = untried.min_by_key(|server| {
                    let down = servers[*server].down;
                    (servers[*server].in_flight, down.map(|down| down.until))
                })?;
                (soonest, false)
            }
        };
        state.turn = state.turn.wrapping_add(1);
        Some(self.take(state, server, is_try))
    }

    /// As [`Balance::pick`], but the first server in `order` that is healthy, or whose retry is due.
    pub fn pick_in(
        self: &Arc<Self>,
        order: &[usize],
        tried: &[usize],
        now: Instant,
        may_repeat: bool,
    ) -> Option<Slot> {
        let state = self.lock();
        let untried = || {
            order
                .iter()
                .copied()
                .filter(|server| !tried.contains(server))
        };
        let servers = &state.servers;
        let usable = untried().find_map(|server| match servers[server].down {
            None => Some((server, false)),
            Some(down) if down.is_due(now, may_repeat) => Some((server, true)),
            Some(_) => None,
        });
        let soonest = || {
            let soonest =
                untried().min_by_key(|server| servers[*server].down.map(|down| down.until));
            soonest.map(|server| (server, false))
        };
        let (server, is_try) = usable.or_else(soonest)?;
        Some(self.take(state, server, is_try))
    }

    /// A slot at the server that was picked.
    fn take(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        server: usize,
        is_try: bool,
    ) -> Slot {
        let chosen = &mut state.servers[server];
        chosen.in_flight += 1;
        if let Some(down) = &mut chosen.down {
            down.is_tried |= is_try;
        }
        drop(state);
        self.slot(server, is_try)
    }

    /// A slot at the given server.
    pub fn at(self: &Arc<Self>, server: usize) -> Slot {
        self.lock().servers[server].in_flight += 1;
        self.slot(server, false)
    }

    fn slot(self: &Arc<Self>, server: usize, is_try: bool) -> Slot {
        Slot {
            balance: Arc::clone(self),
            server,
            is_try,
        }
    }

    /// True if any server has ever accepted a connection.
    pub fn has_been_reached(&self) -> bool {
        let state = self.lock();
        state.servers.iter().any(|server| server.has_been_reached)
    }

    /// Records that a server accepted a connection. This does not make it healthy.
    pub fn reached(&self, server: usize) {
        self.lock().servers[server].has_been_reached = true;
    }

    /// Requests in flight at each server.
    #[cfg(test)]
    pub fn in_flight(&self) -> Vec<usize> {
        let state = self.lock();
        state
            .servers
            .iter()
            .map(|server| server.in_flight)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl Slot {
    /// Number of the server.
    pub fn server(&self) -> usize {
        self.server
    }

    /// The server has accepted the connection.
    pub fn reached(&self) {
        self.balance.reached(self.server);
    }

    /// True if the server has ever sent a usable response.
    pub fn has_worked(&self) -> bool {
        self.balance.lock().servers[self.server].has_worked
    }

    /// Records a usable response. Returns true if the server was being skipped.
    pub fn succeeded(&self) -> bool {
        let mut state = self.balance.lock();
        let server = &mut state.servers[self.server];
        server.has_worked = true;
        let was_down = server.down.take().is_some();
        server.debt = match was_down {
            true => 0,
            false => server.debt.saturating_sub(1),
        };
        was_down
    }

    /// Records a failure. Returns the back-off if one begins now.
    pub fn failed(&self, now: Instant) -> Option<Duration> {
        let mut state = self.balance.lock();
        let server = &mut state.servers[self.server];
        let before = server.last_failure.replace(now);
        if before.is_none_or(|before| now.saturating_duration_since(before) > FAILURE_COUNTS) {
            server.debt = 0;
        }
        server.debt = server.debt.saturating_add(ANSWERS_FOR_ONE);
        let back_off = match server.down {
            Some(down) if self.is_try => (down.back_off * 2).min(LONGEST_BACK_OFF),
            // Sent before the back-off began, or because all servers are in back-off.
            Some(_) => return None,
            // After a few responses the third consecutive failure is enough, however little is left
            // of the first.
            None if server.debt > (MOST_FAILURES - 1) * ANSWERS_FOR_ONE => FIRST_BACK_OFF,
            None => return None,
        };
        server.down = Some(Down {
            until: now + back_off,
            back_off,
            is_tried: false,
        });
        Some(back_off)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.balance.lock();
        let server = &mut state.servers[self.server];
        server.in_flight -= 1;
        if let (true, Some(down)) = (self.is_try, &mut server.down) {
            // A retry whose client left has no result: the next request may retry.
            down.is_tried = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(slot: &Option<Slot>) -> Option<usize> {
        slot.as_ref().map(Slot::server)
    }

    fn fail(balance: &Arc<Balance>, server: usize, now: Instant) {
        let others: Vec<_> = (0..balance.in_flight().len())
            .filter(|other| *other != server)
            .collect();
        for _ in 0..MOST_FAILURES {
            balance.pick(&others, now, true).unwrap().failed(now);
        }
    }

    #[test]
    fn the_server_with_the_fewest_requests_gets_the_next_and_equals_take_turns() {
        let (balance, now) = (Balance::new(3), Instant::now());
        let mut slots: Vec<_> = (0..6)
            .map(|_| balance.pick(&[], now, true).unwrap())
            .collect();
        assert_eq!(balance.in_flight(), [2, 2, 2]);
        slots.retain(|slot| slot.server() != 1);
        let next = [balance.pick(&[], now, true), balance.pick(&[], now, true)];
        assert_eq!(next.each_ref().map(number), [Some(1), Some(1)]);
        drop((slots, next));
        assert_eq!(balance.in_flight(), [0, 0, 0]);
    }

    #[test]
    fn a_request_goes_to_each_server_once() {
        let (balance, now) = (Balance::new(2), Instant::now());
        let first = balance.pick(&[], now, true).unwrap().server();
        let second = balance.pick(&[first], now, true).unwrap().server();
        assert_ne!(first, second);
        assert!(balance.pick(&[first, second], now, true).is_none());
    }

    #[test]
    fn a_server_that_fails_is_left_alone_then_tried_by_one_request_at_a_time() {
        let (balance, now) = (Balance::new(2), Instant::now());
        fail(&balance, 0, now);
        assert!((0..4).all(|_| number(&balance.pick(&[], now, true)) == Some(1)));
        let later = now + FIRST_BACK_OFF;
        let one_try = balance.pick(&[], later, true).unwrap();
        assert_eq!(one_try.server(), 0);
        assert_eq!(number(&balance.pick(&[], later, true)), Some(1));
        assert_eq!(one_try.failed(later), Some(FIRST_BACK_OFF * 2));
        drop(one_try);
        assert_eq!(
            number(&balance.pick(&[], later + FIRST_BACK_OFF, true)),
            Some(1)
        );
        let again = balance.pick(&[], later + FIRST_BACK_OFF * 2, true).unwrap();
        assert!(again.succeeded());
        drop(again);
        let both = [
            balance.pick(&[], later, true),
            balance.pick(&[], later, true),
        ];
        assert_eq!(balance.in_flight(), [1, 1]);
        drop(both);
    }

    #[test]
    fn a_try_that_is_broken_off_leaves_room_for_the_next() {
        let (balance, now) = (Balance::new(2), Instant::now());
        fail(&balance, 0, now);
        let later = now + FIRST_BACK_OFF;
        drop(balance.pick(&[], later, true));
        assert_eq!(number(&balance.pick(&[], later, true)), Some(0));
    }

    #[test]
    fn where_all_have_failed_each_is_tried_all_the_same() {
        let (balance, now) = (Balance::new(2), Instant::now());
        fail(&balance, 0, now);
        fail(&balance, 1, now + Duration::from_millis(1));
        for may_repeat in [true, false] {
            let pick = |tried: &[usize]| number(&balance.pick(tried, now, may_repeat));
            assert_eq!(pick(&[]), Some(0));
            assert_eq!(pick(&[0]), Some(1));
            assert_eq!(pick(&[0, 1]), None);
        }
        let both = [(); 2].map(|()| balance.pick(&[], now, true));
        assert_eq!(balance.in_flight(), [1, 1], "they share the work as ever");
        drop(both);
    }

    #[test]
    fn what_must_not_run_twice_tries_a_failed_server_last() {
        let (balance, now) = (Balance::new(2), Instant::now());
        fail(&balance, 0, now);
        let due = now + FIRST_BACK_OFF;
        assert_eq!(number(&balance.pick(&[], due, false)), Some(1));
        assert_eq!(number(&balance.pick(&[], due, true)), Some(0));
        let long_due = due + FIRST_BACK_OFF;
        assert_eq!(number(&balance.pick(&[], long_due, false)), Some(0));
    }

    /// Number of failures until a server is skipped that fails once in so many requests.
    fn failures_of_one_in(requests: u32) -> Option<u32> {
        let (balance, now) = (Balance::new(1), Instant::now());
        (1..100).find(|_| {
            for _ in 1..requests {
                assert!(!balance.at(0).succeeded());
            }
            balance.at(0).failed(now).is_some()
        })
    }

    #[test]
    fn answers_between_failures_count_but_do_not_hide_them() {
        assert_eq!(failures_of_one_in(1), Some(MOST_FAILURES));
        assert!(failures_of_one_in(2).is_some_and(|failures| failures <= 4));
        assert_eq!(failures_of_one_in(5), None);
        assert_eq!(failures_of_one_in(1000), None);
    }

    #[test]
    fn old_failures_do_not_count_and_back_off_has_an_end() {
        let (balance, mut now) = (Balance::new(1), Instant::now());
        for _ in 0..10 {
            assert_eq!(balance.at(0).failed(now), None);
            now += FAILURE_COUNTS + Duration::from_millis(1);
        }
        fail(&balance, 0, now);
        for _ in 0..10 {
            now += LONGEST_BACK_OFF;
            let back_off = balance.pick(&[], now, true).unwrap().failed(now).unwrap();
            assert!(back_off <= LONGEST_BACK_OFF);
        }
    }

    #[test]
    fn in_an_order_the_first_healthy_server_is_picked_and_the_first_again_once_it_works() {
        let now = Instant::now();
        let balance = Balance::new(3);
        let order = [2, 0, 1];
        let pick = |tried: &[usize], now| balance.pick_in(&order, tried, now, true);
        // However many requests it has.
        let kept: Vec<_> = (0..5).map(|_| pick(&[], now).unwrap()).collect();
        assert!(kept.iter().all(|slot| slot.server() == 2));
        assert_eq!(number(&pick(&[2], now)), Some(0));
        for slot in &kept[..3] {
            slot.failed(now);
        }
        assert_eq!(number(&pick(&[], now)), Some(0));
        let due = now + FIRST_BACK_OFF;
        let one_try = pick(&[], due).unwrap();
        assert_eq!(one_try.server(), 2);
        assert_eq!(number(&pick(&[], due)), Some(0), "one request tries it");
        one_try.succeeded();
        assert_eq!(number(&pick(&[], due)), Some(2));
        assert!(pick(&[0, 1, 2], due).is_none());
    }
}
