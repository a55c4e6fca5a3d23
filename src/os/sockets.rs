//! Socket pairs, messages that carry descriptors, and what a peer has taken.
#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::ioctl::{Getter, Opcode};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    sockopt,
};

/// Most descriptors that one message may carry (`SCM_MAX_FD` of Linux).
pub const MAX_DESCRIPTORS: usize = 253;

/// A connected pair of Unix sockets, close-on-exec.
///
/// # Errors
/// What the kernel says, usually that descriptors have run out.
pub fn pair(kind: SocketType) -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        kind,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Makes a descriptor non-blocking for everyone who shares its open file.
///
/// # Errors
/// What the kernel says.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(fd, true)?)
}

/// Asks for room for `bytes` in the socket's send buffer, and says what it has now.
/// More than `net.core.wmem_max` is had only with privileges.
///
/// # Errors
/// What the kernel says.
pub fn grow_send_buffer(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    if sockopt::set_socket_send_buffer_size_force(fd, bytes).is_err() {
        sockopt::set_socket_send_buffer_size(fd, bytes)?;
    }
    Ok(sockopt::socket_send_buffer_size(fd)?)
}

/// Bytes that were written to a stream socket and that its peer has not acknowledged, over a
/// Unix socket not read.
///
/// # Errors
/// What the kernel says.
pub fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<u64> {
    // SIOCOUTQ of tcp(7) and unix(7), which is TIOCOUTQ.
    const SIOCOUTQ: Opcode = 0x5411;
    // SAFETY: the request writes one int to the address it is given, and nothing else.
    let request = unsafe { Getter::<SIOCOUTQ, std::ffi::c_int>::new() };
    // SAFETY: the descriptor is open, and the request above is made for any descriptor.
    let bytes = unsafe { rustix::ioctl::ioctl(socket, request) }?;
    Ok(bytes.max(0) as u64)
}

/// Sends one message without waiting: the parts in order, and these descriptors.
///
/// # Errors
/// `WouldBlock` where the buffer is full; else what the kernel says.
pub fn send(
    fd: BorrowedFd<'_>,
    parts: &[IoSlice<'_>],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = vec![
        MaybeUninit::uninit();
        if descriptors.is_empty() {
            0
        } else {
            SendAncillaryMessage::ScmRights(descriptors).size()
        }
    ];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    Ok(sendmsg(
        fd,
        parts,
        &mut ancillary,
        SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
    )?)
}

/// Receives bytes of a stream without waiting, and the descriptors that come with them,
/// close-on-exec; 0 at the end.
///
/// # Errors
/// `WouldBlock` where there is nothing; else what the kernel says.
pub fn receive_with_descriptors(
    fd: impl AsFd,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [io::IoSliceMut::new(buffer)];
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = recvmsg(fd, &mut parts, &mut ancillary, flags)?;
    for received in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(files) = received {
            descriptors.extend(files);
        }
    }
    Ok(message.bytes)
}

/// Receives one message without descriptors, without waiting; 0 at the end.
///
/// # Errors
/// `WouldBlock` where there is none; else what the kernel says.
pub fn receive(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let mut ancillary = RecvAncillaryBuffer::default();
    let mut parts = [io::IoSliceMut::new(buffer)];
    let message = recvmsg(fd, &mut parts, &mut ancillary, RecvFlags::DONTWAIT)?;
    Ok(message.bytes)
}
