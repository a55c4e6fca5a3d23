//! The body of every response that the front sends.

pub mod content;
pub mod encoded;
pub mod encoder;
pub mod file;
pub mod flushed;
pub mod limited;
pub mod multipart;
pub mod negotiate;
pub mod received;
pub mod request;
pub mod request_spool;
pub mod request_stream;
pub mod response_spool;
pub mod response_stream;
pub mod too_long;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http_body::{Frame, SizeHint};

use super::sendfile::queue::SendfileQueue;
use crate::front::body::content::Content;
use crate::front::body::encoded::EncodedBody;
use crate::front::body::file::FileBody;
use crate::front::body::limited::LimitedBody;
use crate::front::body::multipart::Multipart;
use crate::front::body::response_stream::ResponseBody;
use crate::front::client_limits::memory_budget::Account;

/// A response body from any source.
pub enum Body {
    /// An empty body.
    Empty,
    /// Bytes in memory.
    Full(Bytes),
    /// A file.
    File(FileBody),
    /// Several ranges of a file. Boxed: it is rare and large.
    Parts(Box<Multipart>),
    /// An upstream's response.
    Upstream(ResponseBody),
    /// An upstream's response, encoded. Boxed: it is rare and large.
    Encoded(Box<EncodedBody>),
    /// Any of these, at the rate of `X-Accel-Limit-Rate`.
    Limited(Box<LimitedBody<Self>>),
    /// No bytes and no declared length: the response to a HEAD request whose upstream sent no
    /// `Content-Length` (RFC 9110 §8.6).
    Unsaid,
}

impl Body {
    /// Lets the kernel send files; see [`FileBody::send_by`]. Rate-limited bodies are cut into
    /// parts, which sendfile cannot do.
    pub fn send_by(&mut self, sendfile_queue: &Arc<SendfileQueue>) {
        match self {
            Self::File(file) => file.send_by(sendfile_queue),
            Self::Parts(parts) => parts.send_by(sendfile_queue),
            _ => {}
        }
    }

    /// Counts the descriptor of the file that it sends; see
    /// [`SharedFile::count_for`](super::sendfile::file_source::SharedFile::count_for).
    pub fn count_file_for(&mut self, client: &Arc<Account>) -> bool {
        match self {
            Self::File(file) => file.count_for(client),
            Self::Parts(parts) => parts.count_for(client),
            Self::Limited(limited) => limited.body_mut().count_file_for(client),
            Self::Empty | Self::Full(_) | Self::Upstream(_) | Self::Encoded(_) | Self::Unsaid => {
                true
            }
        }
    }

    /// True if the connection uses memory of its own for each part, and may get many. Bytes in
    /// memory have a reservation, or belong to files that all clients share; over HTTP/1 the kernel
    /// sends files.
    pub fn comes_in_parts(&self, version: Version) -> bool {
        match self {
            Self::Empty | Self::Full(_) | Self::Unsaid => false,
            Self::File(_) | Self::Parts(_) => version == Version::HTTP_2,
            Self::Upstream(body) => body.as_whole().is_none(),
            Self::Encoded(_) | Self::Limited(_) => true,
        }
    }

    /// Sets the number of bytes of a file or an upstream response that are read at a time.
    pub fn read_in_parts_of(&mut self, most: usize) {
        match self {
            Self::File(body) => body.read_in_parts_of(most),
            Self::Upstream(body) => body.read_in_parts_of(most),
            _ => {}
        }
    }

    /// True while a part of the body is being read from disk.
    pub fn is_being_read(&self) -> bool {
        match self {
            Self::File(_) | Self::Parts(_) => true,
            Self::Upstream(body) => body.is_being_read(),
            _ => false,
        }
    }

    /// Total time in the application, if an application answered and has finished.
    pub fn app_time(&self) -> Option<Duration> {
        match self {
            Self::Upstream(body) => body.app_time(),
            Self::Encoded(body) => body.app_time(),
            Self::Limited(body) => body.inner().app_time(),
            _ => None,
        }
    }
}

impl From<Content> for Body {
    fn from(content: Content) -> Self {
        match content {
            Content::Empty => Self::Empty,
            Content::Bytes(bytes) => Self::Full(bytes),
            Content::File(file) => Self::File(file),
            Content::Parts(parts) => Self::Parts(Box::new(parts)),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        match this {
            Self::Empty | Self::Unsaid => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *this = Self::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::File(file) => Pin::new(file).poll_frame(context),
            Self::Parts(parts) => Pin::new(&mut **parts).poll_frame(context),
            Self::Upstream(body) => Pin::new(body).poll_frame(context),
            Self::Encoded(body) => Pin::new(&mut **body).poll_frame(context),
            Self::Limited(body) => Pin::new(&mut **body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::File(file) => file.is_end_stream(),
            Self::Parts(parts) => parts.is_end_stream(),
            Self::Upstream(body) => body.is_end_stream(),
            Self::Encoded(body) => body.is_end_stream(),
            Self::Limited(body) => body.is_end_stream(),
            Self::Unsaid => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::File(file) => file.size_hint(),
            Self::Parts(parts) => parts.size_hint(),
            Self::Upstream(body) => body.size_hint(),
            Self::Encoded(body) => body.size_hint(),
            Self::Limited(body) => body.size_hint(),
            Self::Unsaid => SizeHint::default(),
        }
    }
}
