//! HTTP/2 below hyper: duties of a server that h2 does not fulfil.
//!
//! - A malformed request costs a client its stream, not its connection, which others may share
//!   ([`blocks`], by the rules in [`fields`]; [`refused`] answers such a request).
//! - Floods of frames, and resets that the client provokes, end the connection ([`credit`]), and so
//!   do streams whose end a client does not read ([`open`]).
//! - Errors that h2 finds have the scope and the code that RFC 9113 asks for ([`control`],
//!   [`open`]): those of a stream end only the stream.
//! - Errors of the connection that are found here are sent to the client and logged.
//!
//! Bytes in, bytes and a verdict out, from the preface on, which [`framing`](super::framing) finds.
//! The limits of h2 itself (concurrent streams, resets by the client) are left to it.

mod blocks;
mod control;
mod credit;
mod fields;
mod frames;
mod hpack;
mod incoming;
mod open;
mod refused;

use std::fmt;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::time::Instant;

use tokio::io::ReadBuf;

pub use self::hpack::Undecodable;

use self::credit::Credit;
use self::frames::{
    DATA, END_STREAM, FrameHeader, GOAWAY, HEAD, HEADERS, Heads, RST_STREAM, WINDOW_UPDATE, code,
};
use self::incoming::Incoming;
use self::open::Open;
use crate::front::body::received::{Amount, Flow};
use crate::front::protocol::framing::PREFACE;
use crate::front::protocol::refused::PendingRefusals;
use crate::observe::codes;
use crate::observe::throttle::Throttle;

/// Number of bytes written at a time while error codes are corrected.
const MOST_CORRECTED: usize = 64 << 10;

/// Reasons why a connection of HTTP/2 ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// The client has used up its credit for frames.
    #[error("too many HTTP/2 control frames")]
    Idle,
    /// The client has used up its credit for resets, withdrawn and refused requests.
    #[error("too many HTTP/2 streams reset by the client, or reset or refused because of it")]
    Resets,
    /// The client does not read the frames that end its streams.
    #[error("too many ended HTTP/2 streams that the client has not read")]
    Open,
    /// A header block has too many frames.
    #[error("too many HTTP/2 CONTINUATION frames")]
    Continuations,
    /// There is no memory for the rest of a header block.
    #[error("no memory for an HTTP/2 header block (--memory-budget)")]
    NoMemory,
    /// A header block cannot be decoded.
    #[error("HTTP/2: {0}")]
    Undecodable(Undecodable),
    /// A frame is longer than allowed, or too short for its content.
    #[error("HTTP/2: a frame has a wrong length")]
    Size,
    /// A setting makes the windows of streams too large.
    #[error("HTTP/2: SETTINGS_INITIAL_WINDOW_SIZE is above 2147483647")]
    Window,
    /// A frame is not allowed in this place.
    #[error("HTTP/2: {0}")]
    Protocol(&'static str),
}

impl End {
    /// RFC 9113 §7.
    fn code(self) -> u8 {
        match self {
            Self::Idle
            | Self::Resets
            | Self::Open
            | Self::Continuations
            | Self::NoMemory
            | Self::Undecodable(Undecodable::Bomb) => code::ENHANCE_YOUR_CALM,
            Self::Undecodable(_) => code::COMPRESSION_ERROR,
            Self::Size => code::FRAME_SIZE_ERROR,
            Self::Window => code::FLOW_CONTROL_ERROR,
            Self::Protocol(_) => code::PROTOCOL_ERROR,
        }
    }
}

/// Logs, rate-limited, that a connection has ended because of its client's frames.
pub fn log_end(peer: Option<SocketAddr>, why: &dyn fmt::Display) {
    static ENDS: Throttle = Throttle::new();
    if let Some(before) = ENDS.is_due() {
        let peer = peer.map(tracing::field::display);
        tracing::warn!(
            code = codes::HTTP2,
            peer,
            closed_before = before,
            "connection closed: {why}"
        );
    }
}

/// Streams refused for want of memory whose resets the client does not read: as many as it may have
/// open at a time. h2 keeps each until it is sent.
const MOST_UNSENT_RESETS: usize = 128;

/// The frames of one connection, if it uses HTTP/2.
#[derive(Debug, Default)]
pub enum Http2 {
    /// Another protocol.
    #[default]
    Absent,
    /// So many bytes of the preface have arrived, and nothing else.
    Preface(usize),
    /// Frames.
    Frames(Box<Session>),
}

/// A connection of HTTP/2.
#[derive(Debug)]
pub struct Session {
    incoming: Incoming,
    outgoing: Heads,
    credit: Credit,
    open: Open,
    /// Flow-controlled frames since [`Http2::take_flow`].
    flow: Flow,
    /// Bytes that hyper reads next.
    out: Vec<u8>,
    given: usize,
    /// Arrival of the newest end of a request.
    requested: Option<Instant>,
    /// Since [`Http2::take_cost`].
    cost: Cost,
}

/// The cost of received frames besides their bytes.
#[derive(Debug, Default, Clone, Copy)]
pub struct Cost {
    /// Number of frames other than DATA.
    pub frames: usize,
    /// Decoded bytes of header blocks.
    pub decoded: usize,
}

impl Flow {
    fn received(&mut self, head: FrameHeader, is_idle: bool) {
        match head.kind {
            DATA => {
                let counts = [Some(&mut self.data), self.since_idle.as_mut()];
                for amount in counts.into_iter().flatten() {
                    amount.bytes += head.length as u64;
                    amount.frames += 1;
                }
            }
            HEADERS if is_idle => self.since_idle = Some(Amount::default()),
            _ => {}
        }
    }

    fn sent(&mut self, head: FrameHeader, increment: Option<u32>) {
        if let (WINDOW_UPDATE, 0, Some(increment)) = (head.kind, head.stream, increment) {
            self.credited += u64::from(increment);
        }
    }
}

impl Http2 {
    /// A connection of HTTP/2 whose preface is expected next.
    pub fn expected() -> Self {
        Self::Preface(0)
    }

    /// Processes received `bytes`. Returns the number of them that hyper gets in place;
    /// [`Http2::give`] has the rest.
    ///
    /// # Errors
    /// An error of the connection. Nothing more may be read from it.
    pub fn received(
        &mut self,
        bytes: &[u8],
        is_trusted: bool,
        refused: &PendingRefusals,
    ) -> Result<usize, End> {
        match self {
            Self::Absent => Ok(bytes.len()),
            Self::Frames(session) => session.received(bytes, refused, Instant::now),
            Self::Preface(seen) => {
                let length = (PREFACE.len() - *seen).min(bytes.len());
                *seen += length;
                if *seen < PREFACE.len() {
                    return Ok(length);
                }
                *self = Self::Frames(Box::new(Session::new(is_trusted, Instant::now())));
                let behind = self.received(&bytes[length..], is_trusted, refused)?;
                Ok(length + behind)
            }
        }
    }

    /// Bytes of memory of an incomplete header block.
    pub fn held_head(&self) -> usize {
        match self {
            Self::Frames(session) => session.incoming.held_head(),
            Self::Absent | Self::Preface(_) => 0,
        }
    }

    /// Gives hyper the rest of the bytes received, as far as there is room.
    pub fn give(&mut self, into: &mut ReadBuf<'_>) {
        if let Self::Frames(session) = self
            && !session.out.is_empty()
        {
            session.give(into);
        }
    }

    /// The counts of flow control since the last call.
    pub fn take_flow(&mut self) -> Flow {
        match self {
            Self::Frames(session) => std::mem::take(&mut session.flow),
            _ => Flow::default(),
        }
    }

    /// The cost of the frames received since the last call.
    pub fn take_cost(&mut self) -> Cost {
        match self {
            Self::Frames(session) => std::mem::take(&mut session.cost),
            _ => Cost::default(),
        }
    }

    /// The number of streams that have not ended, as far as the client can see.
    pub fn open_streams(&self) -> usize {
        match self {
            Self::Frames(session) => session.open.count(),
            _ => 0,
        }
    }

    /// The time of the client's newest request, if responses are due and the client's bytes may end
    /// here, between two frames.
    pub fn awaits_responses_since(&self) -> Option<Instant> {
        let Self::Frames(session) = self else {
            return None;
        };
        let is_due = session.open.count() > 0 && session.incoming.is_between_frames();
        session.requested.filter(|_| is_due)
    }

    /// Records the end of the client's bytes: hyper gets resets of the streams whose request is
    /// incomplete.
    pub fn end_of_requests(&mut self) {
        if let Self::Frames(session) = self {
            session.reset_incomplete();
        }
    }

    /// True if [`Http2::sent`] has to be called with the bytes sent.
    pub fn is_there(&self) -> bool {
        matches!(self, Self::Frames(_))
    }

    /// The first of the bytes of `parts`, with corrected error codes of resets; `None` if they may
    /// be sent unchanged. The bytes keep their positions.
    pub fn corrected(&self, parts: &[IoSlice<'_>]) -> Option<Vec<u8>> {
        match self {
            Self::Frames(session) if session.open.corrects() => Some(session.corrected(parts)),
            _ => None,
        }
    }

    /// Records that the first `length` bytes of `parts` were sent.
    pub fn sent(&mut self, parts: &[IoSlice<'_>], mut length: usize, refused: &PendingRefusals) {
        if let Self::Frames(session) = self {
            for part in parts {
                let sent = part.len().min(length);
                session.sent(&part[..sent], refused, Instant::now);
                length -= sent;
            }
        }
    }

    /// The GOAWAY frame with the reason why the connection ends; `None` in the middle of another
    /// frame.
    pub fn goaway(&self, end: End) -> Option<[u8; HEAD + 8]> {
        let Self::Frames(session) = self else {
            return None;
        };
        if !session.outgoing.is_between_frames() {
            return None;
        }
        let head = FrameHeader {
            length: 8,
            kind: GOAWAY,
            flags: 0,
            stream: 0,
        };
        let mut frame = [0; HEAD + 8];
        frame[..HEAD].copy_from_slice(&head.bytes());
        frame[HEAD..HEAD + 4].copy_from_slice(&session.incoming.last_stream().to_be_bytes());
        frame[HEAD + 7] = end.code();
        Some(frame)
    }
}

impl Session {
    fn new(is_trusted: bool, now: Instant) -> Self {
        Self {
            incoming: Incoming::default(),
            outgoing: Heads::default(),
            credit: Credit::new(is_trusted, now),
            open: Open::default(),
            flow: Flow::default(),
            out: Vec::new(),
            given: 0,
            requested: None,
            cost: Cost::default(),
        }
    }

    fn received(
        &mut self,
        bytes: &[u8],
        refused: &PendingRefusals,
        now: impl Fn() -> Instant,
    ) -> Result<usize, End> {
        if self.credit.is_overdrawn() {
            return Err(End::Resets);
        }
        if refused.unsent_resets() > MOST_UNSENT_RESETS {
            return Err(End::Open);
        }
        let (credit, open, flow) = (&mut self.credit, &mut self.open, &mut self.flow);
        let cost = &mut self.cost;
        let mut is_idle = open.is_empty();
        let mut is_requested = false;
        let look = |head: FrameHeader| {
            flow.received(head, is_idle);
            cost.frames += usize::from(head.kind != DATA);
            is_requested |= matches!(head.kind, HEADERS | DATA) && head.has(END_STREAM);
            is_idle &= head.kind != HEADERS;
            match credit.received(head, &now) {
                true => Ok(()),
                false => Err(End::Idle),
            }
        };
        let passed = self
            .incoming
            .take(bytes, refused, &mut self.out, open, look);
        if is_requested {
            self.requested = Some(now());
        }
        let blocks = self.incoming.take_counts();
        self.cost.decoded += blocks.decoded;
        self.credit.refused(blocks.refused, &now);
        self.credit.withdrawn(self.open.take_withdrawn(), &now);
        passed
    }

    fn reset_incomplete(&mut self) {
        for stream in self.open.incomplete() {
            let head = FrameHeader {
                length: 4,
                kind: RST_STREAM,
                flags: 0,
                stream,
            };
            self.out.extend(head.bytes());
            self.out.extend([0, 0, 0, code::CANCEL]);
            // A reset opens no stream.
            let _state = self.open.received(head);
        }
    }

    fn corrected(&self, parts: &[IoSlice<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in parts {
            let room = MOST_CORRECTED - bytes.len();
            bytes.extend_from_slice(&part[..part.len().min(room)]);
        }
        let mut codes = Vec::new();
        let look = |head: FrameHeader, code: Option<u32>, end: usize| {
            if head.kind == RST_STREAM
                && code == Some(u32::from(code::PROTOCOL_ERROR))
                && let Some(code) = self.open.correction(head.stream)
            {
                codes.push((end - 1, code));
            }
        };
        self.outgoing.clone().each_at(&bytes, look);
        for (at, code) in codes {
            bytes[at] = code;
        }
        bytes
    }

    fn give(&mut self, into: &mut ReadBuf<'_>) {
        let rest = &self.out[self.given..];
        let length = rest.len().min(into.remaining());
        into.put_slice(&rest[..length]);
        self.given += length;
        if self.given == self.out.len() {
            self.out = Vec::new();
            self.given = 0;
        }
    }

    fn sent(&mut self, bytes: &[u8], refused: &PendingRefusals, now: impl Fn() -> Instant) {
        let (credit, open, flow) = (&mut self.credit, &mut self.open, &mut self.flow);
        let look = |head: FrameHeader, number: Option<u32>| {
            flow.sent(head, number);
            let mut code = number.filter(|_| head.kind == RST_STREAM);
            if code == Some(u32::from(code::REFUSED_STREAM)) {
                refused.forget(head.stream);
                // The client has done nothing wrong if there is no memory.
                code = code.filter(|_| !refused.reset_is_sent());
            }
            credit.sent(head, code, &now);
            open.sent(head);
        };
        self.outgoing.each(bytes, look);
    }
}

#[cfg(test)]
mod tests;
