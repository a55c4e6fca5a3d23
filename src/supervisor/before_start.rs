//! Runs the `before_start` command once before the server serves: migrations, a script that
//! prepares the image.
//!
//! The addresses are bound already, so connections wait in the backlog instead of being refused. A
//! stop signal that arrives meanwhile stops the command too.

use std::time::{Duration, Instant};

use super::companions::{self, Leaving, ProcessEnvironment};
use super::signals::suspend;
use super::{Outcome, Signals, sleep_until};
use crate::config::companions::Program;
use crate::os::child::{self, StopSignal};

/// Runs the command to its end. `None` if it succeeded, else the exit of the server. A stopped
/// command may take `graceful_timeout` to exit.
pub(super) async fn run(
    program: &Program,
    surroundings: &ProcessEnvironment,
    graceful_timeout: Duration,
    signals: &mut Signals,
) -> Option<Outcome> {
    let failed = |what: String| {
        Some(Outcome {
            code: FAILED,
            last_error: format!("pyserve: before_start failed: {what} (the command: {program})"),
        })
    };
    let (pid, output) = match companions::start(program, surroundings, None) {
        Ok(started) => started,
        Err(error) => return failed(format!("it cannot be started: {error}")),
    };
    tracing::info!(%program, "running before_start");
    let log = tokio::spawn(output.log("before_start".to_owned()));
    let mut stopped: Option<(u8, Leaving)> = None;
    let status = loop {
        let deadline = stopped.as_ref().and_then(|(_, leaving)| leaving.deadline());
        // Every branch is cancel-safe: signals keep what is not received, and the timer is made
        // anew.
        let signal = tokio::select! {
            _ = signals.child.recv() => {
                match ended(pid, stopped.as_mut().map(|(_, leaving)| leaving)) {
                    Some(status) => break status,
                    None => continue,
                }
            }
            _ = signals.terminate.recv() => 15,
            _ = signals.interrupt.recv() => 2,
            _ = signals.quit.recv() => 3,
            _ = signals.suspend.recv() => {
                suspend::with(&[pid]);
                continue;
            }
            () = sleep_until(deadline.map(Into::into)), if deadline.is_some() => {
                tracing::warn!(pid, "before_start did not stop in time: killed");
                break child::KILLED;
            }
        };
        if signal == 3 || stopped.is_some() {
            let leaving = stopped.map(|(_, leaving)| leaving);
            let leaving =
                leaving.unwrap_or_else(|| Leaving::begin(pid, false, StopSignal::Term, None));
            stopped = Some((signal, leaving));
            break child::KILLED;
        }
        let deadline = Instant::now() + graceful_timeout;
        let leaving = Leaving::begin(
            pid,
            program.stays_in_shell(),
            StopSignal::Term,
            Some(deadline),
        );
        stopped = Some((signal, leaving));
    };
    if stopped.is_some() {
        child::kill_group(pid);
    }
    // A background process of the command may keep the pipe open.
    let _left_behind = tokio::time::timeout(LAST_OUTPUT, log).await;
    match stopped {
        Some((signal, _)) => Some(Outcome {
            code: 128 + signal,
            last_error: String::new(),
        }),
        None if child::exit_code(status) == Some(0) => None,
        None => failed(child::describe_status(status)),
    }
}

/// Reaps all exited children. Returns the status of this one when nothing is left that was asked to
/// exit.
fn ended(pid: u32, mut leaving: Option<&mut Leaving>) -> Option<i32> {
    let mut own = None;
    while let Some((other, status)) = child::reap() {
        let is_over = match &mut leaving {
            Some(leaving) => leaving.ended(other),
            None => other == pid,
        };
        if is_over {
            own = Some(status);
        }
    }
    own
}

/// Exit code if the command fails, or if an essential companion ends.
pub(super) const FAILED: u8 = 5;
/// Time to wait for the rest of its output.
const LAST_OUTPUT: Duration = Duration::from_millis(200);
