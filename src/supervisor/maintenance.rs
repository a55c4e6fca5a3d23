//! The switch of the front for `pyserve maintenance`.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::control::prepared::{self, PreparedOrder};
use crate::front::maintenance::{Maintenance, MaintenanceSwitch};
use crate::observe::timestamp::Timestamp;

/// Carries out an order; returns the text for people.
pub fn obey(switch: &MaintenanceSwitch, order: PreparedOrder) -> String {
    match order {
        PreparedOrder::On(mode) => {
            let retry_after = mode.retry_after;
            let before = switch.set(Some(mode));
            tracing::warn!(?retry_after, "maintenance mode is on: requests get 503");
            match before {
                None => "maintenance mode is on".to_owned(),
                Some(_) => "maintenance mode was on already, and has the new page".to_owned(),
            }
        }
        PreparedOrder::Off => match switch.set(None) {
            None => "maintenance mode was off already".to_owned(),
            Some(mode) => {
                let took = mode.since.elapsed().unwrap_or_default();
                tracing::info!(?took, "maintenance mode is off");
                "maintenance mode is off".to_owned()
            }
        },
        PreparedOrder::Status => match since(switch) {
            None => "maintenance mode is off".to_owned(),
            Some(since) => format!("maintenance mode is on since {since}"),
        },
    }
}

/// Maintenance mode for the process that takes this one's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceState {
    page: Option<(Vec<u8>, String)>,
    retry_after: u64,
    allow: Vec<String>,
    since: SystemTime,
}

/// The mode to hand over; `None` if it is off.
pub fn state(switch: &MaintenanceSwitch) -> Option<MaintenanceState> {
    let mode = switch.mode()?;
    let page = mode.page.as_ref();
    Some(MaintenanceState {
        page: page.map(|(bytes, kind)| (bytes.to_vec(), (*kind).to_owned())),
        retry_after: mode.retry_after.as_secs(),
        allow: mode.allow.clone(),
        since: mode.since,
    })
}

/// Goes on with the mode of the process whose place this one takes.
pub fn resume(switch: &MaintenanceSwitch, state: MaintenanceState) {
    let page = state
        .page
        .map(|(bytes, kind)| (Bytes::from(bytes), prepared::known_type(&kind)));
    switch.set(Some(Maintenance {
        page,
        retry_after: Duration::from_secs(state.retry_after),
        // They were valid when they were given.
        allowed: prepared::trust(&state.allow).unwrap_or_default(),
        allow: state.allow,
        since: state.since,
    }));
}

/// The time at which maintenance mode was turned on (RFC 3339); `None` if it is off.
pub fn since(switch: &MaintenanceSwitch) -> Option<String> {
    let mode = switch.mode()?;
    Some(Timestamp::from(mode.since).rfc_3339())
}
