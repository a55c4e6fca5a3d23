//! What runs once before the server serves: migrations, a script that prepares the image.
//!
//! The addresses are bound already, so clients wait instead of being refused. A stop that is
//! asked for meanwhile is the command's as well.

use std::time::Duration;

use super::companions::{self, Surroundings};
use super::{Outcome, Signals};
use crate::config::companions::Program;
use crate::os::child;

/// Runs it to its end. `None`: it went well; else how the server ends.
pub(super) async fn run(
    program: &Program,
    surroundings: &Surroundings,
    signals: &mut Signals,
) -> Option<Outcome> {
    let failed = |what: String| {
        Some(Outcome {
            code: FAILED,
            last_words: format!("pyserve: before_start failed: {what} (the command: {program})"),
        })
    };
    let (pid, output) = match companions::start(program, surroundings) {
        Ok(started) => started,
        Err(error) => return failed(format!("it cannot be started: {error}")),
    };
    tracing::info!(%program, "running before_start");
    let log = tokio::spawn(output.log("before_start".to_owned()));
    let mut stopped_by = None;
    let status = loop {
        // Every branch is cancel-safe: signals keep what is not taken.
        let signal = tokio::select! {
            _ = signals.child.recv() => {
                match ended(pid) {
                    Some(status) => break status,
                    None => continue,
                }
            }
            _ = signals.terminate.recv() => 15,
            _ = signals.interrupt.recv() => 2,
            _ = signals.quit.recv() => 3,
        };
        match stopped_by {
            None if signal != 3 => child::terminate_group(pid),
            _ => child::kill_group(pid),
        }
        stopped_by = Some(signal);
    };
    // What it left running in the background may hold the pipe open.
    let _left_behind = tokio::time::timeout(LAST_WORDS, log).await;
    match stopped_by {
        Some(signal) => Some(Outcome {
            code: 128 + signal,
            last_words: String::new(),
        }),
        None if child::exit_code(status) == Some(0) => None,
        None => failed(child::describe_status(status)),
    }
}

/// Takes all ended children off the kernel's table; the status of this one.
fn ended(pid: u32) -> Option<i32> {
    let mut own = None;
    while let Some((other, status)) = child::reap() {
        if other == pid {
            own = Some(status);
        }
    }
    own
}

/// Exit code if it fails, or if an essential companion ends.
pub(super) const FAILED: u8 = 5;
/// How long we wait for the end of what it wrote.
const LAST_WORDS: Duration = Duration::from_millis(200);
