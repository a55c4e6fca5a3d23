//! Reads the head of a request (RFC 9112 §3 to §6) before hyper does.
//!
//! Most heads are passed on unchanged. Only the request line is rewritten: a target that is not in
//! its normal form ([`target`]), and a minor version above 1, which is served as 1.1 (RFC 9110
//! §2.5); and `Host`, where the target has an authority that `http` cannot hold. Heads that hyper would refuse are refused here, so that the client gets an error
//! page and the log a line: [`RefusedHead`].

use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::Bytes;
use http::Uri;

use super::refused::RefusedHead;
use super::{BodyRemainder, host_field, target};
use crate::config::values::is_token;
use crate::front::error::Rejection;
use crate::front::header_case::is_title_case;
use crate::front::protocol::limits::{MAX_FIELDS, MAX_HEAD, MAX_TARGET, PARSER_LIMIT};
use crate::front::protocol::refused::name_shown;

/// The head at the beginning of some bytes.
#[derive(Debug)]
pub enum ParsedHead<'a> {
    /// An incomplete head.
    Incomplete,
    /// A complete head.
    Whole(CompleteHead<'a>),
    /// A refused head.
    Refused(Box<RefusedHead>),
}

/// A complete head.
#[derive(Debug)]
pub struct CompleteHead<'a> {
    /// Its length in bytes.
    pub length: usize,
    /// The head as hyper gets it.
    pub bytes: Cow<'a, [u8]>,
    /// The framing of the body after it.
    pub body: BodyRemainder,
    /// The digits of its only Content-Length, in `bytes`, if the body is simply what follows the
    /// head: the client does not wait for `100 Continue`, and does not switch protocols.
    pub length_digits: Option<Range<usize>>,
    /// Nothing may be read after this request: it has both Content-Length and Transfer-Encoding
    /// (RFC 9112 §6.1).
    pub is_last: bool,
    /// Names that are not in title case, if requested.
    pub header_case: Vec<Bytes>,
}

type FieldPlaces<'a> = [MaybeUninit<httparse::Header<'a>>; MAX_FIELDS];

/// Reads a head. `keeps_case`: the case of names is recorded.
pub fn read(bytes: &[u8], keeps_case: bool) -> ParsedHead<'_> {
    let mut places: FieldPlaces<'_> = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut places) {
        Ok(httparse::Status::Partial) if bytes.len() < PARSER_LIMIT => ParsedHead::Incomplete,
        Ok(httparse::Status::Partial) => refused(bytes, too_large(bytes), bytes.len()),
        Ok(httparse::Status::Complete(length)) => {
            let path = request.path.unwrap_or_default();
            if !path.starts_with('/') || !target::is_normal(path.as_bytes()) {
                return read_line(bytes, keeps_case);
            }
            let head = Cow::Borrowed(&bytes[..length]);
            finish((bytes, length), (bytes, head), &request, keeps_case)
        }
        Err(_) => read_line(bytes, keeps_case),
    }
}

/// Reads a head whose request line is unusual or malformed.
fn read_line(bytes: &[u8], keeps_case: bool) -> ParsedHead<'_> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        // Neither garbage nor an endless line is waited for.
        let method = bytes.iter().take_while(|byte| is_token(**byte)).count();
        // A CR is the beginning of a line end, so it is the last byte so far.
        let line = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let is_control = |byte: &u8| byte.is_ascii_control();
        let is_garbage = method == 0
            || bytes.get(method).is_some_and(|byte| *byte != b' ')
            || line.iter().any(is_control);
        return match bytes.len() {
            _ if is_garbage => refused(bytes, Rejection::BadRequest(NO_LINE), bytes.len()),
            PARSER_LIMIT.. => refused(bytes, too_large(bytes), bytes.len()),
            _ => ParsedHead::Incomplete,
        };
    };
    let line = &bytes[..end];
    let rewritten = match normal_line(line.strip_suffix(b"\r").unwrap_or(line)) {
        Ok(rewritten) => rewritten,
        Err(rejection) => return refused(bytes, rejection, head_length(bytes)),
    };
    let behind = &bytes[end + 1..];
    let behind = match &rewritten.host {
        Some(host) => host_field::with_host(behind, host, rewritten.is_http10),
        None => Cow::Borrowed(behind),
    };
    let grown = (rewritten.line.len() + behind.len(), bytes.len());
    let head = [&rewritten.line[..], &behind].concat();
    let mut places: FieldPlaces<'_> = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(&head, &mut places) {
        Ok(httparse::Status::Partial) if bytes.len() < PARSER_LIMIT => ParsedHead::Incomplete,
        Ok(httparse::Status::Partial) => refused(bytes, too_large(bytes), bytes.len()),
        Ok(httparse::Status::Complete(length)) => {
            let whole = length + grown.1 - grown.0;
            let rewritten = Cow::Owned(head[..length].to_vec());
            finish((bytes, whole), (&head, rewritten), &request, keeps_case)
        }
        Err(httparse::Error::TooManyHeaders) => {
            let rejection = Rejection::TooManyFields {
                fields: count_fields(bytes),
                limit: MAX_FIELDS,
            };
            refused(bytes, rejection, head_length(bytes))
        }
        Err(_) => refused(bytes, Rejection::BadRequest(NO_FIELD), head_length(bytes)),
    }
}

const NO_LINE: &str = "the request line is malformed";
const NO_FIELD: &str = "a header field is malformed";

/// A request line as hyper gets it.
struct RequestLine {
    line: Vec<u8>,
    /// The authority of an absolute target, which goes to the `Host` field because `http` cannot
    /// hold it in a target.
    host: Option<Vec<u8>>,
    is_http10: bool,
}

/// The request line as hyper gets it (RFC 9112 §3).
fn normal_line(line: &[u8]) -> Result<RequestLine, Rejection> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(asked)) = (parts.next(), parts.next()) else {
        return Err(Rejection::BadRequest(NO_LINE));
    };
    let (version, rest) = (parts.next(), parts.next());
    if method.is_empty() || !method.iter().copied().all(is_token) {
        return Err(Rejection::BadRequest("the method is not a token"));
    }
    let Some(version) = version else {
        return Err(Rejection::BadRequest(
            "the request line has no HTTP version",
        ));
    };
    if rest.is_some() {
        return Err(Rejection::BadRequest(
            "the request line has too many spaces",
        ));
    }
    let minor = match version {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'] => b'0',
        // RFC 9110 §2.5: a higher minor version is served as the highest that is supported.
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => b'1',
        [b'H', b'T', b'T', b'P', b'/', b'2'..=b'9', b'.', b'0'..=b'9'] => {
            return Err(Rejection::Version);
        }
        _ => return Err(Rejection::BadRequest("the HTTP version is malformed")),
    };
    if asked.len() > MAX_TARGET {
        return Err(Rejection::TargetTooLong {
            length: asked.len(),
            limit: MAX_TARGET,
        });
    }
    if asked.is_empty() || asked.iter().any(u8::is_ascii_control) {
        return Err(Rejection::BadRequest(
            "the request target has a control character or is empty",
        ));
    }
    let asked = target::normal(asked);
    // `http` refuses the longest ones.
    if asked.len() > MAX_TARGET {
        return Err(Rejection::TargetTooLong {
            length: asked.len(),
            limit: MAX_TARGET,
        });
    }
    let (host, asked) = match Uri::try_from(&*asked) {
        Ok(_) => (None, &*asked),
        Err(_) => host_field::split(&asked)
            .filter(|(_, path)| Uri::try_from(*path).is_ok())
            .map(|(host, path)| (Some(host.to_vec()), path))
            .ok_or(Rejection::BadRequest("the request target is malformed"))?,
    };
    let mut rewritten = Vec::with_capacity(line.len() + 32);
    rewritten.extend_from_slice(method);
    rewritten.push(b' ');
    rewritten.extend_from_slice(asked);
    rewritten.extend_from_slice(b" HTTP/1.");
    rewritten.extend([minor, b'\r', b'\n']);
    Ok(RequestLine {
        line: rewritten,
        host,
        is_http10: minor == b'0',
    })
}

/// Finds the framing of the body of a syntactically valid head: the first `length` of the `bytes`
/// received. `request` was parsed from `parsed`, which begins with `head`.
fn finish<'a>(
    (bytes, length): (&[u8], usize),
    (parsed, head): (&[u8], Cow<'a, [u8]>),
    request: &httparse::Request<'_, '_>,
    keeps_case: bool,
) -> ParsedHead<'a> {
    let target_length = request.path.unwrap_or_default().len();
    if target_length > MAX_TARGET {
        let rejection = Rejection::TargetTooLong {
            length: target_length,
            limit: MAX_TARGET,
        };
        return refused(bytes, rejection, length);
    }
    // hyper refuses a head that fills its buffer.
    if head.len() >= PARSER_LIMIT {
        return refused(bytes, too_large(&bytes[..length]), length);
    }
    match framing(request) {
        Ok(framing) => ParsedHead::Whole(CompleteHead {
            length,
            length_digits: framing.digits.and_then(|digits| place_of(digits, parsed)),
            bytes: head,
            body: framing.body,
            is_last: framing.is_last,
            header_case: match keeps_case {
                true => unusual_names(request),
                false => Vec::new(),
            },
        }),
        Err(rejection) => refused(bytes, rejection, length),
    }
}

/// The fields of a head that frame its body.
struct Fields<'a> {
    body: BodyRemainder,
    is_last: bool,
    /// See [`CompleteHead::length_digits`].
    digits: Option<&'a [u8]>,
}

/// RFC 9112 §6.3, for requests.
fn framing<'a>(request: &httparse::Request<'_, 'a>) -> Result<Fields<'a>, Rejection> {
    let (mut length, mut is_coded, mut codings) = (None, false, 0);
    let (mut digits, mut is_plain) = (None, true);
    for field in &*request.headers {
        match field.name.len() {
            6 => is_plain &= !field.name.eq_ignore_ascii_case("expect"),
            7 => is_plain &= !field.name.eq_ignore_ascii_case("upgrade"),
            14 if field.name.eq_ignore_ascii_case("content-length") => {
                let value = number(field.value).filter(|value| {
                    // Several equal ones count as one (RFC 9110 §8.6).
                    length.is_none_or(|before| before == *value)
                });
                // A second one would have to be replaced too.
                is_plain &= length.is_none();
                digits = Some(field.value);
                length =
                    Some(value.ok_or(Rejection::BadRequest("the Content-Length is malformed"))?);
            }
            17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                codings += 1;
                is_coded = field.value.eq_ignore_ascii_case(b"chunked");
            }
            _ => {}
        }
    }
    match codings {
        0 => Ok(Fields {
            body: BodyRemainder::Length(length.unwrap_or(0)),
            is_last: false,
            digits: digits.filter(|_| is_plain),
        }),
        // RFC 9112 §6.1: the framing of such a message is faulty.
        _ if request.version != Some(1) => {
            Err(Rejection::BadRequest("HTTP/1.0 has no transfer codings"))
        }
        1 if is_coded => Ok(Fields {
            body: BodyRemainder::Chunks(super::Chunks::default()),
            is_last: length.is_some(),
            digits: None,
        }),
        _ => Err(refused_coding(request)),
    }
}

/// RFC 9112 §6.1, §7: an unknown coding before a final `chunked` is not implemented; with any other
/// list the end of the body cannot be found.
fn refused_coding(request: &httparse::Request<'_, '_>) -> Rejection {
    let lists = request.headers.iter();
    let lists = lists.filter(|field| field.name.eq_ignore_ascii_case("transfer-encoding"));
    let mut codings: Vec<&[u8]> = lists
        .flat_map(|field| field.value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .collect();
    let is_chunked = |coding: &&[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let is_name = |coding: &&[u8]| {
        let name = coding
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default();
        let name = name.trim_ascii();
        !name.is_empty() && name.iter().copied().all(is_token)
    };
    let last = codings.pop().unwrap_or_default();
    match is_chunked(&last) && !codings.is_empty() && !codings.iter().any(is_chunked) {
        true if codings.iter().all(is_name) => Rejection::Coding,
        _ => Rejection::BadRequest("the Transfer-Encoding is not chunked"),
    }
}

/// The place of `part` within `whole`, of which it is a part.
fn place_of(part: &[u8], whole: &[u8]) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    let place = start..start + part.len();
    (whole.get(place.clone()) == Some(part)).then_some(place)
}

/// `1*DIGIT`, as hyper reads it; it uses the largest numbers for other purposes.
fn number(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = str::from_utf8(value).ok()?.parse().ok()?;
    (number < u64::MAX - 2).then_some(number)
}

fn unusual_names(request: &httparse::Request<'_, '_>) -> Vec<Bytes> {
    let names = request.headers.iter().map(|field| field.name.as_bytes());
    let unusual = names.filter(|name| !is_title_case(name));
    unusual.map(Bytes::copy_from_slice).collect()
}

fn refused<'a>(bytes: &[u8], rejection: Rejection, length: usize) -> ParsedHead<'a> {
    ParsedHead::Refused(Box::new(RefusedHead::new(rejection, bytes, length)))
}

/// Names the request line, or the field, that makes a head too large.
fn too_large(bytes: &[u8]) -> Rejection {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let line = lines.next().unwrap_or_default();
    if line.len() > MAX_TARGET {
        return Rejection::TargetTooLong {
            length: line.len(),
            limit: MAX_TARGET,
        };
    }
    let biggest = lines.max_by_key(|line| line.len()).unwrap_or_default();
    let name = biggest
        .split(|byte| *byte == b':')
        .next()
        .unwrap_or_default();
    let length = biggest.len() - name.len();
    Rejection::HeadTooLarge {
        total: bytes.len(),
        limit: MAX_HEAD,
        biggest: name_shown(name),
        length,
    }
}

fn count_fields(bytes: &[u8]) -> usize {
    let lines = bytes.split(|byte| *byte == b'\n').skip(1);
    lines.take_while(|line| !is_empty_line(line)).count()
}

fn is_empty_line(line: &[u8]) -> bool {
    matches!(line, [] | [b'\r'])
}

/// Length of the head, or of all bytes if it does not end.
fn head_length(bytes: &[u8]) -> usize {
    end(bytes, 0).unwrap_or(bytes.len())
}

/// The length of a head that ends in `bytes` but not in the first `seen` of them.
pub fn end(bytes: &[u8], seen: usize) -> Option<usize> {
    let mut rest = &bytes[seen.saturating_sub(3)..];
    while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
        rest = &rest[at + 1..];
        match rest {
            [b'\n', ..] => return Some(bytes.len() - rest.len() + 1),
            [b'\r', b'\n', ..] => return Some(bytes.len() - rest.len() + 2),
            _ => {}
        }
    }
    None
}
