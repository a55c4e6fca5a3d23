//! The caches: names, keys and values with a time to live, limited in bytes. Pure.
//!
//! Results are those of uWSGI 2.0: `set` does not replace, a number is eight bytes, a value that finds no
//! room is not stored. Where uWSGI removes expired values every three seconds, they end on time
//! here.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::time::{Duration, Instant};

use super::protocol::{Answer, LONGEST_VALUE, Math, Operation, Request};

/// Bytes that a value takes beside itself and its key.
const OVERHEAD: usize = 128;
/// Most caches with a name.
const MOST_CACHES: usize = 64;
/// Time between two searches for expired values.
const SEARCH_PAUSE: Duration = Duration::from_secs(1);

/// All caches.
#[derive(Debug, Default)]
pub struct Caches {
    by_name: HashMap<Vec<u8>, BTreeMap<Vec<u8>, Item>>,
    /// Bytes of all of them.
    used: usize,
    searched: Option<Instant>,
    is_full: bool,
}

#[derive(Debug)]
struct Item {
    value: Vec<u8>,
    expires: Option<Instant>,
}

impl Item {
    fn is_live(&self, now: Instant) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

impl Caches {
    /// Carries out an operation on a cache; all of them may have `limit` bytes.
    pub fn apply(&mut self, request: &Request<'_>, limit: usize, now: Instant) -> Answer {
        self.drop_expired(request, now);
        match request.operation {
            Operation::Get => match self.item(request) {
                Some(item) => Answer::Yes(item.value.clone()),
                None => Answer::No,
            },
            Operation::Exists => yes(self.item(request).is_some()),
            Operation::Set if self.item(request).is_some() => Answer::No,
            Operation::Set | Operation::Update => {
                let expires = expiry(request, now);
                yes(self.store(request, request.value.to_vec(), expires, limit, now))
            }
            Operation::Delete => yes(self.remove(request.name, request.key)),
            Operation::Math(math) => {
                let (old, expires) = match self.item(request) {
                    Some(item) => (number(&item.value), item.expires),
                    None => (0, expiry(request, now)),
                };
                let new = calculate(old, math, request.number);
                yes(self.store(request, new.to_le_bytes().to_vec(), expires, limit, now))
            }
            Operation::Number => {
                let number = self.item(request).map_or(0, |item| number(&item.value));
                Answer::Yes(number.to_le_bytes().to_vec())
            }
            Operation::Clear => {
                if let Some(cache) = self.by_name.remove(request.name) {
                    self.used -= cache
                        .iter()
                        .map(|(key, item)| cost(key, item))
                        .sum::<usize>();
                }
                Answer::Yes(Vec::new())
            }
            Operation::Keys => Answer::Yes(self.keys(request, now)),
            _ => Answer::Error("no operation of a cache"),
        }
    }

    /// True once after a value has found no room.
    pub fn took_full_notice(&mut self) -> bool {
        std::mem::take(&mut self.is_full)
    }

    fn item(&self, request: &Request<'_>) -> Option<&Item> {
        self.by_name.get(request.name)?.get(request.key)
    }

    fn drop_expired(&mut self, request: &Request<'_>, now: Instant) {
        if self.item(request).is_some_and(|item| !item.is_live(now)) {
            self.remove(request.name, request.key);
        }
    }

    fn remove(&mut self, name: &[u8], key: &[u8]) -> bool {
        let Some(cache) = self.by_name.get_mut(name) else {
            return false;
        };
        let removed = cache.remove(key);
        if let Some(item) = &removed {
            self.used -= cost(key, item);
        }
        if cache.is_empty() {
            self.by_name.remove(name);
        }
        removed.is_some()
    }

    /// `false`: there is no room.
    fn store(
        &mut self,
        request: &Request<'_>,
        value: Vec<u8>,
        expires: Option<Instant>,
        limit: usize,
        now: Instant,
    ) -> bool {
        // As in uWSGI.
        if request.key.is_empty() || value.is_empty() {
            return false;
        }
        let before = self.item(request).map_or(0, |item| cost(request.key, item));
        let item = Item { value, expires };
        let cost = cost(request.key, &item);
        let has_room = |used: usize| used - before + cost <= limit;
        if !has_room(self.used) {
            self.search(now);
        }
        let is_new = !self.by_name.contains_key(request.name);
        if !has_room(self.used) || is_new && self.by_name.len() >= MOST_CACHES {
            self.is_full = true;
            return false;
        }
        self.used = self.used - before + cost;
        let cache = self.by_name.entry(request.name.to_vec()).or_default();
        cache.insert(request.key.to_vec(), item);
        true
    }

    /// Removes every expired value, unless it was done a moment ago.
    fn search(&mut self, now: Instant) {
        let is_recent = |searched: Instant| now.duration_since(searched) < SEARCH_PAUSE;
        if self.searched.is_some_and(is_recent) {
            return;
        }
        self.searched = Some(now);
        let mut freed = 0;
        for cache in self.by_name.values_mut() {
            cache.retain(|key, item| {
                let is_live = item.is_live(now);
                freed += if is_live { 0 } else { cost(key, item) };
                is_live
            });
        }
        self.by_name.retain(|_, cache| !cache.is_empty());
        self.used -= freed;
    }

    /// The keys behind that of the request, as many as fit: `| more u8 | (length u16, key)* |`.
    fn keys(&self, request: &Request<'_>, now: Instant) -> Vec<u8> {
        let mut bytes = vec![0];
        let Some(cache) = self.by_name.get(request.name) else {
            return bytes;
        };
        let behind = cache.range::<[u8], _>((Bound::Excluded(request.key), Bound::Unbounded));
        for (key, _) in behind.filter(|(_, item)| item.is_live(now)) {
            if bytes.len() + 2 + key.len() > LONGEST_VALUE {
                bytes[0] = 1;
                break;
            }
            // Keys are shorter than 64 KiB.
            bytes.extend_from_slice(&(key.len() as u16).to_le_bytes());
            bytes.extend_from_slice(key);
        }
        bytes
    }
}

fn yes(is_done: bool) -> Answer {
    match is_done {
        true => Answer::Yes(Vec::new()),
        false => Answer::No,
    }
}

fn cost(key: &[u8], item: &Item) -> usize {
    key.len() + item.value.len() + OVERHEAD
}

fn expiry(request: &Request<'_>, now: Instant) -> Option<Instant> {
    match request.seconds {
        0 => None,
        // Beyond the clock: never.
        seconds => now.checked_add(Duration::from_secs(seconds)),
    }
}

/// The first eight bytes of a value.
fn number(value: &[u8]) -> i64 {
    let mut bytes = [0; 8];
    let length = value.len().min(8);
    bytes[..length].copy_from_slice(&value[..length]);
    i64::from_le_bytes(bytes)
}

fn calculate(old: i64, math: Math, by: i64) -> i64 {
    match math {
        Math::Add => old.wrapping_add(by),
        Math::Subtract => old.wrapping_sub(by),
        Math::Multiply => old.wrapping_mul(by),
        Math::Divide if by == 0 => 0,
        Math::Divide => old.wrapping_div(by),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 10_000;

    fn request<'a>(operation: Operation, key: &'a [u8], value: &'a [u8]) -> Request<'a> {
        Request {
            operation,
            number: 1,
            seconds: 0,
            name: b"",
            key,
            value,
        }
    }

    #[test]
    fn set_keeps_and_update_replaces_as_in_uwsgi() {
        let mut caches = Caches::default();
        let now = Instant::now();
        let mut check = |operation, value: &[u8], expected: Answer| {
            let request = request(operation, b"a", value);
            assert_eq!(caches.apply(&request, ROOM, now), expected, "{operation:?}");
        };
        let done = || Answer::Yes(Vec::new());
        check(Operation::Get, b"", Answer::No);
        check(Operation::Delete, b"", Answer::No);
        check(Operation::Set, b"1", done());
        check(Operation::Set, b"2", Answer::No);
        check(Operation::Get, b"", Answer::Yes(b"1".to_vec()));
        check(Operation::Update, b"3", done());
        check(Operation::Get, b"", Answer::Yes(b"3".to_vec()));
        check(Operation::Delete, b"", done());
        check(Operation::Exists, b"", Answer::No);
    }

    #[test]
    fn a_number_is_eight_bytes() {
        let mut caches = Caches::default();
        let now = Instant::now();
        let mut apply = |operation, number| {
            let request = Request {
                number,
                ..request(operation, b"n", b"")
            };
            caches.apply(&request, ROOM, now)
        };
        for (math, number) in [
            (Math::Add, 1),
            (Math::Add, 5),
            (Math::Subtract, 2),
            (Math::Multiply, 10),
            (Math::Divide, 3),
        ] {
            apply(Operation::Math(math), number);
        }
        let expected = Answer::Yes(13i64.to_le_bytes().to_vec());
        assert_eq!(apply(Operation::Number, 0), expected);
        assert_eq!(apply(Operation::Get, 0), expected);
    }

    #[test]
    fn a_value_ends_on_time_and_leaves_its_room() {
        let mut caches = Caches::default();
        let now = Instant::now();
        let later = now + Duration::from_secs(5);
        let brief = |key| Request {
            seconds: 5,
            ..request(Operation::Set, key, &[7; 500])
        };
        let room = 2 * (500 + 1 + OVERHEAD);
        let done = Answer::Yes(Vec::new());
        assert_eq!(caches.apply(&brief(b"a"), room, now), done);
        assert_eq!(caches.apply(&brief(b"b"), room, now), done);
        assert_eq!(caches.apply(&brief(b"c"), room, now), Answer::No);
        assert!(caches.took_full_notice());
        let get = request(Operation::Get, b"a", b"");
        let before = later - Duration::from_millis(1);
        assert_ne!(caches.apply(&get, room, before), Answer::No);
        assert_eq!(caches.apply(&get, room, later), Answer::No);
        assert_eq!(caches.apply(&brief(b"c"), room, later), done);
        assert_eq!(caches.apply(&brief(b"d"), room, later), done);
        assert_eq!(caches.used, room);
        caches.apply(&request(Operation::Clear, b"", b""), room, later);
        assert_eq!(caches.used, 0);
    }

    #[test]
    fn names_and_keys_are_limited() {
        let mut caches = Caches::default();
        let now = Instant::now();
        for number in 0..MOST_CACHES + 1 {
            let name = format!("c{number}");
            let request = Request {
                name: name.as_bytes(),
                ..request(Operation::Set, b"k", b"v")
            };
            let expected = number < MOST_CACHES;
            assert_eq!(caches.apply(&request, 1 << 20, now), yes(expected));
        }
        let empty = request(Operation::Set, b"", b"v");
        assert_eq!(caches.apply(&empty, ROOM, now), Answer::No);
        let empty = request(Operation::Set, b"k", b"");
        assert_eq!(caches.apply(&empty, ROOM, now), Answer::No);
    }

    #[test]
    fn keys_come_in_parts() {
        let mut caches = Caches::default();
        let now = Instant::now();
        for number in 0..200 {
            let key = format!("{number:0>2000}");
            caches.apply(&request(Operation::Set, key.as_bytes(), b"v"), 1 << 20, now);
        }
        let (mut count, mut last, mut parts) = (0, Vec::new(), 0);
        loop {
            let answer = caches.apply(&request(Operation::Keys, &last, b""), 1 << 20, now);
            let Answer::Yes(bytes) = answer else { panic!() };
            let mut rest = &bytes[1..];
            while let Some((length, behind)) = rest.split_first_chunk::<2>() {
                let (key, behind) = behind.split_at(usize::from(u16::from_le_bytes(*length)));
                last = key.to_vec();
                rest = behind;
                count += 1;
            }
            parts += 1;
            if bytes[0] == 0 {
                break;
            }
        }
        assert_eq!((count, parts), (200, 4));
    }
}
