//! Rules for responses: header fields to set, add or remove, and pages for errors.
//!
//! The text of `header` and `error_page` into values. Pages are read here, once: the front keeps
//! them in memory, and a reload reads them again.

use std::fmt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderValue, StatusCode};
use percent_encoding::percent_decode_str;

use super::error::{Invalid, invalid};
use super::{native, values};
use crate::os::access::{AccessKind, obstacle};

/// Rules for the responses of one location.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseRules {
    /// Changes of header fields, in order.
    pub headers: Vec<HeaderRule>,
    /// Pages for errors; the first that covers a status applies.
    pub error_pages: Vec<ErrorPage>,
    /// True if error pages also replace the error responses of applications and upstream servers
    /// (nginx: `proxy_intercept_errors`).
    pub intercept_errors: bool,
    /// The charset of text whose type names none.
    pub charset: Option<HeaderValue>,
}

/// Reads the name of a charset, or `no`.
///
/// # Errors
/// [`Invalid`] for anything but a token (RFC 9110 §8.3.2).
pub fn charset(text: &str) -> Result<Option<HeaderValue>, Invalid> {
    match HeaderValue::from_str(text) {
        _ if text == "no" => Ok(None),
        Ok(value) if !text.is_empty() && text.bytes().all(values::is_token) => Ok(Some(value)),
        _ => Err(invalid(
            "not the name of a charset",
            "give one as in `utf-8`, or `no`",
        )),
    }
}

/// A change of one header field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderRule {
    /// The field.
    pub name: HeaderName,
    /// The change.
    pub change: HeaderChange,
    /// True if it applies to every status, false for the statuses of nginx's `add_header`.
    pub always: bool,
}

/// The change of a header field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderChange {
    /// Replaces all fields of the name.
    Set(HeaderValue),
    /// Appends a field, beside others of the name.
    Add(HeaderValue),
    /// Removes all fields of the name.
    Remove,
}

/// A page for some error statuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorPage {
    /// The lowest status.
    pub from: u16,
    /// The highest status.
    pub to: u16,
    /// The page; `None` for the built-in one.
    pub page: Option<PageFile>,
}

/// A page in a file, or a text of the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageFile {
    /// The file; absolute. Of a text that the settings have, all of it.
    pub path: PathBuf,
    /// The media type of such a text; that of a file follows from its name.
    pub media_type: Option<HeaderValue>,
    /// The status that replaces the error's; `None` keeps that one.
    pub status: Option<StatusCode>,
    /// The bytes of the file; `None` if it cannot be read.
    pub content: Option<Bytes>,
}

/// Largest page in bytes: it stays in memory.
const LARGEST_PAGE: u64 = 1 << 20;

/// Fields that frame a message, belong to one connection, or describe the body's coding; with the
/// setting that controls the field, if there is one.
const REFUSED: [(HeaderName, &str); 14] = [
    (header::CONNECTION, ""),
    (header::CONTENT_ENCODING, "compression is --compress"),
    (header::CONTENT_LENGTH, ""),
    (header::CONTENT_RANGE, ""),
    (header::DATE, ""),
    (header::SERVER, "the field is --server-header"),
    (header::TE, ""),
    (header::TRAILER, ""),
    (header::TRANSFER_ENCODING, ""),
    (header::UPGRADE, ""),
    (HeaderName::from_static("keep-alive"), ""),
    (HeaderName::from_static("proxy-connection"), ""),
    (HeaderName::from_static("status"), ""),
    (HeaderName::from_static("x-request-id"), ""),
];

impl HeaderRule {
    /// The rule that always removes a field.
    pub fn without(name: HeaderName) -> Self {
        Self {
            name,
            change: HeaderChange::Remove,
            always: true,
        }
    }

    /// Reads `[always|success] [set|add|remove] NAME: VALUE`; `=` may stand for the colon. Without the first
    /// word, a field is set or added on success, and always removed.
    ///
    /// # Errors
    /// [`Invalid`] for anything else, for fields that only the server may set, and for values that
    /// a header field cannot have.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let (always, is_limited, rest) = match (keyword(text, "always"), keyword(text, "success")) {
            (Some(rest), _) => (true, false, rest),
            (None, Some(rest)) => (false, true, rest),
            (None, None) => (false, false, text.trim()),
        };
        if let Some(name) = keyword(rest, "remove") {
            // That of the application or of another server, which is passed on without --server-header.
            let is_server = name.eq_ignore_ascii_case(header::SERVER.as_str());
            return Ok(Self {
                name: match is_server {
                    true => header::SERVER,
                    false => field_name(name)?,
                },
                change: HeaderChange::Remove,
                always: !is_limited,
            });
        }
        let (is_added, field) = match (keyword(rest, "add"), keyword(rest, "set")) {
            (Some(field), _) => (true, field),
            (None, Some(field)) => (false, field),
            (None, None) => (false, rest),
        };
        let (name, value) = field
            .split_once([':', '='])
            .ok_or_else(|| invalid("no `:` between name and value", REMEDY))?;
        let name = field_name(name.trim())?;
        let value = header_value(value.trim(), REMEDY)?;
        Ok(Self {
            name,
            change: match is_added {
                true => HeaderChange::Add(value),
                false => HeaderChange::Set(value),
            },
            always,
        })
    }
}

const REMEDY: &str = "give `NAME: VALUE`, `add NAME: VALUE` or `remove NAME`, for every status `always` before it, \
     for success alone `success`";

/// The text behind a first word.
fn keyword<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let rest = text.trim().strip_prefix(word)?;
    rest.starts_with([' ', '\t']).then(|| rest.trim())
}

fn field_name(text: &str) -> Result<HeaderName, Invalid> {
    let name = header_name(text, REMEDY)?;
    match REFUSED.iter().find(|(refused, _)| *refused == name) {
        None => Ok(name),
        Some((_, "")) => Err(invalid(
            format!("{text} is set by the server for each response"),
            "remove it",
        )),
        Some((_, setting)) => Err(invalid(
            format!("{text} is set by the server for each response"),
            format!("remove it; {setting}"),
        )),
    }
}

/// The name of a field (RFC 9110 §5.6.2); `remedy` says what to give instead.
///
/// # Errors
/// [`Invalid`] for anything else.
pub(super) fn header_name(text: &str, remedy: &str) -> Result<HeaderName, Invalid> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| {
        invalid(
            format!("{text:?} is not the name of a header field"),
            remedy,
        )
    })
}

/// The value of a field; `remedy` says what to give instead.
///
/// # Errors
/// [`Invalid`] for a value that a field cannot have.
pub(super) fn header_value(text: &str, remedy: &str) -> Result<HeaderValue, Invalid> {
    if text.is_empty() {
        return Err(invalid("the value is empty", "give one, or `remove NAME`"));
    }
    if text.chars().any(char::is_control) {
        return Err(invalid(
            "the value contains a control character",
            "give it in one line, without tabs",
        ));
    }
    native::utf8_alone(text)?;
    HeaderValue::from_bytes(text.as_bytes())
        .map_err(|_| invalid("a header field cannot have this value", remedy))
}

impl ErrorPage {
    /// Reads `CODES=FILE`: codes as `404`, `500,502` or `5xx`; before the file, `=200` and a blank
    /// replace the status; without a file the built-in page is sent. Relative paths are below
    /// `base`. A file that cannot be read has no content.
    ///
    /// # Errors
    /// [`Invalid`] for anything else.
    pub fn parse(text: &str, base: &Path) -> Result<Vec<Self>, Invalid> {
        let (codes, file) = text
            .split_once('=')
            .ok_or_else(|| invalid("no `=` between status and file", PAGE_REMEDY))?;
        let page = PageFile::parse(file.trim(), base)?;
        let codes = codes.split(',').map(|code| error_statuses(code.trim()));
        codes
            .map(|range| {
                let (from, to) = range?;
                let page = page.clone();
                Ok(Self { from, to, page })
            })
            .collect()
    }
}

const PAGE_REMEDY: &str =
    "give CODE=FILE, as in `404=404.html`, `5xx=50x.html`, `404==200 empty.gif`";

const TEXT_REMEDY: &str = "give a text as in `404=data:application/json,{}`";

fn error_statuses(text: &str) -> Result<(u16, u16), Invalid> {
    match text {
        "4xx" => return Ok((400, 499)),
        "5xx" => return Ok((500, 599)),
        _ => {}
    }
    let code = text.parse().ok().filter(|code| (400..600).contains(code));
    code.map(|code| (code, code)).ok_or_else(|| {
        invalid(
            format!("{text:?} is not the status of an error"),
            "give one from 400 to 599, `4xx` or `5xx`",
        )
    })
}

impl PageFile {
    fn parse(text: &str, base: &Path) -> Result<Option<Self>, Invalid> {
        let (status, file) = match text.strip_prefix('=') {
            Some(rest) => {
                let (code, file) = rest.split_once(' ').unwrap_or((rest, ""));
                (Some(page_status(code)?), file.trim())
            }
            None => (None, text),
        };
        if file.is_empty() {
            return match status {
                None => Ok(None),
                Some(_) => Err(invalid("no file behind the status", PAGE_REMEDY)),
            };
        }
        if let Some(data) = file.strip_prefix("data:") {
            return Self::text(data, status).map(Some);
        }
        let path = base.join(native::path(file));
        Ok(Some(Self {
            content: read(&path),
            path,
            media_type: None,
            status,
        }))
    }

    /// Reads `TYPE,TEXT`, where `%0A` in the text is a line feed (RFC 2397).
    fn text(data: &str, status: Option<StatusCode>) -> Result<Self, Invalid> {
        let (media_type, text) = data
            .split_once(',')
            .ok_or_else(|| invalid("no `,` behind the media type", TEXT_REMEDY))?;
        let media_type = match media_type.trim() {
            "" => "text/plain",
            given => given,
        };
        if !media_type.contains('/') || media_type.ends_with("base64") {
            let problem = format!("{media_type:?} is no media type");
            return Err(invalid(problem, TEXT_REMEDY));
        }
        let content: Vec<u8> = percent_decode_str(text).collect();
        if content.len() as u64 > LARGEST_PAGE {
            let problem = format!("the text has more than {LARGEST_PAGE} bytes");
            return Err(invalid(problem, "give a file"));
        }
        Ok(Self {
            path: PathBuf::from(format!("data:{data}")),
            media_type: Some(header_value(media_type, TEXT_REMEDY)?),
            status,
            content: Some(content.into()),
        })
    }

    /// The reason for which it has no content.
    pub fn problem(&self) -> Option<String> {
        if self.content.is_some() {
            return None;
        }
        let path = self.path.display();
        Some(match obstacle(&self.path, AccessKind::Read) {
            Some(obstacle) => format!("cannot read the error page {path}: {obstacle}"),
            None if self.path.is_file() => {
                format!(
                    "the error page {path} has more than {LARGEST_PAGE} bytes, or cannot be read"
                )
            }
            None => format!("the error page {path} is not a file"),
        })
    }
}

/// A status of a response with a body.
fn page_status(text: &str) -> Result<StatusCode, Invalid> {
    let code = text.parse::<u16>().ok();
    code.filter(|code| (200..600).contains(code) && !matches!(code, 204 | 205 | 304))
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| {
            invalid(
                format!("{text:?} is not the status of a response with a body"),
                "give one from 200 to 599, as in `=200 empty.gif`",
            )
        })
}

/// The bytes of a regular file; others, such as a FIFO, are not opened.
fn read(path: &Path) -> Option<Bytes> {
    let metadata = std::fs::metadata(path).ok()?;
    if !metadata.is_file() || metadata.len() > LARGEST_PAGE {
        return None;
    }
    let bytes = std::fs::read(path).ok()?;
    (bytes.len() as u64 <= LARGEST_PAGE).then(|| bytes.into())
}

impl fmt::Display for PageFile {
    /// `/srv/404.html`, `200 /srv/empty.gif`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(status) = self.status {
            write!(f, "{} ", status.as_u16())?;
        }
        write!(f, "{}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A rule in one line.
    fn line(text: &str) -> String {
        match HeaderRule::parse(text) {
            Ok(rule) => {
                let always = if rule.always { "always " } else { "" };
                let value =
                    |value: HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
                let change = match rule.change {
                    HeaderChange::Set(given) => format!("set {}: {}", rule.name, value(given)),
                    HeaderChange::Add(given) => format!("add {}: {}", rule.name, value(given)),
                    HeaderChange::Remove => format!("remove {}", rule.name),
                };
                format!("{always}{change}")
            }
            Err(Invalid { problem, .. }) => problem,
        }
    }

    #[test]
    fn header_rules_that_are_understood() {
        for (text, expected) in [
            ("X-Frame-Options: DENY", "set x-frame-options: DENY"),
            ("X-Frame-Options=DENY", "set x-frame-options: DENY"),
            ("set A:b", "set a: b"),
            (
                "add  Link: </x>; rel=preload",
                "add link: </x>; rel=preload",
            ),
            ("always A: b", "always set a: b"),
            ("always add A: b:c=d", "always add a: b:c=d"),
            ("remove X-Powered-By", "always remove x-powered-by"),
            ("always remove A", "always remove a"),
            ("remove Server", "always remove server"),
            ("set: x", "set set: x"),
            ("always=x", "set always: x"),
            ("A: \"caf\u{e9}\"", "set a: \"caf\u{e9}\""),
            ("A: $host", "set a: $host"),
        ] {
            assert_eq!(line(text), expected, "{text}");
        }
    }

    #[test]
    fn header_rules_that_are_refused() {
        let set = "is set by the server for each response";
        for (text, expected) in [
            ("A", "no `:`"),
            ("", "no `:`"),
            (": x", "not the name"),
            ("A B: x", "not the name"),
            ("remove A: x", "not the name"),
            ("A:", "the value is empty"),
            ("A: b\r\nSet-Cookie: c", "control character"),
            ("A: b\u{0}", "control character"),
            ("A: b\tc", "control character"),
            ("Content-Length: 1", set),
            ("remove transfer-encoding", set),
            ("always add CONNECTION: close", set),
            ("Date: now", set),
            ("Server: x", set),
            ("Upgrade: h2c", set),
            ("X-Request-ID: 1", set),
        ] {
            assert!(line(text).contains(expected), "{text:?}: {}", line(text));
        }
    }

    #[test]
    fn error_pages_name_codes_and_files() {
        let read = |text: &str| {
            let pages = ErrorPage::parse(text, Path::new("/no/such"));
            pages.map(|pages| {
                let shown = pages.iter().map(|page| {
                    let file = page.page.as_ref().map(ToString::to_string);
                    format!("{}-{} {}", page.from, page.to, file.unwrap_or_default())
                });
                shown.collect::<Vec<_>>().join(", ")
            })
        };
        for (text, expected) in [
            ("404=404.html", "404-404 /no/such/404.html"),
            ("5xx=/e/50x.html", "500-599 /e/50x.html"),
            (
                "500,502 = e.html",
                "500-500 /no/such/e.html, 502-502 /no/such/e.html",
            ),
            ("404==200 empty.gif", "404-404 200 /no/such/empty.gif"),
            ("4xx=", "400-499 "),
            ("404=a=b", "404-404 /no/such/a=b"),
            (
                "404=data:text/html,<b a=\"%25\">",
                "404-404 data:text/html,<b a=\"%25\">",
            ),
            ("404==200 data:,", "404-404 200 data:,"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
        for text in [
            "404",
            "302=x",
            "600=x",
            "x=y",
            "404==200",
            "404==304 x",
            "404==99 x",
            "404,=x",
            "3xx=x",
            "404=data:x",
            "404=data:html,x",
            "404=data:text/plain;base64,eA==",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,30}|(always |add |set |remove )?[a-zA-Z:= -]{0,20}|[0-9x,=]{0,8}") {
            let _ = HeaderRule::parse(&text);
            let _ = ErrorPage::parse(&text, Path::new("/no/such"));
        }
    }
}
