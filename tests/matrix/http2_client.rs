//! A request over HTTP/2, and those behind it on the same connection.

use super::exchange::{After, Framing, Next, Outcome, Received};
use super::shapes::{COOKIES, Manner, Sent};
use crate::support::hpack::Decoder;
use crate::support::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Http2, PADDED, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, block, frame,
};
use crate::support::raw::{Connection, End};

/// A connection that asks for one thing after the other.
pub struct Http2Client {
    http2: Http2,
    decoder: Decoder,
    stream: u32,
}

/// RFC 9113 §7: "the stream is no longer needed".
const CANCEL: u32 = 8;

impl Http2Client {
    pub fn new(connection: Connection) -> Self {
        Self {
            http2: Http2::new(connection),
            decoder: Decoder::new(),
            stream: 1,
        }
    }

    /// Carries `sent` out, and `next` behind it.
    ///
    /// # Errors
    /// In words, where there was no complete response.
    pub fn exchange(mut self, sent: &Sent, next: &[Next]) -> Result<Received, String> {
        let mut received = self.one(sent)?;
        if sent.manner == Manner::HalfCloses {
            received.connection = match self.http2.farewell() {
                (codes, End::Closed) if codes.iter().all(|code| *code == 0) => After::Closed,
                other => After::Wrong(format!("an end was due: {other:?}")),
            };
            return Ok(received);
        }
        received.connection = After::Kept;
        for next in next {
            let complaint = match self.one(&next.sent) {
                Ok(again) => next.complaint(&again),
                Err(why) => Some(format!("for {}: {why}", next.sent.target)),
            };
            if let Some(why) = complaint {
                received.connection = After::Wrong(why);
                break;
            }
        }
        Ok(received)
    }

    fn one(&mut self, sent: &Sent) -> Result<Received, String> {
        let stream = self.stream;
        self.stream += 2;
        let mut received = Received::default();
        let length = sent.body.as_ref().filter(|body| body.has_length);
        let length = length.map(|body| body.bytes.len().to_string());
        let mut fields = vec![
            (":method", sent.method),
            (":scheme", "http"),
            (":path", &sent.target),
            (":authority", "localhost"),
        ];
        fields.extend(COOKIES.map(|cookie| ("cookie", cookie)));
        if sent.fields.iter().any(|(name, _)| *name == "upgrade") {
            fields.push(("connection", "upgrade"));
        }
        fields.extend(
            sent.fields
                .iter()
                .map(|(name, value)| (*name, value.as_str())),
        );
        fields.extend(length.as_deref().map(|length| ("content-length", length)));
        if sent.manner == Manner::HalfCloses {
            // RFC 9113 §6.9: windows for the whole response, since none can be opened later.
            const WINDOW: [u8; 4] = (1_u32 << 30).to_be_bytes();
            let setting = [&[0, 4][..], &WINDOW].concat();
            let frames = [
                frame(SETTINGS, 0, 0, &setting),
                frame(WINDOW_UPDATE, 0, 0, &WINDOW),
                frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields)),
            ];
            self.http2.send_and_finish(&frames.concat());
        } else {
            self.http2.headers(stream, &fields, sent.body.is_none());
        }
        let Some(body) = &sent.body else {
            if sent.manner == Manner::LeavesInResponse {
                self.begins(stream)?;
                self.reset(stream);
            } else {
                self.response(stream, sent, &mut received, false)?;
            }
            return Ok(received);
        };
        let (first, rest) = body.bytes.split_at(body.bytes.len() / 2);
        match sent.manner {
            Manner::AwaitsContinue => {
                if self.response(stream, sent, &mut received, true)? {
                    self.data(stream, &body.bytes, true);
                    return Ok(received);
                }
                self.data(stream, first, false);
                self.data(stream, rest, true);
            }
            Manner::HalfThenAnswer => {
                self.data(stream, first, false);
                self.response(stream, sent, &mut received, false)?;
                self.data(stream, rest, true);
                return Ok(received);
            }
            Manner::Leaves => {
                self.data(stream, first, false);
                self.reset(stream);
                return Ok(received);
            }
            Manner::Whole | Manner::HalfCloses | Manner::LeavesInResponse => {
                self.data(stream, first, false);
                self.data(stream, rest, true);
            }
        }
        self.response(stream, sent, &mut received, false)?;
        Ok(received)
    }

    fn reset(&mut self, stream: u32) {
        let reset = frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
        self.http2.try_send(&reset);
    }

    /// Reads to the head of a response.
    fn begins(&mut self, stream: u32) -> Result<(), String> {
        loop {
            let frame = self
                .http2
                .frame()
                .map_err(|end| format!("no answer: {end:?}"))?;
            if frame.kind == HEADERS {
                self.decoder.decode(&frame.payload);
                if frame.stream == stream {
                    return Ok(());
                }
            }
        }
    }

    fn data(&mut self, stream: u32, bytes: &[u8], is_last: bool) {
        let count = bytes.chunks(16_384).count();
        for (at, piece) in bytes.chunks(16_384).enumerate() {
            let flags = if is_last && at + 1 == count {
                END_STREAM
            } else {
                0
            };
            self.http2.try_send(&frame(DATA, flags, stream, piece));
        }
    }

    /// Reads frames to the end of the response; whether it was final. With `or_continue`, to
    /// the first response of any kind.
    fn response(
        &mut self,
        stream: u32,
        sent: &Sent,
        received: &mut Received,
        or_continue: bool,
    ) -> Result<bool, String> {
        let mut block = Vec::new();
        let mut is_last = false;
        loop {
            let frame = self
                .http2
                .frame()
                .map_err(|end| format!("no answer: {end:?}"))?;
            match frame.kind {
                GOAWAY if frame.payload[4..8] != [0; 4] => {
                    return Err(format!("GOAWAY with error {:?}", &frame.payload[4..8]));
                }
                RST_STREAM if frame.stream == stream => {
                    let code = u32::from_be_bytes(frame.payload[..4].try_into().unwrap());
                    received.outcome = Outcome::StreamError(code);
                    return Ok(true);
                }
                HEADERS | CONTINUATION => {
                    assert_eq!(frame.flags & PADDED, 0, "nothing asks for padding");
                    block.extend(&frame.payload);
                    if frame.kind == HEADERS {
                        is_last = frame.flags & END_STREAM != 0;
                    }
                    if frame.flags & END_HEADERS == 0 {
                        continue;
                    }
                    let fields = self.decoder.decode(&std::mem::take(&mut block));
                    if frame.stream != stream {
                        continue;
                    }
                    let status = fields[0].1.parse().map_err(|_| "no status")?;
                    if (100..200).contains(&status) && !is_last {
                        received.interim.push(status);
                        if or_continue {
                            return Ok(false);
                        }
                        continue;
                    }
                    received.outcome = Outcome::Response(status);
                    received.fields = fields;
                }
                DATA => {
                    // RFC 9113 §6.9: what comes on a stream that was reset counts as well.
                    let length = frame.payload.len();
                    if length > 0 {
                        self.http2.allow(frame.stream, length as u32);
                    }
                    if frame.stream != stream {
                        continue;
                    }
                    received.body.extend(frame.payload);
                    is_last = frame.flags & END_STREAM != 0;
                }
                _ => continue,
            }
            if is_last {
                break;
            }
        }
        framed(sent, received)
    }
}

/// Derives the framing of a response that has ended, and checks its length.
fn framed(sent: &Sent, received: &mut Received) -> Result<bool, String> {
    let is_bodiless =
        sent.method == "HEAD" || matches!(received.outcome, Outcome::Response(204 | 304));
    received.framing = Some(match is_bodiless && received.body.is_empty() {
        true => Framing::NoBody,
        false => Framing::EndStream,
    });
    // RFC 9113 §8.1.1: a response is malformed if its length is not that of its DATA.
    let length = received.field("content-length");
    match length.map(str::parse::<usize>) {
        Some(Ok(length)) if !is_bodiless && length != received.body.len() => Err(format!(
            "content-length {length} and {} bytes",
            received.body.len()
        )),
        _ => Ok(true),
    }
}
