//! The way out: what is still to be sent, and how it is.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::buf::Chain;
use bytes::{Buf, Bytes};
use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::Broken;
use crate::front::file_pool::FilePool;
use crate::front::socket::Socket;
use crate::front::upstream::RequestBody;
use crate::front::upstream::request_stream::RequestStream;

/// How much of a body's file is read at a time.
const READ_FILE: usize = 256 << 10;

/// What is still to be sent. A clone begins where the original stands.
pub struct Outgoing {
    pub(super) head: Chain<Bytes, Bytes>,
    file: Option<(Arc<std::fs::File>, u64)>,
    /// Cannot begin anew: clones share it.
    stream: Option<Arc<Mutex<Box<RequestStream>>>>,
    /// Length of the head, for the message about a server that found it too long.
    pub(super) length: usize,
}

impl Clone for Outgoing {
    fn clone(&self) -> Self {
        let (head, body) = (self.head.first_ref(), self.head.last_ref());
        Self {
            head: Buf::chain(head.clone(), body.clone()),
            file: self.file.clone(),
            stream: self.stream.clone(),
            length: self.length,
        }
    }
}

impl Outgoing {
    /// A head in the server's protocol, and the body behind it.
    pub fn new(head: Bytes, body: RequestBody) -> Self {
        let length = head.len();
        let nothing = Bytes::new();
        let (body, file, stream) = match body {
            RequestBody::Memory(body) => (body, None, None),
            RequestBody::File { file, length } => (nothing, Some((Arc::new(file), length)), None),
            RequestBody::Stream(stream) => (nothing, None, Some(Arc::new(Mutex::new(stream)))),
        };
        Self {
            head: head.chain(body),
            file,
            stream,
            length,
        }
    }

    /// What is to be sent first; stays until it is taken.
    pub(super) fn first(&self) -> Chain<&[u8], &[u8]> {
        let (head, body) = (self.head.first_ref(), self.head.last_ref());
        Buf::chain(head.as_ref(), body.as_ref())
    }
}

/// When something last went through: while the server takes the request, it need not answer.
pub(in crate::front::upstream) struct Progress {
    pub(in crate::front::upstream) began: Instant,
    last_ms: AtomicU64,
}

impl Progress {
    pub(in crate::front::upstream) fn new() -> Self {
        Self {
            began: Instant::now(),
            last_ms: AtomicU64::new(0),
        }
    }

    pub(in crate::front::upstream) fn now(&self) {
        let elapsed = self.began.elapsed().as_millis();
        self.last_ms.store(elapsed as u64, Ordering::Relaxed);
    }

    pub(in crate::front::upstream) fn last(&self) -> Instant {
        self.began + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }
}

/// Sends everything, and gives the writing end back. `None`: the server takes no more, which
/// is no error; the answer will tell.
pub(super) async fn send(
    mut writer: WriteHalf<Socket>,
    mut outgoing: Outgoing,
    sent: &Progress,
    limit: Duration,
    files: &FilePool,
) -> Result<Option<WriteHalf<Socket>>, Broken> {
    let mut at = 0;
    loop {
        while outgoing.head.has_remaining() {
            match timeout(limit, writer.write_buf(&mut outgoing.head)).await {
                Ok(Ok(1..)) => sent.now(),
                Ok(Ok(0) | Err(_)) => return Ok(None),
                Err(_elapsed) => {
                    let setting = "upstream-send-timeout";
                    return Err(Broken::TooLate("take the request", setting, limit));
                }
            }
        }
        if let Some(stream) = &outgoing.stream {
            // Of a client that breaks off the server learns by the end of the connection,
            // before it has as many bytes as were promised.
            match stream.lock().await.next().await.map_err(Broken::Body)? {
                Some(piece) => outgoing.head = piece.chain(Bytes::new()),
                None => return Ok(Some(writer)),
            }
            sent.now();
            continue;
        }
        let Some((file, length)) = outgoing.file.take().filter(|(_, length)| at < *length) else {
            return Ok(Some(writer));
        };
        let wanted = (length - at).min(READ_FILE as u64) as usize;
        let read = files.run(move || {
            let mut piece = vec![0; wanted];
            file.read_exact_at(&mut piece, at).map(|()| (file, piece))
        });
        let (file, piece) = read.await.map_err(Broken::File)?;
        at += wanted as u64;
        outgoing.file = Some((file, length));
        outgoing.head = Bytes::from(piece).chain(Bytes::new());
    }
}
