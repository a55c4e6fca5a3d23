//! What hyper was given of the client's bytes, and whether it has done with all of it.
//!
//! hyper keeps to itself how much it has read of what it was given. So it is counted here
//! where its first request ends, and what came behind it. When hyper has begun one request,
//! with a body exactly as long as what came behind the head, that request is over and its
//! response written, then hyper holds nothing, neither to be read nor to be written. Whenever
//! the count does not come out even (requests in a row, chunks, HTTP/2, an upgrade), it is
//! hyper's connection for good.

/// What hyper was given since it last held nothing.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// Nothing.
    #[default]
    Nothing,
    /// The beginning of a head.
    Head(Line),
    /// A head, and so many bytes behind it.
    Behind(u64),
    /// Nobody knows any more.
    Lost,
}

/// Where in a head its beginning ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// In front of the request line, where empty lines do not count (RFC 9112 §2.2).
    First,
    /// Inside a line.
    Inside,
    /// Behind a line.
    Ended,
    /// Behind a line and a carriage return.
    EndedAndReturn,
}

impl Given {
    /// hyper is given more.
    pub fn give(&mut self, bytes: &[u8]) {
        *self = match *self {
            _ if bytes.is_empty() => return,
            Self::Nothing => head(Line::First, bytes),
            Self::Head(line) => head(line, bytes),
            Self::Behind(count) => Self::Behind(count + bytes.len() as u64),
            Self::Lost => Self::Lost,
        };
    }

    /// hyper has written all that it had to write. `begun` requests have begun since it last
    /// held nothing, with bodies of so many bytes; none of them is still running.
    pub fn settle(&mut self, begun: usize, body: u64) {
        *self = match *self {
            Self::Behind(count) if begun == 1 && body == count => Self::Nothing,
            // The body, or the next request, that hyper has read in advance.
            Self::Behind(count) if begun == 1 && count < body => Self::Behind(count),
            Self::Behind(_) if begun > 0 => Self::Lost,
            other => other,
        };
    }
}

/// A head ends as `httparse` sees it: with the first empty line behind the request line, where
/// a line ends with a line feed, with or without a carriage return in front of it.
fn head(mut line: Line, bytes: &[u8]) -> Given {
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        line = match (line, byte) {
            (Line::First, b'\r' | b'\n') => Line::First,
            (Line::Ended | Line::EndedAndReturn, b'\n') => {
                return Given::Behind((bytes.len() - at) as u64);
            }
            (Line::Ended, b'\r') => Line::EndedAndReturn,
            _ => match bytes[at - 1..].iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    at += end;
                    Line::Ended
                }
                None => return Given::Head(Line::Inside),
            },
        };
    }
    Given::Head(line)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn given(parts: &[&[u8]]) -> Given {
        let mut given = Given::default();
        for part in parts {
            given.give(part);
        }
        given
    }

    #[test]
    fn hyper_holds_nothing_once_its_one_request_is_read_and_answered() {
        let head: &[u8] = b"POST / HTTP/1.1\r\nA: b\r\n\r\n";
        for (parts, begun, body, expected) in [
            (&[][..], 0, 0, Given::Nothing),
            (&[head], 1, 0, Given::Nothing),
            (&[b"\r\n", head], 1, 0, Given::Nothing),
            (&[head, b"body"], 1, 4, Given::Nothing),
            (&[head, b"bo"], 1, 4, Given::Behind(2)),
            (&[head, b"body+"], 1, 4, Given::Lost),
            (&[head, head], 2, 0, Given::Lost),
            (&[head, b"0\r\n\r\n"], 1, u64::MAX, Given::Behind(5)),
            (&[head], 0, 0, Given::Behind(0)),
            (&[&head[..9]], 0, 0, Given::Head(Line::Inside)),
        ] {
            let mut given = given(parts);
            given.settle(begun, body);
            assert_eq!(given, expected, "{parts:?}");
        }
    }

    proptest! {
        #[test]
        fn a_head_ends_where_hyper_s_parser_ends_it(
            empty in "(\r?\n){0,2}",
            fields in "([A-Za-z]{1,3}:[ a]{0,3}\r?\n){0,4}",
            first in "(GET|PUT) /[a-z]{0,3} HTTP/1\\.1\r?\n",
            end in "\r?\n",
            behind in "[a\r\n]{0,5}",
            cut in any::<prop::sample::Index>(),
        ) {
            let text = format!("{empty}{first}{fields}{end}{behind}");
            let bytes = text.as_bytes();
            let mut headers = [httparse::EMPTY_HEADER; 8];
            let length = match httparse::Request::new(&mut headers).parse(bytes) {
                Ok(httparse::Status::Complete(length)) => length,
                other => panic!("{other:?} for {text:?}"),
            };
            let (one, two) = bytes.split_at(cut.index(bytes.len() + 1));
            prop_assert_eq!(given(&[one, two]), Given::Behind((bytes.len() - length) as u64));
        }

        /// Whatever it is: if hyper's parser takes it for a head, both see the same end.
        #[test]
        fn no_bytes_end_elsewhere(bytes in "[GET /H1.:\r\n]{0,40}") {
            let bytes = [b"GET / HTTP/1.1\r\n", bytes.as_bytes()].concat();
            let mut headers = [httparse::EMPTY_HEADER; 32];
            if let Ok(httparse::Status::Complete(length)) =
                httparse::Request::new(&mut headers).parse(&bytes)
            {
                prop_assert_eq!(given(&[&bytes]), Given::Behind((bytes.len() - length) as u64));
            }
        }
    }
}
