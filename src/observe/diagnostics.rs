//! Standard error of this process, or the file in its place, as one log: every text for it goes through here.
//!
//! A thread of its own writes, so a full disk, a closed pipe or a reader that has stalled
//! costs lines and nothing else; dropped lines are counted ([`METRICS`]) and reported when
//! standard error takes lines again. Until [`begin`] the lines wait in memory: a thread
//! that exists already would keep the privileges that the process drops.

use std::io;
use std::panic;
use std::sync::LazyLock;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use super::codes;
use super::line_writer::{LineWriter, Log};
use super::log_files::Destination;
use super::metrics::METRICS;

/// Writes `text`, and a line break behind it where there is none. Never waits, never fails.
pub fn say(text: &str) {
    match text.ends_with('\n') {
        true => WRITER.write(text.as_bytes()),
        false => WRITER.write(format!("{text}\n").as_bytes()),
    }
}

/// The thread may begin: this process has its final privileges.
pub fn begin() {
    WRITER.begin();
}

/// Writes out what is left when it is dropped, which has to be the last thing that a process
/// does. A reader that takes nothing holds it up for [`LAST_LINES`].
#[derive(Debug)]
pub struct WriteOut;

impl Drop for WriteOut {
    fn drop(&mut self) {
        WRITER.close(LAST_LINES);
    }
}

/// From now on a panic is a line of the log. The standard hook would write to standard error
/// itself, and wait for it.
pub fn report_panics() {
    panic::set_hook(Box::new(|panic| {
        match tracing::dispatcher::has_been_set() {
            true => tracing::error!("{panic}"),
            false => say(&format!("pyserve: {panic}")),
        }
    }));
}

/// Hands events to the log; for the subscriber.
#[derive(Debug, Clone, Copy)]
pub(super) struct Events;

impl<'a> MakeWriter<'a> for Events {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

impl io::Write for Events {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        WRITER.write(event);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

static WRITER: LazyLock<LineWriter> = LazyLock::new(|| {
    let log = Log {
        thread: "pyserve-log",
        // The lines before a crash matter most.
        gather: Duration::ZERO,
        dropped: &METRICS.dropped_log_lines.diagnostics,
        report: |lines| {
            tracing::warn!(
                code = codes::LOG_DROPPED,
                lines,
                "log lines dropped: standard error, or the file of this log, did not take them"
            )
        },
        reports_elsewhere: false,
    };
    LineWriter::held(log, Destination::Diagnostics)
});

/// Longest pause of a reader of standard error at the end of the process, as long as a
/// `tee` or a container's runtime needs on a loaded machine.
const LAST_LINES: Duration = Duration::from_secs(1);
