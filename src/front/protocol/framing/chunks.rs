//! Finds the end of a chunked body (RFC 9112 §7.1).
//!
//! Stricter than hyper's decoder (`proto/h1/decode.rs`), which reads the same bytes later. hyper
//! takes a bare LF in the trailer section for a byte of a field: `0 CRLF LF` ends the body for
//! peers that accept LF as a line end, while hyper reads the next request as trailers. Here every
//! line ends with CRLF, white space may follow a size, extensions have no control characters, each
//! trailer is a well-formed field, and all of it is bounded. So a body that ends here ends there,
//! and every other reader of RFC 9112 finds the same end. A property test and a fuzz target compare
//! the three.

use crate::config::values::is_token;

/// Bytes of all chunk extensions of a body, and bytes of its trailer section, at which hyper
/// refuses it.
const MOST_EXTRA: u32 = 16 << 10;
/// Trailer fields above which hyper refuses a body.
const MOST_TRAILERS: u32 = 100;
/// Digits, and white space after them, of one chunk size. RFC 9112 §7.1 allows any number of
/// leading zeros; without a limit an empty body could continue for ever.
const LONGEST_SIZE: u32 = 1024;

/// The state of a chunked body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Chunks {
    state: State,
    /// The size of the current chunk, then the missing part of it.
    left: u64,
    /// Total size of all chunks so far with complete size lines.
    announced: u64,
    /// Length of the current chunk size line.
    size: u32,
    /// Bytes of extensions, and of trailers.
    extensions: u32,
    trailers: u32,
    fields: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size.
    #[default]
    Start,
    Size,
    /// White space after a size.
    Space,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the beginning of a line of the trailer section.
    Line,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
}

/// The result of reading bytes of a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The body continues.
    More,
    /// The end of the body.
    End,
    /// Not a chunked body.
    Malformed,
}

impl Chunks {
    /// Reads `bytes`. Returns the number of bytes that belong to the body, up to its end or to the
    /// byte that makes it malformed.
    pub fn follow(&mut self, bytes: &[u8]) -> (usize, Step) {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if self.state == State::Data {
                let length =
                    (bytes.len() - at).min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= length as u64;
                at += length;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            at += 1;
            match self.next(byte) {
                Some(Some(state)) => self.state = state,
                Some(None) => return (at, Step::End),
                None => return (at, Step::Malformed),
            }
        }
        (at, Step::More)
    }

    /// Lower bound of the body's length, from its chunk sizes so far.
    pub fn announced(&self) -> u64 {
        self.announced
    }

    /// The state after one byte outside of data; `Some(None)` at the end, `None` for a byte that is
    /// not allowed.
    fn next(&mut self, byte: u8) -> Option<Option<State>> {
        use State::{
            Data, DataCr, DataLf, EndLf, Extension, Line, Size, SizeLf, Space, Start, TrailerLf,
            TrailerName, TrailerValue,
        };
        Some(Some(match (self.state, byte) {
            (Start, _) => {
                (self.left, self.size) = (0, 0);
                self.digit(byte)?;
                Size
            }
            (Size, _) if byte.is_ascii_hexdigit() => {
                self.digit(byte)?;
                Size
            }
            (Size | Space, b' ' | b'\t') => {
                self.size_byte()?;
                Space
            }
            (Size | Space, b';') => Extension,
            (Size | Space | Extension, b'\r') => SizeLf,
            (Extension, _) if is_text(byte) => {
                self.extensions += 1;
                (self.extensions < MOST_EXTRA).then_some(Extension)?
            }
            (SizeLf, b'\n') if self.left == 0 => Line,
            (SizeLf, b'\n') => {
                self.announced = self.announced.saturating_add(self.left);
                Data
            }
            (DataCr, b'\r') => DataLf,
            (DataLf, b'\n') => Start,
            (Line | TrailerName | TrailerValue | TrailerLf | EndLf, _) => {
                self.trailers += 1;
                if self.trailers >= MOST_EXTRA {
                    return None;
                }
                match (self.state, byte) {
                    (EndLf, b'\n') => return Some(None),
                    _ => self.trailer(byte)?,
                }
            }
            _ => return None,
        }))
    }

    /// The state after one byte of the trailer section (RFC 9112 §7.1.2).
    fn trailer(&mut self, byte: u8) -> Option<State> {
        use State::{EndLf, Line, TrailerLf, TrailerName, TrailerValue};
        Some(match (self.state, byte) {
            (Line, b'\r') => EndLf,
            (Line, _) if is_token(byte) => {
                self.fields += 1;
                (self.fields <= MOST_TRAILERS).then_some(TrailerName)?
            }
            (TrailerName, b':') => TrailerValue,
            (TrailerName, _) if is_token(byte) => TrailerName,
            (TrailerValue, b'\r') => TrailerLf,
            (TrailerValue, _) if is_text(byte) => TrailerValue,
            (TrailerLf, b'\n') => Line,
            _ => return None,
        })
    }

    fn digit(&mut self, byte: u8) -> Option<()> {
        let digit = char::from(byte).to_digit(16)?;
        self.left = self.left.checked_mul(16)?.checked_add(u64::from(digit))?;
        self.size_byte()
    }

    fn size_byte(&mut self) -> Option<()> {
        self.size += 1;
        (self.size <= LONGEST_SIZE).then_some(())
    }
}

/// True for a byte of a field's value, by hyper's rules (RFC 9110 §5.5).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}
