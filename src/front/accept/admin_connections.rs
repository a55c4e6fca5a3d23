//! The connections of the admin listener: few at a time. A new one closes the one that has been
//! idle longest, so that connections left open do not keep probes out. Where all ask one request
//! after the other, it closes the oldest.

use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Longest wait for a connection to be idle.
const PATIENCE: Duration = Duration::from_millis(250);

/// All connections.
#[derive(Debug)]
pub(crate) struct AdminConnections {
    most: usize,
    present: Mutex<Vec<Present>>,
    /// Notified when a connection has ended, or has answered its request.
    changed: Notify,
}

#[derive(Debug)]
struct Present {
    number: u64,
    /// The time since which it waits for a request; `None` while one is answered.
    idle_since: Option<Instant>,
    leave: CancellationToken,
}

/// One connection, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct AdminConnection {
    visitors: Arc<AdminConnections>,
    number: u64,
    /// Cancelled when the connection is to be closed.
    pub(crate) leave: CancellationToken,
}

/// A request that is being answered.
pub(crate) struct Answering<'a>(&'a AdminConnection);

impl AdminConnections {
    /// Admits up to `most` connections.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            present: Mutex::new(Vec::new()),
            changed: Notify::new(),
        })
    }

    /// Waits until there is room for one more; an idle connection is closed for it at once.
    pub(crate) async fn room(&self) {
        let mut look = Instant::now() + PATIENCE;
        loop {
            // Before the check, so that no change in between is missed.
            let changed = self.changed.notified();
            {
                let present = self.lock();
                if present.len() < self.most {
                    return;
                }
                let staying = || present.iter().filter(|one| !one.leave.is_cancelled());
                let idle = staying().filter(|one| one.idle_since.is_some());
                let mut chosen = idle.min_by_key(|one| one.idle_since);
                if chosen.is_none() && Instant::now() >= look {
                    look = Instant::now() + PATIENCE;
                    chosen = staying().min_by_key(|one| one.number);
                }
                if let Some(one) = chosen {
                    one.leave.cancel();
                }
            }
            tokio::select! {
                // Cancel-safe: both are made anew.
                () = changed => {}
                () = tokio::time::sleep_until(look.into()) => {}
            }
        }
    }

    /// Counts an accepted connection.
    pub(crate) fn enter(self: &Arc<Self>, number: u64) -> Arc<AdminConnection> {
        let leave = CancellationToken::new();
        self.lock().push(Present {
            number,
            idle_since: Some(Instant::now()),
            leave: leave.clone(),
        });
        Arc::new(AdminConnection {
            visitors: Arc::clone(self),
            number,
            leave,
        })
    }

    fn set_idle(&self, number: u64, since: Option<Instant>) {
        if let Some(one) = self.lock().iter_mut().find(|one| one.number == number) {
            one.idle_since = since;
        }
        if since.is_some() {
            self.changed.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Present>> {
        self.present.lock()
    }
}

impl AdminConnection {
    /// Its request is being answered until the result is dropped.
    pub(crate) fn answering(&self) -> Answering<'_> {
        self.visitors.set_idle(self.number, None);
        Answering(self)
    }
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        let now = Some(Instant::now());
        self.0.visitors.set_idle(self.0.number, now);
    }
}

impl Drop for AdminConnection {
    fn drop(&mut self) {
        self.visitors
            .lock()
            .retain(|present| present.number != self.number);
        self.visitors.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_connection_that_has_been_idle_longest_makes_room() {
        let visitors = AdminConnections::new(3);
        let [busy, leaves, stays] = [0, 1, 2].map(|number| visitors.enter(number));
        let answering = busy.answering();
        let room = tokio::spawn({
            let visitors = Arc::clone(&visitors);
            async move { visitors.room().await }
        });
        leaves.leave.cancelled().await;
        assert!(!busy.leave.is_cancelled(), "it answers a request");
        assert!(!stays.leave.is_cancelled());
        assert!(!room.is_finished());
        drop(leaves);
        room.await.unwrap();
        drop(answering);
    }

    #[tokio::test]
    async fn where_all_answer_one_request_after_the_other_the_oldest_makes_room() {
        let visitors = AdminConnections::new(2);
        let [old, new] = [0, 1].map(|number| visitors.enter(number));
        let _answering = (old.answering(), new.answering());
        let room = tokio::spawn({
            let visitors = Arc::clone(&visitors);
            async move { visitors.room().await }
        });
        old.leave.cancelled().await;
        assert!(!new.leave.is_cancelled());
        assert!(!room.is_finished());
    }

    #[tokio::test]
    async fn where_all_answer_requests_the_first_to_have_answered_makes_room() {
        let visitors = AdminConnections::new(2);
        let [one, other] = [0, 1].map(|number| visitors.enter(number));
        let (answering, still) = (one.answering(), other.answering());
        let room = tokio::spawn({
            let visitors = Arc::clone(&visitors);
            async move { visitors.room().await }
        });
        tokio::task::yield_now().await;
        assert!(!one.leave.is_cancelled());
        // It may begin to answer the next one at once.
        drop(answering);
        one.leave.cancelled().await;
        assert!(!other.leave.is_cancelled());
        drop((one, still));
        room.await.unwrap();
    }
}
