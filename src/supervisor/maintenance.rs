//! The switch of the front for `pyserve maintenance`.

use super::control::prepared::PreparedOrder;
use crate::front::maintenance::MaintenanceSwitch;
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

/// The time at which maintenance mode was turned on (RFC 3339); `None` if it is off.
pub fn since(switch: &MaintenanceSwitch) -> Option<String> {
    let mode = switch.mode()?;
    Some(Timestamp::from(mode.since).rfc_3339())
}
