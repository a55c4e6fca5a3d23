//! Ctrl-Z at the terminal: the shell's job is all of pyserve, but the terminal's signal reaches
//! only the server, because each application and companion has its own process group.

use crate::os::{child, signals};

/// Stops these process groups and this process, as SIGTSTP does by default; all continue when this
/// process is continued.
pub(crate) fn with(groups: &[u32]) {
    for group in groups {
        child::stop_group(*group);
    }
    if let Err(error) = signals::suspend() {
        tracing::warn!(%error, "cannot suspend the server");
    }
    for group in groups {
        child::continue_group(*group);
    }
    tracing::info!("continued after SIGTSTP");
}
