//! A request body that is forwarded while it arrives (`request_buffering = no`).
//!
//! The upstream reads it piece by piece with [`RequestStream::next`]; while it does not, the client
//! waits. A worker gets the pieces through a socket of their own, see [`pyserve_wire::pieces`],
//! which a task of the front fills.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt;
use pyserve_wire::pieces;
use rustix::net::SocketType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_util::task::TaskTracker;

use super::received::Received;
use super::too_long::TooLong;
use crate::front::client_limits::min_rate::{MinRate, Patience};
use crate::os::descriptors::for_client;
use crate::os::sockets;

/// The body of a request, as it arrives.
#[derive(Debug)]
pub struct RequestStream {
    /// Its length in bytes, if declared.
    pub length: Option<u64>,
    way: Way,
    is_over: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Way {
    Here(Source),
    /// A task fills the other end.
    Socket(OwnedFd),
}

#[derive(Debug)]
struct Source {
    body: Received,
    pace: MinRate,
    left: u64,
    limit: u64,
    is_over: Arc<AtomicBool>,
}

/// Reasons why a body does not arrive completely.
#[derive(Debug, thiserror::Error)]
pub enum RequestBodyError {
    /// It exceeds its limit.
    #[error("the request body is longer than {0} bytes (the limit is set by --max-body)")]
    TooLarge(u64),
    /// The client sends too slowly.
    #[error("the client is too slow with its request body")]
    TooSlow,
    /// The client has disconnected, or its chunks are malformed.
    #[error("the client disconnected, or sent malformed chunks, inside its request body")]
    BrokenOff,
    /// Another task reads it.
    #[error("another task reads the request body")]
    Taken,
}

impl RequestStream {
    /// Forwards `body`, at most `limit` bytes of it.
    pub fn new(body: Received, limit: u64, patience: Patience) -> Self {
        let is_over = Arc::<AtomicBool>::default();
        Self {
            length: body.size_hint().exact(),
            way: Way::Here(Source {
                body,
                pace: MinRate::new(patience),
                left: limit,
                limit,
                is_over: Arc::clone(&is_over),
            }),
            is_over,
        }
    }

    /// Becomes true before the upstream gets the last piece.
    pub fn is_over(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_over)
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// [`RequestBodyError`]: the upstream must not take the pieces so far for the whole.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RequestBodyError> {
        match &mut self.way {
            Way::Here(source) => source.next().await,
            Way::Socket(_) => Err(RequestBodyError::Taken),
        }
    }

    /// Starts a task that fills a socket from which a worker reads the body, unless there is one.
    ///
    /// # Errors
    /// The error of the system call for sockets.
    pub fn fill_socket(&mut self, tasks: &TaskTracker) -> io::Result<()> {
        if let Way::Here(_) = self.way {
            let (ours, theirs) = sockets::pair(SocketType::STREAM)?;
            let (ours, theirs) = (for_client(ours)?, for_client(theirs)?);
            let ours = StdUnixStream::from(ours);
            ours.set_nonblocking(true)?;
            let ours = UnixStream::from_std(ours)?;
            if let Way::Here(source) = std::mem::replace(&mut self.way, Way::Socket(theirs)) {
                tasks.spawn(source.fill(ours));
            }
        }
        Ok(())
    }

    /// The worker's end of that socket.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        match &self.way {
            Way::Socket(socket) => Some(socket.as_fd()),
            Way::Here(_) => None,
        }
    }
}

impl Source {
    async fn next(&mut self) -> Result<Option<Bytes>, RequestBodyError> {
        loop {
            let asked = Instant::now();
            let frame = tokio::time::timeout(self.pace.left(), self.body.frame())
                .await
                .map_err(|_| RequestBodyError::TooSlow)?;
            if self.body.is_end_stream() || frame.is_none() {
                self.is_over.store(true, Ordering::Release);
            }
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| match TooLong::found_in(&error) {
                Some(TooLong(limit)) => RequestBodyError::TooLarge(limit),
                None => RequestBodyError::BrokenOff,
            });
            let Ok(data) = frame?.into_data() else {
                // Trailers, as everywhere, are dropped.
                continue;
            };
            let length = data.len() as u64;
            self.pace.moved(asked.elapsed(), length);
            self.left = self
                .left
                .checked_sub(length)
                .ok_or(RequestBodyError::TooLarge(self.limit))?;
            return Ok(Some(data));
        }
    }

    /// Fills the socket until the body ends or its reader has closed it.
    async fn fill(mut self, socket: UnixStream) {
        let (mut reader, mut writer) = socket.into_split();
        let mut nothing = [0];
        let filling = async {
            loop {
                let (head, piece) = match self.next().await {
                    Ok(Some(piece)) if piece.is_empty() => continue,
                    Ok(Some(piece)) => (pieces::head(piece.len()), piece),
                    Ok(None) => (pieces::END, Bytes::new()),
                    Err(broken) => (pieces::BROKEN, Bytes::from(broken.to_string())),
                };
                let written = async {
                    writer.write_all(&head).await?;
                    writer.write_all(&piece).await
                };
                if written.await.is_err() || head == pieces::END || head == pieces::BROKEN {
                    return;
                }
            }
        };
        tokio::select! {
            // Not resumed: in either case the body is abandoned or at its end.
            () = filling => {}
            // The worker never writes: this is the end of file.
            _ = reader.read(&mut nothing) => {}
        }
    }
}
