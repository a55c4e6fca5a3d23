//! One line for each request, whatever the request contains.
//!
//! [`AccessLog::record`] forms the line where the request ends and never waits: it leaves
//! the line with a `line_writer`, which may lose it but says so.

pub mod filter;
pub mod pattern;

use std::borrow::Cow;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

use self::filter::AccessLogLines;
use super::codes;
use super::handled_by::HandledBy;
use super::line_writer::{LineWriter, Log};
use super::log_files::Destination;
use super::metrics::METRICS;
use super::timestamp::Timestamp;

/// Takes finished requests and writes a line for each.
#[derive(Debug)]
pub struct AccessLog {
    format: Format,
    lines: AccessLogLines,
    colours: bool,
    writer: LineWriter,
}

/// The format of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// There are no lines.
    Off,
    /// For developers: time, status, request, length, duration.
    Short,
    /// nginx's predefined format `combined`, with its escaping; times in UTC.
    Combined,
    /// A JSON object with everything that is known. Durations in seconds.
    Json,
}

/// A finished request. Text fields are as the client sent them: nothing needs to be escaped.
#[derive(Debug, Clone)]
pub struct AccessLogEntry<'a> {
    /// The client's address; `None` for a Unix socket's peer, which has none.
    pub remote: Option<IpAddr>,
    /// When the request arrived.
    pub time: SystemTime,
    /// Request method as it was sent; empty if no request could be read.
    pub method: &'a [u8],
    /// Request target as it was sent; empty if no request could be read.
    pub target: &'a [u8],
    /// `HTTP/1.1`; empty if no request could be read.
    pub protocol: &'a str,
    /// The TLS session of the client's connection; `None` without one.
    pub tls: Option<TlsSession>,
    /// Status that was sent; 499 if the client left before.
    pub status: u16,
    /// Bytes of the response's body that were sent.
    pub bytes: u64,
    /// The `Referer` field.
    pub referer: Option<&'a [u8]>,
    /// The `User-Agent` field.
    pub user_agent: Option<&'a [u8]>,
    /// The authenticated user.
    pub user: Option<&'a [u8]>,
    /// The host that was asked.
    pub host: Option<&'a [u8]>,
    /// The id that the application and the client see, too.
    pub request_id: &'a str,
    /// From the first byte of the request to the last of the response.
    pub duration: Duration,
    /// Time that the request waited for a worker.
    pub queue: Option<Duration>,
    /// Time that the application took.
    pub app: Option<Duration>,
    /// Number of the worker.
    pub worker: Option<u32>,
    /// The component that made the response.
    pub handled_by: HandledBy,
    /// Variables that the application has set.
    pub log_vars: &'a [LogVar],
}

/// Variables that an application has set for the log line of a request.
pub type LogVars = Vec<LogVar>;

/// Name and value of one.
pub type LogVar = (Box<[u8]>, Box<[u8]>);
/// The version and the cipher suite of a TLS session, as OpenSSL names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsSession {
    /// `TLSv1.3`.
    pub protocol: &'static str,
    /// `TLS_AES_128_GCM_SHA256`.
    pub cipher: &'static str,
}

impl AccessLog {
    /// A log to standard output, or to its file. Its thread begins with the first line, so the process may
    /// still fork before.
    pub fn new(format: Format, lines: AccessLogLines) -> Self {
        let out = Destination::Access;
        let mut log = Self::to(format, out.has_colours(), out);
        log.lines = lines;
        log
    }

    fn to(format: Format, colours: bool, out: impl io::Write + Send + 'static) -> Self {
        Self {
            format,
            lines: AccessLogLines::default(),
            colours,
            writer: LineWriter::new(LOG, out),
        }
    }

    /// True if there is no log, and no [`AccessLogEntry`] worth making.
    pub fn is_off(&self) -> bool {
        self.format == Format::Off
    }

    /// Queues a line for writing. Never waits; a line that finds no room is dropped, counted and
    /// reported.
    pub fn record(&self, entry: &AccessLogEntry<'_>) {
        if !self.lines.filter.is_logged(entry.target, entry.status) {
            return;
        }
        if let Some(pattern) = self.lines.pattern.as_ref().filter(|_| !self.is_off()) {
            return self.writer.write(&pattern.line(entry));
        }
        match self.format {
            Format::Off => {}
            Format::Short => self.writer.write(&short(entry, self.colours)),
            Format::Combined => self.writer.write(&combined(entry)),
            Format::Json => self.writer.write(&json(entry)),
        }
    }

    /// Writes all queued lines and ends the thread; lines recorded later are dropped.
    ///
    /// Blocks for at most two seconds, in case standard output has no reader.
    pub fn close(&self) {
        self.writer.close(LAST_LINES);
    }
}

/// `17:54:06 200 GET /a?b=1 612 B 1.2 ms`, with Django's colours of `runserver`.
fn short(entry: &AccessLogEntry<'_>, colours: bool) -> Vec<u8> {
    let (colour, reset) = match (colours, entry.status) {
        (false, _) | (_, 200..=299) => ("", ""),
        (_, 304) => ("\x1b[36m", RESET),
        (_, ..=399) => ("\x1b[32m", RESET),
        (_, 404) => ("\x1b[33m", RESET),
        (_, 400..=499) => ("\x1b[1;31m", RESET),
        (_, _) => ("\x1b[1;35m", RESET),
    };
    let mut line = Vec::with_capacity(LINE);
    let time = Timestamp::from(entry.time).clock();
    line.extend_from_slice(format!("{time} {colour}{} ", entry.status).as_bytes());
    if entry.method.is_empty() {
        line.extend_from_slice(b"(unreadable request)");
    } else {
        push_escaped(&mut line, entry.method, LONGEST_NAME);
        line.push(b' ');
        push_escaped(&mut line, entry.target, LONGEST_TARGET);
    }
    let took = entry.duration.as_secs_f64() * 1e3;
    let digits = usize::from(took < 100.0);
    line.extend_from_slice(format!("{reset} {} B {took:.digits$} ms\n", entry.bytes).as_bytes());
    line
}

/// nginx, ngx_http_log_module: `$remote_addr - $remote_user [$time_local] "$request"
/// $status $body_bytes_sent "$http_referer" "$http_user_agent"`.
fn combined(entry: &AccessLogEntry<'_>) -> Vec<u8> {
    let mut line = Vec::with_capacity(LINE);
    match entry.remote {
        Some(address) => line.extend_from_slice(address.to_string().as_bytes()),
        None => line.extend_from_slice(b"unix:"),
    }
    line.extend_from_slice(b" - ");
    push_escaped(&mut line, entry.user.unwrap_or_default(), LONGEST_NAME);
    line.extend_from_slice(b" [");
    line.extend_from_slice(Timestamp::from(entry.time).common_log().as_bytes());
    line.extend_from_slice(b"] \"");
    if entry.protocol.is_empty() {
        line.push(b'-');
    } else {
        push_escaped(&mut line, entry.method, LONGEST_NAME);
        line.push(b' ');
        push_escaped(&mut line, entry.target, LONGEST_TARGET);
        line.push(b' ');
        push_escaped(&mut line, entry.protocol.as_bytes(), LONGEST_NAME);
    }
    line.extend_from_slice(format!("\" {} {} \"", entry.status, entry.bytes).as_bytes());
    push_escaped(
        &mut line,
        entry.referer.unwrap_or_default(),
        LONGEST_REFERER,
    );
    line.extend_from_slice(b"\" \"");
    push_escaped(
        &mut line,
        entry.user_agent.unwrap_or_default(),
        LONGEST_AGENT,
    );
    line.extend_from_slice(b"\"\n");
    line
}

/// nginx, `log_format`, `escape=default`: `"`, `\`, and bytes below 32 or above 126 become
/// `\xHH`; nothing becomes a hyphen. What goes beyond `longest` bytes is cut off.
fn push_escaped(line: &mut Vec<u8>, text: &[u8], longest: usize) {
    if text.is_empty() {
        line.push(b'-');
    }
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | ..32 | 127..);
    let end = line.len() + longest;
    let mut rest = text;
    while let Some(at) = rest.iter().position(is_special)
        && line.len() + at < end
    {
        let (plain, special) = rest.split_at(at);
        let (high, low) = (special[0] >> 4, special[0] & 15);
        line.extend_from_slice(plain);
        line.extend_from_slice(b"\\x");
        line.extend([HEX[usize::from(high)], HEX[usize::from(low)]]);
        rest = &special[1..];
    }
    let room = end.saturating_sub(line.len());
    line.extend_from_slice(&rest[..rest.len().min(room)]);
    if rest.len() > room {
        line.extend_from_slice(CUT.as_bytes());
    }
}

/// Stands for what was cut off.
const CUT: &str = "...";
/// Longest texts in a line, in bytes. Over HTTP/2 one byte may stand for a field of 4 KiB, in each
/// of many requests, and nginx logs all of it. URLs of more than 2 KiB are rare, and their
/// beginning is what matters.
const LONGEST_TARGET: usize = 2048;
/// Longest `Referer`, in bytes.
const LONGEST_REFERER: usize = 1024;
/// Longest `User-Agent`, in bytes: those of browsers have 100 to 200.
const LONGEST_AGENT: usize = 512;
/// Longest method, user and host, in bytes: a DNS name has 253.
const LONGEST_NAME: usize = 256;

/// Text for JSON.
fn shown(text: &[u8], longest: usize) -> Cow<'_, str> {
    let is_cut = text.len() > longest;
    let text = String::from_utf8_lossy(&text[..text.len().min(longest)]);
    if !is_cut && text.len() <= longest {
        return text;
    }
    let mut end = longest.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(text[..end].to_owned() + CUT)
}

/// Every line has every field, so a reader can rely on their being there.
#[derive(Serialize)]
struct JsonLine<'a> {
    time: String,
    remote_addr: Option<IpAddr>,
    user: Option<Cow<'a, str>>,
    method: Cow<'a, str>,
    target: Cow<'a, str>,
    protocol: &'a str,
    tls_protocol: Option<&'static str>,
    tls_cipher: Option<&'static str>,
    host: Option<Cow<'a, str>>,
    status: u16,
    bytes: u64,
    referer: Option<Cow<'a, str>>,
    user_agent: Option<Cow<'a, str>>,
    request_id: &'a str,
    duration_s: f64,
    queue_s: Option<f64>,
    app_s: Option<f64>,
    worker: Option<u32>,
    handled_by: HandledBy,
}

fn json(entry: &AccessLogEntry<'_>) -> Vec<u8> {
    let line = JsonLine {
        time: Timestamp::from(entry.time).rfc_3339(),
        remote_addr: entry.remote,
        user: entry.user.map(|user| shown(user, LONGEST_NAME)),
        method: shown(entry.method, LONGEST_NAME),
        target: shown(entry.target, LONGEST_TARGET),
        protocol: entry.protocol,
        tls_protocol: entry.tls.map(|session| session.protocol),
        tls_cipher: entry.tls.map(|session| session.cipher),
        host: entry.host.map(|host| shown(host, LONGEST_NAME)),
        status: entry.status,
        bytes: entry.bytes,
        referer: entry.referer.map(|text| shown(text, LONGEST_REFERER)),
        user_agent: entry.user_agent.map(|text| shown(text, LONGEST_AGENT)),
        request_id: entry.request_id,
        duration_s: seconds(entry.duration),
        queue_s: entry.queue.map(seconds),
        app_s: entry.app.map(seconds),
        worker: entry.worker,
        handled_by: entry.handled_by,
    };
    let mut bytes = Vec::with_capacity(2 * LINE);
    let mut serializer = Serializer::with_formatter(&mut bytes, Printable(CompactFormatter));
    line.serialize(&mut serializer)
        .expect("plain fields, written to memory");
    bytes.push(b'\n');
    bytes
}

/// To the microsecond: more is noise and makes lines longer.
fn seconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e6
}

/// Also escapes what JSON need not, but what steers terminals or ends lines for some
/// readers: DEL, the C1 controls and Unicode's line and paragraph separators.
struct Printable(CompactFormatter);

impl Formatter for Printable {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if fragment.is_ascii() && !fragment.contains('\u{7f}') {
            return self.0.write_string_fragment(out, fragment);
        }
        let is_unprintable = |char| matches!(char, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}');
        let mut rest = fragment;
        while let Some(at) = rest.find(is_unprintable) {
            let (before, unprintable) = rest.split_at(at);
            self.0.write_string_fragment(out, before)?;
            let mut chars = unprintable.chars();
            if let Some(char) = chars.next() {
                write!(out, "\\u{:04x}", u32::from(char))?;
            }
            rest = chars.as_str();
        }
        self.0.write_string_fragment(out, rest)
    }
}

const LOG: Log = Log {
    thread: "access-log",
    gather: GATHER,
    dropped: &METRICS.dropped_log_lines.access,
    report: |lines| {
        tracing::warn!(
            code = codes::LOG_DROPPED,
            lines,
            "access log lines dropped: standard output, or the file of this log, did not take them"
        );
    },
    reports_elsewhere: true,
};

/// Time that the first line of a batch waits for others: at most 100 wake-ups a second, and no
/// delay that a person would notice.
const GATHER: Duration = Duration::from_millis(10);

/// Longest pause of a reader of standard output at the end of the process.
const LAST_LINES: Duration = Duration::from_secs(2);

const RESET: &str = "\x1b[0m";

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Initial capacity in bytes: enough for most lines.
const LINE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::UNIX_EPOCH;

    fn entry() -> AccessLogEntry<'static> {
        AccessLogEntry {
            remote: Some(Ipv4Addr::new(192, 0, 2, 7).into()),
            time: UNIX_EPOCH + Duration::from_millis(1_795_197_246_123),
            method: b"GET",
            target: b"/a?b=1",
            protocol: "HTTP/1.1",
            tls: None,
            status: 200,
            bytes: 612,
            referer: Some(b"https://example.org/"),
            user_agent: Some(b"curl/8"),
            user: None,
            host: Some(b"example.com"),
            request_id: "4f2a",
            duration: Duration::from_nanos(1_234_567),
            queue: Some(Duration::from_micros(15)),
            app: Some(Duration::from_millis(1)),
            worker: Some(2),
            handled_by: HandledBy::App,
            log_vars: &[],
        }
    }

    fn check(entry: &AccessLogEntry<'_>, expected: &str) {
        assert_eq!(String::from_utf8(combined(entry)).unwrap(), expected);
    }

    #[test]
    fn combined_lines_are_nginx_s() {
        check(
            &entry(),
            "192.0.2.7 - - [20/Nov/2026:17:54:06 +0000] \"GET /a?b=1 HTTP/1.1\" 200 612 \
             \"https://example.org/\" \"curl/8\"\n",
        );
        let nothing_read = AccessLogEntry {
            remote: None,
            method: b"",
            target: b"",
            protocol: "",
            status: 400,
            bytes: 0,
            referer: None,
            user_agent: Some(b""),
            user: Some(b"anna"),
            ..entry()
        };
        check(
            &nothing_read,
            "unix: - anna [20/Nov/2026:17:54:06 +0000] \"-\" 400 0 \"-\" \"-\"\n",
        );
    }

    #[test]
    fn quotes_controls_and_foreign_bytes_are_escaped() {
        let hostile = AccessLogEntry {
            remote: Some(Ipv6Addr::LOCALHOST.into()),
            target: b"/\"\\\x7f\xff",
            referer: Some("é\n".as_bytes()),
            user_agent: Some(b"\x1b[31m~ "),
            user: Some(b"a b\r\n"),
            ..entry()
        };
        check(
            &hostile,
            "::1 - a b\\x0D\\x0A [20/Nov/2026:17:54:06 +0000] \
             \"GET /\\x22\\x5C\\x7F\\xFF HTTP/1.1\" 200 612 \"\\xC3\\xA9\\x0A\" \"\\x1B[31m~ \"\n",
        );
    }

    #[test]
    fn json_lines_have_every_field() {
        let line: serde_json::Value = serde_json::from_slice(&json(&entry())).unwrap();
        let expected = serde_json::json!({
            "time": "2026-11-20T17:54:06.123Z", "remote_addr": "192.0.2.7", "user": null,
            "method": "GET", "target": "/a?b=1", "protocol": "HTTP/1.1",
                "tls_protocol": null,
                "tls_cipher": null,
            "host": "example.com", "status": 200, "bytes": 612,
            "referer": "https://example.org/", "user_agent": "curl/8", "request_id": "4f2a",
            "duration_s": 0.001234, "queue_s": 0.000015, "app_s": 0.001, "worker": 2,
            "handled_by": "app",
        });
        assert_eq!(line, expected);
        let bare = AccessLogEntry {
            remote: None,
            referer: None,
            user_agent: None,
            host: None,
            queue: None,
            app: None,
            worker: None,
            handled_by: HandledBy::Static,
            ..entry()
        };
        let bare: serde_json::Value = serde_json::from_slice(&json(&bare)).unwrap();
        let names = |line: &serde_json::Value| -> Vec<String> {
            line.as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(names(&bare), names(&line));
        let manual = include_str!("../docs/logs.md");
        for name in names(&line) {
            assert!(manual.contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn long_texts_are_cut() {
        let long = [b'x'; 60_000];
        let hostile = AccessLogEntry {
            method: &long,
            target: &long,
            user: Some(&long),
            host: Some(&long),
            referer: Some(&[0xFF; 60_000]),
            user_agent: Some(&long),
            ..entry()
        };
        for line in [combined(&hostile), json(&hostile)] {
            let line = String::from_utf8(line).unwrap();
            assert!(line.len() < 5500, "{} bytes", line.len());
            assert!(line.contains(&("x".repeat(2048) + "...")));
            assert!(!line.contains(&"x".repeat(2049)));
        }
        // As long as it may be.
        let target = [b'/'; 2048];
        let whole = AccessLogEntry {
            target: &target,
            ..entry()
        };
        assert!(!combined(&whole).ends_with(b"...\n"));
        assert!(!String::from_utf8(combined(&whole)).unwrap().contains("..."));
    }

    #[test]
    fn short_lines_are_for_people() {
        let check = |entry: &AccessLogEntry<'_>, colours: bool, expected: &str| {
            let line = String::from_utf8(short(entry, colours)).unwrap();
            assert_eq!(line, expected);
        };
        let with = |status| AccessLogEntry { status, ..entry() };
        let plain = "17:54:06 200 GET /a?b=1 612 B 1.2 ms\n";
        check(&entry(), false, plain);
        check(&entry(), true, plain);
        check(&with(404), false, &plain.replace("200", "404"));
        // django.core.servers.basehttp, `WSGIRequestHandler.log_message`.
        for (status, colour) in [
            (302, "32"),
            (304, "36"),
            (404, "33"),
            (403, "1;31"),
            (500, "1;35"),
        ] {
            let expected =
                format!("17:54:06 \x1b[{colour}m{status} GET /a?b=1\x1b[0m 612 B 1.2 ms\n");
            check(&with(status), true, &expected);
        }
        let hostile = AccessLogEntry {
            target: b"/\x1b[2J\n",
            duration: Duration::from_secs(2),
            ..entry()
        };
        check(
            &hostile,
            false,
            "17:54:06 200 GET /\\x1B[2J\\x0A 612 B 2000 ms\n",
        );
        let unread = AccessLogEntry {
            method: b"",
            status: 400,
            ..entry()
        };
        check(
            &unread,
            false,
            "17:54:06 400 (unreadable request) 612 B 1.2 ms\n",
        );
    }

    #[test]
    fn a_log_that_is_off_writes_nothing() {
        let log = AccessLog::new(Format::Off, AccessLogLines::default());
        assert!(log.is_off());
        log.record(&entry());
        log.close();
    }

    proptest! {
        #[test]
        fn one_request_is_one_printable_line(
            target in prop::collection::vec(any::<u8>(), 0..60),
            text in prop::option::of(".*"),
            bytes in prop::option::of(prop::collection::vec(any::<u8>(), 0..60)),
        ) {
            let hostile = AccessLogEntry {
                target: &target,
                referer: text.as_deref().map(str::as_bytes),
                user_agent: bytes.as_deref(),
                user: bytes.as_deref(),
                host: text.as_deref().map(str::as_bytes),
                ..entry()
            };
            let line = combined(&hostile);
            let (end, line) = line.split_last().unwrap();
            prop_assert_eq!(*end, b'\n');
            prop_assert!(line.iter().all(|byte| (32..127).contains(byte)));
            prop_assert_eq!(line.iter().filter(|byte| **byte == b'"').count(), 6);

            let line = String::from_utf8(json(&hostile)).unwrap();
            let line = line.strip_suffix('\n').unwrap();
            prop_assert!(!line.contains(|char: char| char.is_control()));
            let read: serde_json::Value = serde_json::from_str(line).unwrap();
            prop_assert_eq!(read["referer"].as_str(), text.as_deref());
            prop_assert_eq!(&read["target"], &*String::from_utf8_lossy(&target));
        }
    }
}
