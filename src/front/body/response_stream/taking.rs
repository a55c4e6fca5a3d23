//! The client's end: the order and the amount of the bytes it gets.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::{IN_HAND, IN_HAND_DIRECT, Shared, Waiting, wake};

pub(crate) struct Streamed {
    pub(crate) shared: Arc<Shared>,
    pub(crate) abandon: Option<Box<dyn FnOnce() + Send + Sync>>,
    /// Most bytes that are given at a time.
    pub(crate) part: usize,
    /// The block that is being read from the file.
    pub(crate) reading: Option<Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send>>>,
}

impl Streamed {
    pub(crate) fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, io::Error>>> {
        if let Some(reading) = &mut self.reading {
            let block = std::task::ready!(reading.as_mut().poll(context));
            self.reading = None;
            return Poll::Ready(Some(block.map(|block| self.took_block(block))));
        }
        let mut state = self.shared.lock();
        let in_hand = match state.buffering {
            Waiting::Direct => IN_HAND_DIRECT,
            _ => IN_HAND,
        };
        if state.in_hand >= in_hand {
            state.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let block = state
            .spooled
            .as_ref()
            .and_then(|spooled| spooled.next_block(self.part));
        if let Some(block) = block {
            drop(state);
            self.reading = Some(Box::pin(block));
            return self.poll(context);
        }
        if state.writing == 0
            && let Some(mut chunk) = state.chunks.pop_front()
        {
            if chunk.len() > self.part {
                chunk = cut(&chunk, self.part, &mut state.chunks);
            }
            state.buffered -= chunk.len();
            state.in_hand += chunk.len();
            drop(state);
            self.shared.budget.take(chunk.len());
            self.shared.changed.notify_one();
            return Poll::Ready(Some(Ok(self.handed_out(chunk))));
        }
        match state.end {
            // A body that fails would discard what the connection has not sent.
            Some(Err(_)) if state.writing == 0 && state.in_hand > 0 => {
                state.reader = Some(context.waker().clone());
                Poll::Pending
            }
            Some(result) if state.writing == 0 => {
                drop(state);
                self.abandon = None;
                Poll::Ready(result.err().map(|why| Err(io::Error::other(why))))
            }
            _ => {
                state.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    fn took_block(&self, block: Bytes) -> Bytes {
        let mut state = self.shared.lock();
        state.in_hand += block.len();
        if let Some(spooled) = &mut state.spooled {
            spooled.took(block.len());
        }
        drop(state);
        self.shared.changed.notify_one();
        self.handed_out(block)
    }

    /// Wraps the bytes so that their share of the budget is released when the connection has sent
    /// them.
    fn handed_out(&self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(InHand {
            bytes,
            shared: Arc::clone(&self.shared),
        })
    }
}

/// Cuts `chunk` into pieces of `part` bytes, all but the first of which go to the front of `queue`.
/// The pieces are copies: memory is short, and a slice would keep all of the chunk until the client
/// takes it.
fn cut(chunk: &[u8], part: usize, queue: &mut VecDeque<Bytes>) -> Bytes {
    let (first, rest) = chunk.split_at(part);
    for piece in rest.chunks(part).rev() {
        queue.push_front(Bytes::copy_from_slice(piece));
    }
    Bytes::copy_from_slice(first)
}

struct InHand {
    bytes: Bytes,
    shared: Arc<Shared>,
}

impl AsRef<[u8]> for InHand {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.in_hand -= self.bytes.len();
        let reader = state.reader.take();
        drop(state);
        wake(reader);
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.client_gone = true;
        self.shared.budget.take(state.buffered);
        state.buffered = 0;
        let chunks = std::mem::take(&mut state.chunks);
        let spooled = state.spooled.take();
        let unfinished = state.end.is_none();
        drop(state);
        drop((chunks, spooled));
        self.shared.changed.notify_one();
        if let (true, Some(abandon)) = (unfinished, self.abandon.take()) {
            abandon();
        }
    }
}
