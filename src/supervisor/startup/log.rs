//! `--startup-log`: the outcome of the start, appended to a file.
//!
//! The start and the stop of the server wait for that file only for a moment.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;

use super::detached;
use crate::config::Config;
use crate::observe::codes;
use crate::observe::timestamp::Timestamp;
use crate::os::trusted_path;

/// Appends that the server exited before it was ready. Blocks for a moment.
pub fn note_failure(config: &Config, code: u8, last_error: &str) {
    note(
        config,
        &format!(
            "not started, exit code {code}\n{}",
            codes::with_code(last_error, codes::of_exit(code))
        ),
    );
}

/// Appends a text, if the file is configured. Blocks for a moment.
pub fn note(config: &Config, text: &str) {
    let Some(path) = &config.startup_log else {
        return;
    };
    let now = Timestamp::from(SystemTime::now()).rfc_3339();
    let entry = format!("{now} pyserve {}\n{text}\n", env!("CARGO_PKG_VERSION"));
    let file = path.clone();
    let written = detached::within(PATIENCE, move || append(&file, &entry));
    let path = path.display();
    match written {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::warn!(%path, %error, "cannot write the start-up log"),
        None => {
            tracing::warn!(%path, "writing the start-up log takes too long: continuing without it")
        }
    }
}

/// A FIFO without a reader or without room is an error, not a wait.
fn append(path: &Path, entry: &str) -> io::Result<()> {
    let mut file = trusted_path::open_to_append(path, OFlags::empty())?;
    file.write_all(entry.as_bytes())
}

/// Longest time for writing the file.
const PATIENCE: Duration = Duration::from_secs(1);
