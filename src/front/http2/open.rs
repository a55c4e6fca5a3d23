//! Streams that a client has opened and that have not ended, as far as it can see.
//!
//! h2 forgets a stream that it resets or refuses, and keeps the frame that says so until the
//! client reads. A client that does not read and makes the server reset its streams
//! (CVE-2025-8671) would fill memory with such frames; their number is bounded here.

use super::frames::{DATA, END_STREAM, HEADERS, Head, RST_STREAM};

/// Four times as many as h2 lets a client have at once: a client that does not know of that
/// limit yet may open more, which are refused.
const MOST: usize = 512;

/// The streams of one connection.
#[derive(Debug, Default)]
pub struct Open {
    newest: u32,
    /// In ascending order, as clients open them (RFC 9113 §5.1.1).
    streams: Vec<u32>,
}

impl Open {
    /// True without streams.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// A frame has come; `false`: too many streams wait for their end.
    pub fn received(&mut self, head: Head) -> bool {
        match head.kind {
            HEADERS if head.stream > self.newest => {
                self.newest = head.stream;
                self.streams.push(head.stream);
            }
            RST_STREAM => self.ended(head.stream),
            _ => {}
        }
        self.streams.len() <= MOST
    }

    /// A frame is sent.
    pub fn sent(&mut self, head: Head) {
        if head.kind == RST_STREAM || matches!(head.kind, HEADERS | DATA) && head.has(END_STREAM) {
            self.ended(head.stream);
        }
    }

    fn ended(&mut self, stream: u32) {
        if let Ok(at) = self.streams.binary_search(&stream) {
            self.streams.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(kind: u8, flags: u8, stream: u32) -> Head {
        Head {
            length: 4,
            kind,
            flags,
            stream,
        }
    }

    /// How many of up to 5,000 streams are taken, if `end` says that each has ended.
    fn taken(end: impl Fn(&mut Open, u32)) -> usize {
        let mut open = Open::default();
        let mut streams = (0..5000).map(|number| 2 * number + 1);
        let refused = streams.position(|stream| {
            let is_taken = open.received(head(HEADERS, 0, stream));
            // Trailers.
            let is_still_taken = open.received(head(HEADERS, END_STREAM, stream));
            assert_eq!(is_taken, is_still_taken);
            end(&mut open, stream);
            !is_taken
        });
        refused.unwrap_or(5000)
    }

    #[test]
    fn streams_that_do_not_end_are_bounded_and_others_are_not() {
        assert_eq!(taken(|_, _| {}), 512);
        assert_eq!(
            taken(|open, id| open.sent(head(HEADERS, END_STREAM, id))),
            5000
        );
        assert_eq!(
            taken(|open, id| open.sent(head(DATA, END_STREAM, id))),
            5000
        );
        assert_eq!(taken(|open, id| open.sent(head(RST_STREAM, 0, id))), 5000);
        let reset = |open: &mut Open, id| assert!(open.received(head(RST_STREAM, 0, id)));
        assert_eq!(taken(reset), 5000);
        // Neither a response that goes on nor what is said of other streams ends one.
        assert_eq!(taken(|open, id| open.sent(head(HEADERS, 0, id))), 512);
        assert_eq!(
            taken(|open, id| open.sent(head(RST_STREAM, 0, id + 2))),
            512
        );
    }
}
