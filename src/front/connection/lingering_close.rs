//! Lingering close: ends a connection whose client may still be sending.
//!
//! Unread bytes make the kernel reset a connection on close, and a reset destroys the part of the
//! last response that is still in transit (RFC 9112 §9.6). So the write side is closed first, and
//! everything that the client sends until it closes its own side is read and discarded (nginx:
//! `lingering_close`). [`super::stream`] decides whether a connection needs it.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};

use crate::front::shutdown::Shutdown;
use crate::front::socket::Socket;

/// Limits on the time and the bytes for which a client may continue to send.
#[derive(Debug, Clone, Copy)]
struct Limits {
    longest: Duration,
    /// Counted from the moment at which the server is to stop.
    at_the_end: Duration,
    bytes: usize,
}

/// The first is nginx's `lingering_timeout`. When the server stops, the time allows a round trip
/// over nearly any network.
const LIMITS: Limits = Limits {
    longest: Duration::from_secs(5),
    at_the_end: Duration::from_secs(1),
    bytes: 64 << 20,
};

/// Reads and discards until the client closes its side, or a time limit passes. The drain ends it
/// soon, and at once if it `gives_way` to a client that waits for a place.
pub async fn linger(socket: Socket, stop: &Shutdown, gives_way: impl Fn() -> bool) {
    linger_within(LIMITS, socket, stop, gives_way).await;
}

async fn linger_within(
    limits: Limits,
    socket: Socket,
    stop: &Shutdown,
    gives_way: impl Fn() -> bool,
) {
    let end_is_near = async {
        stop.drain.cancelled().await;
        if !gives_way() {
            tokio::time::sleep(limits.at_the_end).await;
        }
    };
    // The connection is finished: the branch that is dropped loses nothing.
    tokio::select! {
        () = swallow(socket, limits.bytes) => {}
        () = tokio::time::sleep(limits.longest) => {}
        () = end_is_near => {}
        () = stop.cut.cancelled() => {}
    }
}

async fn swallow(mut socket: Socket, mut left: usize) {
    while let Ok(read @ 1..) = poll_fn(|context| poll_forget(&mut socket, context)).await {
        left = left.saturating_sub(read);
        if left == 0 {
            return;
        }
    }
}

/// Reads into a buffer that does not outlive the call: where a thousand uploads are refused, a
/// thousand connections linger, and 64 KiB for each were a third of the cost of such an attack.
fn poll_forget(socket: &mut Socket, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut forgotten = [MaybeUninit::uninit(); 16 << 10];
    let mut buffer = ReadBuf::uninit(&mut forgotten);
    let read = Pin::new(socket).poll_read(context, &mut buffer);
    read.map_ok(|()| buffer.filled().len())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    use super::*;

    const NEVER: Limits = Limits {
        longest: Duration::from_secs(3600),
        at_the_end: Duration::from_secs(3600),
        bytes: usize::MAX,
    };

    /// Number of bytes that a client could send that keeps sending until it is disconnected, or has
    /// sent `most`.
    async fn sent_until_the_end(limits: Limits, stop: Shutdown, most: usize) -> usize {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let client = async move {
            let mut sent = 0;
            while sent < most && theirs.write_all(&[0; 1000]).await.is_ok() {
                sent += 1000;
                tokio::task::yield_now().await;
            }
            sent
        };
        let lingering = linger_within(limits, Socket::Unix(ours), &stop, || false);
        tokio::join!(client, lingering).0
    }

    #[tokio::test]
    async fn a_client_is_read_until_it_closes() {
        let sent = sent_until_the_end(NEVER, Shutdown::default(), 3_000_000).await;
        assert_eq!(sent, 3_000_000);
    }

    #[tokio::test]
    async fn a_client_that_goes_on_is_left() {
        let most = usize::MAX;
        let longest = Duration::from_millis(5);
        let sent = sent_until_the_end(Limits { longest, ..NEVER }, Shutdown::default(), most).await;
        assert!(sent > 0);
        let bytes = 1_000_000;
        let sent = sent_until_the_end(Limits { bytes, ..NEVER }, Shutdown::default(), most).await;
        assert!(sent >= bytes, "{sent}");
    }

    #[tokio::test]
    async fn a_server_that_ends_leaves_it_sooner() {
        let most = usize::MAX;
        let at_the_end = Duration::from_millis(5);
        let hurried = Limits {
            at_the_end,
            ..NEVER
        };
        let draining = Shutdown::default();
        draining.drain.cancel();
        sent_until_the_end(hurried, draining, most).await;
        let later = Shutdown::default();
        let drain = later.drain.clone();
        let end = async { drain.cancel() };
        tokio::join!(sent_until_the_end(hurried, later, most), end);
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let displaced = Shutdown::default();
        displaced.drain.cancel();
        linger_within(NEVER, Socket::Unix(ours), &displaced, || true).await;
        let cut = Shutdown::default();
        cut.cut.cancel();
        sent_until_the_end(NEVER, cut, most).await;
        assert_eq!(LIMITS.at_the_end, Duration::from_secs(1));
    }
}
