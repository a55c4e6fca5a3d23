//! Streams that a client has opened and that have not ended, from the client's view.
//!
//! h2 forgets a stream that it resets or refuses, and keeps the RST_STREAM frame until the client
//! reads. A client that does not read and makes the server reset its streams (CVE-2025-8671) would
//! fill memory with such frames; their number is bounded here.
//!
//! Where h2 would end the connection for an error of one stream, it is made to reset the stream
//! instead ([`super::blocks`]). It does so with PROTOCOL_ERROR; the code that RFC 9113 asks for is
//! kept here until the frame is sent.

use super::End;
use super::frames::{DATA, END_STREAM, FrameHeader, HEADERS, RST_STREAM, code};

/// Four times h2's limit on concurrent streams: a client that does not know that limit yet may open
/// more, which are refused.
const MOST: usize = 512;
/// Most ranges of skipped stream ids that are remembered. Clients have a reason for one or two.
const MOST_SKIPPED: usize = 64;

/// The streams of one connection.
#[derive(Debug, Default)]
pub struct Open {
    newest: u32,
    /// In ascending order, as clients open them (RFC 9113 §5.1.1).
    streams: Vec<OpenStream>,
    /// First and last of ids that were never used, in ascending order.
    skipped: Vec<(u32, u32)>,
    /// Number of streams whose reset gets another code.
    corrections: usize,
    /// Requests that the client has withdrawn before their response began, since [`Open::take_withdrawn`].
    withdrawn: u32,
}

#[derive(Debug)]
struct OpenStream {
    id: u32,
    state: StreamState,
    /// The response has begun.
    is_answered: bool,
    correction: Option<u8>,
}

/// The state of a stream before a frame (RFC 9113 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamState {
    /// Not opened yet, or the connection.
    Idle,
    /// The client may send.
    Open,
    /// The client has ended its side.
    HalfClosed,
    /// h2 has been made to reset it.
    Reset,
    /// Ended.
    Closed,
    /// The client has opened a newer one without it.
    Skipped,
}

impl StreamState {
    /// True if the client has neither seen its end nor a reason to expect one.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Open | Self::HalfClosed)
    }
}

impl Open {
    /// True if there are no streams.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// The number of streams.
    pub fn count(&self) -> usize {
        self.streams.len()
    }

    /// The streams whose request is incomplete.
    pub fn incomplete(&self) -> Vec<u32> {
        let open = self.streams.iter();
        let incomplete = open.filter(|stream| stream.state == StreamState::Open);
        incomplete.map(|stream| stream.id).collect()
    }

    /// Records a received frame. Returns the state of its stream before it.
    ///
    /// # Errors
    /// If too many streams wait for their end.
    pub fn received(&mut self, head: FrameHeader) -> Result<StreamState, End> {
        let stream = head.stream;
        let before = self.state(stream);
        match head.kind {
            HEADERS if stream > self.newest => {
                self.skips(stream);
                self.newest = stream;
                self.streams.push(OpenStream {
                    id: stream,
                    state: StreamState::Open,
                    is_answered: false,
                    correction: None,
                });
            }
            RST_STREAM => {
                let is_withdrawn = self.find(stream).is_some_and(|open| !open.is_answered);
                self.withdrawn += u32::from(is_withdrawn);
                self.ended(stream);
            }
            _ => {}
        }
        if matches!(head.kind, HEADERS | DATA)
            && head.has(END_STREAM)
            && let Some(open) = self.find(stream)
            && open.state == StreamState::Open
        {
            open.state = StreamState::HalfClosed;
        }
        match self.streams.len() <= MOST {
            true => Ok(before),
            false => Err(End::Open),
        }
    }

    /// Records that h2 is made to reset a stream; the client gets this code.
    pub fn resets(&mut self, stream: u32, code: u8) {
        let correction = (code != code::PROTOCOL_ERROR).then_some(code);
        if let Some(open) = self.find(stream)
            && open.state != StreamState::Reset
        {
            open.state = StreamState::Reset;
            open.correction = correction;
            self.corrections += usize::from(correction.is_some());
        }
    }

    /// The requests withdrawn before their response began since the last call.
    pub fn take_withdrawn(&mut self) -> u32 {
        std::mem::take(&mut self.withdrawn)
    }

    /// True if the reset of some stream gets another code.
    pub fn corrects(&self) -> bool {
        self.corrections > 0
    }

    /// The code with which the reset of a stream is sent, if it differs from h2's.
    pub fn correction(&self, stream: u32) -> Option<u8> {
        let at = self.position(stream).ok()?;
        self.streams[at].correction
    }

    /// Records a sent frame.
    pub fn sent(&mut self, head: FrameHeader) {
        if head.kind == RST_STREAM || matches!(head.kind, HEADERS | DATA) && head.has(END_STREAM) {
            self.ended(head.stream);
        } else if head.kind == HEADERS
            && let Some(open) = self.find(head.stream)
        {
            open.is_answered = true;
        }
    }

    fn state(&self, stream: u32) -> StreamState {
        if stream == 0 || stream > self.newest {
            return StreamState::Idle;
        }
        if let Ok(at) = self.position(stream) {
            return self.streams[at].state;
        }
        let is_skipped = |(first, last): &(u32, u32)| (*first..=*last).contains(&stream);
        match self.skipped.iter().any(is_skipped) {
            true => StreamState::Skipped,
            false => StreamState::Closed,
        }
    }

    /// Records the ids between the newest stream and `stream` as skipped.
    fn skips(&mut self, stream: u32) {
        let (first, last) = (self.newest + 1, stream - 1);
        if last > first {
            if self.skipped.len() == MOST_SKIPPED {
                self.skipped.remove(0);
            }
            self.skipped.push((first, last));
        }
    }

    fn find(&mut self, stream: u32) -> Option<&mut OpenStream> {
        let at = self.position(stream).ok()?;
        Some(&mut self.streams[at])
    }

    fn position(&self, stream: u32) -> Result<usize, usize> {
        self.streams.binary_search_by_key(&stream, |open| open.id)
    }

    fn ended(&mut self, stream: u32) {
        if let Ok(at) = self.position(stream) {
            let ended = self.streams.remove(at);
            self.corrections -= usize::from(ended.correction.is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(kind: u8, flags: u8, stream: u32) -> FrameHeader {
        FrameHeader {
            length: 4,
            kind,
            flags,
            stream,
        }
    }

    /// Number of streams accepted, up to 5,000, if `end` reports the end of each.
    fn taken(end: impl Fn(&mut Open, u32)) -> usize {
        let mut open = Open::default();
        let mut streams = (0..5000).map(|number| 2 * number + 1);
        let refused = streams.position(|stream| {
            let is_taken = open.received(head(HEADERS, 0, stream)).is_ok();
            // Trailers.
            let is_still_taken = open.received(head(HEADERS, END_STREAM, stream)).is_ok();
            assert_eq!(is_taken, is_still_taken);
            end(&mut open, stream);
            !is_taken
        });
        refused.unwrap_or(5000)
    }

    #[test]
    fn requests_are_withdrawn_only_before_their_response() {
        let mut open = Open::default();
        for stream in [1, 3, 5, 7] {
            open.received(head(HEADERS, END_STREAM, stream)).unwrap();
        }
        open.sent(head(HEADERS, 0, 3));
        open.sent(head(HEADERS, END_STREAM, 5));
        for stream in [1, 3, 5, 7, 9] {
            open.received(head(RST_STREAM, 0, stream)).unwrap();
        }
        assert_eq!(open.take_withdrawn(), 2);
        assert_eq!(open.take_withdrawn(), 0);
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
        let reset = |open: &mut Open, id| assert!(open.received(head(RST_STREAM, 0, id)).is_ok());
        assert_eq!(taken(reset), 5000);
        // Neither an unfinished response nor frames of other streams end a stream.
        assert_eq!(taken(|open, id| open.sent(head(HEADERS, 0, id))), 512);
        assert_eq!(
            taken(|open, id| open.sent(head(RST_STREAM, 0, id + 2))),
            512
        );
    }
}
