//! The HTTP/2 streams of a connection whose request has ended here, and whose response h2 holds
//! because the client does not take it.
//!
//! hyper gives h2 a short response as soon as the client's window has room for one byte. From then
//! on only h2 knows the stream. Each counts [`OPEN_STREAM`] bytes until its last frame is sent, and
//! all of them, with the error pages that hyper still has, limit the further error pages of the
//! connection.

use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::memory_budget::{Account, OPEN_STREAM, Reservation, Resource};

/// Responses that a client has not taken, among them error pages, up to which it gets a page for
/// want of memory. A page says more to people than a reset; browsers read it at once.
const MOST_PAGES: usize = 4;

/// These streams.
#[derive(Debug, Default)]
pub struct UnsentStreams {
    /// Changed under the lock of their memory.
    count: AtomicUsize,
    memory: Mutex<Option<Reservation>>,
    /// Error pages that hyper has.
    pages: AtomicUsize,
}

impl UnsentStreams {
    /// A request has ended here.
    pub fn add(&self, account: &Arc<Account>) {
        let mut memory = self.lock();
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let none = || Reservation::none(Arc::clone(account), Resource::Memory);
        memory.get_or_insert_with(none).hold(count * OPEN_STREAM);
    }

    /// There are at most so many. Streams that end are not distinguished from those whose request goes
    /// on, so this is asked for after each write.
    pub fn limit(&self, most: usize) {
        if self.count.load(Ordering::Relaxed) > most {
            let mut memory = self.lock();
            let count = self.count.fetch_min(most, Ordering::Relaxed).min(most);
            if let Some(memory) = &mut *memory {
                memory.shrink(count * OPEN_STREAM);
            }
        }
    }

    /// Counts an error page for want of memory. Returns false if the client has left too many
    /// responses.
    pub fn add_page(&self) -> bool {
        let unsent = self.count.load(Ordering::Relaxed);
        let more = |pages: usize| (pages + unsent < MOST_PAGES).then_some(pages + 1);
        let added = self
            .pages
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        added.is_ok()
    }

    /// Hyper has given such a page to h2, or dropped it.
    pub fn page_ended(&self) {
        self.pages.fetch_sub(1, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Reservation>> {
        self.memory.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(unsent: &UnsentStreams) -> usize {
        let memory = unsent.memory.lock();
        memory.as_ref().map_or(0, Reservation::amount)
    }

    #[test]
    fn streams_count_until_they_are_sent() {
        let account = Arc::new(Account::of_address());
        let unsent = UnsentStreams::default();
        for _ in 0..3 {
            unsent.add(&account);
        }
        assert_eq!(memory(&unsent), 3 * OPEN_STREAM);
        unsent.limit(5);
        assert_eq!(memory(&unsent), 3 * OPEN_STREAM);
        unsent.limit(1);
        assert_eq!(memory(&unsent), OPEN_STREAM);
        unsent.add(&account);
        assert_eq!(memory(&unsent), 2 * OPEN_STREAM);
    }

    #[test]
    fn pages_are_few_also_those_that_h2_has() {
        let account = Arc::new(Account::of_address());
        let unsent = UnsentStreams::default();
        assert!((0..MOST_PAGES).all(|_| unsent.add_page()));
        assert!(!unsent.add_page());
        unsent.page_ended();
        unsent.add(&account);
        assert!(!unsent.add_page());
        unsent.limit(0);
        assert!(unsent.add_page());
    }
}
