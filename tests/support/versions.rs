//! One request over each version of HTTP, and on both ways inside the server.

use super::hpack::Decoder;
use super::http2::{DATA, END_STREAM, HEADERS, Http2, RST_STREAM};
use super::raw::{End, latin1};
use super::server::Server;

/// A way to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// HTTP/1.1; files in memory are answered below hyper.
    Http1,
    /// HTTP/1.1 with a field that the fast path leaves to hyper.
    ThroughHyper,
    /// HTTP/2 with prior knowledge.
    Http2,
}

impl Way {
    pub const ALL: [Self; 3] = [Self::Http1, Self::ThroughHyper, Self::Http2];
}

/// A response; the names of its fields are in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// All values of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let values = self.fields.iter().filter(|(field, _)| field == name);
        values.map(|(_, value)| &**value).collect()
    }

    /// The value of a field, all of them with a bar between; empty without one.
    pub fn value(&self, name: &str) -> String {
        self.all(name).join("|")
    }
}

/// GET for `target` on `localhost`.
pub fn get(server: &Server, way: Way, target: &str) -> Answer {
    ask(server, way, "GET", "localhost", target)
}

/// The response to a request.
pub fn ask(server: &Server, way: Way, method: &str, host: &str, target: &str) -> Answer {
    if way == Way::Http2 {
        return over_http2(server, method, host, target).expect("a response");
    }
    let mut connection = server.connect();
    let request = head(way, method, host, target);
    let response = match method {
        "HEAD" => {
            connection.send(request);
            connection.response_to_head()
        }
        _ => connection.exchange(request),
    };
    assert_eq!(response.broken, None);
    let fields = response.fields().into_iter();
    Answer {
        status: response.status(),
        fields: fields
            .map(|(name, value)| (name.to_ascii_lowercase(), value))
            .collect(),
        body: latin1(&response.body),
    }
}

/// True if the connection or the stream ends without a response.
pub fn is_cut(server: &Server, way: Way, host: &str, target: &str) -> bool {
    if way == Way::Http2 {
        return over_http2(server, "GET", host, target).is_none();
    }
    let mut connection = server.connect();
    connection.send(head(way, "GET", host, target));
    matches!(connection.try_head(), Err(End::Closed))
}

fn head(way: Way, method: &str, host: &str, target: &str) -> String {
    let extra = match way {
        Way::ThroughHyper => "Trailer: x\r\n",
        _ => "",
    };
    format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{extra}\r\n")
}

fn over_http2(server: &Server, method: &str, host: &str, target: &str) -> Option<Answer> {
    let mut http2 = Http2::new(server.connect());
    let fields = [
        (":method", method),
        (":scheme", "http"),
        (":path", target),
        (":authority", host),
    ];
    http2.headers(1, &fields, true);
    http2.allow(1, 1 << 20);
    let mut decoder = Decoder::new();
    let mut answer = Answer {
        status: 0,
        fields: Vec::new(),
        body: String::new(),
    };
    loop {
        let frame = http2.frame().ok()?;
        match frame.kind {
            HEADERS => {
                answer.fields = decoder.decode(&frame.payload);
                answer.status = answer.value(":status").parse().expect("a status");
            }
            DATA if frame.stream == 1 => answer.body.push_str(&latin1(&frame.payload)),
            RST_STREAM if answer.status == 0 => return None,
            _ => {}
        }
        let is_of_response = frame.stream == 1 && matches!(frame.kind, HEADERS | DATA);
        if is_of_response && frame.flags & END_STREAM != 0 {
            return Some(answer);
        }
    }
}
