//! A response body that is encoded while it is sent: it is flushed whenever the application pauses,
//! so no byte waits for more output.
//!
//! Short pieces are encoded on the connection's thread, long ones on the encoder threads.
//! `request/compression.rs` decides which responses are encoded.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame};

use super::encoder::{Encoder, Encoders, Slot};
use super::response_stream::ResponseBody;
use crate::front::give_way::give_way;

/// An encoded body.
pub struct EncodedBody {
    inner: ResponseBody,
    state: State,
    /// Bytes encoded since the last flush.
    unflushed: usize,
    encoders: Encoders,
    /// The error that has ended the body too early; the output before it is sent first.
    broken: Option<io::Error>,
    _slot: Slot,
}

enum State {
    Here(Box<Encoder>),
    /// Encoding on another thread.
    There(Pin<Box<dyn Future<Output = io::Result<Box<Encoder>>> + Send>>),
    Ended,
}

impl EncodedBody {
    /// Encodes `inner` with `encoder`.
    pub fn new(inner: ResponseBody, encoder: Encoder, encoders: Encoders, slot: Slot) -> Self {
        Self {
            inner,
            state: State::Here(Box::new(encoder)),
            unflushed: 0,
            encoders,
            broken: None,
            _slot: slot,
        }
    }

    /// See [`ResponseBody::app_time`].
    pub fn app_time(&self) -> Option<Duration> {
        self.inner.app_time()
    }

    /// Runs a job on the encoder: on this thread if `bytes` is small enough, else on another one.
    fn work(
        &mut self,
        mut encoder: Box<Encoder>,
        bytes: usize,
        job: impl FnOnce(&mut Encoder) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        if bytes <= HERE {
            job(&mut encoder)?;
            self.state = State::Here(encoder);
            return Ok(());
        }
        let pool = self.encoders.pool.clone();
        self.state = State::There(Box::pin(async move {
            pool.run(move || job(&mut encoder).map(|()| encoder)).await
        }));
        Ok(())
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let mut here = 0;
        loop {
            let mut encoder = match std::mem::replace(&mut self.state, State::Ended) {
                State::Here(encoder) => encoder,
                State::There(mut job) => match job.as_mut().poll(context) {
                    Poll::Pending => {
                        self.state = State::There(job);
                        return Poll::Pending;
                    }
                    Poll::Ready(encoder) => encoder?,
                },
                State::Ended => return Poll::Ready(self.broken.take().map(Err)),
            };
            // Bounded: others have their turn in between.
            if encoder.ready() >= PIECE || here > HERE && encoder.ready() > 0 {
                let piece = encoder.take();
                self.state = State::Here(encoder);
                return Poll::Ready(Some(Ok(piece)));
            }
            if here > HERE {
                self.state = State::Here(encoder);
                return give_way(context);
            }
            match Pin::new(&mut self.inner).poll_frame(context) {
                Poll::Ready(Some(Err(error))) => {
                    // The output so far is sent as it would be at a pause.
                    encoder.flush()?;
                    self.broken = Some(error);
                    if encoder.ready() > 0 {
                        return Poll::Ready(Some(Ok(encoder.take())));
                    }
                }
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else {
                        self.state = State::Here(encoder);
                        continue;
                    };
                    here += data.len();
                    self.unflushed += data.len();
                    let length = data.len();
                    self.work(encoder, length, move |encoder| encoder.write(&data))?;
                }
                Poll::Ready(None) => {
                    let end = encoder.finish()?;
                    return Poll::Ready((!end.is_empty()).then_some(Ok(end)));
                }
                Poll::Pending if self.unflushed > 0 => {
                    let unflushed = std::mem::take(&mut self.unflushed);
                    self.work(encoder, unflushed, Encoder::flush)?;
                }
                Poll::Pending => {
                    let is_ready = encoder.ready() > 0;
                    let piece = encoder.take();
                    self.state = State::Here(encoder);
                    if !is_ready {
                        return Poll::Pending;
                    }
                    return Poll::Ready(Some(Ok(piece)));
                }
            }
        }
    }
}

impl http_body::Body for EncodedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = ready!(self.get_mut().poll(context));
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Ended) && self.broken.is_none()
    }
}

/// Longest body that is encoded on the thread of the connection: 10 to 50 µs, where the way to
/// another thread and back costs some 20.
pub const HERE: usize = 8 << 10;
/// Number of encoded bytes that are sent without waiting for a pause of the application.
const PIECE: usize = 16 << 10;
