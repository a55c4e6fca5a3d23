//! The orders of `pyserve maintenance`: the switch of the front, with the page read once.
//!
//! [`prepare`] reads the page on its own thread, [`obey`] switches in the supervisor, which must not
//! wait for a file system.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::control::protocol::MaintenanceOrder;
use super::startup::detached;
use crate::config::{Trust, native};
use crate::front::maintenance::{Maintenance, MaintenanceSwitch};
use crate::observe::timestamp::Timestamp;

/// Longest page in bytes.
const LONGEST_PAGE: u64 = 1 << 20;

/// Longest time for reading the page.
const PATIENCE: Duration = Duration::from_secs(10);

/// An order whose page has been read.
#[derive(Debug)]
pub enum PreparedOrder {
    /// Turn it on.
    On(Maintenance),
    /// Turn it off.
    Off,
    /// Report it.
    Status,
}

/// Reads what an order needs.
///
/// # Errors
/// The reason why the page or an address cannot be used.
pub async fn prepare(order: &MaintenanceOrder) -> Result<PreparedOrder, String> {
    Ok(match order {
        MaintenanceOrder::On {
            page,
            retry_after,
            allow,
        } => {
            let allowed = trust(allow)?;
            let page = match page.clone() {
                None => None,
                Some(page) => {
                    let read = detached::run(PATIENCE, move || read_page(&page)).await;
                    Some(read.unwrap_or_else(|| {
                        Err("cannot read the page: its file system does not answer".to_owned())
                    })?)
                }
            };
            PreparedOrder::On(Maintenance {
                page,
                retry_after: Duration::from_secs(*retry_after),
                allowed,
                allow: allow.clone(),
                since: SystemTime::now(),
            })
        }
        MaintenanceOrder::Off => PreparedOrder::Off,
        MaintenanceOrder::Status => PreparedOrder::Status,
    })
}

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

fn trust(allow: &[String]) -> Result<Trust, String> {
    let mut allowed = Trust::default();
    for text in allow {
        let refuse = |problem: &str| format!("--allow {text}: {problem}");
        allowed
            .add(text)
            .map_err(|invalid| refuse(&invalid.problem))?;
    }
    Ok(allowed)
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
    let page = state.page.map(|(bytes, kind)| {
        let known = CONTENT_TYPES.into_iter().find(|known| *known == kind);
        (Bytes::from(bytes), known.unwrap_or(HTML))
    });
    switch.set(Some(Maintenance {
        page,
        retry_after: Duration::from_secs(state.retry_after),
        // They were valid when they were given.
        allowed: trust(&state.allow).unwrap_or_default(),
        allow: state.allow,
        since: state.since,
    }));
}

/// The time at which maintenance mode was turned on (RFC 3339); `None` if it is off.
pub fn since(switch: &MaintenanceSwitch) -> Option<String> {
    let mode = switch.mode()?;
    Some(Timestamp::from(mode.since).rfc_3339())
}

fn read_page(text: &str) -> Result<(Bytes, &'static str), String> {
    let path = native::path(text);
    let refuse = |error: io::Error| format!("cannot read the page {}: {error}", path.display());
    let read = || {
        if !std::fs::metadata(&path)?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let mut bytes = Vec::new();
        File::open(&path)?
            .take(LONGEST_PAGE + 1)
            .read_to_end(&mut bytes)?;
        match bytes.len() as u64 > LONGEST_PAGE {
            true => Err(io::Error::other("longer than 1 MiB")),
            false => Ok(Bytes::from(bytes)),
        }
    };
    Ok((read().map_err(refuse)?, content_type(&path)))
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => JSON,
        Some("txt") => TEXT,
        _ => HTML,
    }
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const CONTENT_TYPES: [&str; 3] = [JSON, TEXT, HTML];
