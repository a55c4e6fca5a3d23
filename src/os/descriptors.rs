//! What is left to do when descriptors have run out: tell so, and serve one more.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

/// Whether an error says that this process, or the machine, has no descriptor left.
pub fn are_exhausted(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}

/// An error in words, with what to do where descriptors have run out.
pub fn explain(error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => format!("{error}: raise this process's limit (ulimit -n)"),
        Some(Errno::NFILE) => format!("{error}: raise the machine's limit (sysctl fs.file-max)"),
        _ => error.to_string(),
    }
}

/// A descriptor that is kept so that, when there is no other, somebody can still be accepted:
/// whoever steers or watches the server must reach it also then.
#[derive(Debug)]
pub struct Reserve(Mutex<Option<OwnedFd>>);

impl Default for Reserve {
    fn default() -> Self {
        let reserve = Self(Mutex::new(None));
        reserve.refill();
        reserve
    }
}

impl Reserve {
    /// Gives the descriptor up after an accept that failed with this. `true`: it may be tried
    /// again at once; [`Reserve::refill`] when the connection is over.
    pub fn helps(&self, error: &io::Error) -> bool {
        are_exhausted(error) && self.lock().take().is_some()
    }

    /// Takes a descriptor, if there is none yet and one can be had.
    pub fn refill(&self) {
        let mut kept = self.lock();
        if kept.is_none() {
            *kept = eventfd(0, EventfdFlags::CLOEXEC).ok();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_helps_once_until_it_is_refilled_and_only_against_exhaustion() {
        let reserve = Reserve::default();
        let full = io::Error::from(Errno::MFILE);
        assert!(!reserve.helps(&io::Error::from(Errno::CONNABORTED)));
        assert!(reserve.helps(&full));
        assert!(!reserve.helps(&full));
        reserve.refill();
        assert!(reserve.helps(&full));
    }
}
