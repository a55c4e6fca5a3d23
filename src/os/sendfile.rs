//! A file's bytes to a socket through the kernel, and whether that would wait for a disk.
//!
//! `sendfile` on a socket that does not block still waits for pages that are not in memory
//! (`sendfile(2)`; `SPLICE_F_NONBLOCK` is about pipes only). So a caller that must not wait
//! asks [`is_cached`] first, and has [`fetch`] run elsewhere if the answer is no.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::AsFd;

use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};

/// Sends up to `count` bytes of `file`, from `offset` on. 0: the file ends there.
///
/// # Errors
/// The error of the system call; [`io::ErrorKind::WouldBlock`] where the socket takes no more,
/// [`io::ErrorKind::Unsupported`] where the file system has no such way.
pub fn send(socket: impl AsFd, file: &File, offset: u64, count: usize) -> io::Result<usize> {
    let mut at = offset;
    match rustix::fs::sendfile(socket, file, Some(&mut at), count) {
        // EOVERFLOW: some file systems end at 2 GiB for this call only.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::OVERFLOW) => {
            Err(io::ErrorKind::Unsupported.into())
        }
        sent => Ok(sent?),
    }
}

/// True if these bytes can be read without waiting for a disk. Looks at samples: memory is filled
/// and reclaimed in longer runs than the distance between them. `false` also where the file system
/// gives no answer (overlay, network and FUSE file systems).
pub fn is_cached(file: &File, offset: u64, length: u64) -> bool {
    samples(offset, length).all(|at| {
        let mut byte = [0];
        let mut into = [IoSliceMut::new(&mut byte)];
        // 0 is the end of a file that was truncated; the read that follows reports it.
        rustix::io::preadv2(file, &mut into, at, ReadWriteFlags::NOWAIT).is_ok()
    })
}

/// Brings these bytes into memory and waits for them; those behind them, as many again but
/// not past `end`, are asked for without waiting, so that the disk works while they leave.
///
/// # Errors
/// The error of the system call for reading.
pub fn fetch(file: &File, offset: u64, length: u64, end: u64) -> io::Result<()> {
    let ahead = end.min(offset.saturating_add(length.saturating_mul(2)));
    let mut at = offset;
    while at < ahead {
        // Advice only: what it does not bring is read below. One call reads no more than the
        // device's read-ahead, so each asks for no more than that usually is.
        let _declined = rustix::fs::fadvise(file, at, Some(READ_AHEAD), Advice::WillNeed);
        at += READ_AHEAD.get();
    }
    for at in samples(offset, length) {
        rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut [0], at))?;
    }
    Ok(())
}

/// The first byte, one in each further [`STRIDE`], and the last.
fn samples(offset: u64, length: u64) -> impl Iterator<Item = u64> {
    let end = offset.saturating_add(length);
    (offset..end)
        .step_by(STRIDE)
        .chain(end.checked_sub(1).filter(|_| length > 0))
}

/// The usual read-ahead: no run of missing pages of that length goes unseen. One
/// sample costs 0.5 µs, most of it for touching the page, so a MiB costs 4 µs, where sending
/// it costs 100.
const STRIDE: usize = 128 << 10;

/// Linux's default read-ahead (`read_ahead_kb`).
const READ_AHEAD: std::num::NonZeroU64 = std::num::NonZeroU64::new(128 << 10).expect("not zero");

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_bytes_asked_for_arrive_and_the_end_is_told() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        assert_eq!(send(&ours, &file, 3, 4).unwrap(), 4);
        assert_eq!(send(&ours, &file, 8, 100).unwrap(), 2);
        assert_eq!(send(&ours, &file, 10, 100).unwrap(), 0);
        drop(ours);
        let mut received = String::new();
        theirs.read_to_string(&mut received).unwrap();
        assert_eq!(received, "345689");
    }

    #[test]
    fn a_full_socket_would_block() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(64 << 20).unwrap();
        let (ours, _theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut offset = 0;
        let error = loop {
            match send(&ours, &file, offset, 1 << 20) {
                Ok(sent) => offset += sent as u64,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(offset > 0 && offset < 64 << 20);
    }

    #[test]
    fn a_file_that_the_kernel_cannot_send_is_unsupported() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let memory = File::open("/proc/self/mem").unwrap();
        let error = send(&ours, &memory, 0, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    }

    #[test]
    fn samples_begin_and_end_with_the_range_and_leave_no_gap() {
        for (offset, length) in [(0, 1), (5, 64 << 10), (4096, 1 << 20), (7, (1 << 20) + 1)] {
            let samples: Vec<_> = samples(offset, length).collect();
            assert_eq!(samples[0], offset);
            assert_eq!(samples[samples.len() - 1], offset + length - 1);
            assert!(
                samples
                    .windows(2)
                    .all(|two| two[1] - two[0] <= STRIDE as u64)
            );
        }
        assert_eq!(samples(9, 0).count(), 0);
    }

    #[test]
    fn fetched_bytes_are_read_at_any_place() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 300_000]).unwrap();
        for (offset, length, end) in [
            (0, 300_000, 300_000),
            (299_999, 1, 300_000),
            (1 << 40, 9, 0),
        ] {
            fetch(&file, offset, length, end).unwrap();
        }
    }
}
