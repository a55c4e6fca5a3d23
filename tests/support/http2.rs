//! A few frames of HTTP/2 with prior knowledge (RFC 9113), enough to send what a library
//! would refuse to send. Field lines go out as HPACK literals without indexing (RFC 7541
//! §6.2.2); of responses only the status is read.

use std::collections::HashMap;

use super::raw::{Connection, End};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
/// A type that nobody knows (RFC 9113 §5.5).
pub const UNKNOWN: u8 = 0x77;
pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

/// A connection whose preface has been sent.
pub struct Http2 {
    connection: Connection,
    /// Status and body of responses that have begun.
    begun: HashMap<u32, (u16, Vec<u8>)>,
    /// What became of streams that nobody has asked for yet.
    outcomes: HashMap<u32, Outcome>,
}

/// A frame that was received.
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0 for the connection.
    pub stream: u32,
    /// Its payload, padding included.
    pub payload: Vec<u8>,
}

/// What became of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A response: status (0 if the header block tells it in a way we do not read) and body.
    Response(u16, Vec<u8>),
    /// The stream was reset, with this error code.
    StreamError(u32),
    /// The connection was given up, with this error code.
    ConnectionError(u32),
}

impl Http2 {
    /// Speaks the preface on a fresh connection.
    pub fn new(mut connection: Connection) -> Self {
        connection.send(PREFACE);
        connection.send(frame(SETTINGS, 0, 0, &[]));
        Self::over(connection)
    }

    /// Like [`Http2::new`], with an initial window of `window` bytes for each response.
    pub fn with_window(mut connection: Connection, window: u32) -> Self {
        let setting = [&[0, 4][..], &window.to_be_bytes()].concat();
        connection.send(PREFACE);
        connection.send(frame(SETTINGS, 0, 0, &setting));
        Self::over(connection)
    }

    fn over(connection: Connection) -> Self {
        Self {
            connection,
            begun: HashMap::new(),
            outcomes: HashMap::new(),
        }
    }

    /// The connection below the frames.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Sends bytes as they are, to a peer that may have closed.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.connection.try_send(bytes).is_ok()
    }

    /// Sends bytes and a FIN at once.
    pub fn send_and_finish(&mut self, bytes: &[u8]) {
        self.connection.send_and_finish(bytes);
    }

    /// Leaves at once by a reset.
    pub fn reset(self) {
        self.connection.reset();
    }

    /// Sends a FIN.
    pub fn finish_sending(&mut self) {
        self.connection.finish_sending();
    }

    /// Sends a PING and reads to its answer: what was sent before has been looked at.
    pub fn round_trip(&mut self) {
        assert_eq!(self.ping(), Ok(()), "the connection goes on");
    }

    /// Sends a PING and reads to its answer, or to a GOAWAY with this error code.
    pub fn ping(&mut self) -> Result<(), u32> {
        self.connection.send(frame(PING, 0, 0, b"are you?"));
        loop {
            let head = self.connection.exactly(9);
            let length = number(&[0, head[0], head[1], head[2]]) as usize;
            let payload = self.connection.exactly(length);
            match (head[3], head[4] & ACK) {
                (PING, ACK) if payload == b"are you?" => return Ok(()),
                (GOAWAY, _) => return Err(number(&payload[4..8])),
                _ => {}
            }
        }
    }

    /// Reads to the end of the connection: the error codes of the GOAWAY frames, and how it
    /// ended.
    pub fn farewell(&mut self) -> (Vec<u32>, End) {
        let (bytes, end) = self.connection.rest();
        let (mut codes, mut rest) = (Vec::new(), &bytes[..]);
        while let Some((head, behind)) = rest.split_at_checked(9) {
            let length = number(&[0, head[0], head[1], head[2]]) as usize;
            let Some((payload, next)) = behind.split_at_checked(length) else {
                break;
            };
            if head[3] == GOAWAY {
                codes.push(number(&payload[4..8]));
            }
            rest = next;
        }
        (codes, end)
    }

    /// Sends a header block on `stream`.
    pub fn headers(&mut self, stream: u32, fields: &[(&str, &str)], end_stream: bool) {
        let block = block(fields);
        let flags = END_HEADERS | if end_stream { END_STREAM } else { 0 };
        self.connection.send(frame(HEADERS, flags, stream, &block));
    }

    /// Sends a piece of a body on `stream`.
    pub fn data(&mut self, stream: u32, bytes: &[u8], end_stream: bool) {
        let flags = if end_stream { END_STREAM } else { 0 };
        self.connection.send(frame(DATA, flags, stream, bytes));
    }

    /// Reads one frame. SETTINGS and PING of the peer are acknowledged.
    pub fn frame(&mut self) -> Result<Frame, End> {
        let head = self.connection.try_exactly(9)?;
        let length = number(&[0, head[0], head[1], head[2]]) as usize;
        let frame = Frame {
            kind: head[3],
            flags: head[4],
            stream: number(&head[5..9]) & 0x7FFF_FFFF,
            payload: self.connection.try_exactly(length)?,
        };
        if matches!(frame.kind, SETTINGS | PING) && frame.flags & ACK == 0 {
            let echoed = if frame.kind == PING {
                &frame.payload[..]
            } else {
                &[]
            };
            // The peer may close behind its frame.
            let _ = self
                .connection
                .try_send(self::frame(frame.kind, ACK, 0, echoed));
        }
        Ok(frame)
    }

    /// Lets the peer send so many bytes more on `stream`, and on the connection.
    pub fn allow(&mut self, stream: u32, bytes: u32) {
        for id in [0, stream] {
            let update = frame(WINDOW_UPDATE, 0, id, &bytes.to_be_bytes());
            // The client may have finished sending.
            let _ = self.connection.try_send(update);
        }
    }

    /// Reads the head and at least so many bytes of the response on `stream`.
    pub fn response_to(&mut self, stream: u32, least: usize) -> (u16, Vec<u8>) {
        let (mut status, mut body) = (0, Vec::new());
        while status == 0 || body.len() < least {
            match self.part(stream) {
                (HEADERS, payload) => status = status_of(&payload),
                (DATA, payload) => body.extend(payload),
                (kind, payload) => panic!("frame {kind} instead: {payload:?}"),
            }
        }
        (status, body)
    }

    /// Reads what is left of the response on `stream`, and how it ends.
    pub fn rest_of(&mut self, stream: u32) -> (Vec<u8>, Outcome) {
        let mut body = Vec::new();
        loop {
            match self.part(stream) {
                (DATA, payload) => body.extend(payload),
                (RST_STREAM, payload) => {
                    return (body, Outcome::StreamError(number(&payload)));
                }
                (kind, payload) => panic!("frame {kind} instead: {payload:?}"),
            }
        }
    }

    /// Reads until `count` responses have begun or streams were reset.
    pub fn heads(&mut self, count: usize) {
        let mut begun = 0;
        while begun < count {
            let head = self.connection.exactly(9);
            let length = number(&[0, head[0], head[1], head[2]]) as usize;
            let _payload = self.connection.exactly(length);
            begun += usize::from(matches!(head[3], HEADERS | RST_STREAM));
        }
    }

    /// The next frame of `stream`.
    fn part(&mut self, stream: u32) -> (u8, Vec<u8>) {
        loop {
            let head = self.connection.exactly(9);
            let length = number(&[0, head[0], head[1], head[2]]) as usize;
            let payload = self.connection.exactly(length);
            if number(&head[5..9]) & 0x7FFF_FFFF == stream {
                return (head[3], payload);
            }
        }
    }

    /// Reads until it is known what becomes of `stream`. What comes on others meanwhile is
    /// kept for their turn.
    pub fn outcome(&mut self, stream: u32) -> Outcome {
        loop {
            if let Some(outcome) = self.outcomes.remove(&stream) {
                return outcome;
            }
            let head = self.connection.exactly(9);
            let length =
                usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let (kind, flags) = (head[3], head[4]);
            let id = number(&head[5..9]) & 0x7FFF_FFFF;
            let payload = self.connection.exactly(length);
            match kind {
                SETTINGS if flags & ACK == 0 => {
                    // The client may have finished sending.
                    let _ = self.connection.try_send(frame(SETTINGS, ACK, 0, &[]));
                }
                PING if flags & ACK == 0 => {
                    let _ = self.connection.try_send(frame(PING, ACK, 0, &payload));
                }
                GOAWAY if number(&payload[4..8]) != 0 => {
                    return Outcome::ConnectionError(number(&payload[4..8]));
                }
                RST_STREAM => {
                    // Behind a whole response it says that no more of the request is needed.
                    let reset = Outcome::StreamError(number(&payload));
                    self.outcomes.entry(id).or_insert(reset);
                    self.begun.remove(&id);
                }
                HEADERS => self.begun.entry(id).or_default().0 = status_of(&payload),
                DATA => self.begun.entry(id).or_default().1.extend(payload),
                _ => {}
            }
            if matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
                let (status, body) = self.begun.remove(&id).unwrap_or_default();
                self.outcomes.insert(id, Outcome::Response(status, body));
            }
        }
    }
}

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The fields of a GET.
pub fn get_fields(path: &str) -> [(&str, &str); 4] {
    [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
    ]
}

/// A header block.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        push_field(&mut block, 0, name.as_bytes(), value.as_bytes());
    }
    block
}

/// Appends a field as a literal with a new name: with 0 without indexing (RFC 7541 §6.2.2),
/// with 0x40 as an entry of the dynamic table (§6.2.1).
pub fn push_field(block: &mut Vec<u8>, representation: u8, name: &[u8], value: &[u8]) {
    block.push(representation);
    push_string(block, name);
    push_string(block, value);
}

fn push_string(block: &mut Vec<u8>, bytes: &[u8]) {
    push_integer(block, bytes.len());
    block.extend(bytes);
}

/// RFC 7541 §5.1 with a prefix of seven bits, the Huffman bit off.
fn push_integer(block: &mut Vec<u8>, number: usize) {
    if number < 127 {
        block.push(number as u8);
        return;
    }
    block.push(127);
    let mut rest = number - 127;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// The `:status`, after size updates of the table: an index of RFC 7541, appendix A, or a
/// literal with the name of index 8; the dynamic table is not read.
fn status_of(block: &[u8]) -> u16 {
    let first = block.iter().position(|byte| *byte & 0xE0 != 0x20);
    let rest = first.map_or(&[][..], |at| &block[at..]);
    if let [0x08 | 0x48, length, value @ ..] = rest {
        let value = &value[..usize::from(length & 0x7F).min(value.len())];
        return match length & 0x80 {
            0 => value
                .iter()
                .fold(0, |sum, digit| sum * 10 + u16::from(digit & 15)),
            _ => digits_of(value),
        };
    }
    match rest.first().map(|byte| byte & 0x7F) {
        Some(8) => 200,
        Some(9) => 204,
        Some(10) => 206,
        Some(11) => 304,
        Some(12) => 400,
        Some(13) => 404,
        Some(14) => 500,
        _ => 0,
    }
}

/// The Huffman codes of digits (RFC 7541, appendix B): five bits for 0 to 2, six for others.
fn digits_of(code: &[u8]) -> u16 {
    let bits = code.len() * 8;
    let code = code
        .iter()
        .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let (mut at, mut sum) = (0, 0);
    while at + 5 <= bits {
        let five = code >> (bits - at - 5) & 0x1F;
        let digit = match five {
            0..=2 => {
                at += 5;
                five
            }
            _ if at + 6 <= bits && five <= 0x0F => {
                let six = code >> (bits - at - 6) & 0x3F;
                at += 6;
                six - 0x16
            }
            _ => break,
        };
        sum = sum * 10 + digit as u16;
    }
    sum
}

fn number(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .take(4)
        .fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}
