//! Pauses of what waits for memory that others hold.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Sleep;

/// The first pause.
const SHORTEST: Duration = Duration::from_millis(20);
/// Pauses double up to this: a thousand clients that read nothing must not keep a thread busy.
const LONGEST: Duration = Duration::from_millis(320);

/// Pauses between two questions, each longer than the one before.
#[derive(Debug, Default)]
pub struct AskAgain {
    pause: Option<Pin<Box<Sleep>>>,
    last: Duration,
}

impl AskAgain {
    /// Begins a pause, or goes on with it. Ready at its end.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.pause.is_none() {
            self.last = (2 * self.last).clamp(SHORTEST, LONGEST);
            self.pause = Some(Box::pin(tokio::time::sleep(self.last)));
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
        }
        self.pause = None;
        Poll::Ready(())
    }

    /// True during a pause.
    pub fn is_pausing(&self) -> bool {
        self.pause.is_some()
    }

    /// There was memory: the next pause is the shortest again.
    pub fn done(&mut self) {
        *self = Self::default();
    }
}
