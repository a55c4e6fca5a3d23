//! The end of a chunked body (RFC 9112 §7.1).
//!
//! The same states as in hyper's decoder (`proto/h1/decode.rs`), which reads the same bytes
//! behind this: lines end with CRLF and nothing else, white space may follow a size, extensions
//! and trailers are skipped and bounded. A property test and a fuzz target compare the two.

/// Bytes of all chunk extensions of a body, and bytes of its trailer section, from which on
/// hyper refuses it.
const MOST_EXTRA: u32 = 16 << 10;

/// The state of a chunked body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Chunks {
    state: State,
    /// The size of the present chunk, then what is missing of it.
    left: u64,
    /// The sizes of all chunks so far, whose size lines are complete.
    announced: u64,
    /// Bytes of extensions, and of trailers.
    extensions: u32,
    trailers: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// In front of the first digit of a size.
    #[default]
    Start,
    Size,
    /// White space behind a size.
    Space,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the beginning of a line of the trailer section.
    Line,
    Trailer,
    TrailerLf,
    EndLf,
}

/// The result of reading on in a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The body goes on.
    More,
    /// Its end.
    End,
    /// Something that is no chunked body.
    Malformed,
}

impl Chunks {
    /// Reads on. Returns how many bytes belong to the body, up to its end or to the byte that
    /// makes it malformed.
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

    /// The least length of the body that its chunks have announced so far.
    pub fn announced(&self) -> u64 {
        self.announced
    }

    /// The state behind one byte outside of data; `Some(None)` at the end, `None` for a byte
    /// that may not be there.
    fn next(&mut self, byte: u8) -> Option<Option<State>> {
        use State::{
            Data, DataCr, DataLf, EndLf, Extension, Line, Size, SizeLf, Space, Start, Trailer,
            TrailerLf,
        };
        Some(Some(match (self.state, byte) {
            (Start, _) => {
                self.left = 0;
                self.digit(byte)?;
                Size
            }
            (Size, _) if byte.is_ascii_hexdigit() => {
                self.digit(byte)?;
                Size
            }
            (Size | Space, b' ' | b'\t') => Space,
            (Size | Space, b';') => Extension,
            (Size | Space | Extension, b'\r') => SizeLf,
            (Extension, b'\n') => return None,
            (Extension, _) => {
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
            (Line, b'\r') => {
                self.trailer_byte()?;
                EndLf
            }
            (Line, _) => {
                self.trailer_byte()?;
                Trailer
            }
            (Trailer, b'\r') => {
                self.trailer_byte()?;
                TrailerLf
            }
            (Trailer, _) => {
                self.trailer_byte()?;
                Trailer
            }
            (TrailerLf, b'\n') => {
                self.trailer_byte()?;
                Line
            }
            (EndLf, b'\n') => return Some(None),
            _ => return None,
        }))
    }

    fn digit(&mut self, byte: u8) -> Option<()> {
        let digit = char::from(byte).to_digit(16)?;
        self.left = self.left.checked_mul(16)?.checked_add(u64::from(digit))?;
        Some(())
    }

    fn trailer_byte(&mut self) -> Option<()> {
        self.trailers += 1;
        (self.trailers < MOST_EXTRA).then_some(())
    }
}
