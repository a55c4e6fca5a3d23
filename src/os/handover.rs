//! The channel between a server and the process that takes its place: messages with descriptors.
//!
//! The new process inherits its end, whose number is in an environment variable. Each message is one
//! packet; one that is too long for a packet is in a memory file that comes first among its
//! descriptors.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SocketType,
    recvmsg, sockopt,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::sockets;

/// The variable with the number of the channel's descriptor.
const VARIABLE: &str = "PYSERVE_UPGRADE_FD";
/// Longest packet in bytes; the smallest send buffer of a default kernel holds it.
const LONGEST_PACKET: usize = 32 << 10;
/// Longest message in bytes: a page of maintenance mode and the keys of many certificates.
const LONGEST_MESSAGE: u64 = 64 << 20;
/// Most descriptors of one message (`SCM_MAX_FD` of the kernel), without the memory file.
pub const MOST_DESCRIPTORS: usize = 252;

/// The first byte of a packet: the message follows, or is in the first descriptor.
const INLINE: u8 = b'i';
const IN_FILE: u8 = b'f';

/// One end of the channel, close-on-exec.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// A message and its descriptors.
#[derive(Debug)]
pub struct Message {
    /// The bytes; not empty.
    pub bytes: Vec<u8>,
    /// The descriptors, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

impl Channel {
    /// A connected pair of ends.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = sockets::pair(SocketType::SEQPACKET)?;
        Ok((Self(one), Self(other)))
    }

    /// The end that this process was started with; `None` if there is none. To be called once, by the
    /// only thread.
    ///
    /// # Errors
    /// A text if the variable names something else.
    pub fn inherited() -> Result<Option<Self>, String> {
        let Some(text) = std::env::var_os(VARIABLE) else {
            return Ok(None);
        };
        // SAFETY: there is one thread, as the documentation above demands.
        unsafe { std::env::remove_var(VARIABLE) };
        let wrong = |why: &str| {
            format!(
                "{VARIABLE}={text:?} {why} (the variable is for `pyserve upgrade` alone: remove it)"
            )
        };
        let number: RawFd = text
            .to_str()
            .and_then(|text| text.parse().ok())
            .filter(|number| *number > 2)
            .ok_or_else(|| wrong("is not the number of a descriptor"))?;
        // SAFETY: only looked at; the number may be one that is not open.
        let seen = unsafe { BorrowedFd::borrow_raw(number) };
        let is_channel = sockopt::socket_type(seen) == Ok(SocketType::SEQPACKET)
            && sockopt::socket_domain(seen) == Ok(AddressFamily::UNIX);
        if !is_channel || fcntl_setfd(seen, FdFlags::CLOEXEC).is_err() {
            return Err(wrong("is not the channel of another server"));
        }
        // SAFETY: it is open, and the variable says that it is for this process. Called once, before
        // anything else opens descriptors and while there is one thread.
        Ok(Some(Self(unsafe { OwnedFd::from_raw_fd(number) })))
    }

    /// An end that came over another channel.
    pub fn from_descriptor(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// Another descriptor of this end.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Starts `command`, which inherits this end, in this process's group.
    ///
    /// # Errors
    /// The error of the system call for starting the program.
    pub fn start(&self, command: &mut Command) -> io::Result<u32> {
        command.env(VARIABLE, self.0.as_raw_fd().to_string());
        super::child::spawn_in_our_group(command, &[self.0.as_fd()])
    }

    /// Sends a message without waiting.
    ///
    /// # Errors
    /// The error of the system call; `BrokenPipe` if the other end is closed.
    pub fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if descriptors.len() > MOST_DESCRIPTORS {
            return Err(io::Error::other("too many descriptors for one message"));
        }
        if bytes.len() <= LONGEST_PACKET {
            let parts = [IoSlice::new(&[INLINE]), IoSlice::new(bytes)];
            return sockets::send(self.0.as_fd(), &parts, descriptors).map(drop);
        }
        let mut file = File::from(rustix::fs::memfd_create(
            "pyserve-upgrade",
            MemfdFlags::CLOEXEC,
        )?);
        file.write_all(bytes)?;
        let mut all = vec![file.as_fd()];
        all.extend(descriptors);
        sockets::send(self.0.as_fd(), &[IoSlice::new(&[IN_FILE])], &all).map(drop)
    }

    /// Receives a message without waiting. `None`: the other end is closed.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; else the error of the system call.
    pub fn receive(&self) -> io::Result<Option<Message>> {
        let mut buffer = vec![0; LONGEST_PACKET + 1];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = match recvmsg(&self.0, &mut parts, &mut ancillary, flags) {
            // The other end was closed with messages in it.
            Err(Errno::CONNRESET) => return Ok(None),
            received => received?,
        };
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                descriptors.extend(files);
            }
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(Errno::MFILE.into());
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(io::Error::other("a message is too long"));
        }
        buffer.truncate(received.bytes);
        let bytes = match buffer.remove(0) {
            IN_FILE if !descriptors.is_empty() => {
                let mut file = File::from(descriptors.remove(0));
                file.rewind()?;
                let mut bytes = Vec::new();
                file.take(LONGEST_MESSAGE).read_to_end(&mut bytes)?;
                bytes
            }
            _ => buffer,
        };
        Ok(Some(Message { bytes, descriptors }))
    }

    /// Receives a message, waiting for so long. Blocks.
    ///
    /// # Errors
    /// `TimedOut`, or the error of the system call.
    pub fn receive_within(&self, limit: Duration) -> io::Result<Option<Message>> {
        let until = Instant::now() + limit;
        loop {
            match self.receive() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return received,
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let limit = Timespec::try_from(left).unwrap_or_default();
            match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&limit)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Channel {
    /// The channel, registered with the runtime.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn registered(self) -> io::Result<AsyncFd<Self>> {
        // SAFETY: the descriptor is owned, and is the same until the channel is dropped.
        Ok(unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }?)
    }
}

/// Waits until the process has ended that this descriptor of [`end_of`] belongs to.
///
/// # Errors
/// The error of the system call for registering the descriptor.
pub async fn ended(end: OwnedFd) -> io::Result<()> {
    // SAFETY: the descriptor is owned, and is the same until it is dropped.
    let end = unsafe { AsyncFd::register_with_interest(end, Interest::READABLE) }?;
    // Readable once the process has ended, and from then on.
    end.readable().await?.retain_ready();
    Ok(())
}

static STANDS_FOR_INIT: AtomicBool = AtomicBool::new(false);

/// This process is the server of a container whose process 1 has handed over to it.
pub fn stand_for_init() {
    STANDS_FOR_INIT.store(true, Ordering::Relaxed);
}

/// True if this process is process 1 of a container, or stands for it.
pub fn is_init() -> bool {
    std::process::id() == 1 || STANDS_FOR_INIT.load(Ordering::Relaxed)
}

/// True if this process was started to take the place of another; before it takes the channel.
pub fn is_successor() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// A descriptor that becomes readable when a process ends; `None` where the kernel has none.
pub fn end_of(pid: u32) -> Option<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_any_length_arrive_with_their_descriptors() {
        let (one, other) = Channel::pair().unwrap();
        for length in [1, LONGEST_PACKET, LONGEST_PACKET + 1, 1 << 20] {
            let bytes = vec![b'x'; length];
            let (reader, writer) = io::pipe().unwrap();
            one.send(&bytes, &[writer.as_fd()]).unwrap();
            drop(writer);
            let message = other.receive().unwrap().unwrap();
            assert_eq!(message.bytes.len(), length);
            let [writer] = <[OwnedFd; 1]>::try_from(message.descriptors).unwrap();
            File::from(writer).write_all(b"y").unwrap();
            let mut text = String::new();
            (&reader).read_to_string(&mut text).unwrap();
            assert_eq!(text, "y");
        }
        let empty = other.receive().unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        drop(one);
        assert!(other.receive().unwrap().is_none());
        let late = other.receive_within(Duration::from_secs(9)).unwrap();
        assert!(late.is_none());
        assert!(other.send(b"x", &[]).is_err());
    }

    #[test]
    fn the_end_of_a_process_shows_at_its_descriptor() {
        let mut child = Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let end = end_of(child.id());
        let at_once = Timespec::default();
        let is_over = || {
            let end = end.as_ref();
            end.map(|end| poll(&mut [PollFd::new(end, PollFlags::IN)], Some(&at_once)).unwrap())
        };
        // Old kernels have no such descriptors.
        assert!(is_over().is_none_or(|count| count == 0));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_over().is_none_or(|count| count == 1));
    }
}
