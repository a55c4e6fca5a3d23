//! Spare descriptors, by which the admin listener and the control socket still accept a connection
//! when descriptors run out (EMFILE).

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use crate::front::client_limits::connections::ACCEPT_PAUSE;
use crate::observe::throttle::Throttle;
use crate::os::descriptors::{Reserve, has_visitors};

/// A listener's spare descriptor, and the throttle of its log line.
#[derive(Debug, Default)]
pub struct SpareDescriptor {
    /// Connections refill it when they end.
    pub reserve: Arc<Reserve>,
    no_accept: Throttle,
}

impl SpareDescriptor {
    /// Releases the spare descriptor after an accept that failed, so that the next succeeds. Where
    /// that does not help, logs the error if a connection waits at `place`, and pauses.
    pub async fn get_past(&self, listener: &impl AsFd, error: &io::Error, place: &str) {
        if self.reserve.helps(listener, error) {
            return;
        }
        if has_visitors(listener) && self.no_accept.is_due().is_some() {
            tracing::error!(%error, "cannot accept on {place}");
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}
