//! Timers that requests use one after another.
//!
//! A timer of tokio costs an aligned allocation and two visits of the timer wheel under its lock.
//! Nearly every request is answered long before its timer; then the next one moves the timer's
//! deadline, for which one atomic exchange suffices. A timer that is not in use may fire: that
//! wakes the task that used it last, which finds nothing to do.

use std::pin::Pin;
use std::task::Poll;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::time::Sleep;

/// Timers kept: more than requests are handed out at a time with the usual numbers of threads.
const MOST: usize = 128;

/// Timers that are not in use.
#[derive(Default)]
pub(super) struct Timers(Mutex<Vec<Pin<Box<Sleep>>>>);

/// A timer in use.
pub(super) struct Timer<'a> {
    timers: &'a Timers,
    /// `None` only during the drop.
    sleep: Option<Pin<Box<Sleep>>>,
    /// It is used again.
    is_kept: bool,
}

impl Timers {
    /// A timer that fires at `deadline`. The last one used, whose deadline is latest.
    pub(super) fn until(&self, deadline: Instant) -> Timer<'_> {
        let kept = self.0.lock().pop();
        let sleep = match kept {
            Some(mut sleep) => {
                sleep.as_mut().reset(deadline.into());
                sleep
            }
            None => Box::pin(tokio::time::sleep_until(deadline.into())),
        };
        Timer {
            timers: self,
            sleep: Some(sleep),
            is_kept: true,
        }
    }
}

impl Timer<'_> {
    /// The output of `future`; `None` if the timer fires first.
    pub(super) async fn limit<F: Future + Unpin>(&mut self, mut future: F) -> Option<F::Output> {
        let mut sleep = self.sleep.as_mut().expect("taken only on drop").as_mut();
        // Cancel-safe if the future is: nothing else is kept between two polls.
        std::future::poll_fn(|context| match Pin::new(&mut future).poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => sleep.as_mut().poll(context).map(|()| None),
        })
        .await
    }

    /// Sets a later deadline for a request that waits long. Its timer is not used again: until it
    /// fired, it would keep the task that it wakes, which may have ended.
    pub(super) fn extend(&mut self, deadline: Instant) {
        self.is_kept = false;
        let sleep = self.sleep.as_mut().expect("taken only on drop");
        sleep.as_mut().reset(deadline.into());
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            return;
        }
        let mut kept = self.timers.0.lock();
        if kept.len() < MOST {
            kept.extend(self.sleep.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_timer_has_the_deadline_of_the_request_that_uses_it() {
        let timers = Timers::default();
        for _ in 0..2 {
            // Answered at the second poll, so that the timer has been polled.
            let mut timer = timers.until(Instant::now() + LONG);
            let later = Box::pin(tokio::task::yield_now());
            assert!(timer.limit(later).await.is_some());
            drop(timer);
            // An earlier deadline than that of the request before; then the timer has fired.
            let mut timer = timers.until(Instant::now());
            assert!(timer.limit(std::future::pending::<()>()).await.is_none());
            drop(timer);
            assert_eq!(timers.0.lock().len(), 1, "one after another");
        }
        let mut timer = timers.until(Instant::now());
        assert!(timer.limit(std::future::pending::<()>()).await.is_none());
        timer.extend(Instant::now() + LONG);
        let later = Box::pin(tokio::task::yield_now());
        assert!(timer.limit(later).await.is_some());
        drop(timer);
        assert_eq!(timers.0.lock().len(), 0, "it would wake a task of the past");
    }

    #[tokio::test]
    async fn requests_at_the_same_time_have_a_timer_each_and_few_are_kept() {
        let timers = Timers::default();
        let all: Vec<_> = (0..2 * MOST)
            .map(|_| timers.until(Instant::now()))
            .collect();
        for mut timer in all {
            assert!(timer.limit(std::future::pending::<()>()).await.is_none());
        }
        assert_eq!(timers.0.lock().len(), MOST);
    }
}
