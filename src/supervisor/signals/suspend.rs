//! Ctrl-Z at the terminal: the shell's job is all of pyserve, but the terminal's signal reaches
//! the server alone, because each application and companion has a process group of its own.

use crate::os::{child, signals};

/// Stops these process groups and this process, as SIGTSTP does by default, and has all go on
/// when this process is continued.
pub(crate) fn with(groups: &[u32]) {
    for group in groups {
        child::stop_group(*group);
    }
    if let Err(error) = signals::suspend() {
        tracing::warn!(%error, "cannot be suspended");
    }
    for group in groups {
        child::continue_group(*group);
    }
    tracing::info!("continued after SIGTSTP");
}
