//! The queue of a generation: one SEQPACKET socket pair, into which the pool sends requests
//! and from which every worker thread receives.
//!
//! All workers share the receiving end, so one of them can break it for all: `shutdown` ends
//! it. A broken queue is replaced by the pool; see [`super::worker_set::GenerationState::replace_queue`].

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pyserve_wire::frames::{BodyKind, REQUEST_HEADER, RequestHeader};
use rustix::net::SocketType;
use tokio::io::unix::AsyncFd;
use tokio_util::task::TaskTracker;

use crate::front::body::request::RequestBody;
use crate::front::upstream::Request;
use crate::os::inotify::watch;
use crate::os::{memory, sockets};

/// Requested send buffer. Requests take up to about 130 KB each.
const BUFFER: usize = 4 << 20;

/// Both ends of a queue.
pub(super) struct Queue {
    sender: AsyncFd<OwnedFd>,
    /// The workers' end, kept for the next template.
    receiver: OwnedFd,
    /// Longest message that the queue takes.
    longest_message: usize,
}

impl Queue {
    /// An empty queue.
    ///
    /// # Errors
    /// The error of the system call for sockets.
    pub(super) fn new() -> io::Result<Self> {
        let (sender, receiver) = sockets::pair(SocketType::SEQPACKET)?;
        let buffer = sockets::grow_send_buffer(sender.as_fd(), BUFFER)?;
        sockets::set_nonblocking(sender.as_fd())?;
        Ok(Self {
            sender: watch(sender)?,
            receiver,
            // The kernel charges more than the bytes themselves.
            longest_message: buffer / 2,
        })
    }

    /// The workers' end.
    pub(super) fn receiver(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }

    /// Ends the queue; queued messages are still received.
    pub(super) fn end(&self) {
        let _already_ended =
            rustix::net::shutdown(self.sender.get_ref(), rustix::net::Shutdown::Write);
    }

    /// True if the workers' end was shut down. Probes with a message that threads ignore: request
    /// number 0, which is never assigned.
    pub(super) fn is_broken(&self) -> bool {
        let ignored = RequestHeader {
            seq: 0,
            entry: 0,
            body: BodyKind::Inline,
            body_len: 0,
            vars_len: 0,
        };
        let bytes = ignored.to_bytes();
        let sent = sockets::send(self.sender.get_ref().as_fd(), &[IoSlice::new(&bytes)], &[]);
        sent.is_err_and(|error| is_end(&error))
    }

    /// Moves a body that exceeds the longest message into a memory file, and streams one that is
    /// still arriving into a socket.
    ///
    /// # Errors
    /// The error of the system call for either.
    pub(super) fn fit(&self, request: &mut Request, tasks: &TaskTracker) -> io::Result<()> {
        if let RequestBody::Stream(stream) = &mut request.body {
            stream.fill_socket(tasks)?;
        }
        if let RequestBody::Memory(body) = &request.body
            && request.message.len() + body.len() > self.longest_message
        {
            let length = body.len() as u64;
            let file = memory::sealed_file("pyserve-body", body)?.into();
            request.body = RequestBody::File { file, length };
        }
        Ok(())
    }

    /// Sends a request under a number of its own, for claim `entry` of the scoreboard.
    ///
    /// # Errors
    /// The error of the system call; see [`is_end`].
    pub(super) async fn send(
        &self,
        request: &mut Request,
        entry: usize,
        seq: u64,
    ) -> io::Result<()> {
        let (kind, body_len, inline, descriptor) = match &request.body {
            RequestBody::Memory(body) => (BodyKind::Inline, body.len() as u64, &body[..], None),
            RequestBody::File { file, length } => {
                (BodyKind::File, *length, &[][..], Some(file.as_fd()))
            }
            RequestBody::Stream(stream) => (BodyKind::Stream, 0, &[][..], stream.socket()),
        };
        let header = RequestHeader {
            seq,
            entry: entry as u32,
            body: kind,
            body_len,
            vars_len: (request.message.len() - REQUEST_HEADER) as u32,
        };
        request.message[..REQUEST_HEADER].copy_from_slice(&header.to_bytes());
        let parts = [IoSlice::new(&request.message), IoSlice::new(inline)];
        let send = |queue: &OwnedFd| sockets::send(queue.as_fd(), &parts, descriptor.as_slice());
        match send(self.sender.get_ref()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            sent => return sent.map(drop),
        }
        loop {
            let mut writable = self.sender.writable().await?;
            if let Ok(sent) = writable.try_io(|queue| send(queue.get_ref())) {
                return sent.map(drop);
            }
        }
    }
}

/// True if an error of [`Queue::send`] means that the other end was shut down.
pub(super) fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_queue_that_a_worker_has_shut_down_is_broken() {
        let queue = Queue::new().unwrap();
        assert!(!queue.is_broken());
        let ignored = &mut [0xFF; REQUEST_HEADER];
        sockets::receive(queue.receiver(), ignored).unwrap();
        assert_eq!(&ignored[..8], [0; 8], "the number of no request");
        rustix::net::shutdown(queue.receiver(), rustix::net::Shutdown::Read).unwrap();
        assert!(queue.is_broken());
        let mut request = Request {
            message: vec![0; REQUEST_HEADER],
            body: RequestBody::Memory(bytes::Bytes::new()),
        };
        assert!(is_end(&queue.send(&mut request, 0, 1).await.unwrap_err()));
    }
}
