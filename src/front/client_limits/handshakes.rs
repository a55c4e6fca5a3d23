//! Turns of TLS handshakes: a full one takes as much CPU time as ten small requests, and a client
//! begins one with 300 bytes.
//!
//! A connection takes a turn for each step with cryptography. There are as many turns at a time as
//! the front has threads, and a thread serves other connections between two of them: so the rest
//! waits for one handshake, however many there are. Each network waits for its own turn first:
//! the handshakes of one that floods do not delay those of others.
//!
//! The module knows nothing of TLS.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::network::Network;

/// The turns of the process.
static TURNS: LazyLock<Turns> = LazyLock::new(|| {
    let runtime = tokio::runtime::Handle::try_current();
    Turns::new(runtime.map_or(1, |runtime| runtime.metrics().num_workers()))
});

/// A step of a handshake; the next one may begin when it is dropped.
#[derive(Debug)]
pub struct Turn {
    _of_network: Option<OwnedSemaphorePermit>,
    _of_all: OwnedSemaphorePermit,
}

/// The turns that there are at a time.
#[derive(Debug)]
struct Turns {
    all: Arc<Semaphore>,
    networks: Mutex<HashMap<Network, Weak<Semaphore>>>,
}

/// Waits for the turn of a client; `None` is one whose address is not known.
pub async fn turn(client: Option<IpAddr>) -> Option<Turn> {
    TURNS.next(client).await
}

impl Turns {
    fn new(at_a_time: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(at_a_time)),
            networks: Mutex::default(),
        }
    }

    async fn next(&self, client: Option<IpAddr>) -> Option<Turn> {
        let of_network = match client {
            Some(client) => {
                let own = self.of_network(client.into());
                Some(own.acquire_owned().await.ok()?)
            }
            None => None,
        };
        let of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Turn {
            _of_network: of_network,
            _of_all: of_all,
        })
    }

    /// The turn of a network, kept while somebody waits for it.
    fn of_network(&self, network: Network) -> Arc<Semaphore> {
        let mut networks = self.networks.lock();
        if let Some(turn) = networks.get(&network).and_then(Weak::upgrade) {
            return turn;
        }
        if networks.len() >= CLEANED_FROM {
            networks.retain(|_, turn| turn.strong_count() > 0);
        }
        let turn = Arc::new(Semaphore::new(1));
        networks.insert(network, Arc::downgrade(&turn));
        turn
    }
}

/// Number of networks from which on those without a handshake are removed.
const CLEANED_FROM: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_network_waits_for_its_own_handshakes_only() {
        let turns = Turns::new(2);
        let [flood, other] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().ok());
        let first = turns.next(flood).await;
        let is_waiting = waits(turns.next(flood)).await;
        assert!(is_waiting, "the second of the same network");
        assert!(turns.next(other).await.is_some());
        drop(first);
        assert!(turns.next(flood).await.is_some());
    }

    /// True if the future is not ready at once.
    async fn waits(future: impl Future) -> bool {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(future.as_mut().poll(context).is_pending())
        })
        .await
    }

    #[tokio::test]
    async fn networks_without_a_handshake_are_forgotten() {
        let turns = Turns::new(1);
        for number in 0..2 * CLEANED_FROM as u32 {
            let address = IpAddr::from(number.to_be_bytes());
            drop(turns.next(Some(address)).await);
        }
        assert!(turns.networks.lock().len() <= CLEANED_FROM);
    }
}
