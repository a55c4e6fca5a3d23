//! The requests of one connection: hyper serves them while there are any, and is absent while the
//! connection is idle.
//!
//! ```text
//! without hyper --a head that is not for the fast path, or the preface of HTTP/2--> with hyper
//!      ^                                                                              |
//!      `----------------------- HTTP/1, idle for `LINGERS` ---------------------------'
//! ```
//!
//! hyper keeps buffers of 16 to 24 KiB for an HTTP/1 connection, and holds nothing in them between two
//! requests ([`framing`](crate::front::protocol::framing)). A busy connection keeps it all the same, to
//! save the allocations. HTTP/2 has state between requests: h2 stays until the end.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::service::{Answering, Hyper};
use super::stream::{Next, Stream};

/// Time for which hyper stays with an idle HTTP/1 connection: clients that ask sooner keep it.
pub const LINGERS: Duration = Duration::from_secs(1);

/// A change of a connection.
pub enum Event {
    /// hyper has been made for the next request.
    Begun,
    /// The connection has ended.
    Ended(Result<(), Failure>),
}

/// The reason why a connection ended early.
pub enum Failure {
    /// An error of HTTP.
    Http(hyper::Error),
    /// An error of the socket while there was no hyper.
    Socket(io::Error),
}

/// The requests of one connection.
pub struct Conversation {
    service: Answering,
    /// Absent while hyper has it.
    stream: Option<Box<Stream>>,
    hyper: Option<Pin<Box<dyn Hyper>>>,
    home: Arc<Mutex<Home>>,
    /// The connection ends after the responses in progress.
    is_ending: bool,
}

/// The place to which a stream returns when hyper is dropped.
#[derive(Default)]
enum Home {
    /// It ends with hyper, or after a `101` with the tunnel.
    #[default]
    Closed,
    Open,
    Back(Box<Stream>),
}

/// A stream that hyper has.
struct Lent {
    /// Taken only on drop.
    stream: Option<Box<Stream>>,
    home: Arc<Mutex<Home>>,
}

impl Conversation {
    /// The requests that arrive at `stream`.
    pub fn new(stream: Stream, service: Answering) -> Self {
        Self {
            service,
            stream: Some(Box::new(stream)),
            hyper: None,
            home: Arc::default(),
            is_ending: false,
        }
    }

    /// Serves requests until something happens.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        if let Some(hyper) = &mut self.hyper {
            let ended = ready!(hyper.as_mut().poll(context));
            return Poll::Ready(Event::Ended(ended.map_err(Failure::Http)));
        }
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Event::Ended(Ok(())));
        };
        let next = match self.is_ending {
            true => Ok(Next::End),
            false => ready!(stream.poll_next(context)),
        };
        let ended = match next {
            Ok(Next::Http1) => {
                self.begin(Answering::over_http1);
                return Poll::Ready(Event::Begun);
            }
            Ok(Next::Http2) => {
                self.begin(Answering::over_http2);
                return Poll::Ready(Event::Begun);
            }
            Ok(Next::End) => ready!(Pin::new(&mut **stream).poll_shutdown(context)),
            Err(error) => Err(error),
        };
        self.stream = None;
        Poll::Ready(Event::Ended(ended.map_err(Failure::Socket)))
    }

    fn begin(&mut self, serve: impl Fn(Answering, TokioIo<Lent>) -> Pin<Box<dyn Hyper>>) {
        let lent = Lent {
            stream: self.stream.take(),
            home: Arc::clone(&self.home),
        };
        self.hyper = Some(serve(self.service.clone(), TokioIo::new(lent)));
    }

    /// Drops hyper if the connection has been idle for [`LINGERS`]. Returns true if hyper may be
    /// dropped later.
    pub fn release(&mut self) -> bool {
        let activity = &self.service.activity;
        if self.hyper.is_none() || self.is_ending || activity.is_http2() {
            return false;
        }
        if !activity.hyper_is_idle_for(LINGERS) {
            return true;
        }
        *self.home.lock() = Home::Open;
        self.hyper = None;
        if let Home::Back(mut stream) = std::mem::take(&mut *self.home.lock()) {
            stream.hyper_is_gone();
            self.stream = Some(stream);
        }
        false
    }

    /// Ends the connection after the responses in progress.
    pub fn end(&mut self) {
        self.is_ending = true;
        if let Some(hyper) = &mut self.hyper {
            hyper.as_mut().graceful_shutdown();
        }
    }
}

impl Lent {
    fn stream(&mut self) -> Pin<&mut Stream> {
        Pin::new(self.stream.as_mut().expect("taken only on drop"))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut home = self.home.lock();
        if let (Home::Open, Some(stream)) = (&*home, self.stream.take()) {
            *home = Home::Back(stream);
        }
    }
}

impl AsyncRead for Lent {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(context, into)
    }
}

impl AsyncWrite for Lent {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }
}
