//! The fixed part of a request on its way to a worker thread, and the frames of its reply.
//!
//! ```text
//! request  in a slot of the request ring; with a descriptor, its fixed part is a message on the
//!          socket beside the ring as well
//!          | seq u64 | entry u32 | kind u32 | body_len u64 | vars_len u32 | 0 u32 |
//!          | vars (CGI names and values), padded to words | body, if inline |
//! reply    a byte stream of frames in the thread's own ring
//!          | payload_len u32 | kind u8 | 0 u8 x3 | seq u64 | elapsed_us u32 | 0 u32 |
//!          | payload, padded to words |
//! ```
//!
//! All numbers are little-endian. `seq` names a request for the life of a pool and starts
//! at 1; `entry` is its place in the scoreboard's claim table.

use crate::{Malformed, malformed, vars};

/// Bytes of the fixed part of a request message.
pub const REQUEST_HEADER: usize = 32;
/// Bytes of the fixed part of a reply frame.
pub const REPLY_HEADER: usize = 24;
/// Longest payload of one reply frame. A worker splits longer chunks; the reader refuses
/// more, because nothing but a damaged stream can ask for it.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// Longest piece of a body in one frame, so that the reader's buffer need not grow.
pub const BODY_PIECE: usize = 64 << 10;

/// The place of a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// Behind the variables, in the same message.
    Inline,
    /// In a file whose descriptor comes with the message, from its first byte on.
    File,
    /// In [`crate::pieces`] from a socket whose descriptor comes with the message; `body_len`
    /// is 0.
    Stream,
}

/// The fixed part of a request message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHeader {
    /// Names the request; never zero.
    pub seq: u64,
    /// Index into the claim table of the scoreboard.
    pub entry: u32,
    /// The place of the body.
    pub body: BodyKind,
    /// Length of the body in bytes.
    pub body_len: u64,
    /// Length of the variables block in bytes.
    pub vars_len: u32,
}

impl RequestHeader {
    /// The fixed part as it is sent.
    pub fn to_bytes(self) -> [u8; REQUEST_HEADER] {
        let mut bytes = [0; REQUEST_HEADER];
        bytes[0..8].copy_from_slice(&self.seq.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.entry.to_le_bytes());
        let kind: u32 = match self.body {
            BodyKind::Inline => 0,
            BodyKind::File => 1,
            BodyKind::Stream => 2,
        };
        bytes[12..16].copy_from_slice(&kind.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.body_len.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.vars_len.to_le_bytes());
        bytes
    }

    /// Reads the fixed part.
    ///
    /// # Errors
    /// [`Malformed`] for an unknown kind of body.
    pub fn from_bytes(fixed: &[u8; REQUEST_HEADER]) -> Result<Self, Malformed> {
        Ok(Self {
            seq: u64_at(fixed, 0),
            entry: u32_at(fixed, 8),
            body: match u32_at(fixed, 12) {
                0 => BodyKind::Inline,
                1 => BodyKind::File,
                2 => BodyKind::Stream,
                _ => return Err(malformed("request header", "unknown kind of body")),
            },
            body_len: u64_at(fixed, 16),
            vars_len: u32_at(fixed, 24),
        })
    }
}

/// The kind of a reply frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ReplyKind {
    /// The worker process is ready to serve; sent once, on the channel of thread 0.
    /// Payload: the [`crate::control::Loaded`] block if this worker imported the
    /// application for itself, else empty. `seq` is 0.
    Ready = 1,
    /// The worker could not import the application. Payload: the traceback in UTF-8.
    BootFailed = 2,
    /// Status and header fields; see [`push_head`].
    Head = 3,
    /// A piece of the body.
    Body = 4,
    /// The response is complete.
    End = 5,
    /// The response cannot be completed: before `Head` the client gets a 500, after it a
    /// broken transfer. Payload: for `--dev` a traceback in UTF-8, else empty.
    Abort = 6,
    /// The request was withdrawn before this thread could claim it; nothing ran.
    Skipped = 7,
    /// The body, or the rest of it, is a piece of a file. Its descriptor came over the thread's
    /// channel before this frame was written; see [`push_file`].
    File = 8,
}

impl ReplyKind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Ready,
            2 => Self::BootFailed,
            3 => Self::Head,
            4 => Self::Body,
            5 => Self::End,
            6 => Self::Abort,
            7 => Self::Skipped,
            8 => Self::File,
            _ => return None,
        })
    }
}

/// One reply frame, borrowed from the bytes it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyFrame<'a> {
    /// The kind of the frame.
    pub kind: ReplyKind,
    /// The request it belongs to; 0 for `Ready` and `BootFailed`.
    pub seq: u64,
    /// Microseconds since the thread claimed the request, saturating.
    pub elapsed_us: u32,
    /// The content of the frame.
    pub payload: &'a [u8],
}

/// Appends the header of a reply frame whose payload of `payload_len` bytes follows, with its
/// [`padding`].
///
/// # Panics
/// If `payload_len` is over [`MAX_PAYLOAD`]; the sender splits before it comes here.
pub fn push_reply_header(
    out: &mut Vec<u8>,
    kind: ReplyKind,
    seq: u64,
    elapsed_us: u32,
    payload_len: usize,
) {
    assert!(payload_len <= MAX_PAYLOAD, "reply payload over the limit");
    out.extend_from_slice(&(payload_len as u32).to_le_bytes());
    out.extend_from_slice(&[kind as u8, 0, 0, 0]);
    out.extend_from_slice(&seq.to_le_bytes());
    out.extend_from_slice(&elapsed_us.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
}

/// The bytes behind a payload of this length: frames end at whole words.
pub fn padding(payload_len: usize) -> &'static [u8] {
    &[0; 8][..payload_len.next_multiple_of(8) - payload_len]
}

/// Appends a whole reply frame.
///
/// # Panics
/// If the payload is over [`MAX_PAYLOAD`].
pub fn push_reply(out: &mut Vec<u8>, kind: ReplyKind, seq: u64, elapsed_us: u32, payload: &[u8]) {
    push_reply_header(out, kind, seq, elapsed_us, payload.len());
    out.extend_from_slice(payload);
    out.extend_from_slice(padding(payload.len()));
}

/// Reads the first frame of `bytes`; `None` while it is incomplete. The number is how
/// many bytes the frame took.
///
/// # Errors
/// [`Malformed`] for an unknown kind or a payload over [`MAX_PAYLOAD`]: the stream cannot
/// be trusted any more and must be closed.
pub fn read_reply(bytes: &[u8]) -> Result<Option<(ReplyFrame<'_>, usize)>, Malformed> {
    const WHAT: &str = "reply frame";
    let Some((fixed, rest)) = bytes.split_first_chunk::<REPLY_HEADER>() else {
        return Ok(None);
    };
    let payload_len = u32_at(fixed, 0) as usize;
    if payload_len > MAX_PAYLOAD {
        return Err(malformed(WHAT, "payload over the limit"));
    }
    let kind = ReplyKind::from_byte(fixed[4]).ok_or(malformed(WHAT, "unknown kind"))?;
    let padded = payload_len.next_multiple_of(8);
    let Some(payload) = rest.get(..padded).map(|padded| &padded[..payload_len]) else {
        return Ok(None);
    };
    let reply = ReplyFrame {
        kind,
        seq: u64_at(fixed, 8),
        elapsed_us: u32_at(fixed, 16),
        payload,
    };
    Ok(Some((reply, REPLY_HEADER + padded)))
}

/// The payload of a [`ReplyKind::Head`] frame, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyHeadFrame<'a> {
    /// Status code, 200 to 999: of an answer, not of what comes before one.
    pub status: u16,
    /// Reason phrase as the application gave it; may be empty.
    pub reason: &'a [u8],
    /// Header fields as a variables block, names with the application's capitals.
    pub fields: &'a [u8],
}

/// Begins the name of a field that is none but a variable for the access log: no field has this byte.
pub const LOG_VAR: &[u8] = b"\0";

/// Appends the payload of a `Head` frame: status, reason, then the fields as pairs.
///
/// # Errors
/// [`vars::TooLong`] if the reason is longer than 65,535 bytes.
pub fn push_head(out: &mut Vec<u8>, head: &ReplyHeadFrame<'_>) -> Result<(), vars::TooLong> {
    vars::push(out, &head.status.to_le_bytes(), head.reason)?;
    out.extend_from_slice(head.fields);
    Ok(())
}

/// Takes the payload of a `Head` frame apart.
///
/// # Errors
/// [`Malformed`] if the status is missing or no number from 200 to 999.
pub fn read_head(payload: &[u8]) -> Result<ReplyHeadFrame<'_>, Malformed> {
    const WHAT: &str = "reply head";
    let (status, reason) = vars::pairs(payload)
        .next()
        .ok_or(malformed(WHAT, "empty"))??;
    let status: [u8; 2] = status
        .try_into()
        .map_err(|_| malformed(WHAT, "status is not two bytes"))?;
    let status = u16::from_le_bytes(status);
    if !(200..1000).contains(&status) {
        return Err(malformed(WHAT, "status out of range"));
    }
    let fields = &payload[2 + 2 + 2 + reason.len()..];
    Ok(ReplyHeadFrame {
        status,
        reason,
        fields,
    })
}

/// The piece of a file that a [`ReplyKind::File`] frame stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilePiece {
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
}

/// Appends the payload of a `File` frame.
pub fn push_file(out: &mut Vec<u8>, piece: FilePiece) {
    out.extend_from_slice(&piece.offset.to_le_bytes());
    out.extend_from_slice(&piece.length.to_le_bytes());
}

/// Reads the payload of a `File` frame.
///
/// # Errors
/// [`Malformed`] if it has another length, or ends where no file can.
pub fn read_file(payload: &[u8]) -> Result<FilePiece, Malformed> {
    if payload.len() != 16 {
        return Err(malformed("file frame", "not sixteen bytes"));
    }
    let piece = FilePiece {
        offset: u64_at(payload, 0),
        length: u64_at(payload, 8),
    };
    match piece.offset.checked_add(piece.length) {
        // The largest offset that the kernel accepts.
        Some(end) if i64::try_from(end).is_ok() => Ok(piece),
        _ => Err(malformed("file frame", "ends behind the end of any file")),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_header_reads_back_as_written() {
        for body in [BodyKind::Inline, BodyKind::File, BodyKind::Stream] {
            let header = RequestHeader {
                seq: 7,
                entry: 3,
                body,
                body_len: 5,
                vars_len: 4,
            };
            assert_eq!(RequestHeader::from_bytes(&header.to_bytes()), Ok(header));
        }
    }

    #[test]
    fn a_head_reads_back_as_written() {
        let mut fields = Vec::new();
        vars::push(&mut fields, b"ETag", b"\"x\"").unwrap();
        let head = ReplyHeadFrame {
            status: 418,
            reason: b"I'm tired",
            fields: &fields,
        };
        let mut payload = Vec::new();
        push_head(&mut payload, &head).unwrap();
        assert_eq!(read_head(&payload).unwrap(), head);
        for status in [0, 99, 101, 199, 1000] {
            let mut payload = Vec::new();
            push_head(&mut payload, &ReplyHeadFrame { status, ..head }).unwrap();
            assert!(read_head(&payload).is_err(), "{status}");
        }
    }

    #[test]
    fn a_piece_of_a_file_reads_back_as_written() {
        let piece = FilePiece {
            offset: 7,
            length: 1 << 40,
        };
        let mut payload = Vec::new();
        push_file(&mut payload, piece);
        assert_eq!(read_file(&payload).unwrap(), piece);
        assert!(read_file(b"short").is_err());
        for (offset, length) in [(u64::MAX, 1), (1, u64::MAX), (1 << 62, 1 << 62)] {
            let mut payload = Vec::new();
            push_file(&mut payload, FilePiece { offset, length });
            assert!(read_file(&payload).is_err(), "{offset} {length}");
        }
    }

    proptest! {
        #[test]
        fn frames_read_the_same_however_the_stream_is_split(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..8),
            split in 0usize..400,
        ) {
            let mut stream = Vec::new();
            for (index, payload) in payloads.iter().enumerate() {
                push_reply(&mut stream, ReplyKind::Body, index as u64 + 1, 9, payload);
            }
            let split = split.min(stream.len());
            let mut buffer = Vec::new();
            let mut read = Vec::new();
            for part in [&stream[..split], &stream[split..]] {
                buffer.extend_from_slice(part);
                while let Some((reply, used)) = read_reply(&buffer).unwrap() {
                    read.push(reply.payload.to_vec());
                    buffer.drain(..used);
                }
            }
            prop_assert_eq!(read, payloads);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = bytes.first_chunk().map(RequestHeader::from_bytes);
            let _ = read_reply(&bytes);
            let _ = read_head(&bytes);
            let _ = read_file(&bytes);
        }
    }
}
