//! The connections of the admin listener: few at a time. A new one closes the one that has been
//! idle longest, so that connections left open do not keep probes out.

use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// All connections.
#[derive(Debug)]
pub(crate) struct AdminConnections {
    most: usize,
    present: Mutex<Vec<Present>>,
    /// Notified when a connection has ended.
    left: Notify,
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
            left: Notify::new(),
        })
    }

    /// Waits until there is room for one more; an idle connection is closed for it at once.
    pub(crate) async fn room(&self) {
        loop {
            // Before the check, so that no end in between is missed.
            let left = self.left.notified();
            {
                let present = self.lock();
                if present.len() < self.most {
                    return;
                }
                let idle = present
                    .iter()
                    .filter(|present| !present.leave.is_cancelled());
                let idle = idle.filter_map(|present| Some((present.idle_since?, &present.leave)));
                if let Some((_, leave)) = idle.min_by_key(|(since, _)| *since) {
                    leave.cancel();
                }
            }
            left.await;
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
        let mut present = self.lock();
        if let Some(present) = present.iter_mut().find(|present| present.number == number) {
            present.idle_since = since;
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
        self.visitors.left.notify_waiters();
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
}
