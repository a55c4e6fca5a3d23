//! The rules, as a table: each row says for which cells it holds, what it asks for, and which
//! document says so. Later rows refine earlier ones. Nothing here comes from our own code.

use std::collections::BTreeMap;

use super::Cell;
use super::answerers::{Answerer, Length};
use super::exchange::Framing;
use super::listeners::Protocol;
use super::shapes::{self, COOKIES, Shape};
use super::site::{LARGE, PACKED, REDIRECT, RESPOND, SMALL, Tags, bytes_of_file};

/// A value and the rule that asks for it.
#[derive(Debug, Clone)]
pub struct Ruled<T> {
    pub value: T,
    pub source: &'static str,
}

/// What must come of a cell.
#[derive(Debug, Clone)]
pub struct Expected {
    pub outcome: Ruled<Want>,
    /// Interim responses; `None`: any.
    pub interim: Ruled<Option<Vec<u16>>>,
    pub framing: Ruled<Framing>,
    pub connection: Ruled<Connection>,
    /// The bytes; `None`: a page whose words are not ruled.
    pub body: Ruled<Option<Vec<u8>>>,
    pub fields: BTreeMap<&'static str, Ruled<Field>>,
    pub log: Ruled<Log>,
    /// The status in the access log, one of these.
    pub log_status: Ruled<Vec<u16>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    Status(u16),
    /// 400, or a stream error of type PROTOCOL_ERROR.
    Malformed,
    /// The client has not waited.
    Nothing,
}

/// What becomes of the connection, as it was announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    Keeps,
    Closes,
    /// One of the two.
    Either,
    /// It changes to another protocol.
    Switches,
    Left,
}

/// A header field of the response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    Is(String),
    Contains(&'static str),
    Present,
    Absent,
    AbsentOr(String),
    Any,
}

/// What the line in the access log says beside the status. The bytes are those of the body that
/// the client got (nginx, ngx_http_core_module: `$body_bytes_sent`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub protocol: &'static str,
    pub client: Option<&'static str>,
}

struct Rule {
    source: &'static str,
    applies: fn(&Cell) -> bool,
    says: fn(&mut Draft<'_>),
}

/// What the rows above the current one have said.
struct Draft<'a> {
    cell: &'a Cell,
    tags: &'a Tags,
    source: &'static str,
    expected: Expected,
}

/// Whether a cell is one of those that cannot exist; and why they cannot.
type Impossible = (fn(&Cell) -> bool, &'static str);

const IMPOSSIBLE: &[Impossible] = &[
    (
        |cell| cell.shape == Shape::NoContent && !cell.answerer.is_page(),
        "a file, a redirect and a text are never 204",
    ),
    (
        |cell| cell.shape == Shape::UpgradeLengthZero && cell.listener.is_http2(),
        "RFC 9113 §8.6: HTTP/2 has no Upgrade; the cell of a plain one shows what comes of it",
    ),
    (
        |cell| {
            let is_file = matches!(cell.answerer, Answerer::AppFile | Answerer::AppInternal);
            is_file && cell.shape == Shape::EarlyAnswer
        },
        "the application answers early with its own page",
    ),
    (
        |cell| {
            let refuses = matches!(cell.answerer, Answerer::Uvicorn(_));
            cell.shape == Shape::UpgradeExpect && refuses
        },
        "RFC 6455 §4.1: the handshake is a GET; what a server of WebSockets makes of a POST is its own",
    ),
    (
        |cell| cell.shape == Shape::EarlyAnswer && matches!(cell.answerer, Answerer::Waitress(_)),
        "waitress, \"Design\": a request is read to its end before the application runs",
    ),
    (
        |cell| {
            let is_own = matches!(cell.shape, Shape::NoContent | Shape::EarlyAnswer);
            is_own && cell.answerer.length() == Length::Unknown
        },
        "this answer is the same whatever the length of pages",
    ),
];

const RULES: &[Rule] = &[
    // What answers.
    Rule {
        source: "RFC 9110 §15.3.1: 200 with the representation; §8.6: its length where it is known",
        applies: |_| true,
        says: |draft| {
            draft.status(200);
            draft.body(page(draft.cell));
            draft.field("date", Field::Present);
        },
    },
    Rule {
        source: "PEP 3333, \"Handling the Content-Length Header\": no length is made up",
        applies: |cell| cell.answerer.length() == Length::Unknown,
        says: |draft| draft.field("content-length", Field::Absent),
    },
    Rule {
        source: "nginx, ngx_http_gzip_static_module",
        applies: |cell| cell.answerer == Answerer::Precompressed,
        says: |draft| {
            draft.field("content-encoding", Field::Is("gzip".to_owned()));
            draft.field("vary", Field::Contains("accept-encoding"));
        },
    },
    Rule {
        source: "RFC 9110 §15.4.3: 302 with Location; nginx, ngx_http_rewrite_module: return",
        applies: |cell| cell.answerer == Answerer::Redirect,
        says: |draft| {
            draft.status(302);
            draft.body(None);
            draft.field("location", Field::Contains(REDIRECT));
        },
    },
    Rule {
        source: "RFC 9110 §15.5.5: 404",
        applies: |cell| cell.answerer == Answerer::Missing,
        says: |draft| {
            draft.status(404);
            draft.body(None);
        },
    },
    // What is asked.
    Rule {
        source: "RFC 9110 §9.3.2: HEAD sends the fields of GET, and no body",
        applies: |cell| cell.shape == Shape::Head,
        says: |draft| {
            if let Some(tag) = draft.tags.of(draft.cell.answerer) {
                draft.field("etag", Field::Is(tag.to_owned()));
            }
            draft.no_body();
        },
    },
    Rule {
        source: "RFC 9110 §15.5.6: 405 with Allow; nginx: 405 for POST of a file",
        applies: |cell| {
            let is_static = cell.answerer.is_file() || cell.answerer == Answerer::Missing;
            is_static && cell.shape.is_post()
        },
        says: |draft| {
            draft.status(405);
            draft.body(None);
            for name in ["content-encoding", "vary"] {
                draft.field(name, Field::Any);
            }
            // nginx sends no Allow.
            if draft.cell.answerer != Answerer::Nginx {
                draft.field("allow", Field::Present);
            }
        },
    },
    Rule {
        source: "PEP 3333, \"Input and Error Streams\": an application need not read the body",
        applies: |cell| cell.answerer.is_page() && cell.shape == Shape::EarlyAnswer,
        says: |draft| {
            draft.status(403);
            draft.body(Some(b"no".to_vec()));
        },
    },
    Rule {
        source: "RFC 9110 §14.2, §15.3.7: a range of a file",
        applies: |cell| {
            let has_ranges = matches!(cell.answerer, Answerer::AppFile | Answerer::AppInternal);
            cell.shape == Shape::Range && (has_ranges || cell.answerer.is_file())
        },
        says: |draft| {
            let (bytes, length) = match draft.cell.answerer {
                Answerer::Precompressed => ("{ }\n", 3_000),
                Answerer::FileInMemory => ("2345", SMALL),
                _ => ("2345", LARGE),
            };
            draft.status(206);
            draft.body(Some(bytes.as_bytes().to_vec()));
            draft.field("content-range", Field::Is(format!("bytes 2-5/{length}")));
        },
    },
    Rule {
        source: "RFC 9110 §15.3.7.3: parts are put together only of one representation, and \
                 identity is the one that is always there",
        applies: |cell| cell.shape == Shape::Range && cell.answerer == Answerer::Precompressed,
        says: |draft| draft.field("content-encoding", Field::Absent),
    },
    Rule {
        source: "RFC 9110 §13.1.2, §15.4.5: 304 without a body",
        applies: |cell| cell.shape == Shape::Conditional && !cell.answerer.is_fixed(),
        says: |draft| {
            let tag = draft
                .tags
                .of(draft.cell.answerer)
                .unwrap_or("none was sent");
            draft.status(304);
            draft.field("etag", Field::Is(tag.to_owned()));
            draft.field("content-encoding", Field::Any);
            draft.no_body();
        },
    },
    Rule {
        source: "RFC 9110 §8.6: a length of a 304 is that of the 200",
        applies: |cell| cell.shape == Shape::Conditional && !cell.answerer.is_fixed(),
        says: |draft| {
            let length = page(draft.cell).map_or(0, |page| page.len());
            draft.field("content-length", Field::AbsentOr(length.to_string()));
        },
    },
    Rule {
        source: "RFC 9110 §15.3.5, §8.6: 204 has no body, and never a Content-Length",
        applies: |cell| cell.shape == Shape::NoContent,
        says: |draft| {
            draft.status(204);
            draft.no_body();
            draft.field("content-length", Field::Absent);
        },
    },
    Rule {
        source: "RFC 9110 §10.1.1: 100 where the body is wanted",
        applies: |cell| cell.shape.expects(),
        says: |draft| {
            let is_read = !draft.cell.answerer.is_file() && !draft.cell.answerer.is_fixed();
            let interim = is_read.then(|| vec![100]);
            draft.expected.interim = draft.ruled(interim);
        },
    },
    Rule {
        source: "RFC 9110 §10.1.1: an expectation in HTTP/1.0 is ignored",
        applies: |cell| cell.shape.expects() && cell.listener.is_http10(),
        says: |draft| draft.expected.interim = draft.ruled(Some(Vec::new())),
    },
    Rule {
        source: "nginx, ngx_http_test_expect: no 100 over HTTP/2; RFC 9110 §10.1.1: its client \
                 need not wait for one",
        applies: |cell| cell.shape.expects() && cell.listener.is_http2(),
        says: |draft| draft.expected.interim = draft.ruled(None),
    },
    Rule {
        source: "RFC 6455 §4.2.2: 101 and the answer to the key",
        applies: |cell| {
            let is_willing = matches!(cell.answerer, Answerer::Uvicorn(_));
            let is_get = cell.shape.is_upgrade() && !cell.shape.is_post();
            is_get && is_willing && cell.listener.protocol == Protocol::Http11
        },
        says: |draft| {
            draft.status(101);
            draft.no_body();
            draft.field("content-length", Field::Absent);
            draft.field("date", Field::Any);
            draft.field("upgrade", Field::Is("websocket".to_owned()));
            let answer = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned();
            draft.field("sec-websocket-accept", Field::Is(answer));
        },
    },
    Rule {
        source: "RFC 9112 §6.1: Transfer-Encoding in HTTP/1.0 is faulty framing; nginx: 400",
        applies: |cell| cell.shape == Shape::PostUnsized && cell.listener.is_http10(),
        says: |draft| {
            draft.status(400);
            draft.body(None);
            for name in [
                "content-encoding",
                "vary",
                "location",
                "allow",
                "content-length",
            ] {
                draft.field(name, Field::Any);
            }
        },
    },
    Rule {
        source: "RFC 9113 §8.2.2: Connection and Upgrade make a request malformed; §8.1.1",
        applies: |cell| cell.shape.is_upgrade() && cell.listener.is_http2(),
        says: |draft| {
            draft.expected.outcome = draft.ruled(Want::Malformed);
            draft.expected.log_status = draft.ruled(vec![400]);
        },
    },
    Rule {
        source: "nginx, ngx_http_request_body.c: 400 where a body ends early; ngx_http_v2.c: 499 \
                 where its stream is reset",
        applies: |cell| cell.shape == Shape::ClientLeaves,
        says: |draft| {
            let mut statuses = match draft.cell.listener.is_http2() {
                true => vec![499],
                false => vec![400],
            };
            // What does not need the body has answered without it.
            let does_not_read = match draft.cell.answerer {
                Answerer::Nginx => false,
                answerer => answerer.is_file() || answerer.is_fixed(),
            };
            if let (true, Want::Status(status)) = (does_not_read, &draft.expected.outcome.value) {
                statuses.push(*status);
            }
            draft.expected.outcome = draft.ruled(Want::Nothing);
            draft.expected.log_status = draft.ruled(statuses);
        },
    },
    Rule {
        source: "nginx, ngx_http_log_module: the status of a head that was sent; README, metrics: \
                 499 where the client has left before the end",
        applies: |cell| cell.shape == Shape::ClientLeavesLater,
        says: |draft| {
            draft.expected.outcome = draft.ruled(Want::Nothing);
            let statuses = [&draft.expected.log_status.value[..], &[499]].concat();
            draft.expected.log_status = draft.ruled(statuses);
        },
    },
    // Framing.
    Rule {
        source: "RFC 9112 §6.2: Content-Length",
        applies: |_| true,
        says: |draft| draft.framing(Framing::Length),
    },
    Rule {
        source: "RFC 9112 §7.1: chunked, where the length is not known",
        applies: |cell| cell.listener.protocol == Protocol::Http11,
        says: |draft| {
            if draft.has_no_length() {
                draft.framing(Framing::Chunked);
            }
        },
    },
    Rule {
        source: "RFC 9112 §6.1: no Transfer-Encoding towards HTTP/1.0; §6.3, rule 8: until the end",
        applies: |cell| cell.listener.is_http10(),
        says: |draft| {
            draft.field("transfer-encoding", Field::Absent);
            if draft.has_no_length() {
                draft.framing(Framing::UntilClose);
            }
        },
    },
    Rule {
        source: "RFC 9113 §8.1: END_STREAM; §8.2.2: no fields about the connection",
        applies: |cell| cell.listener.is_http2(),
        says: |draft| {
            draft.framing(Framing::EndStream);
            for name in ["connection", "transfer-encoding", "keep-alive", "upgrade"] {
                draft.field(name, Field::Absent);
            }
        },
    },
    // The connection.
    Rule {
        source: "RFC 9112 §9.3: HTTP/1.1 connections persist; RFC 9113 §9.1",
        applies: |_| true,
        says: |draft| draft.connection(Connection::Keeps),
    },
    Rule {
        source: "RFC 9112 §9.3: an unread body is read, or the connection closed",
        applies: |cell| {
            let is_behind = cell.answerer == Answerer::Nginx;
            let does_not_read = cell.answerer.is_file() || cell.answerer.is_fixed();
            let is_early = cell.shape == Shape::EarlyAnswer;
            !cell.listener.is_http2()
                && (is_early || cell.shape.is_post() && does_not_read && !is_behind)
        },
        says: |draft| draft.connection(Connection::Either),
    },
    Rule {
        source: "RFC 9112 §9.3: HTTP/1.0 closes without keep-alive",
        applies: |cell| cell.listener.protocol == Protocol::Http10,
        says: |draft| draft.connection(Connection::Closes),
    },
    Rule {
        source: "RFC 9112 §9.3: a response that ends with its connection keeps none",
        applies: |cell| cell.listener.is_http10(),
        says: |draft| {
            if draft.expected.framing.value == Framing::UntilClose {
                draft.connection(Connection::Closes);
            }
        },
    },
    Rule {
        source: "RFC 9112 §6.1: the connection is closed behind faulty framing",
        applies: |cell| cell.shape == Shape::PostUnsized && cell.listener.is_http10(),
        says: |draft| draft.connection(Connection::Closes),
    },
    Rule {
        source: "RFC 9112 §9.6, RFC 9113 §9.1: no request follows; the response, then the end",
        applies: |cell| cell.shape == Shape::HalfClosed,
        says: |draft| draft.connection(Connection::Closes),
    },
    Rule {
        source: "RFC 9110 §7.8: the protocol changes behind 101",
        applies: |_| true,
        says: |draft| {
            if draft.expected.outcome.value == Want::Status(101) {
                draft.connection(Connection::Switches);
            }
        },
    },
    Rule {
        source: "a closed connection; RFC 9113 §5.4.2: a reset stream is not the connection's end",
        applies: |cell| {
            let leaves = matches!(cell.shape, Shape::ClientLeaves | Shape::ClientLeavesLater);
            leaves && !cell.listener.is_http2()
        },
        says: |draft| draft.connection(Connection::Left),
    },
];

/// Why a cell cannot exist.
pub fn impossible(cell: &Cell) -> Option<&'static str> {
    let mut rows = IMPOSSIBLE.iter();
    rows.find(|(applies, _)| applies(cell)).map(|(_, why)| *why)
}

/// What the rules say of a cell.
pub fn expected(cell: &Cell, tags: &Tags) -> Expected {
    const NONE: &str = "no rule";
    fn ruled<T>(value: T) -> Ruled<T> {
        Ruled {
            value,
            source: NONE,
        }
    }
    let protocol = match cell.listener.protocol {
        Protocol::Http10 | Protocol::Http10KeepAlive => "HTTP/1.0",
        Protocol::Http11 => "HTTP/1.1",
        Protocol::Http2 => "HTTP/2.0",
    };
    let log = Log {
        protocol,
        client: cell.listener.client(),
    };
    let mut draft = Draft {
        cell,
        tags,
        source: NONE,
        expected: Expected {
            outcome: ruled(Want::Nothing),
            interim: ruled(Some(Vec::new())),
            framing: ruled(Framing::Length),
            connection: ruled(Connection::Keeps),
            body: ruled(None),
            fields: BTreeMap::new(),
            log: Ruled {
                value: log,
                source: "nginx, ngx_http_log_module: combined; ngx_http_realip_module",
            },
            log_status: ruled(Vec::new()),
        },
    };
    for rule in RULES.iter().filter(|rule| (rule.applies)(cell)) {
        draft.source = rule.source;
        (rule.says)(&mut draft);
    }
    draft.expected
}

/// The bytes that a GET of this answerer gets, with the body of the request where it echoes one.
pub fn page(cell: &Cell) -> Option<Vec<u8>> {
    let text = match cell.answerer {
        Answerer::Redirect | Answerer::Missing => return None,
        Answerer::Respond => RESPOND.to_owned(),
        Answerer::Precompressed => PACKED.to_owned(),
        Answerer::FileInMemory => bytes_of_file(SMALL),
        Answerer::FileOnDisk | Answerer::Nginx | Answerer::AppFile | Answerer::AppInternal => {
            bytes_of_file(LARGE)
        }
        _ => {
            // RFC 9113 §8.2.3: crumbs of cookies reach what does not know HTTP/2 as one field.
            let cookies = COOKIES.join("; ");
            let filler = match cell.answerer.length() {
                Length::Known => 4_096,
                Length::Unknown => 98_304,
            };
            let text = format!("cookie: {cookies}\n{}body: ", bytes_of_file(filler));
            let body = shapes::body(cell.shape);
            return Some([text.into_bytes(), body].concat());
        }
    };
    Some(text.into_bytes())
}

impl Draft<'_> {
    fn ruled<T>(&self, value: T) -> Ruled<T> {
        Ruled {
            value,
            source: self.source,
        }
    }

    fn status(&mut self, status: u16) {
        self.expected.outcome = self.ruled(Want::Status(status));
        self.expected.log_status = self.ruled(vec![status]);
    }

    fn body(&mut self, body: Option<Vec<u8>>) {
        let length = match &body {
            Some(body) => Field::Is(body.len().to_string()),
            None => Field::Any,
        };
        self.field("content-length", length);
        self.expected.body = self.ruled(body);
    }

    /// The length stays that of what is not sent.
    fn no_body(&mut self) {
        self.expected.body = self.ruled(Some(Vec::new()));
        self.expected.framing = self.ruled(Framing::NoBody);
    }

    fn field(&mut self, name: &'static str, field: Field) {
        let ruled = self.ruled(field);
        self.expected.fields.insert(name, ruled);
    }

    fn framing(&mut self, framing: Framing) {
        if self.expected.framing.value != Framing::NoBody {
            self.expected.framing = self.ruled(framing);
        }
    }

    fn connection(&mut self, connection: Connection) {
        self.expected.connection = self.ruled(connection);
    }

    fn has_no_length(&self) -> bool {
        let length = self.expected.fields.get("content-length");
        length.is_some_and(|length| length.value == Field::Absent)
    }
}
