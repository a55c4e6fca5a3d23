//! Decides whether this process may fork: finds resources that a fork would share or duplicate
//! wrongly.
//!
//! 1. [`threads`]: a thread does not exist in the child, but the locks that it holds do.
//! 2. [`objects`]: objects of the interpreter (`python/pyserve/left_behind.py`): pools, event
//!    loops, files that an exit removes, random generators.
//! 3. [`descriptors`]: offsets, pipes, connections and wait lists that two processes would share.
//! 4. [`processes`]: a child of this process is not a child of the workers.
//!
//! Everything counts except resources of pyserve itself, including agents that `sitecustomize` or a
//! `.pth` file starts before the application. [`ending`] stops what was found.

pub mod descriptors;
pub mod ending;
mod maps;
pub mod objects;
pub mod processes;
mod threads;

use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use descriptors::Descriptors;

/// Times to wait for threads that may end.
pub struct Patience {
    /// For threads that Python does not know.
    native: Duration,
    /// For threads that `threading` knows.
    python: Duration,
}

/// After the import: a joined thread is listed for a moment longer, and the threads of OpenBLAS
/// spin for some 30 ms before they sleep.
pub const SHORT: Patience = Patience {
    native: Duration::from_millis(300),
    python: Duration::ZERO,
};
/// In a worker, whose `before_exit` hooks have just asked threads to end.
pub const LONG: Patience = Patience {
    native: Duration::from_secs(1),
    python: Duration::from_secs(1),
};
/// Interval of the checks meanwhile.
const LOOK: Duration = Duration::from_millis(1);
/// Most reasons that are reported; an application may have thousands of open files.
const MOST_REASONS: usize = 20;

/// The reasons that make a fork unsafe. `ours`: descriptors of pyserve; `inherited`: those that do
/// not count, with the kernel's name of each. Waits up to `patience` for threads that end.
pub fn reasons_not_to_fork(
    py: Python<'_>,
    ours: &[RawFd],
    inherited: &BTreeMap<RawFd, String>,
    patience: Patience,
) -> Vec<String> {
    let mut reasons = threads_at_rest(py, &patience);
    let objects = match objects::look(py) {
        Ok(objects) => objects,
        Err(error) => {
            crate::log::exception(py, 0, "cannot check the application's objects", &error);
            objects::Objects::default()
        }
    };
    let mappings = maps::read();
    let descriptors = Descriptors {
        ours,
        inherited,
        objects: &objects,
        mappings: &mappings,
    };
    reasons.extend(objects.reasons.iter().cloned());
    reasons.extend(descriptors.reasons());
    reasons.extend(maps::shared_memory(&mappings));
    reasons.extend(processes::reasons(&objects));
    if reasons.len() > MOST_REASONS {
        let more = reasons.len() - MOST_REASONS;
        reasons.truncate(MOST_REASONS);
        reasons.push(format!("{more} more"));
    }
    reasons
}

fn threads_at_rest(py: Python<'_>, patience: &Patience) -> Vec<String> {
    let began = Instant::now();
    loop {
        let found = threads::look(py);
        let waited = began.elapsed();
        let may_end = |thread: &threads::Thread| match thread.is_python {
            true => waited < patience.python,
            false => waited < patience.native,
        };
        if !found.iter().any(may_end) {
            return found.into_iter().map(|thread| thread.reason).collect();
        }
        py.detach(|| thread::sleep(LOOK));
    }
}
