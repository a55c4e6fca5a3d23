//! The time that requests of each route occupy a worker thread, learned from those that ended.
//!
//! A route is the method and the first segments of the path, where numbers and other identifiers
//! count as one. Clients choose routes, so the table has a fixed size: sets of a few places, found
//! by a keyed hash. A route that is asked for often keeps its place against many that are asked for
//! once. Pure bookkeeping: it reads no clock.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;
use std::time::Duration;

use crate::front::context::RequestLabel;

/// Sets of the table, and places in each: 256 routes, in 6 KiB.
const SETS: usize = 64;
const PLACES: usize = 4;
/// Segments of a path that belong to its route.
const SEGMENTS: usize = 3;
/// Length from which a segment with a digit in it is an identifier: UUIDs, hashes, tokens.
const IDENTIFIER: usize = 16;
/// Requests of a route after which its mean counts as known.
const KNOWN: u8 = 3;
/// A request changes the mean by this part of its distance.
const PART: u64 = 8;
/// A request counts at most as this multiple of the mean, and [`OUTLIER`]: a pause of the machine
/// makes no short route long.
const MOST_OF_MEAN: u64 = 8;
/// In microseconds.
const OUTLIER: u64 = 2_000;
/// Classes of costs: below 1 ms, and from there each to twice the one before; the last has no end.
pub(super) const CLASSES: usize = 9;
/// Distance of the classes of a long request and a short one: at least four times the cost.
pub(super) const APART: usize = 3;
/// Requests after which a class is forgotten.
const RECENT: u64 = 256;

/// A route; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route(u64);

/// The expected time of a request in a worker, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cost(u64);

/// The learned costs.
#[derive(Debug)]
pub(super) struct RouteCosts {
    sets: [[Place; PLACES]; SETS],
    /// Requests that were looked up.
    asked: u64,
    /// That number at the last one of each class that was looked up or has ended; 0 if there was
    /// none.
    last: [u64; CLASSES],
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// Zero if it is empty.
    route: u64,
    mean_us: u64,
    /// Grows with each request of the route, and shrinks with each of another that finds no place.
    uses: u8,
    samples: u8,
}

/// Keyed: clients cannot choose routes that collide.
static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl Route {
    /// The route of a request.
    pub(super) fn of(label: &RequestLabel) -> Self {
        let mut hasher = KEYS.build_hasher();
        hasher.write(label.method_sent());
        let target = label.target_sent();
        let end = target.iter().position(|byte| matches!(byte, b'?' | b'#'));
        let path = &target[..end.unwrap_or(target.len())];
        let segments = path.split(|byte| *byte == b'/');
        for segment in segments.filter(|it| !it.is_empty()).take(SEGMENTS) {
            hasher.write(if is_identifier(segment) {
                b"#"
            } else {
                segment
            });
            hasher.write_u8(b'/');
        }
        Self(hasher.finish().max(1))
    }
}

fn is_identifier(segment: &[u8]) -> bool {
    segment.iter().all(u8::is_ascii_digit)
        || segment.len() >= IDENTIFIER && segment.iter().any(u8::is_ascii_digit)
}

impl Cost {
    #[cfg(test)]
    pub(super) fn of_ms(ms: u64) -> Self {
        Self(ms * 1000)
    }

    /// The number of its class.
    pub(super) fn class(self) -> usize {
        let class = (self.0 / 1000).checked_ilog2().map_or(0, |log| log + 1);
        (class as usize).min(CLASSES - 1)
    }

    /// In microseconds.
    pub(super) fn micros(self) -> u64 {
        self.0
    }
}

impl Default for RouteCosts {
    fn default() -> Self {
        Self {
            sets: [[Place::default(); PLACES]; SETS],
            asked: 0,
            last: [0; CLASSES],
        }
    }
}

impl RouteCosts {
    /// The expected cost of the next request of a route; `None`: too few have ended.
    pub(super) fn expect(&mut self, route: Route) -> Option<Cost> {
        self.asked += 1;
        let place = self.set(route).iter().find(|it| it.route == route.0)?;
        let cost = place.cost()?;
        self.last[cost.class()] = self.asked;
        Some(cost)
    }

    /// A request of the route has ended.
    pub(super) fn learn(&mut self, route: Route, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let set = self.set(route);
        if let Some(place) = set.iter_mut().find(|it| it.route == route.0) {
            place.learn(us);
            if let Some(cost) = place.cost() {
                self.last[cost.class()] = self.asked;
            }
            return;
        }
        let rarest = set.iter_mut().min_by_key(|place| place.uses);
        let Some(rarest) = rarest else { return };
        if rarest.uses > 0 {
            rarest.uses -= 1;
            return;
        }
        *rarest = Place {
            route: route.0,
            ..Place::default()
        };
        rarest.learn(us);
    }

    /// True if requests that are short beside one of this cost have been asked for lately.
    pub(super) fn has_shorter(&self, cost: Cost) -> bool {
        let shorter = cost.class().saturating_sub(APART - 1);
        let is_recent = |last: &u64| *last > 0 && self.asked - last < RECENT;
        self.last[..shorter].iter().any(is_recent)
    }

    fn set(&mut self, route: Route) -> &mut [Place; PLACES] {
        &mut self.sets[route.0 as usize % SETS]
    }
}

impl Place {
    fn cost(&self) -> Option<Cost> {
        (self.samples >= KNOWN).then_some(Cost(self.mean_us))
    }

    fn learn(&mut self, us: u64) {
        self.uses = self.uses.saturating_add(1);
        if self.samples == 0 {
            self.mean_us = us;
        } else {
            let us = us.min(self.mean_us.saturating_mul(MOST_OF_MEAN).max(OUTLIER));
            self.mean_us = self.mean_us - self.mean_us / PART + us / PART;
        }
        self.samples = self.samples.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    use crate::front::context::Target;

    fn route(method: Method, target: &str) -> Route {
        Route::of(&RequestLabel {
            method,
            target: Target(target.to_owned()),
            ..RequestLabel::default()
        })
    }

    fn get(target: &str) -> Route {
        route(Method::GET, target)
    }

    fn learn(costs: &mut RouteCosts, target: &str, ms: u64, times: usize) {
        for _ in 0..times {
            costs.learn(get(target), Duration::from_millis(ms));
        }
    }

    fn class(costs: &mut RouteCosts, target: &str) -> Option<usize> {
        costs.expect(get(target)).map(Cost::class)
    }

    #[test]
    fn a_route_is_the_method_and_the_first_segments_without_identifiers() {
        let same = |one: &str, other: &str| get(one) == get(other);
        assert!(same("/users/1/report?x=1", "/users/29383/report"));
        assert!(same("//users/1", "/users/2/"));
        let (one, other) = ("6f2c8e9a-0d6b-4f43-9d0f-1", "0a1b8e9a-0d6b-4f43-9d0f-2");
        assert!(same(&format!("/o/{one}"), &format!("/o/{other}")));
        assert!(same("/a/b/c/d", "/a/b/c/e"), "three segments");
        assert!(!same("/a/b/c", "/a/b/d"));
        assert!(!same("/ab/c", "/a/bc"));
        assert!(!same("/v1/users", "/v2/users"));
        assert!(get("/a") != route(Method::POST, "/a"));
    }

    #[test]
    fn a_cost_is_known_after_a_few_requests_and_follows_the_route() {
        let mut costs = RouteCosts::default();
        learn(&mut costs, "/report", 50, 2);
        assert_eq!(class(&mut costs, "/report"), None);
        learn(&mut costs, "/report", 50, 1);
        assert_eq!(class(&mut costs, "/report"), Some(6));
        learn(&mut costs, "/report", 1, 40);
        assert!(class(&mut costs, "/report") <= Some(1), "it became short");
        learn(&mut costs, "/report", 300, 40);
        assert_eq!(class(&mut costs, "/report"), Some(CLASSES - 1), "and long");
    }

    #[test]
    fn one_pause_makes_no_short_route_long() {
        let mut costs = RouteCosts::default();
        learn(&mut costs, "/short", 1, 10);
        learn(&mut costs, "/short", 30_000, 1);
        assert!(class(&mut costs, "/short") <= Some(1));
    }

    #[test]
    fn classes_are_powers_of_two_of_milliseconds() {
        for (us, expected) in [
            (0, 0),
            (999, 0),
            (1_000, 1),
            (1_999, 1),
            (2_000, 2),
            (50_000, 6),
            (127_999, 7),
            (128_000, 8),
            (u64::MAX, 8),
        ] {
            assert_eq!(Cost(us).class(), expected, "{us}");
        }
    }

    #[test]
    fn routes_that_are_asked_for_once_displace_none_that_is_asked_for_often() {
        let mut costs = RouteCosts::default();
        learn(&mut costs, "/often", 50, 60);
        for number in 0..20_000 {
            learn(&mut costs, &format!("/x{number}x"), 1, 1);
            if number % 100 == 0 {
                learn(&mut costs, "/often", 50, 1);
            }
        }
        assert_eq!(class(&mut costs, "/often"), Some(6));
        let places = costs.sets.as_flattened();
        let used = places.iter().filter(|place| place.route != 0).count();
        assert!(used <= SETS * PLACES);
    }

    #[test]
    fn a_route_of_the_past_makes_room() {
        let mut costs = RouteCosts::default();
        for number in 0..2_000 {
            learn(&mut costs, &format!("/old{number}x"), 1, 3);
        }
        for _ in 0..2_000 {
            learn(&mut costs, "/new", 50, 1);
        }
        assert_eq!(class(&mut costs, "/new"), Some(6));
    }

    #[test]
    fn shorter_requests_are_remembered_for_a_while() {
        let mut costs = RouteCosts::default();
        learn(&mut costs, "/middle", 7, 3);
        learn(&mut costs, "/long", 30, 3);
        let long = costs.expect(get("/long")).unwrap();
        assert!(!costs.has_shorter(long), "there was none");
        learn(&mut costs, "/long", 90, 50);
        learn(&mut costs, "/short", 1, 3);
        let long = costs.expect(get("/long")).unwrap();
        let middle = costs.expect(get("/middle")).unwrap();
        assert!(costs.has_shorter(long));
        assert!(!costs.has_shorter(middle), "only a longer one");
        let short = costs.expect(get("/short")).unwrap();
        assert!(!costs.has_shorter(middle), "not four times as long");
        assert!(!costs.has_shorter(short));
        for _ in 0..RECENT {
            costs.expect(get("/long"));
        }
        assert!(!costs.has_shorter(long), "not lately");
    }
}
