//! A connection that has switched from HTTP: bytes in both directions until both sides have ended
//! or both are idle for too long. The bytes are not interpreted.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::task::TaskTracker;

use crate::front::socket::Socket;
use crate::front::upstream::progress::Progress;

/// Size of a read, in each direction.
const READ: usize = 16 << 10;

/// The server's side of a tunnel, ready to be joined with the client's.
#[derive(Debug)]
pub struct Switched {
    pub(in crate::front::upstream) link: Socket,
    /// Bytes of the new protocol that the server has already sent.
    pub(in crate::front::upstream) early: Bytes,
    /// Idle timeout of both directions together.
    pub(in crate::front::upstream) limit: Duration,
    pub(in crate::front::upstream) tasks: TaskTracker,
}

impl Switched {
    /// Starts the tunnel once the client has received the `101`.
    pub fn join(self, client: OnUpgrade) {
        let tasks = self.tasks.clone();
        tasks.spawn(async move {
            if let Err(error) = self.run(client).await {
                tracing::debug!(%error, "upgraded connection ended with an error");
            }
        });
    }

    async fn run(mut self, client: OnUpgrade) -> io::Result<()> {
        let client = tokio::time::timeout(self.limit, client).await?;
        let client = TokioIo::new(client.map_err(io::Error::other)?);
        let (from_client, mut to_client) = tokio::io::split(client);
        let early = std::mem::take(&mut self.early);
        let (from_server, to_server) = tokio::io::split(self.link);
        let seen = Progress::new();
        let to_client_first = async {
            to_client.write_all(&early).await?;
            pump(from_server, to_client, &seen).await
        };
        let both = async {
            tokio::try_join!(pump(from_client, to_server, &seen), to_client_first).map(drop)
        };
        // Neither branch is polled again after the other has ended.
        tokio::select! {
            ended = both => ended,
            () = silence(&seen, self.limit) => Ok(()),
        }
    }
}

/// Copies to the end of the stream, then shuts the writer down.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    seen: &Progress,
) -> io::Result<()> {
    let mut buffer = vec![0; READ];
    loop {
        let read = match from.read(&mut buffer).await {
            // A TLS session without `close_notify`: the protocol has a framing of its own.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            read => read?,
        };
        seen.now();
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
        seen.now();
    }
}

async fn silence(seen: &Progress, limit: Duration) {
    loop {
        let end = seen.last() + limit;
        if end <= Instant::now() {
            return;
        }
        tokio::time::sleep_until(end.into()).await;
    }
}
