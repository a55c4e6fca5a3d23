//! Receiving and sending on the sockets that pyserve gave to this process.
//!
//! Nothing here uses Python: callers detach before operations that may wait.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Most descriptors in one message (the kernel's `SCM_MAX_FD`).
const MAX_DESCRIPTORS: usize = 253;

/// Receives one message with its descriptors, all close-on-exec. Zero bytes: the other end
/// is closed.
///
/// # Errors
/// The error of `recvmsg`, and `InvalidData` for a message longer than `buffer`.
pub fn receive(
    socket: impl AsFd,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    receive_into(socket, buffer, descriptors, &mut space, RecvFlags::empty())
}

/// [`receive`] for messages with at most one descriptor, which is every order.
///
/// # Errors
/// As [`receive`].
pub fn receive_request(
    socket: impl AsFd,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    receive_into(socket, buffer, descriptors, &mut space, RecvFlags::empty())
}

/// [`receive_request`] without waiting.
///
/// # Errors
/// As [`receive`], and `WouldBlock` if there is no message.
pub fn receive_request_now(
    socket: impl AsFd,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    receive_into(socket, buffer, descriptors, &mut space, RecvFlags::DONTWAIT)
}

/// True if nothing more comes from the other end, after what may still be unread.
pub fn has_ended(socket: impl AsFd) -> bool {
    let mut polled = [PollFd::new(&socket, PollFlags::RDHUP)];
    let at_once = Timespec::default();
    poll(&mut polled, Some(&at_once)).is_ok_and(|ready| ready > 0)
}

fn receive_into(
    socket: impl AsFd,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
    space: &mut [MaybeUninit<u8>],
    flags: RecvFlags,
) -> io::Result<usize> {
    let mut control = RecvAncillaryBuffer::new(space);
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(buffer)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC | flags,
    )?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(files) = message {
            descriptors.extend(files);
        }
    }
    if received.flags.contains(rustix::net::ReturnFlags::TRUNC) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "message longer than any that pyserve sends",
        ));
    }
    Ok(received.bytes)
}

/// Writes all of `first`, then all of `second`, to a stream socket.
///
/// # Errors
/// The error of `sendmsg`; no signal is raised for a closed peer.
pub fn send_all(socket: impl AsFd, mut first: &[u8], mut second: &[u8]) -> io::Result<()> {
    while !first.is_empty() || !second.is_empty() {
        let pieces = [IoSlice::new(first), IoSlice::new(second)];
        match sendmsg(
            &socket,
            &pieces,
            &mut SendAncillaryBuffer::default(),
            SendFlags::NOSIGNAL,
        ) {
            Ok(sent) => {
                let of_first = sent.min(first.len());
                first = &first[of_first..];
                second = &second[sent - of_first..];
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => wait_writable(&socket, None)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Writes all of `bytes` to a stream socket; `descriptor` is attached to the first byte.
///
/// # Errors
/// The error of `sendmsg`.
pub fn send_with_descriptor(
    socket: impl AsFd,
    bytes: &[u8],
    descriptor: BorrowedFd<'_>,
) -> io::Result<()> {
    loop {
        let descriptors = [descriptor];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        match sendmsg(
            &socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        ) {
            Ok(sent) => return send_all(socket, &bytes[sent..], &[]),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => wait_writable(&socket, None)?,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends one message with descriptors.
///
/// # Errors
/// The error of `sendmsg`.
pub fn send_message_with(
    socket: impl AsFd,
    message: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(descriptors));
    let pieces = [IoSlice::new(message)];
    sendmsg(socket, &pieces, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Sends one message without descriptors.
///
/// # Errors
/// The error of `send`.
pub fn send_message(socket: impl AsFd, message: &[u8]) -> io::Result<()> {
    loop {
        match rustix::net::send(&socket, message, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            result => return Ok(result.map(|_| ())?),
        }
    }
}

/// Waits until the socket is writable, or the limit has passed.
///
/// # Errors
/// The error of `poll`.
pub fn wait_writable(socket: impl AsFd, limit: Option<Duration>) -> io::Result<()> {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    match poll(&mut [PollFd::new(&socket, PollFlags::OUT)], limit.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// True if the other end is closed; data that it sent before may still be unread.
pub fn has_hung_up(socket: impl AsFd) -> bool {
    let mut polled = [PollFd::new(&socket, PollFlags::empty())];
    let at_once = Timespec::default();
    poll(&mut polled, Some(&at_once)).is_ok() && polled[0].revents().contains(PollFlags::HUP)
}

/// Waits until there is data to read, or the end of the stream. `false`: the limit has passed.
///
/// # Errors
/// The error of `poll`.
pub fn wait_readable(socket: impl AsFd, limit: Duration) -> io::Result<bool> {
    let limit = Timespec::try_from(limit).ok();
    match poll(&mut [PollFd::new(&socket, PollFlags::IN)], limit.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
