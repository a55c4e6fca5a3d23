//! Cache of files: bounded in bytes, each entry valid for a limited time.
//!
//! An entry is valid for as long as the settings say; then one request revalidates it on the disk,
//! and the others use the entry meanwhile, but never for longer than as much time again. When there
//! is no room, entries not used since the last round are evicted first (the clock algorithm).
//! Absence is not cached: where there is no file an application, a fallback page or another
//! directory may answer, and any of them may create the file. Nothing here accesses the disk.

use parking_lot::RwLock;
use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::resource::Resource;

/// The cache of all locations.
#[derive(Debug)]
pub(super) struct Memory {
    limit: u64,
    /// Time for which an entry is valid.
    valid: Duration,
    kept: RwLock<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// By location, then by name.
    entries: Vec<HashMap<Arc<OsStr>, Entry>>,
    /// All entries, the next candidates for eviction first.
    clock: VecDeque<(usize, Arc<OsStr>)>,
    bytes: u64,
    /// Free indices of closed locations.
    free: Vec<usize>,
}

#[derive(Debug)]
struct Entry {
    resource: Arc<Resource>,
    checked: Instant,
    /// True while a request revalidates it.
    is_being_checked: AtomicBool,
    was_used: AtomicBool,
    bytes: u64,
}

impl Memory {
    pub(super) fn new(limit: u64, valid: Duration) -> Self {
        Self {
            limit,
            valid,
            kept: RwLock::default(),
        }
    }

    /// Adds a location, and returns its index.
    pub(super) fn open(&self) -> usize {
        let mut kept = self.kept.write();
        kept.free.pop().unwrap_or_else(|| {
            kept.entries.push(HashMap::new());
            kept.entries.len() - 1
        })
    }

    /// Drops a location; its index is free for another.
    pub(super) fn close(&self, location: usize) {
        let mut kept = self.kept.write();
        kept.clear(location);
        kept.free.push(location);
    }

    /// The file cached as `name` in the location of this index. `None`: there is none, or it is no
    /// longer valid, and the caller should look it up.
    pub(super) fn recall(
        &self,
        location: usize,
        name: &(impl AsRef<OsStr> + ?Sized),
        now: Instant,
    ) -> Option<Arc<Resource>> {
        let kept = self.kept.read();
        let entry = kept.entries.get(location)?.get(name.as_ref())?;
        if !entry.was_used.load(Ordering::Relaxed) {
            entry.was_used.store(true, Ordering::Relaxed);
        }
        let age = now.saturating_duration_since(entry.checked);
        let is_true = age < self.valid
            || age < self.valid * 2 && entry.is_being_checked.swap(true, Ordering::Relaxed);
        is_true.then(|| Arc::clone(&entry.resource))
    }

    /// The entry for `name`, if it is valid without revalidation. Unlike [`Memory::recall`], this
    /// does not make the caller revalidate it.
    pub(super) fn glance(
        &self,
        location: usize,
        name: &(impl AsRef<OsStr> + ?Sized),
        now: Instant,
    ) -> Option<Arc<Resource>> {
        let kept = self.kept.read();
        let entry = kept.entries.get(location)?.get(name.as_ref())?;
        let age = now.saturating_duration_since(entry.checked);
        let is_true = age < self.valid
            || age < self.valid * 2 && entry.is_being_checked.load(Ordering::Relaxed);
        entry.was_used.store(true, Ordering::Relaxed);
        is_true.then(|| Arc::clone(&entry.resource))
    }

    /// Caches the file seen at `now` under a name, unless it is too large.
    pub(super) fn keep(
        &self,
        location: usize,
        name: &(impl AsRef<OsStr> + ?Sized),
        resource: Arc<Resource>,
        now: Instant,
    ) {
        let name = name.as_ref();
        let bytes = cost(name, &resource);
        let mut kept = self.kept.write();
        if bytes > self.limit {
            kept.remove(location, name);
            return;
        }
        kept.insert(location, name, resource, now, bytes);
        kept.shrink(self.limit);
    }

    /// The entry for a name, however old.
    pub(super) fn latest(
        &self,
        location: usize,
        name: &(impl AsRef<OsStr> + ?Sized),
    ) -> Option<Arc<Resource>> {
        let kept = self.kept.read();
        Some(Arc::clone(
            &kept.entries.get(location)?.get(name.as_ref())?.resource,
        ))
    }

    /// True if this very resource is cached under a name.
    pub(super) fn remembers(
        &self,
        location: usize,
        name: &OsStr,
        resource: &Arc<Resource>,
    ) -> bool {
        self.latest(location, name)
            .is_some_and(|kept| Arc::ptr_eq(&kept, resource))
    }

    /// Drops a name.
    pub(super) fn forget(&self, location: usize, name: &(impl AsRef<OsStr> + ?Sized)) {
        let name = name.as_ref();
        // Most names without a file were never cached, and need not block the readers.
        if self.latest(location, name).is_some() {
            let mut kept = self.kept.write();
            kept.remove(location, name);
        }
    }

    /// Replaces `old` by `new`, if it is still cached. The state and time of its last check stay as
    /// they were.
    pub(super) fn replace(
        &self,
        location: usize,
        name: &(impl AsRef<OsStr> + ?Sized),
        old: &Arc<Resource>,
        new: Arc<Resource>,
    ) {
        let name = name.as_ref();
        let bytes = cost(name, &new);
        let mut kept = self.kept.write();
        let entry = kept.entries.get(location).and_then(|all| all.get(name));
        let Some(entry) = entry else { return };
        let is_same = Arc::ptr_eq(&entry.resource, old);
        if is_same && bytes <= self.limit {
            let checked = entry.checked;
            kept.insert(location, name, new, checked, bytes);
            kept.shrink(self.limit);
        }
    }

    /// Number of bytes in use.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.kept.read().bytes
    }
}

impl Kept {
    fn insert(
        &mut self,
        location: usize,
        name: &OsStr,
        resource: Arc<Resource>,
        checked: Instant,
        bytes: u64,
    ) {
        let Some(all) = self.entries.get_mut(location) else {
            return;
        };
        let entry = Entry {
            resource,
            checked,
            is_being_checked: AtomicBool::new(false),
            // A new entry starts unused: a walk over many files, each requested once, does not
            // evict those in use.
            was_used: AtomicBool::new(false),
            bytes,
        };
        self.bytes += bytes;
        match all.get_mut(name) {
            Some(place) => {
                entry
                    .was_used
                    .store(place.was_used.load(Ordering::Relaxed), Ordering::Relaxed);
                self.bytes -= place.bytes;
                *place = entry;
            }
            None => {
                let name: Arc<OsStr> = Arc::from(name);
                all.insert(Arc::clone(&name), entry);
                self.clock.push_back((location, name));
            }
        }
    }

    fn remove(&mut self, location: usize, name: &OsStr) {
        let Some(entry) = self
            .entries
            .get_mut(location)
            .and_then(|all| all.remove(name))
        else {
            return;
        };
        self.bytes -= entry.bytes;
        // Rare (a file was deleted or grew), so a walk over all names is acceptable.
        self.clock
            .retain(|(other, kept)| *other != location || **kept != *name);
    }

    fn clear(&mut self, location: usize) {
        let Some(all) = self.entries.get_mut(location).map(std::mem::take) else {
            return;
        };
        self.bytes -= all.values().map(|entry| entry.bytes).sum::<u64>();
        self.clock.retain(|(other, _)| *other != location);
    }

    /// Terminates: every entry is passed over once at most.
    fn shrink(&mut self, limit: u64) {
        while self.bytes > limit {
            let Some((location, name)) = self.clock.pop_front() else {
                return;
            };
            let Some(all) = self.entries.get_mut(location) else {
                continue;
            };
            let was_used = |entry: &Entry| entry.was_used.swap(false, Ordering::Relaxed);
            if all.get(&name).is_some_and(was_used) {
                self.clock.push_back((location, name));
            } else if let Some(entry) = all.remove(&name) {
                self.bytes -= entry.bytes;
            }
        }
    }
}

/// Bytes of an entry: its content, its name twice, and its structures.
fn cost(name: &OsStr, resource: &Resource) -> u64 {
    let forms: u64 = resource
        .forms()
        .map(|form| FORM + form.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
        .sum();
    forms + ENTRY + 2 * name.len() as u64
}

/// Approximate size of an entry with its places in map and clock.
const ENTRY: u64 = 300;

/// Approximate size of a form: 1.2 kB for the table of its header fields, 0.6 for their rendered
/// form, the rest for their values and its own. 20,000 files of two bytes, requested once and not
/// over the fast path, were 0.6 kB less each and took 58 MB.
const FORM: u64 = 3100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::static_files::conditional::Validators;
    use crate::front::static_files::representation::{OpenFile, Representation, Stamp};
    use bytes::Bytes;
    use http::HeaderMap;
    use proptest::prelude::*;
    use std::time::UNIX_EPOCH;

    const SECOND: Duration = Duration::from_secs(1);

    fn resource(length: usize) -> Arc<Resource> {
        let metadata = std::fs::metadata("/").unwrap();
        Arc::new(Resource {
            identity: Arc::new(Representation {
                name: std::ffi::OsString::new(),
                stamp: Stamp::of(&metadata),
                validators: Validators {
                    etag: String::new(),
                    last_modified: UNIX_EPOCH,
                },
                headers: HeaderMap::new(),
                length: length as u64,
                bytes: Some(Bytes::from(vec![0; length])),
                sealed: None,
                open: OpenFile::default(),
                heads: Default::default(),
            }),
            encoded: [None, None, None],
            is_settled: true,
            compressible: [false; 3],
        })
    }

    /// With location 0.
    fn memory(limit: u64, valid: Duration) -> Memory {
        let memory = Memory::new(limit, valid);
        assert_eq!(memory.open(), 0);
        memory
    }

    fn is_kept(memory: &Memory, name: &str, now: Instant) -> bool {
        memory.recall(0, name, now).is_some()
    }

    #[test]
    fn an_entry_is_true_for_a_while_and_then_one_request_looks_again() {
        let memory = memory(1 << 20, SECOND);
        let start = Instant::now();
        memory.keep(0, "a", resource(1), start);
        assert!(is_kept(&memory, "a", start + SECOND / 2));
        let late = start + SECOND;
        assert!(!is_kept(&memory, "a", late));
        assert!(is_kept(&memory, "a", late), "while the first one looks");
        let too_late = start + SECOND * 2;
        for _ in 0..2 {
            assert!(!is_kept(&memory, "a", too_late));
        }
        memory.keep(0, "a", resource(2), too_late);
        assert!(is_kept(&memory, "a", too_late));
        assert!(!is_kept(&memory, "b", too_late));
        memory.forget(0, "a");
        assert!(!is_kept(&memory, "a", too_late));
    }

    #[test]
    fn without_a_time_of_validity_every_request_looks() {
        let memory = memory(1 << 20, Duration::ZERO);
        let now = Instant::now();
        memory.keep(0, "a", resource(1), now);
        for _ in 0..2 {
            assert!(!is_kept(&memory, "a", now));
        }
    }

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let memory = memory(200_000, SECOND);
        let now = Instant::now();
        memory.keep(0, "used", resource(10_000), now);
        for number in 0..100 {
            assert!(is_kept(&memory, "used", now), "{number}");
            memory.keep(0, &number.to_string(), resource(10_000), now);
            assert!(memory.bytes() <= 200_000);
        }
        assert!(!is_kept(&memory, "0", now));
        memory.keep(0, "used", resource(300_000), now);
        assert!(
            !is_kept(&memory, "used", now),
            "too large, and the old one is gone"
        );
    }

    #[test]
    fn a_location_that_goes_leaves_nothing_behind() {
        let memory = memory(1 << 20, SECOND);
        let now = Instant::now();
        let other = memory.open();
        memory.keep(0, "a", resource(1), now);
        let alone = memory.bytes();
        memory.keep(other, "a", resource(1), now);
        memory.close(other);
        assert_eq!(memory.bytes(), alone);
        assert!(is_kept(&memory, "a", now));
        assert_eq!(memory.open(), other, "its number is used again");
        assert!(memory.latest(other, "a").is_none());
    }

    #[test]
    fn a_form_that_came_too_late_replaces_nothing() {
        let memory = memory(1 << 20, SECOND);
        let now = Instant::now();
        let (old, new) = (resource(1), resource(2));
        memory.keep(0, "a", Arc::clone(&old), now);
        memory.replace(0, "a", &new, resource(3));
        let length = || {
            let recalled = memory.recall(0, "a", now);
            recalled.map_or(0, |resource| resource.identity.length)
        };
        assert_eq!(length(), 1);
        memory.replace(0, "a", &old, new);
        assert_eq!(length(), 2);
        memory.forget(0, "a");
        memory.replace(0, "a", &old, resource(4));
        assert_eq!(length(), 0);
    }

    proptest! {
        #[test]
        fn the_books_are_kept_right(
            steps in prop::collection::vec((0..4, 0..12, 0usize..30_000), 0..80)
        ) {
            let memory = memory(100_000, SECOND);
            let now = Instant::now();
            for (what, name, length) in steps {
                let name = format!("{name}");
                match what {
                    0 => memory.forget(0, &name),
                    1 => drop(memory.recall(0, &name, now)),
                    2 => memory.keep(0, &name, resource(0), now),
                    _ => memory.keep(0, &name, resource(length), now),
                }
                let kept = memory.kept.read();
                let sum: u64 = kept.entries[0].values().map(|entry| entry.bytes).sum();
                prop_assert_eq!(kept.bytes, sum);
                prop_assert_eq!(kept.clock.len(), kept.entries[0].len());
                prop_assert!(kept.bytes <= 100_000);
            }
        }
    }
}
