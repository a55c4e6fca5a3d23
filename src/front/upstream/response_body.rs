//! A response body on its way from a worker to the client: taken off the worker at once,
//! kept in memory up to a limit, and back-pressure on the worker beyond it.
//!
//! One side ([`Feed`]) belongs to the task that reads the worker's channel, the other
//! ([`ResponseBody`]) to the client's connection. Whoever goes first is noticed by the
//! other.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Most bytes of one response that wait in memory for a slow client. Pages and JSON are
/// far below it, so a worker is free at once; a longer response goes at the client's pace.
pub const PER_RESPONSE: usize = 16 << 20;
/// Most bytes of all responses together; beyond it each may have [`WHEN_SHORT`].
pub const ALL_RESPONSES: usize = 256 << 20;
/// What a response may hold while [`ALL_RESPONSES`] is used up.
pub const WHEN_SHORT: usize = 64 << 10;

/// Bytes that all responses of a pool hold in memory.
#[derive(Debug, Default)]
pub struct Budget(AtomicUsize);

/// The client's end.
pub struct ResponseBody(Inner);

enum Inner {
    Whole(Option<Bytes>),
    Streamed {
        shared: Arc<Shared>,
        abandon: Option<Box<dyn FnOnce() + Send + Sync>>,
    },
}

/// The worker's end.
pub struct Feed(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    budget: Arc<Budget>,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Bytes>,
    buffered: usize,
    end: Option<Result<(), &'static str>>,
    app_time: Duration,
    client_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl ResponseBody {
    /// A body that is complete already.
    pub fn whole(bytes: Bytes) -> Self {
        Self(Inner::Whole(Some(bytes)))
    }

    /// A body that arrives in pieces. `abandon` runs if the client leaves before its end.
    pub fn streamed(
        budget: Arc<Budget>,
        abandon: impl FnOnce() + Send + Sync + 'static,
    ) -> (Feed, Self) {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            budget,
        });
        let body = Inner::Streamed {
            shared: Arc::clone(&shared),
            abandon: Some(Box::new(abandon)),
        };
        (Feed(shared), Self(body))
    }

    /// Time that the application has taken in all, once the body has ended.
    pub fn app_time(&self) -> Option<Duration> {
        match &self.0 {
            Inner::Whole(_) => None,
            Inner::Streamed { shared, .. } => {
                let state = shared.lock();
                state.end.is_some().then_some(state.app_time)
            }
        }
    }
}

impl std::fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Inner::Whole(bytes) => f
                .debug_tuple("Whole")
                .field(&bytes.as_ref().map(Bytes::len))
                .finish(),
            Inner::Streamed { .. } => f.write_str("Streamed"),
        }
    }
}

impl Feed {
    /// Adds a piece. `false`: the client has gone and nothing more is wanted.
    pub fn push(&self, chunk: Bytes) -> bool {
        let mut state = self.0.lock();
        if state.client_gone {
            return false;
        }
        state.buffered += chunk.len();
        self.0.budget.0.fetch_add(chunk.len(), Ordering::Relaxed);
        state.chunks.push_back(chunk);
        wake(state.reader.take());
        true
    }

    /// Waits until there is room for more, or nobody wants it.
    pub async fn room(&self) {
        std::future::poll_fn(|context| {
            let mut state = self.0.lock();
            let limit = match self.0.budget.0.load(Ordering::Relaxed) > ALL_RESPONSES {
                true => WHEN_SHORT,
                false => PER_RESPONSE,
            };
            if state.client_gone || state.buffered <= limit {
                return Poll::Ready(());
            }
            state.writer = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The response is complete, or broken for the reason given.
    pub fn end(&self, result: Result<(), &'static str>, app_time: Duration) {
        let mut state = self.0.lock();
        if state.end.is_none() {
            state.end = Some(result);
            state.app_time = app_time;
        }
        wake(state.reader.take());
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let (shared, abandon) = match &mut self.0 {
            Inner::Whole(bytes) => {
                let chunk = bytes.take().filter(|chunk| !chunk.is_empty());
                return Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))));
            }
            Inner::Streamed { shared, abandon } => (shared, abandon),
        };
        let mut state = shared.lock();
        if let Some(chunk) = state.chunks.pop_front() {
            state.buffered -= chunk.len();
            shared.budget.0.fetch_sub(chunk.len(), Ordering::Relaxed);
            wake(state.writer.take());
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        match state.end {
            None => {
                state.reader = Some(context.waker().clone());
                Poll::Pending
            }
            Some(result) => {
                drop(state);
                *abandon = None;
                Poll::Ready(result.err().map(|why| Err(io::Error::other(why))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Inner::Streamed { shared, .. } => {
                let state = shared.lock();
                state.chunks.is_empty() && matches!(state.end, Some(Ok(())))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Inner::Streamed { .. } => SizeHint::default(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        let Inner::Streamed { shared, abandon } = &mut self.0 else {
            return;
        };
        let mut state = shared.lock();
        state.client_gone = true;
        shared.budget.0.fetch_sub(state.buffered, Ordering::Relaxed);
        state.buffered = 0;
        state.chunks.clear();
        let unfinished = state.end.is_none();
        wake(state.writer.take());
        drop(state);
        if let (true, Some(abandon)) = (unfinished, abandon.take()) {
            abandon();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::sync::atomic::AtomicBool;

    fn streamed() -> (Feed, ResponseBody, Arc<AtomicBool>) {
        let abandoned = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&abandoned);
        let (feed, body) =
            ResponseBody::streamed(Arc::default(), move || flag.store(true, Ordering::Relaxed));
        (feed, body, abandoned)
    }

    #[tokio::test]
    async fn pieces_arrive_in_order_and_the_end_is_clean() {
        let (feed, body, abandoned) = streamed();
        assert!(feed.push(Bytes::from_static(b"one ")));
        assert!(feed.push(Bytes::from_static(b"two")));
        feed.end(Ok(()), Duration::from_millis(3));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "one two");
        assert!(!abandoned.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_broken_response_ends_in_an_error() {
        let (feed, body, _) = streamed();
        feed.push(Bytes::from_static(b"half"));
        feed.end(Err("cut"), Duration::ZERO);
        assert!(body.collect().await.is_err());
    }

    #[tokio::test]
    async fn a_client_that_leaves_is_noticed_and_frees_its_memory() {
        let (feed, body, abandoned) = streamed();
        feed.push(Bytes::from(vec![0; PER_RESPONSE + 1]));
        drop(body);
        feed.room().await;
        assert!(!feed.push(Bytes::from_static(b"more")));
        assert!(abandoned.load(Ordering::Relaxed));
        assert_eq!(feed.0.budget.0.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_full_buffer_waits_for_the_client() {
        let (feed, mut body, _) = streamed();
        feed.push(Bytes::from(vec![0; PER_RESPONSE + 1]));
        let mut room = Box::pin(feed.room());
        assert!(futures_now(room.as_mut()).is_none());
        body.frame().await.unwrap().unwrap();
        assert!(futures_now(room.as_mut()).is_some());
    }

    fn futures_now<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }
}
