//! The body of a request as it is passed to an upstream.

use std::fs::File;

use bytes::Bytes;

use super::request_stream::RequestStream;

/// A request body, read to its end except for [`RequestBody::Stream`].
#[derive(Debug)]
pub enum RequestBody {
    /// In memory; empty if there is none.
    Memory(Bytes),
    /// In an unlinked file, from its first byte on.
    File {
        /// The file.
        file: File,
        /// Its length in bytes.
        length: u64,
    },
    /// Arriving while the upstream reads it.
    Stream(Box<RequestStream>),
}
