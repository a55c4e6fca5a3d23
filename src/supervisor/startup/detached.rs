//! Work on files that the server may have to go on without: on a network file system that
//! hangs, or a FIFO without a reader, it never ends.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Runs `job` on a thread of its own and waits for its result, `limit` at most. `None`: there
/// is none yet, and the job goes on by itself; or there was no thread to be had. Blocks.
pub fn within<T: Send + 'static>(
    limit: Duration,
    job: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let spawned = thread::Builder::new()
        .name("pyserve-files".into())
        .spawn(move || drop(sender.send(job())));
    spawned.ok()?;
    receiver.recv_timeout(limit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_does_not_end_is_not_waited_for() {
        let (_never, wait) = mpsc::channel::<()>();
        assert_eq!(within(Duration::from_secs(60), || 7), Some(7));
        let late = within(Duration::from_millis(1), move || wait.recv());
        assert!(late.is_none());
    }
}
