//! Sends the request: the head, then the body in its framing.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::buf::Chain;
use bytes::{Buf, Bytes};
use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::ExchangeError;
use crate::front::body::request::RequestBody;
use crate::front::body::request_stream::RequestStream;
use crate::front::sendfile::file_pool::FilePool;
use crate::front::socket::Socket;
use crate::front::upstream::progress::Progress;

/// Size of a read from a body's file.
const READ_FILE: usize = 256 << 10;

/// The parts of one write: a head and a body, or a piece with its framing.
pub(super) type Parts<B> = Chain<Chain<B, B>, B>;

fn parts<B: Buf>(first: B, second: B, third: B) -> Parts<B> {
    first.chain(second).chain(third)
}

/// Maps each part.
fn each<'a, B: Buf>(of: &'a Parts<Bytes>, to: impl Fn(&'a Bytes) -> B) -> Parts<B> {
    let front = of.first_ref();
    parts(
        to(front.first_ref()),
        to(front.last_ref()),
        to(of.last_ref()),
    )
}

/// The unsent rest of a request. A clone starts at the original's position.
pub struct Outgoing {
    pub(super) head: Parts<Bytes>,
    file: Option<(Arc<std::fs::File>, u64)>,
    /// Cannot be restarted: clones share it.
    stream: Option<Arc<Mutex<Box<RequestStream>>>>,
    /// Framing of the pieces of a stream.
    framing: Framing,
    /// Length of the head, for the error when a server found it too long.
    pub(super) length: usize,
}

/// Framing of a body that is streamed upstream as it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// The length is in the head.
    Length,
    /// RFC 9112 §7.1.
    Chunks,
}

impl Framing {
    /// A framed piece; empty for a piece without bytes.
    fn piece(self, piece: Bytes) -> Parts<Bytes> {
        let nothing = Bytes::new();
        match self {
            Self::Chunks if !piece.is_empty() => {
                let size = format!("{:x}\r\n", piece.len());
                parts(size.into(), piece, Bytes::from_static(b"\r\n"))
            }
            _ => parts(piece, nothing.clone(), nothing),
        }
    }

    /// The end of the body.
    fn end(self) -> Parts<Bytes> {
        let (end, nothing) = match self {
            Self::Length => (Bytes::new(), Bytes::new()),
            Self::Chunks => (Bytes::from_static(b"0\r\n\r\n"), Bytes::new()),
        };
        parts(end, nothing.clone(), nothing)
    }
}

impl Clone for Outgoing {
    fn clone(&self) -> Self {
        Self {
            head: each(&self.head, Bytes::clone),
            file: self.file.clone(),
            stream: self.stream.clone(),
            framing: self.framing,
            length: self.length,
        }
    }
}

impl Outgoing {
    /// A head in the server's protocol, followed by the body: chunked if it is a stream without a
    /// length.
    pub fn new(head: Bytes, body: RequestBody) -> Self {
        let length = head.len();
        let nothing = Bytes::new();
        let framing = match body.length() {
            Some(_) => Framing::Length,
            None => Framing::Chunks,
        };
        let (body, file, stream) = match body {
            RequestBody::Memory(body) => (body, None, None),
            RequestBody::File { file, length } => (nothing, Some((Arc::new(file), length)), None),
            RequestBody::Stream(stream) => (nothing, None, Some(Arc::new(Mutex::new(stream)))),
        };
        Self {
            head: parts(head, body, Bytes::new()),
            file,
            stream,
            framing,
            length,
        }
    }

    /// True if a clone is the same request: a stream is consumed when it is sent.
    pub(super) fn can_be_repeated(&self) -> bool {
        self.stream.is_none()
    }

    /// The first parts to send; they stay until they are taken.
    pub(super) fn first(&self) -> Parts<&[u8]> {
        each(&self.head, |part| part.as_ref())
    }
}

/// Sends everything and returns the write half. `None`: the server accepts no more, which is not an
/// error; the response decides.
pub(super) async fn send(
    mut writer: WriteHalf<Socket>,
    mut outgoing: Outgoing,
    sent: &Progress,
    limit: Duration,
    files: &FilePool,
) -> Result<Option<WriteHalf<Socket>>, ExchangeError> {
    let mut at = 0;
    loop {
        while outgoing.head.has_remaining() {
            match timeout(limit, writer.write_buf(&mut outgoing.head)).await {
                Ok(Ok(1..)) => sent.now(),
                Ok(Ok(0) | Err(_)) => return Ok(None),
                Err(_elapsed) => {
                    let setting = "upstream-send-timeout";
                    return Err(ExchangeError::TooLate("read the request", setting, limit));
                }
            }
        }
        if let Some(stream) = &outgoing.stream {
            // When the client disconnects, the server sees the end of the connection before the
            // declared length, or before the last chunk.
            let piece = stream
                .lock()
                .await
                .next()
                .await
                .map_err(ExchangeError::Body)?;
            sent.now();
            outgoing.head = match piece {
                Some(piece) => outgoing.framing.piece(piece),
                None => {
                    outgoing.stream = None;
                    outgoing.framing.end()
                }
            };
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
        let (file, piece) = read.await.map_err(ExchangeError::File)?;
        at += wanted as u64;
        outgoing.file = Some((file, length));
        outgoing.head = parts(piece.into(), Bytes::new(), Bytes::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_framed_and_none_of_them_ends_the_body() {
        let bytes = |mut parts: Parts<Bytes>| parts.copy_to_bytes(parts.remaining());
        let chunk = |length| bytes(Framing::Chunks.piece(vec![b'x'; length].into()));
        assert_eq!(chunk(3), "3\r\nxxx\r\n");
        assert!(chunk(300).starts_with(b"12c\r\n"));
        assert_eq!(chunk(0), "");
        assert_eq!(bytes(Framing::Chunks.end()), "0\r\n\r\n");
        let plain = Framing::Length.piece(Bytes::from_static(b"abc"));
        assert_eq!(
            (bytes(plain), bytes(Framing::Length.end())),
            ("abc".into(), "".into())
        );
    }
}
