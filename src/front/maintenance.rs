//! Maintenance mode: every request gets `503` with a page, while the server runs.
//!
//! `pyserve maintenance` turns it on and off. Probes (`/-/live`, `/-/ready`), the admin listener and the
//! control socket work on, and so do requests that have begun. Addresses may be excepted. It outlives the
//! sites of reloads, and an upgrade hands it over; it ends with the server.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::config::Trust;

/// The switch. Off, it costs a request one load.
#[derive(Debug, Default)]
pub struct MaintenanceSwitch {
    is_on: AtomicBool,
    mode: Mutex<Option<Arc<Maintenance>>>,
}

/// Maintenance mode as it was turned on.
#[derive(Debug)]
pub struct Maintenance {
    /// The page and its `Content-Type`; `None` for a short one.
    pub page: Option<(Bytes, &'static str)>,
    /// The value of `Retry-After`.
    pub retry_after: Duration,
    /// Clients that are served.
    pub allowed: Trust,
    /// The same as it was written.
    pub allow: Vec<String>,
    /// The time at which it was turned on.
    pub since: SystemTime,
}

impl MaintenanceSwitch {
    /// Turns it on, or off with `None`; returns the mode before.
    pub fn set(&self, mode: Option<Maintenance>) -> Option<Arc<Maintenance>> {
        let mut kept = self.mode.lock();
        self.is_on.store(mode.is_some(), Ordering::Relaxed);
        std::mem::replace(&mut *kept, mode.map(Arc::new))
    }

    /// True if it is on.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// The mode, if it is on.
    pub fn mode(&self) -> Option<Arc<Maintenance>> {
        self.is_on().then(|| self.mode.lock().clone()).flatten()
    }

    /// The mode, if it is on for a client at this address.
    pub fn applies_to(&self, client: Option<IpAddr>) -> Option<Arc<Maintenance>> {
        self.mode().filter(|mode| !mode.allowed.trusts(client))
    }
}
