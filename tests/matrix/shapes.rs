//! The shapes of a request, and the request of a cell before it is written in a version of
//! HTTP.

use std::fmt;

use super::Cell;
use super::answerers::Answerer;
use super::listeners::Protocol;
use super::site::Tags;

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Get,
    Head,
    /// POST with Content-Length.
    PostLength,
    /// POST in chunks over HTTP/1, in DATA frames without a length over HTTP/2.
    PostUnsized,
    /// POST with `Expect: 100-continue`, whose client waits for it over HTTP/1.1.
    PostExpect,
    /// GET of four bytes.
    Range,
    /// GET of what the client has.
    Conditional,
    /// GET that would rather speak the WebSocket protocol.
    Upgrade,
    /// The same with `Content-Length: 0`.
    UpgradeLengthZero,
    /// POST that asks for both an upgrade and 100 (Continue).
    UpgradeExpect,
    /// GET of something that is 204 (No Content).
    NoContent,
    /// POST of which half is sent before the answer, to an answerer that does not read it.
    EarlyAnswer,
    /// GET whose client closes its sending side.
    HalfClosed,
    /// POST whose client leaves in the middle.
    ClientLeaves,
    /// GET whose client leaves when it has the head of the response.
    ClientLeavesLater,
}

impl Shape {
    pub const ALL: [Self; 15] = [
        Self::Get,
        Self::Head,
        Self::PostLength,
        Self::PostUnsized,
        Self::PostExpect,
        Self::Range,
        Self::Conditional,
        Self::Upgrade,
        Self::UpgradeLengthZero,
        Self::UpgradeExpect,
        Self::NoContent,
        Self::EarlyAnswer,
        Self::HalfClosed,
        Self::ClientLeaves,
        Self::ClientLeavesLater,
    ];

    /// Whether it asks to change the protocol.
    pub fn is_upgrade(self) -> bool {
        matches!(
            self,
            Self::Upgrade | Self::UpgradeLengthZero | Self::UpgradeExpect
        )
    }

    /// Whether it has `Expect: 100-continue`.
    pub fn expects(self) -> bool {
        matches!(self, Self::PostExpect | Self::UpgradeExpect)
    }

    /// Whether it has a body, or the beginning of one.
    pub fn is_post(self) -> bool {
        self.method() == "POST"
    }

    pub fn method(self) -> &'static str {
        match self {
            Self::Head => "HEAD",
            Self::PostLength
            | Self::PostUnsized
            | Self::PostExpect
            | Self::UpgradeExpect
            | Self::EarlyAnswer
            | Self::ClientLeaves => "POST",
            _ => "GET",
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::PostLength => "POST with a length",
            Self::PostUnsized => "POST without a length",
            Self::PostExpect => "POST with Expect",
            Self::Range => "range",
            Self::Conditional => "conditional",
            Self::Upgrade => "upgrade",
            Self::UpgradeLengthZero => "upgrade with Content-Length: 0",
            Self::UpgradeExpect => "upgrade with Expect",
            Self::NoContent => "204",
            Self::EarlyAnswer => "early answer",
            Self::HalfClosed => "half-close",
            Self::ClientLeaves => "client leaves",
            Self::ClientLeavesLater => "client leaves inside the response",
        })
    }
}

/// A request.
pub struct Sent {
    pub method: &'static str,
    pub target: String,
    /// Field lines beside those that the version of HTTP brings along. Names in lower case.
    pub fields: Vec<(&'static str, String)>,
    pub body: Option<Body>,
    pub manner: Manner,
}

/// A request's body.
pub struct Body {
    pub bytes: Vec<u8>,
    pub has_length: bool,
}

/// The order in which a client does things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It sends everything, then reads.
    Whole,
    /// It waits for an answer behind the head, sends the body, and reads on.
    AwaitsContinue,
    /// It sends half of the body, reads the answer, and sends the rest.
    HalfThenAnswer,
    /// It sends everything, closes its sending side, then reads.
    HalfCloses,
    /// It sends half of the body, then closes the connection, or resets the stream.
    Leaves,
    /// It does so when it has the head of the response.
    LeavesInResponse,
}

/// Bodies stay below the initial window of HTTP/2 (RFC 9113 §6.9.2: 65,535 bytes).
const SHORT: usize = 1_000;
const LONG: usize = 60_000;

/// The two cookies that every request carries; HTTP/2 sends each in a field line of its own
/// (RFC 9113 §8.2.3).
pub const COOKIES: [&str; 2] = ["a=1", "b=2"];

/// RFC 6455 §1.3: the key of the example, whose answer is known.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// The request of a cell.
pub fn request(cell: &Cell, tags: &Tags, query: &str) -> Sent {
    let shape = cell.shape;
    let mut fields = Vec::new();
    if cell.answerer == Answerer::Precompressed {
        fields.push(("accept-encoding", "gzip".to_owned()));
    }
    match shape {
        Shape::Range => fields.push(("range", "bytes=2-5".to_owned())),
        Shape::Conditional => {
            let tag = tags.of(cell.answerer).unwrap_or("\"any\"");
            fields.push(("if-none-match", tag.to_owned()));
        }
        Shape::Upgrade | Shape::UpgradeLengthZero | Shape::UpgradeExpect => {
            fields.push(("upgrade", "websocket".to_owned()));
            fields.push(("sec-websocket-version", "13".to_owned()));
            fields.push(("sec-websocket-key", KEY.to_owned()));
        }
        Shape::PostExpect => fields.push(("expect", "100-continue".to_owned())),
        _ => {}
    }
    if shape == Shape::UpgradeExpect {
        fields.push(("expect", "100-continue".to_owned()));
    }
    if shape == Shape::UpgradeLengthZero {
        fields.push(("content-length", "0".to_owned()));
    }
    Sent {
        method: shape.method(),
        target: format!("{}?{query}", cell.answerer.path(shape)),
        fields,
        body: shape.is_post().then(|| Body {
            bytes: body(shape),
            has_length: shape != Shape::PostUnsized,
        }),
        manner: match shape {
            _ if shape.expects() && cell.listener.protocol == Protocol::Http11 => {
                Manner::AwaitsContinue
            }
            Shape::EarlyAnswer => Manner::HalfThenAnswer,
            Shape::HalfClosed => Manner::HalfCloses,
            Shape::ClientLeaves => Manner::Leaves,
            Shape::ClientLeavesLater => Manner::LeavesInResponse,
            _ => Manner::Whole,
        },
    }
}

/// The body of a request of this shape.
pub fn body(shape: Shape) -> Vec<u8> {
    let length = match shape {
        Shape::EarlyAnswer | Shape::ClientLeaves => LONG,
        _ if shape.is_post() => SHORT,
        _ => 0,
    };
    b"any bytes\0\r\n\xff"
        .iter()
        .copied()
        .cycle()
        .take(length)
        .collect()
}
