//! Requests wait for a descriptor where this process has none left.
//!
//! Connections leave room for what their requests open ([`connections`](super::client_limits::connections)), so
//! a descriptor is free again within moments. Only a request that has waited in vain is refused.

use std::io;
use std::time::{Duration, Instant};

use crate::os::descriptors::are_exhausted;

/// Longest time that a request waits for descriptors, on all its tries together.
const LONGEST: Duration = Duration::from_secs(3);
/// The pause before the first try, which doubles up to the last one.
const PAUSES: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(50)];

/// The tries of one operation that needs a descriptor.
#[derive(Debug, Default)]
pub struct Tries {
    began: Option<Instant>,
    pause: Duration,
}

impl Tries {
    /// Pauses after a try that failed with `error`. `true`: it may be tried again. `false`: the
    /// error says something else than that there are no descriptors, or it was tried long enough.
    pub async fn again(&mut self, error: &io::Error) -> bool {
        are_exhausted(error) && self.pause().await
    }

    /// Pauses for as long as before another try. `false`: it was tried long enough.
    pub async fn pause(&mut self) -> bool {
        let began = *self.began.get_or_insert_with(Instant::now);
        if began.elapsed() > LONGEST {
            return false;
        }
        self.pause = (2 * self.pause).clamp(PAUSES[0], PAUSES[1]);
        tokio::time::sleep(self.pause).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_descriptors_are_waited_for() {
        let mut tries = Tries::default();
        assert!(
            tries.again(&io::Error::from_raw_os_error(24)).await,
            "EMFILE"
        );
        assert!(
            tries.again(&io::Error::from_raw_os_error(23)).await,
            "ENFILE"
        );
        assert!(
            !tries.again(&io::Error::from_raw_os_error(28)).await,
            "ENOSPC"
        );
        tries.began = Instant::now().checked_sub(2 * LONGEST);
        assert!(!tries.again(&io::Error::from_raw_os_error(24)).await);
    }
}
