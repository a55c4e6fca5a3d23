//! Polls futures that are rarely ready only after one of their own wake-ups.
//!
//! A connection's task is polled several times per request, and waits for timers and for the
//! shutdown all the time. Polling them locks a mutex for each token and touches the timer, for
//! nothing. So they get a waker of their own, which notes the wake-up and wakes the task.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

/// The waker of a group of futures, and the state of their last poll.
pub struct Wakeups {
    shared: Arc<Shared>,
    /// The waker of [`Shared::task`].
    task: Waker,
    /// The waker over `shared`.
    waker: Waker,
}

struct Shared {
    is_woken: AtomicBool,
    /// The task that polls the group.
    task: Mutex<Waker>,
}

impl Default for Wakeups {
    /// A group that has not been polled.
    fn default() -> Self {
        let shared = Arc::new(Shared {
            is_woken: AtomicBool::new(true),
            task: Mutex::new(Waker::noop().clone()),
        });
        Self {
            task: Waker::noop().clone(),
            waker: Waker::from(Arc::clone(&shared)),
            shared,
        }
    }
}

impl Wakeups {
    /// One of the futures was renewed: the next poll polls the group.
    pub fn renewed(&self) {
        self.shared.is_woken.store(true, Ordering::Release);
    }

    /// Polls the group by `poll` if it has not been polled, one of its futures has woken its
    /// waker, or the last poll was ready.
    pub fn poll<T>(
        &mut self,
        context: &Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if !self.task.will_wake(context.waker()) {
            self.task.clone_from(context.waker());
            // Before the look below: a wake-up after it wakes this task.
            self.shared.task.lock().clone_from(context.waker());
        }
        // Two steps, because the exchange costs more than the load, and is rarely needed.
        let woken = &self.shared.is_woken;
        if !woken.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        // Before the poll: a wake-up during it must not be lost.
        woken.swap(false, Ordering::AcqRel);
        let polled = poll(&mut Context::from_waker(&self.waker));
        if polled.is_ready() {
            // The caller may renew a future, and the others were not polled.
            woken.store(true, Ordering::Release);
        }
        polled
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        // Cloned: a waker may run any code.
        let task = self.task.lock().clone();
        task.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_group_is_polled_again_only_after_its_own_wake_up() {
        let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let wakers = [
            Waker::from(Arc::clone(&first)),
            Waker::from(Arc::clone(&second)),
        ];
        let mut wakeups = Wakeups::default();
        let mut inner = None;
        let mut polls = 0;
        let mut poll = |wakeups: &mut Wakeups, task: usize, is_ready: bool| {
            let polled = wakeups.poll(&Context::from_waker(&wakers[task]), |context| {
                polls += 1;
                inner = Some(context.waker().clone());
                match is_ready {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            });
            (polled.is_ready(), polls, inner.clone().expect("polled"))
        };
        let (_, polls, waker) = poll(&mut wakeups, 0, false);
        assert_eq!(polls, 1, "the first poll");
        assert_eq!(poll(&mut wakeups, 0, false).1, 1, "no wake-up");
        waker.wake_by_ref();
        assert_eq!(first.0.load(Ordering::Relaxed), 1, "the task is woken");
        assert_eq!(poll(&mut wakeups, 0, true).1, 2);
        assert_eq!(poll(&mut wakeups, 0, false).1, 3, "it was ready");
        assert_eq!(poll(&mut wakeups, 1, false).1, 3, "another task");
        waker.wake_by_ref();
        let woken = [&first, &second].map(|count| count.0.load(Ordering::Relaxed));
        assert_eq!(woken, [1, 1], "the task that polled last");
        assert_eq!(poll(&mut wakeups, 1, false).1, 4);
    }

    #[test]
    fn a_wake_up_during_the_poll_is_not_lost() {
        let mut wakeups = Wakeups::default();
        let context = Context::from_waker(Waker::noop());
        let mut polls = 0;
        for _ in 0..3 {
            let _pending = wakeups.poll(&context, |context| {
                polls += 1;
                context.waker().wake_by_ref();
                Poll::<()>::Pending
            });
        }
        assert_eq!(polls, 3);
    }
}
