//! The chunked coding, against httparse's reader of chunk sizes.

use bytes::BytesMut;
use pyserve::internals::upstream::chunks::{Chunk, Chunks};

use super::cuts;

/// More than this need not be kept of a line: the longest trailer section.
const MOST_KEPT: usize = 16 << 10;

#[derive(Debug, PartialEq, Eq)]
enum Ending {
    /// After so many bytes.
    Over(usize),
    NeedsMore,
    Bad,
}

/// A coding that is understood is understood as others do, however it arrives.
pub fn run(input: &[u8]) {
    let (body, ending) = undone([input]);
    let (expected, other) = reference(input);
    match ending {
        Ending::Bad => assert!(expected.starts_with(&body)),
        // Ours looks at whole lines.
        Ending::NeedsMore if other == Ending::Bad => assert_eq!(body, expected),
        _ => assert_eq!((&body, &ending), (&expected, &other)),
    }
    let whole = (body, ending);
    assert_eq!(undone(input.chunks(1)), whole, "byte by byte");
    for cut in cuts(input) {
        let (left, right) = input.split_at(cut);
        assert_eq!(undone([left, right]), whole, "cut at {cut}");
    }
}

fn undone<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Ending) {
    let (mut chunks, mut buffer, mut body) = (Chunks::default(), BytesMut::new(), Vec::new());
    let mut received = 0;
    for part in parts {
        buffer.extend_from_slice(part);
        received += part.len();
        loop {
            match chunks.next(&mut buffer) {
                Ok(Chunk::Data(data)) => body.extend_from_slice(&data),
                Ok(Chunk::NeedMore) => break,
                Ok(Chunk::Over) => return (body, Ending::Over(received - buffer.len())),
                Err(_) => return (body, Ending::Bad),
            }
        }
        assert!(buffer.len() <= MOST_KEPT, "{} are kept", buffer.len());
    }
    (body, Ending::NeedsMore)
}

/// What is left to ours to refuse: lines that are too long, and sizes and trailers with a
/// stray CR.
fn reference(input: &[u8]) -> (Vec<u8>, Ending) {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        // httparse takes 15 digits at most, and counts leading zeros.
        at += leading_zeros(&input[at..]);
        let (line, size) = match httparse::parse_chunk_size(&input[at..]) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return (body, Ending::NeedsMore),
            Err(_) => return (body, Ending::Bad),
        };
        at += line;
        if size == 0 {
            break;
        }
        let rest = &input[at..];
        let length = rest.len().min(usize::try_from(size).unwrap_or(usize::MAX));
        body.extend_from_slice(&rest[..length]);
        at += length;
        match &rest[length..] {
            [b'\r', b'\n', ..] => at += 2,
            [] | [b'\r'] => return (body, Ending::NeedsMore),
            _ => return (body, Ending::Bad),
        }
    }
    loop {
        let rest = &input[at..];
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            return (body, Ending::NeedsMore);
        };
        at += end + 1;
        if rest[..end] == *b"\r" {
            return (body, Ending::Over(at));
        }
    }
}

/// Zeros in front of another digit.
fn leading_zeros(line: &[u8]) -> usize {
    let zeros = line.iter().take_while(|byte| **byte == b'0').count();
    match line.get(zeros) {
        Some(next) if next.is_ascii_hexdigit() => zeros,
        _ => zeros.saturating_sub(1),
    }
}
