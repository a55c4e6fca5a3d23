//! Orders of `pyserve maintenance` with what they need from files, read before the supervisor gets
//! them: it must not wait for a file system.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::protocol::MaintenanceOrder;
use crate::config::{Trust, native};
use crate::front::maintenance::Maintenance;
use crate::supervisor::startup::detached;

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

/// The clients that still get answers.
///
/// # Errors
/// The first text that is no network.
pub fn trust(allow: &[String]) -> Result<Trust, String> {
    let mut allowed = Trust::default();
    for text in allow {
        let refuse = |problem: &str| format!("--allow {text}: {problem}");
        allowed
            .add(text)
            .map_err(|invalid| refuse(&invalid.problem))?;
    }
    Ok(allowed)
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

/// The content type of a page that another process has read.
pub fn known_content_type(text: &str) -> &'static str {
    let known = [JSON, TEXT].into_iter().find(|known| *known == text);
    known.unwrap_or(HTML)
}
