//! Log records of the Python side, one datagram each.
//!
//! ```text
//! | level u8 | 0 u8 x3 | worker u32 | pid u32 | seq u64 | text (UTF-8) |
//! ```
//!
//! `seq` is the request that the writing thread worked on, 0 for none; the front adds that
//! request's id, method and path, which it knows and the application cannot forge.

use crate::{Malformed, malformed};

/// Bytes before the text.
const HEADER: usize = 20;
/// Longest text of one record in bytes; longer ones are split by the writer.
pub const MAX_TEXT: usize = 32_768;
/// `worker` of a record that the template wrote.
pub const TEMPLATE: u32 = u32::MAX;

/// Severity of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Level {
    /// Output of the application to `wsgi.errors`.
    Application = 0,
    /// Worth knowing.
    Info = 1,
    /// Needs a look.
    Warn = 2,
    /// A request failed; the text is a traceback.
    Error = 3,
}

/// A log record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Severity.
    pub level: Level,
    /// Number of the worker, or [`TEMPLATE`].
    pub worker: u32,
    /// Process that wrote it.
    pub pid: u32,
    /// Request of the writing thread, 0 for none.
    pub seq: u64,
    /// The text, without a final line end.
    pub text: &'a str,
}

impl Record<'_> {
    /// The record as it is sent. The text is taken as it is; the caller has split it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.text.len());
        bytes.extend_from_slice(&[self.level as u8, 0, 0, 0]);
        bytes.extend_from_slice(&self.worker.to_le_bytes());
        bytes.extend_from_slice(&self.pid.to_le_bytes());
        bytes.extend_from_slice(&self.seq.to_le_bytes());
        bytes.extend_from_slice(self.text.as_bytes());
        bytes
    }
}

/// Reads a record.
///
/// # Errors
/// [`Malformed`] if the bytes are no record or the text is not UTF-8.
pub fn read(bytes: &[u8]) -> Result<Record<'_>, Malformed> {
    const WHAT: &str = "log record";
    let (fixed, text) = bytes
        .split_first_chunk::<HEADER>()
        .ok_or(malformed(WHAT, "shorter than its header"))?;
    let number =
        |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    Ok(Record {
        level: match fixed[0] {
            0 => Level::Application,
            1 => Level::Info,
            2 => Level::Warn,
            3 => Level::Error,
            _ => return Err(malformed(WHAT, "unknown level")),
        },
        worker: number(4),
        pid: number(8),
        seq: u64::from(number(12)) | u64::from(number(16)) << 32,
        text: str::from_utf8(text).map_err(|_| malformed(WHAT, "text is not UTF-8"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_record_reads_back_as_written(worker: u32, pid: u32, seq: u64, text in ".{0,80}") {
            let record = Record { level: Level::Warn, worker, pid, seq, text: &text };
            let bytes = record.to_bytes();
            prop_assert_eq!(read(&bytes).unwrap(), record);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = read(&bytes);
        }
    }
}
