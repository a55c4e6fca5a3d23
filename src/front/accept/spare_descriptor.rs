//! How those are let in who steer and watch the server, when an accept has failed: by the
//! descriptor that is kept for them. The control socket uses it as well.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use crate::front::client_limits::connections::ACCEPT_PAUSE;
use crate::observe::throttle::Throttle;
use crate::os::descriptors::{Reserve, has_visitors};

/// A listener's reserve, and when its trouble was last told.
#[derive(Debug, Default)]
pub struct Door {
    /// For the connections to refill when they are over.
    pub reserve: Arc<Reserve>,
    no_accept: Throttle,
}

impl Door {
    /// Gives up the reserve after an accept that failed, so that the next succeeds; where that
    /// does not help, tells so of the listener at `place`, if somebody waits there, and pauses.
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
