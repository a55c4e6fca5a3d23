//! Keeps the threads of a worker other than the first from requests until the worker is ready.

use std::sync::{Condvar, Mutex, PoisonError};

/// Closed until [`Gate::decide`].
#[derive(Debug, Default)]
pub struct Gate {
    is_to_serve: Mutex<Option<bool>>,
    decided: Condvar,
}

impl Gate {
    /// Lets the threads serve, or end.
    pub fn decide(&self, is_to_serve: bool) {
        let mut decision = self
            .is_to_serve
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *decision = Some(is_to_serve);
        self.decided.notify_all();
    }

    /// Waits for the decision. Detached.
    pub fn wait(&self) -> bool {
        let mut decision = self
            .is_to_serve
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(is_to_serve) = *decision {
                return is_to_serve;
            }
            let waited = self.decided.wait(decision);
            decision = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}
