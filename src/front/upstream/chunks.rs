//! Decodes the chunked coding of a body (RFC 9112 §7.1): bytes in, pieces of the body out.
//!
//! uWSGI never uses it by itself, but an application may have written it by hand. If it were passed
//! on unchanged, the client would get the chunk sizes as part of the page.

use bytes::{Buf, Bytes, BytesMut};

/// Longest chunk size line, with extensions.
const LONGEST_LINE: usize = 1024;
/// Longest trailer section; trailers are read and discarded.
const LONGEST_TRAILERS: usize = 16 << 10;

/// Decoder of one body.
#[derive(Debug, Default)]
pub struct Chunks {
    state: State,
    trailers: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Data(u64),
    AfterData,
    Trailers,
    Over,
}

/// A result of the decoder.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunk {
    /// A piece of the body.
    Data(Bytes),
    /// More bytes are needed.
    NeedMore,
    /// The body is complete.
    Over,
}

/// The bytes are not valid chunked coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its chunks are malformed")]
pub struct BadChunk;

impl Chunks {
    /// Takes the next piece out of `bytes`.
    ///
    /// # Errors
    /// [`BadChunk`]; the body cannot be completed then.
    pub fn next(&mut self, bytes: &mut BytesMut) -> Result<Chunk, BadChunk> {
        loop {
            match self.state {
                State::Size => match take_line(bytes, LONGEST_LINE)? {
                    None => return Ok(Chunk::NeedMore),
                    Some(line) => {
                        self.state = match size(&line).ok_or(BadChunk)? {
                            0 => State::Trailers,
                            size => State::Data(size),
                        }
                    }
                },
                State::Data(_) if bytes.is_empty() => return Ok(Chunk::NeedMore),
                State::Data(left) => {
                    let length = left.min(bytes.len() as u64);
                    self.state = match left - length {
                        0 => State::AfterData,
                        left => State::Data(left),
                    };
                    return Ok(Chunk::Data(bytes.split_to(length as usize).freeze()));
                }
                State::AfterData => match bytes.as_ref() {
                    [b'\r', b'\n', ..] => {
                        bytes.advance(2);
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(Chunk::NeedMore),
                    _ => return Err(BadChunk),
                },
                State::Trailers => match take_line(bytes, LONGEST_TRAILERS)? {
                    None => return Ok(Chunk::NeedMore),
                    Some(line) if line.is_empty() => self.state = State::Over,
                    Some(line) => {
                        self.trailers += line.len();
                        if self.trailers > LONGEST_TRAILERS {
                            return Err(BadChunk);
                        }
                    }
                },
                State::Over => return Ok(Chunk::Over),
            }
        }
    }
}

/// Takes a line, without its CRLF; a bare LF does not end a line here.
fn take_line(bytes: &mut BytesMut, longest: usize) -> Result<Option<BytesMut>, BadChunk> {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(at) if at <= longest => {
            let mut line = bytes.split_to(at + 1);
            line.truncate(at);
            if line.last() != Some(&b'\r') {
                return Err(BadChunk);
            }
            line.truncate(at - 1);
            if line.contains(&b'\r') {
                return Err(BadChunk);
            }
            Ok(Some(line))
        }
        None if bytes.len() <= longest => Ok(None),
        _ => Err(BadChunk),
    }
}

/// Hexadecimal digits without sign or prefix, and extensions after a semicolon.
fn size(line: &[u8]) -> Option<u64> {
    let mut digits = line.split(|byte| *byte == b';').next()?;
    while let [before @ .., b' ' | b'\t'] = digits {
        digits = before;
    }
    if digits.is_empty() {
        return None;
    }
    // RFC 9112 §7.1 allows leading zeros; the line is bounded.
    while let [b'0', behind @ ..] = digits {
        digits = behind;
    }
    if digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0, |size: u64, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(size << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The body, and true if its end was reached, when the bytes arrive in these pieces.
    fn undone(bytes: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, bool), BadChunk> {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let (mut chunks, mut buffer, mut body) = (Chunks::default(), BytesMut::new(), Vec::new());
        let mut at = 0;
        for cut in cuts {
            buffer.extend_from_slice(&bytes[at..cut]);
            at = cut;
            loop {
                match chunks.next(&mut buffer)? {
                    Chunk::Data(data) => body.extend_from_slice(&data),
                    Chunk::NeedMore => break,
                    Chunk::Over => return Ok((body, true)),
                }
            }
        }
        Ok((body, false))
    }

    #[test]
    fn bodies_come_out() {
        for (bytes, expected) in [
            ("5\r\nhello\r\n0\r\n\r\n", Ok(("hello", true))),
            (
                "1;x=y\r\na\r\n0A \r\n0123456789\r\n0\r\nT: x\r\n\r\n",
                Ok(("a0123456789", true)),
            ),
            (
                "000000000000000000000000000000000005\r\nhello\r\n00000000000000000\r\n\r\n",
                Ok(("hello", true)),
            ),
            ("5\r\nhel", Ok(("hel", false))),
            ("0\r\n", Ok(("", false))),
            ("5\nhello\r\n0\r\n\r\n", Err(BadChunk)),
            ("5\r\nhelloX\r\n0\r\n\r\n", Err(BadChunk)),
            ("+5\r\nhello\r\n0\r\n\r\n", Err(BadChunk)),
            ("0x5\r\nhello\r\n0\r\n\r\n", Err(BadChunk)),
            ("5\x0c\r\nhello\r\n0\r\n\r\n", Err(BadChunk)),
            ("\r\nhello\r\n0\r\n\r\n", Err(BadChunk)),
            ("10000000000000000\r\n", Err(BadChunk)),
            ("00010000000000000000\r\n", Err(BadChunk)),
            (" 5\r\nhello\r\n0\r\n\r\n", Err(BadChunk)),
            ("5\rhello\r\n0\r\n\r\n", Err(BadChunk)),
            ("5;x\nhello\r\n0\r\n\r\n", Err(BadChunk)),
            ("0\r\n\n", Err(BadChunk)),
            ("0\r\nT: x\n\n", Err(BadChunk)),
            ("0\r\nT: x\n\r\n", Err(BadChunk)),
            ("0\r\nT: x\rU: y\r\n\r\n", Err(BadChunk)),
            ("<html>\r\n", Err(BadChunk)),
        ] {
            let expected = expected.map(|(body, over): (&str, _)| (body.as_bytes().to_vec(), over));
            assert_eq!(undone(bytes.as_bytes(), &[]), expected, "{bytes:?}");
        }
        let line = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(2000));
        assert_eq!(undone(line.as_bytes(), &[]), Err(BadChunk));
    }

    proptest! {
        #[test]
        fn every_body_comes_out_however_it_is_split(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            cuts in prop::collection::vec(0usize..1000, 0..8),
        ) {
            let mut bytes = Vec::new();
            for piece in &pieces {
                bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                bytes.extend_from_slice(piece);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(undone(&bytes, &cuts), Ok((pieces.concat(), true)));
        }

        #[test]
        fn the_result_for_any_bytes_does_not_depend_on_how_they_are_split(
            bytes in "[0-9a-f;\r\nx]{0,60}", cuts in prop::collection::vec(0usize..1000, 0..8)
        ) {
            prop_assert_eq!(undone(bytes.as_bytes(), &cuts), undone(bytes.as_bytes(), &[]));
        }
    }
}
