//! Socket pairs, messages that carry descriptors, and what a peer has taken.
#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::ioctl::{Getter, Opcode};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair, sockopt,
};
use socket2::{SockFilter, SockRef};

/// A connected pair of Unix sockets, close-on-exec.
///
/// # Errors
/// The error of the system call, usually that descriptors have run out.
pub fn pair(kind: SocketType) -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        kind,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// True if the path is a socket without a listener, left over from a killed server.
pub fn is_abandoned(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && UnixStream::connect(path).is_err_and(refused)
}

/// Makes a descriptor non-blocking for all holders of its open file.
///
/// # Errors
/// The error of the system call.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(fd, true)?)
}

/// Asks for room for `bytes` in the socket's send buffer, and says what it has now.
/// More than `net.core.wmem_max` is had only with privileges.
///
/// # Errors
/// The error of the system call.
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
/// The error of the system call.
pub fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<u64> {
    // SIOCOUTQ of tcp(7) and unix(7), which is TIOCOUTQ.
    const SIOCOUTQ: Opcode = 0x5411;
    // SAFETY: the request writes one int to the address it is given, and nothing else.
    let request = unsafe { Getter::<SIOCOUTQ, std::ffi::c_int>::new() };
    // SAFETY: the descriptor is open, and the request above is made for any descriptor.
    let bytes = unsafe { rustix::ioctl::ioctl(socket, request) }?;
    Ok(bytes.max(0) as u64)
}

/// The end of a peer, as far as it shows while nothing is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerEnd {
    /// The peer may send more.
    Open,
    /// The peer sends nothing more. Over TCP it may have closed the connection as well.
    Sent,
    /// The peer has closed or reset the connection.
    Gone,
}

/// Looks for the end of a stream socket's peer, whatever lies unread in front of it.
///
/// # Errors
/// The error of the system call.
pub fn peer_end(socket: BorrowedFd<'_>) -> io::Result<PeerEnd> {
    let mut asked = [PollFd::new(&socket, PollFlags::RDHUP)];
    rustix::event::poll(&mut asked, Some(&Timespec::default()))?;
    let events = asked[0].revents();
    Ok(match events {
        _ if events.intersects(PollFlags::HUP | PollFlags::ERR) => PeerEnd::Gone,
        _ if events.contains(PollFlags::RDHUP) => PeerEnd::Sent,
        _ => PeerEnd::Open,
    })
}

/// Has a TCP listener take part in no new handshake: the packet that asks for one is dropped,
/// and its sender asks again after a second. Handshakes under way go on.
///
/// The sockets it hands out inherit this; none of them is ever sent such a packet.
///
/// # Errors
/// The error of the system call, if it does not know such filters or may not be asked for one.
pub fn drop_new_handshakes(listener: BorrowedFd<'_>) -> io::Result<()> {
    // linux/bpf_common.h: BPF_LD|BPF_B|BPF_ABS, BPF_ALU|BPF_AND|BPF_K, BPF_JMP|BPF_JEQ|BPF_K
    // and BPF_RET|BPF_K. What a filter of a TCP socket sees begins with the TCP header.
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    // RFC 9293 §3.1: the byte of the flags, SYN, ACK.
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    const DROP: u32 = 0;
    const KEEP: u32 = u32::MAX;
    let program = [
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, DROP),
        SockFilter::new(RETURN, 0, 0, KEEP),
    ];
    SockRef::from(&listener).attach_filter(&program)
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

/// The result of receiving from a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Number of bytes; 0 at the end.
    pub bytes: usize,
    /// A descriptor came with them for which this process had no room.
    pub lost_descriptor: bool,
}

/// Receives bytes of a stream without waiting, and the descriptors that come with them,
/// close-on-exec.
///
/// # Errors
/// `WouldBlock` where there is nothing; else what the kernel says.
pub fn receive_with_descriptors(
    fd: impl AsFd,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<Received> {
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
    Ok(Received {
        bytes: message.bytes,
        lost_descriptor: message.flags.contains(ReturnFlags::CTRUNC),
    })
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

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::net::{connect, socket_with};

    use super::*;

    #[test]
    fn a_listener_that_drops_handshakes_keeps_the_connections_it_has() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let address = listener.local_addr().unwrap();
            let early = TcpStream::connect(address).unwrap();
            drop_new_handshakes(listener.as_fd()).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            assert_eq!(send(early.as_fd(), &[IoSlice::new(b"x")], &[]).unwrap(), 1);
            let family = match address.is_ipv6() {
                true => AddressFamily::INET6,
                false => AddressFamily::INET,
            };
            let (kind, flags) = (SocketType::STREAM, SocketFlags::NONBLOCK);
            let late = socket_with(family, kind, flags, None).unwrap();
            // Over loopback it would be there when this returns.
            let _in_progress = connect(&late, &address);
            drop(listener);
            poll(&mut [PollFd::new(&late, PollFlags::OUT)], None).unwrap();
            let outcome = sockopt::socket_error(&late).unwrap();
            assert_eq!(outcome, Err(rustix::io::Errno::CONNREFUSED));
            let mut byte = [0];
            accepted.set_nonblocking(false).unwrap();
            std::io::Read::read_exact(&mut &accepted, &mut byte).unwrap();
        }
    }
}
