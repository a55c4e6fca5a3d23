//! Reads a body that has arrived with the head of its request: one system call into the memory from
//! which it is copied to the worker.
//!
//! hyper reads a body in pieces of 16 KiB. Each takes a turn through hyper's state machine and
//! through the task of the request, which joins them. Measured with bodies of 64 KiB, two workers
//! and 32 connections: 31 µs of CPU per request instead of 50; with one connection 29 instead of 70.
//!
//! hyper gets the head with a Content-Length of zero, and the request takes its body from
//! [`Activity::take_body`](crate::front::activity::Activity::take_body). A body of which a byte is
//! missing is left to hyper: it may arrive slowly, and [`crate::front::body::request_spool`] has
//! the deadlines, rates and memory for that.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::net::RecvFlags;

use super::Stream;
use crate::front::body::request_spool::IN_MEMORY;
use crate::front::client_limits::memory_budget::{Resource, SMALL};
use crate::front::protocol::framing::BodyRemainder;
use crate::front::protocol::framing::head::CompleteHead;

/// A whole body.
pub(super) struct AtOnce {
    /// The body, which holds its memory.
    pub body: Bytes,
    /// Number of its bytes that had been read before.
    pub used: usize,
    /// The digits of its length in the head.
    pub digits: Range<usize>,
}

impl Stream {
    /// The body of a request with this head, of which `received` has been read. `None`: hyper is to
    /// read it.
    ///
    /// # Errors
    /// The error of the socket, with a part of the body read.
    pub(super) fn body_at_once(
        &mut self,
        head: &CompleteHead<'_>,
        received: &[u8],
    ) -> io::Result<Option<AtOnce>> {
        let (BodyRemainder::Length(length), Some(digits)) = (head.body, &head.length_digits) else {
            return Ok(None);
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length == 0 || length > IN_MEMORY {
            return Ok(None);
        }
        let used = received.len().min(length);
        let mut memory = None;
        if length > SMALL {
            memory = self.activity.account.try_reserve(Resource::Memory, length);
            if memory.is_none() {
                return Ok(None);
            }
        }
        let body = match length - used {
            0 => Some(Bytes::copy_from_slice(&received[..used])),
            // The socket does not show how many bytes its records have.
            _ if self.socket().is_tls() => None,
            missing => self.receive_all(&received[..used], missing)?,
        };
        let charged = |body: Bytes| match memory {
            Some(memory) => memory.around(body),
            None => body,
        };
        Ok(body.map(|body| AtOnce {
            body: charged(body),
            used,
            digits: digits.clone(),
        }))
    }

    /// These bytes, and `missing` ones that follow them in the socket. `None`: there are fewer.
    fn receive_all(&mut self, received: &[u8], missing: usize) -> io::Result<Option<Bytes>> {
        let mut result = Ok(None);
        let mut look = |socket: BorrowedFd<'_>| {
            result = receive(socket, received, missing);
            match result {
                // The runtime learns that the socket has nothing more.
                Ok(Some((_, false))) => Err(io::ErrorKind::WouldBlock.into()),
                _ => Ok(()),
            }
        };
        let _noted = match self.has_unread {
            true => look(self.socket().as_fd()),
            false => self.socket().try_read_with(look),
        };
        Ok(result?.map(|(body, is_more)| {
            self.has_unread &= is_more;
            Bytes::from(body)
        }))
    }
}

/// As [`Stream::receive_all`]; with `true` if the socket has more.
fn receive(
    socket: BorrowedFd<'_>,
    received: &[u8],
    missing: usize,
) -> io::Result<Option<(Vec<u8>, bool)>> {
    let available = rustix::io::ioctl_fionread(socket)?;
    let length = received.len() + missing;
    let mut body = Vec::new();
    if available < missing as u64 || body.try_reserve_exact(length).is_err() {
        return Ok(None);
    }
    // The capacity bounds the read: the bytes behind belong to the next request.
    if body.capacity() != length {
        return Ok(None);
    }
    body.extend_from_slice(received);
    while body.len() < length {
        // Over a Unix socket, a descriptor that the client sends ends a read.
        let room = spare_capacity(&mut body);
        let (length, _) = rustix::net::recv(socket, room, RecvFlags::DONTWAIT)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Some((body, available > missing as u64)))
}
