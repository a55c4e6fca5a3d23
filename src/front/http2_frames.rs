//! Whether a client of HTTP/2 floods the connection with frames that ask for nothing.
//!
//! PING, SETTINGS, WINDOW_UPDATE, PRIORITY and frames of unknown types are free for who sends
//! them and cost us work each; h2 limits none of them (RFC 9113 §10.5 leaves it to servers).
//! So this looks at the heads of all frames, below hyper: each that asks for nothing costs
//! credit, and what clients answer by such frames earns it, namely the start of a request, and
//! every piece of a response that we send. At the end of its credit the connection ends.
//! Bytes in, a verdict out; on a connection of HTTP/1 nothing is looked at after its first
//! bytes. What h2 limits itself (resets, CONTINUATION, the length of heads) is left to it.

use std::io::IoSlice;
use std::time::{Duration, Instant};

/// What every connection of HTTP/2 begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frames that a client may have ahead. nginx gives 8 MiB of them, nghttp2 and Envoy 1,000
/// answers that wait for the client.
const MOST_CREDIT: u32 = 1000;
/// What a request, or a piece of a response, earns: with a piece may come back a
/// WINDOW_UPDATE for the stream, one for the connection and a PING to measure. Envoy's number.
const EARNED: u32 = 10;
/// What time earns: clients look every ten seconds or so whether the connection is alive.
const EARNED_PER_SECOND: u32 = 10;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
/// RFC 9113 §7.
const ENHANCE_YOUR_CALM: u8 = 11;

/// A client of HTTP/2 that has used up its credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many frames of HTTP/2 that ask for nothing")]
pub struct Flood;

/// The frames of one connection, if it has any.
#[derive(Debug)]
pub enum Http2Frames {
    /// So many bytes of the preface have come, and nothing else.
    Undecided(usize),
    /// There is nothing to look at.
    Http1,
    /// HTTP/2.
    Http2(Watch),
}

/// A connection of HTTP/2.
#[derive(Debug)]
pub struct Watch {
    incoming: Heads,
    outgoing: Heads,
    last_stream: u32,
    credit: u32,
    counted: Instant,
}

impl Default for Http2Frames {
    /// Nothing has come yet.
    fn default() -> Self {
        Self::Undecided(0)
    }
}

impl Http2Frames {
    /// The client has sent `bytes`.
    ///
    /// # Errors
    /// If it has no credit left. Nothing more is to be read from it.
    pub fn received(&mut self, bytes: &[u8]) -> Result<(), Flood> {
        match self {
            Self::Http1 => Ok(()),
            Self::Http2(watch) => watch.received(bytes, Instant::now),
            Self::Undecided(seen) => {
                let awaited = &PREFACE[*seen..];
                let length = awaited.len().min(bytes.len());
                if bytes[..length] != awaited[..length] {
                    *self = Self::Http1;
                    return Ok(());
                }
                *seen += length;
                if *seen < PREFACE.len() {
                    return Ok(());
                }
                *self = Self::Http2(Watch::new(Instant::now()));
                self.received(&bytes[length..])
            }
        }
    }

    /// Whether [`Http2Frames::sent`] is to be told of what is sent.
    pub fn are_there(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    /// We have sent the first `length` bytes of `parts`.
    pub fn sent(&mut self, parts: &[IoSlice<'_>], mut length: usize) {
        if let Self::Http2(watch) = self {
            for part in parts {
                let sent = part.len().min(length);
                watch.sent(&part[..sent]);
                length -= sent;
            }
        }
    }

    /// The frame that tells the client why its connection ends; `None` in the middle of
    /// another frame.
    pub fn farewell(&self) -> Option<[u8; 17]> {
        let Self::Http2(watch) = self else {
            return None;
        };
        if !watch.outgoing.is_between_frames() {
            return None;
        }
        let mut frame = [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        frame[9..13].copy_from_slice(&watch.last_stream.to_be_bytes());
        frame[16] = ENHANCE_YOUR_CALM;
        Some(frame)
    }
}

impl Watch {
    fn new(now: Instant) -> Self {
        Self {
            incoming: Heads::default(),
            outgoing: Heads::default(),
            last_stream: 0,
            credit: MOST_CREDIT,
            counted: now,
        }
    }

    fn received(&mut self, bytes: &[u8], now: impl Fn() -> Instant) -> Result<(), Flood> {
        let Self {
            incoming,
            last_stream,
            credit,
            counted,
            ..
        } = self;
        incoming.each(bytes, |head| {
            match head.kind {
                HEADERS => {
                    *last_stream = head.stream.max(*last_stream);
                    *credit = (*credit + EARNED).min(MOST_CREDIT);
                }
                // A body goes on or ends; or a head does, which h2 limits.
                DATA if head.length > 0 || head.flags & END_STREAM != 0 => {}
                CONTINUATION => {}
                _ => {
                    if *credit == 0 {
                        *credit = earned_by_time(counted, now());
                    }
                    *credit = credit.checked_sub(1).ok_or(Flood)?;
                }
            }
            Ok(())
        })
    }

    fn sent(&mut self, bytes: &[u8]) {
        let credit = &mut self.credit;
        let never_fails = self.outgoing.each(bytes, |head| {
            if head.kind == DATA && head.length > 0 {
                *credit = (*credit + EARNED).min(MOST_CREDIT);
            }
            Ok(())
        });
        debug_assert_eq!(never_fails, Ok(()));
    }
}

/// Looked at only when nothing else is left, and counted in whole frames.
fn earned_by_time(counted: &mut Instant, now: Instant) -> u32 {
    let frame = Duration::from_secs(1) / EARNED_PER_SECOND;
    let passed = now.saturating_duration_since(*counted);
    let frames = (passed.as_nanos() / frame.as_nanos()).min(u128::from(MOST_CREDIT)) as u32;
    if frames > 0 {
        *counted = now;
    }
    frames
}

/// Finds the heads of frames in bytes that come in any pieces.
#[derive(Debug, Default)]
struct Heads {
    /// What has come of a head.
    head: [u8; 9],
    filled: usize,
    /// What is missing of the payload behind the last one.
    payload: usize,
}

/// The head of a frame (RFC 9113 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Heads {
    fn is_between_frames(&self) -> bool {
        self.filled == 0 && self.payload == 0
    }

    /// Calls `look` with each head that `bytes` complete, until it refuses one.
    fn each(
        &mut self,
        mut bytes: &[u8],
        mut look: impl FnMut(Head) -> Result<(), Flood>,
    ) -> Result<(), Flood> {
        loop {
            let skipped = self.payload.min(bytes.len());
            self.payload -= skipped;
            bytes = &bytes[skipped..];
            let length = (self.head.len() - self.filled).min(bytes.len());
            if length == 0 {
                return Ok(());
            }
            let (now, rest) = bytes.split_at(length);
            self.head[self.filled..self.filled + length].copy_from_slice(now);
            self.filled += length;
            bytes = rest;
            if self.filled < self.head.len() {
                return Ok(());
            }
            self.filled = 0;
            let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = self.head;
            let head = Head {
                length: u32::from_be_bytes([0, l0, l1, l2]) as usize,
                kind,
                flags,
                stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7FFF_FFFF,
            };
            self.payload = head.length;
            look(head)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;
    const UNKNOWN: u8 = 0x77;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        let head = [
            length[1], length[2], length[3], kind, flags, 0, 0, 0, stream,
        ];
        [&head[..], payload].concat()
    }

    fn send(frames: &mut Http2Frames, bytes: &[u8]) {
        frames.sent(&[IoSlice::new(bytes)], bytes.len());
    }

    fn http2() -> Http2Frames {
        let mut frames = Http2Frames::default();
        frames.received(PREFACE).unwrap();
        assert!(frames.are_there());
        frames
    }

    /// How many of `frame` are taken, up to 100,000.
    fn taken(frames: &mut Http2Frames, frame: &[u8]) -> usize {
        (0..100_000)
            .take_while(|_| frames.received(frame).is_ok())
            .count()
    }

    #[test]
    fn frames_that_ask_for_nothing_end_and_what_asks_or_brings_does_not() {
        let idle = [
            frame(PING, 0, 0, &[0; 8]),
            frame(SETTINGS, 0, 0, &[]),
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
            frame(RST_STREAM, 0, 1, &[0; 4]),
            frame(UNKNOWN, 0, 0, &[]),
            frame(DATA, 0, 1, &[]),
        ];
        for frame in idle {
            let taken = taken(&mut http2(), &frame);
            // Time earns some meanwhile.
            assert!((1000..5000).contains(&taken), "{taken} of {frame:?}");
        }
        let useful = [
            frame(HEADERS, 0, 1, b"head"),
            frame(CONTINUATION, 0, 1, b"head"),
            frame(DATA, 0, 1, b"x"),
            frame(DATA, END_STREAM, 1, &[]),
            // A request that is cancelled, as a browser does.
            [
                frame(HEADERS, 0, 1, b"head"),
                frame(RST_STREAM, 0, 1, &[0; 4]),
            ]
            .concat(),
        ];
        for frame in useful {
            assert_eq!(taken(&mut http2(), &frame), 100_000, "{frame:?}");
        }
    }

    #[test]
    fn answers_to_pieces_of_a_response_are_free() {
        let mut frames = http2();
        let piece = frame(DATA, 0, 1, b"piece");
        let update = frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 5]);
        let answers = [&update[..], &update, &frame(PING, 0, 0, &[0; 8])].concat();
        for _ in 0..10_000 {
            send(&mut frames, &piece);
            assert_eq!(frames.received(&answers), Ok(()));
        }
        // Our own answers earn nothing.
        let mut frames = http2();
        let ping = frame(PING, 0, 0, &[0; 8]);
        let pong = frame(PING, 1, 0, &[0; 8]);
        let taken = (0..100_000)
            .take_while(|_| {
                send(&mut frames, &pong);
                frames.received(&ping).is_ok()
            })
            .count();
        assert!(taken < 5000, "{taken}");
    }

    #[test]
    fn time_earns_a_little() {
        let start = Instant::now();
        let ping = frame(PING, 0, 0, &[0; 8]);
        let mut watch = Watch::new(start);
        // One each ten seconds for a week, and a thousand at once at the end.
        for tens in 0..60_480 {
            let now = start + Duration::from_secs(10 * tens);
            assert_eq!(watch.received(&ping, || now), Ok(()));
        }
        let now = start + Duration::from_secs(604_800);
        assert_eq!(watch.received(&ping.repeat(999), || now), Ok(()));
        // Twelve a second are too many in the long run.
        let mut watch = Watch::new(start);
        let at = |twelfths: u32| start + Duration::from_secs(1) * twelfths / 12;
        let taken = (0..).take_while(|twelfths| {
            let now = at(*twelfths);
            watch.received(&ping, || now).is_ok()
        });
        let taken = taken.take(100_000).count();
        assert!((5900..=6000).contains(&taken), "{taken}");
    }

    #[test]
    fn other_protocols_are_not_looked_at() {
        for first in ["GET / HTTP/1.1\r\n", "PRI * HTTP/1.1\r\n", "P", ""] {
            let mut frames = Http2Frames::default();
            frames.received(first.as_bytes()).unwrap();
            frames.received(b"OST / HTTP/1.1\r\n").unwrap();
            assert!(!frames.are_there(), "{first:?}");
            let ping = frame(PING, 0, 0, &[0; 8]);
            assert_eq!(taken(&mut frames, &ping), 100_000);
            assert_eq!(frames.farewell(), None);
        }
    }

    #[test]
    fn the_farewell_names_the_last_request_and_stands_between_frames() {
        let mut frames = http2();
        frames.received(&frame(HEADERS, 0, 5, b"head")).unwrap();
        let piece = frame(DATA, 0, 5, b"piece");
        send(&mut frames, &piece[..11]);
        assert_eq!(frames.farewell(), None);
        send(&mut frames, &piece[11..]);
        let goaway = frame(GOAWAY, 0, 0, &[0, 0, 0, 5, 0, 0, 0, ENHANCE_YOUR_CALM]);
        assert_eq!(frames.farewell().unwrap(), goaway[..]);
    }

    proptest! {
        #[test]
        fn the_heads_are_the_same_however_the_bytes_are_split(
            payloads in prop::collection::vec((any::<u8>(), 0_usize..300), 0..20),
            cuts in prop::collection::vec(0_usize..4000, 0..20),
        ) {
            let frames = payloads.iter().map(|(kind, length)| frame(*kind, 0, *kind, &vec![9; *length]));
            let bytes = frames.collect::<Vec<_>>().concat();
            let mut found = Vec::new();
            let mut heads = Heads::default();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            for part in cuts.windows(2) {
                heads.each(&bytes[part[0]..part[1]], |head| {
                    found.push((head.kind, head.length));
                    Ok(())
                }).unwrap();
            }
            prop_assert_eq!(found, payloads);
            prop_assert!(heads.is_between_frames());
        }

        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let mut frames = http2();
            let _verdict = frames.received(&bytes);
            send(&mut frames, &bytes);
            let _farewell = frames.farewell();
        }
    }
}
