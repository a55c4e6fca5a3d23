//! A file that the application opened and handed over (`wsgi.file_wrapper`): the conditions and
//! ranges of the request, applied to the application's own response.
//!
//! The application's headers about the file take precedence. Where they are missing, and the whole
//! file is handed over, the file's own validators are added, so that a download can be resumed.

use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE,
    LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use hyper::ext::ReasonPhrase;
use pyserve_wire::frames::FilePiece;

use super::conditional::{ConditionOutcome, Conditions, Validators};
use super::headers;
use super::range::{Selection, select};
use super::{FilePool, StaticError};
use crate::front::body::content::Content;
use crate::front::body::file::FileBody;
use crate::front::body::multipart::content_range;
use crate::front::body::multipart::{Bodies, Multipart};
use crate::front::sendfile::file_source::read_block;

/// Responds with the piece, or with the ranges of it that the request asks for; `said` is the
/// response of the application without its body.
///
/// # Errors
/// [`StaticError`] for 412 and 416.
pub async fn handed_over(
    file: File,
    piece: FilePiece,
    method: &Method,
    asked: &HeaderMap,
    said: Response<()>,
    pool: &FilePool,
) -> Result<Response<Content>, StaticError> {
    let mut said = said;
    let is_plain = said.status() == StatusCode::OK
        && (*method == Method::GET || *method == Method::HEAD)
        && !said.headers().contains_key(CONTENT_RANGE)
        && !said.headers().contains_key(CONTENT_ENCODING);
    let has_body = *method != Method::HEAD;
    let (source, metadata) = Source::of(file, piece, has_body, pool).await?;
    let mut part = 0..piece.length;
    if is_plain {
        let validators = validators(said.headers_mut(), &metadata, piece);
        let conditions = Conditions::of(asked);
        match validators
            .as_ref()
            .map(|validators| conditions.evaluate(validators))
        {
            None | Some(ConditionOutcome::Send) => {}
            Some(ConditionOutcome::Failed) => return Err(StaticError::PreconditionFailed),
            Some(ConditionOutcome::NotModified) => return Ok(not_modified(said)),
        }
        let length = piece.length;
        let selection = match *method == Method::GET {
            true => selection(
                asked,
                said.headers(),
                &conditions,
                validators.as_ref(),
                length,
            ),
            // RFC 9110 §14.2: ranges are for GET.
            false => Selection::Whole,
        };
        match selection {
            Selection::Unsatisfiable => return Err(StaticError::RangeNotSatisfiable { length }),
            Selection::Whole => {}
            Selection::Parts(parts) if parts.len() == 1 => {
                part = parts[0].clone();
                let headers = said.headers_mut();
                headers.insert(CONTENT_RANGE, content_range(&part, length));
                headers.insert(CONTENT_LENGTH, HeaderValue::from(part.end - part.start));
                set_status(&mut said, StatusCode::PARTIAL_CONTENT);
            }
            Selection::Parts(parts) => {
                let content_type = said.headers().get(CONTENT_TYPE);
                let bodies = source.bodies(piece, pool);
                let (body, boundary) = Multipart::new(content_type, length, &parts, bodies);
                headers::wrap_parts(said.headers_mut(), body.length(), &boundary);
                set_status(&mut said, StatusCode::PARTIAL_CONTENT);
                return Ok(said.map(|()| Content::Parts(body)));
            }
        }
        let headers = said.headers_mut();
        headers
            .entry(ACCEPT_RANGES)
            .or_insert(HeaderValue::from_static("bytes"));
    }
    if !has_body {
        return Ok(said.map(|()| Content::Empty));
    }
    Ok(said.map(|()| source.content(piece, part, pool)))
}

/// The bytes of a piece.
enum Source {
    /// All of them.
    Bytes(Bytes),
    /// The file that has them.
    File(File),
}

impl Source {
    /// The bytes of a short piece, else the file; with its metadata. One job of the pool.
    async fn of(
        file: File,
        piece: FilePiece,
        has_body: bool,
        pool: &FilePool,
    ) -> Result<(Self, Metadata), StaticError> {
        let read = move || -> io::Result<_> {
            let metadata = file.metadata()?;
            let source = match usize::try_from(piece.length) {
                Ok(length) if has_body && piece.length <= IN_ONE_READ => {
                    Self::Bytes(read_block(&file, piece.offset, length)?)
                }
                _ => Self::File(file),
            };
            Ok((source, metadata))
        };
        pool.run(read).await.map_err(StaticError::Io)
    }

    /// For several ranges of the piece.
    fn bodies(self, piece: FilePiece, pool: &FilePool) -> Bodies {
        match self {
            Self::Bytes(bytes) => Bodies::Bytes(bytes),
            Self::File(file) => Bodies::File(file.into(), piece.offset, pool.clone()),
        }
    }

    /// A part of the piece.
    fn content(self, piece: FilePiece, part: Range<u64>, pool: &FilePool) -> Content {
        match self {
            // The length of the bytes is that of the piece, which has the part.
            Self::Bytes(bytes) => {
                Content::Bytes(bytes.slice(part.start as usize..part.end as usize))
            }
            Self::File(file) => {
                let (offset, length) = (piece.offset + part.start, part.end - part.start);
                Content::File(FileBody::new(file, offset, length, pool.clone()))
            }
        }
    }
}

/// Longest piece that is read at once; the response may then be compressed as others are. Also the
/// length up to which static files are read into memory.
pub const IN_ONE_READ: u64 = 64 << 10;

/// The application's validators, completed by the file's own, which are added to `said`. `None` if
/// it hands over a part of a file without validators.
fn validators(said: &mut HeaderMap, metadata: &Metadata, piece: FilePiece) -> Option<Validators> {
    let is_whole = piece.offset == 0 && piece.length == metadata.len();
    let is_said = said.contains_key(ETAG) || said.contains_key(LAST_MODIFIED);
    if !is_whole && !is_said {
        return None;
    }
    // Valid from the first moment on, so that a download can always be resumed.
    let mut validators = Validators::of_state(metadata, true);
    let text = |name| {
        said.get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    if let Some(etag) = text(ETAG) {
        validators.etag = etag.to_owned();
    }
    if let Some(date) = text(LAST_MODIFIED).and_then(|date| httpdate::parse_http_date(date).ok()) {
        validators.last_modified = date;
    }
    if !is_said {
        let date = httpdate::fmt_http_date(validators.last_modified);
        said.insert(ETAG, HeaderValue::try_from(&*validators.etag).ok()?);
        said.insert(LAST_MODIFIED, HeaderValue::try_from(date).ok()?);
    }
    Some(validators)
}

fn selection(
    asked: &HeaderMap,
    said: &HeaderMap,
    conditions: &Conditions,
    validators: Option<&Validators>,
    length: u64,
) -> Selection {
    let refused = said.get(ACCEPT_RANGES).is_some_and(|value| value == "none");
    let stands = match validators {
        Some(validators) => conditions.allow_range(validators),
        None => !asked.contains_key(IF_RANGE),
    };
    match asked.get(RANGE) {
        Some(range) if stands && !refused => select(range.as_bytes(), length),
        _ => Selection::Whole,
    }
}

/// RFC 9110 §15.4.5: all fields except those that describe the body, which is not sent.
fn not_modified(mut said: Response<()>) -> Response<Content> {
    set_status(&mut said, StatusCode::NOT_MODIFIED);
    for name in [CONTENT_LENGTH, CONTENT_TYPE] {
        said.headers_mut().remove(name);
    }
    said.map(|()| Content::Empty)
}

/// The application's reason phrase belonged to the status that it chose.
fn set_status(said: &mut Response<()>, status: StatusCode) {
    *said.status_mut() = status;
    said.extensions_mut().remove::<ReasonPhrase>();
}
