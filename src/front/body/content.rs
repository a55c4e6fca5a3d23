//! The body of a static file: the whole, or ranges.

use bytes::Bytes;

use super::file::FileBody;
use super::multipart::Multipart;

/// The body of a response.
#[derive(Debug)]
pub enum Content {
    /// An empty body.
    Empty,
    /// All bytes, already read.
    Bytes(Bytes),
    /// Bytes that are read while they are sent.
    File(FileBody),
    /// Several ranges.
    Parts(Multipart),
}
