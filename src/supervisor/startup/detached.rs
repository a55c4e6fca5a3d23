//! File operations that may never end, on a hung network file system or a FIFO without a reader;
//! the server then continues without them.

use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

/// Runs `job` on its own thread and waits for its result, for `limit` at most. `None`: the job is
/// still running and continues, or no thread could be started. Blocks.
pub fn within<T: Send + 'static>(
    limit: Duration,
    job: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    spawn(move || drop(sender.send(job()))).ok()?;
    receiver.recv_timeout(limit).ok()
}

/// As [`within`], but does not block.
pub async fn run<T: Send + 'static>(
    limit: Duration,
    job: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    spawn(move || drop(sender.send(job()))).ok()?;
    tokio::time::timeout(limit, receiver).await.ok()?.ok()
}

/// Runs `job` on its own thread, which nothing waits for.
///
/// # Errors
/// The system creates no thread.
pub fn spawn(job: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name("pyserve-files".into());
    thread.spawn(job).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_does_not_end_is_left_behind() {
        let (_never, wait) = mpsc::channel::<()>();
        assert_eq!(within(Duration::from_secs(60), || 7), Some(7));
        let late = within(Duration::from_millis(1), move || wait.recv());
        assert!(late.is_none());
    }
}
