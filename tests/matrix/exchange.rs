//! Carries a request out on a connection and reads what comes back: framing, every byte, and
//! what becomes of the connection. It knows no rule but those of the grammar.

use std::time::Duration;

use super::http2_client::Http2Client;
use super::listeners::{Listener, Protocol, Proxy, Transport};
use super::shapes::{COOKIES, Manner, Sent, Shape, request};
use super::site::{SMALL, Site, Tags, bytes_of_file};
use super::{Cell, Delivery};
use crate::support::DEADLINE;
use crate::support::raw::{Connection, End, Response};

/// What a client got.
#[derive(Debug, Default)]
pub struct Received {
    /// Statuses of the responses before the final one (RFC 9110 §15.2).
    pub interim: Vec<u16>,
    pub outcome: Outcome,
    /// Names in lower case.
    pub fields: Vec<(String, String)>,
    pub framing: Option<Framing>,
    pub body: Vec<u8>,
    pub connection: After,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Outcome {
    /// The client has not waited for anything.
    #[default]
    Nothing,
    Response(u16),
    /// The stream was reset, with this error code (RFC 9113 §7).
    StreamError(u32),
}

/// How the end of a response is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Length,
    Chunked,
    UntilClose,
    EndStream,
    /// There is no body, by the method or the status (RFC 9112 §6.3, first rule).
    NoBody,
}

/// What became of the connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum After {
    /// The client has closed it.
    #[default]
    Left,
    /// It served another request.
    Kept,
    /// It was closed as it had been announced.
    Closed,
    /// It speaks another protocol, and an echo came back.
    Switched,
    /// Something else, in words.
    Wrong(String),
}

/// The first request of a cell, and those behind it.
///
/// # Errors
/// In words, where there was no complete response.
pub fn exchange(cell: &Cell, site: &Site, number: usize) -> Result<Received, String> {
    let sent = request(cell, &site.tags, &format!("cell={number}"));
    let connection = cell.listener.connect(site);
    let next = followers(cell, &site.tags, number);
    match cell.listener.protocol {
        Protocol::Http2 => Http2Client::new(connection).exchange(&sent, &next),
        protocol => over_http1(connection, protocol, &sent, &next, cell.delivery),
    }
}

/// For how long a client waits for 100 (Continue); curl waits for a second.
const CONTINUE: Duration = Duration::from_secs(2);
/// Bytes at a time of a request that dribbles in: no divisor of what is looked for in it.
const DRIBBLE: usize = 7;

/// A request behind the first one, and the body that it gets.
pub struct Next {
    pub sent: Sent,
    pub body: Option<Vec<u8>>,
}

/// A file in memory, which is answered below hyper; and over TCP the page itself.
pub fn followers(cell: &Cell, tags: &Tags, number: usize) -> Vec<Next> {
    let file = Next {
        sent: Sent {
            method: "GET",
            target: format!("/static/small.bin?behind={number}"),
            fields: Vec::new(),
            body: None,
            manner: Manner::Whole,
        },
        body: Some(bytes_of_file(SMALL).into_bytes()),
    };
    let again = Cell {
        shape: Shape::Get,
        ..*cell
    };
    let page = Next {
        sent: request(&again, tags, &format!("again={number}")),
        body: super::rules::page(&again),
    };
    match cell.listener {
        Listener {
            transport: Transport::Tcp,
            proxy: Proxy::None,
            ..
        } => vec![file, page],
        _ => vec![file],
    }
}

/// The same exchange on a connection to another server.
///
/// # Errors
/// As [`exchange`].
pub fn over_http1(
    mut connection: Connection,
    protocol: Protocol,
    sent: &Sent,
    next: &[Next],
    delivery: Delivery,
) -> Result<Received, String> {
    let head = head(sent, protocol);
    let [first, rest] = body(sent);
    let mut received = Received::default();
    match sent.manner {
        Manner::Whole | Manner::HalfCloses => {
            let behind = match delivery {
                Delivery::Pipelined => self::head(&next[0].sent, protocol),
                Delivery::Whole | Delivery::Dribbled => Vec::new(),
            };
            let bytes = [head, first, rest, behind].concat();
            let at_a_time = match delivery {
                Delivery::Dribbled => DRIBBLE,
                Delivery::Whole | Delivery::Pipelined => bytes.len(),
            };
            for piece in bytes.chunks(at_a_time) {
                send(&mut connection, piece);
            }
            if sent.manner == Manner::HalfCloses {
                connection.finish_sending();
            }
            read(&mut connection, sent, &mut received)?;
        }
        Manner::AwaitsContinue => {
            send(&mut connection, &head);
            // RFC 9110 §10.1.1: it does not wait for ever.
            connection.waits(CONTINUE);
            let begun = final_head(&mut connection, &mut received, true);
            connection.waits(DEADLINE);
            send(&mut connection, &[first, rest].concat());
            match begun {
                Ok(Some(head)) => read_body(&mut connection, sent, head, &mut received)?,
                Ok(None) | Err(_) => read(&mut connection, sent, &mut received)?,
            }
        }
        Manner::HalfThenAnswer => {
            send(&mut connection, &[head, first].concat());
            read(&mut connection, sent, &mut received)?;
            send(&mut connection, &rest);
        }
        Manner::Leaves => {
            send(&mut connection, &[head, first].concat());
            return Ok(received);
        }
        Manner::LeavesInResponse => {
            send(&mut connection, &head);
            final_head(&mut connection, &mut received, false)?;
            return Ok(received);
        }
    }
    received.connection = match (sent.manner, received.framing) {
        (Manner::HalfCloses, _) => closed(&mut connection),
        _ if received.outcome == Outcome::Response(101) => switched(&mut connection),
        _ => after(&mut connection, protocol, &received, sent, next, delivery),
    };
    Ok(received)
}

/// The peer may close before it has taken everything; the answer says whether that was right.
fn send(connection: &mut Connection, bytes: &[u8]) {
    let _taken = connection.try_send(bytes);
}

/// Writes a head in HTTP/1.
fn head(sent: &Sent, protocol: Protocol) -> Vec<u8> {
    let version = match protocol {
        Protocol::Http10 | Protocol::Http10KeepAlive => "1.0",
        _ => "1.1",
    };
    let is_upgrade = sent.fields.iter().any(|(name, _)| *name == "upgrade");
    let mut options = Vec::new();
    if protocol == Protocol::Http10KeepAlive {
        options.push("keep-alive");
    }
    if is_upgrade {
        options.push("Upgrade");
    }
    let mut lines = format!(
        "{} {} HTTP/{version}\r\nHost: localhost\r\nCookie: {}\r\n",
        sent.method,
        sent.target,
        COOKIES.join("; ")
    );
    if !options.is_empty() {
        lines += &format!("Connection: {}\r\n", options.join(", "));
    }
    for (name, value) in &sent.fields {
        lines += &format!("{name}: {value}\r\n");
    }
    match &sent.body {
        Some(body) if body.has_length => {
            lines += &format!("Content-Length: {}\r\n", body.bytes.len());
        }
        Some(_) => lines += "Transfer-Encoding: chunked\r\n",
        None => {}
    }
    (lines + "\r\n").into_bytes()
}

/// Both halves of a body as HTTP/1 sends them.
fn body(sent: &Sent) -> [Vec<u8>; 2] {
    let Some(body) = &sent.body else {
        return [Vec::new(), Vec::new()];
    };
    let (first, rest) = body.bytes.split_at(body.bytes.len() / 2);
    if body.has_length {
        return [first.to_vec(), rest.to_vec()];
    }
    let chunk = |bytes: &[u8]| {
        let size = format!("{:x}\r\n", bytes.len());
        [size.as_bytes(), bytes, b"\r\n"].concat()
    };
    [chunk(first), [chunk(rest), b"0\r\n\r\n".to_vec()].concat()]
}

fn read(connection: &mut Connection, sent: &Sent, received: &mut Received) -> Result<(), String> {
    let head = final_head(connection, received, false)?.expect("it is a final one");
    read_body(connection, sent, head, received)
}

/// The head of the final response. With `or_continue`, `None` where 100 (Continue) came first.
fn final_head(
    connection: &mut Connection,
    received: &mut Received,
    or_continue: bool,
) -> Result<Option<Response>, String> {
    loop {
        let head = connection.try_head().map_err(|end| match end {
            End::TimedOut => "no answer in time".to_owned(),
            end => {
                let (some, _) = connection.rest();
                format!("no answer: {end:?} behind {} bytes", some.len())
            }
        })?;
        match head.status() {
            101 => return Ok(Some(head)),
            status @ 100..=199 => received.interim.push(status),
            _ => return Ok(Some(head)),
        }
        if or_continue {
            return Ok(None);
        }
    }
}

/// RFC 9112 §6.3.
fn read_body(
    connection: &mut Connection,
    sent: &Sent,
    head: Response,
    received: &mut Received,
) -> Result<(), String> {
    received.outcome = Outcome::Response(head.status());
    received.fields = head
        .fields()
        .into_iter()
        .map(|(name, value)| (name.to_lowercase(), value))
        .collect();
    let has_no_body = sent.method == "HEAD" || matches!(head.status(), 101 | 204 | 304);
    let (length, coding) = (
        received.field("content-length"),
        received.field("transfer-encoding"),
    );
    let framing = match (length, coding) {
        _ if has_no_body => Framing::NoBody,
        (Some(_), Some(_)) => return Err("Content-Length and Transfer-Encoding".to_owned()),
        (None, Some("chunked")) => Framing::Chunked,
        (None, Some(coding)) => return Err(format!("Transfer-Encoding: {coding}")),
        (Some(_), None) => Framing::Length,
        (None, None) => Framing::UntilClose,
    };
    let length = length.map(|digits| digits.parse().map_err(|_| "a length that is none"));
    let length = length.transpose()?.unwrap_or(0);
    received.framing = Some(framing);
    let in_body = |end: End| format!("{framing:?}, and {end:?} inside the body");
    match framing {
        Framing::Length => received.body = connection.try_exactly(length).map_err(in_body)?,
        Framing::Chunked => loop {
            let chunk = connection.chunk().map_err(in_body)?;
            if chunk.is_empty() {
                break;
            }
            received.body.extend(chunk);
        },
        Framing::UntilClose => {
            let (body, end) = connection.rest();
            if end != End::Closed {
                return Err(in_body(end));
            }
            received.body = body;
        }
        Framing::NoBody | Framing::EndStream => {}
    }
    Ok(())
}

/// Finds out whether the connection does what the response announced.
fn after(
    connection: &mut Connection,
    protocol: Protocol,
    received: &Received,
    sent: &Sent,
    next: &[Next],
    delivery: Delivery,
) -> After {
    let option = |wanted: &str| {
        let values = received
            .all("connection")
            .flat_map(|value| value.split(','));
        values
            .map(str::trim)
            .any(|option| option.eq_ignore_ascii_case(wanted))
    };
    // RFC 9112 §9.3.
    let is_kept = match protocol {
        Protocol::Http10 | Protocol::Http10KeepAlive => option("keep-alive") && !option("close"),
        _ => !option("close"),
    };
    if received.framing == Some(Framing::UntilClose) {
        return match is_kept {
            // RFC 9112 §9.3: a response whose end is that of the connection keeps none.
            true => After::Wrong("keep-alive announced, and closed".to_owned()),
            false => After::Closed,
        };
    }
    if !is_kept {
        return match (closed(connection), sent.manner) {
            // The client continued to send after it was asked to stop.
            (After::Wrong(_), Manner::HalfThenAnswer) => After::Closed,
            (after, _) => after,
        };
    }
    for (at, next) in next.iter().enumerate() {
        if at > 0 || delivery != Delivery::Pipelined {
            send(connection, &head(&next.sent, protocol));
        }
        let mut again = Received::default();
        if let Err(why) = read(connection, &next.sent, &mut again) {
            return After::Wrong(format!(
                "keep-alive announced, and for {}: {why}",
                next.sent.target
            ));
        }
        if let Some(why) = next.complaint(&again) {
            return After::Wrong(format!("keep-alive announced, and {why}"));
        }
    }
    After::Kept
}

fn closed(connection: &mut Connection) -> After {
    match connection.rest() {
        (bytes, End::Closed) if bytes.is_empty() => After::Closed,
        (bytes, end) => After::Wrong(format!(
            "an end was due; {} bytes and {end:?} came",
            bytes.len()
        )),
    }
}

/// RFC 6455 §5.7: "Hello" in a masked text frame, which a server sends back without a mask.
fn switched(connection: &mut Connection) -> After {
    send(connection, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    match connection.try_exactly(7) {
        Ok(frame) if frame == b"\x81\x05Hello" => After::Switched,
        other => After::Wrong(format!("101, and no echo: {other:?}")),
    }
}

impl Next {
    /// What is wrong with its answer.
    pub fn complaint(&self, received: &Received) -> Option<String> {
        let target = &self.sent.target;
        match &self.body {
            Some(body) if *body != received.body => Some(format!(
                "{target} got {:?} and other bytes",
                received.outcome
            )),
            _ => None,
        }
    }
}

impl Received {
    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The values of all field lines of this name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.fields
            .iter()
            .filter(move |(field, _)| field == name)
            .map(|(_, value)| value.as_str())
    }
}
