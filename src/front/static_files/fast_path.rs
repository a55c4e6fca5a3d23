//! Responses from memory alone, with a head that is ready to be sent.
//!
//! The steps and functions of [`StaticFiles::serve`], for requests that need no waiting: requests
//! that need it, or are refused, are left to `serve`.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderName, Response, StatusCode, header};

use super::conditional::{ConditionOutcome, Conditions};
use super::headers;
use super::path::Location;
use super::representation::{Heads, Representation};
use super::sealed::Sealed;
use super::{Accepted, StaticFiles};
use crate::front::response_rules::ResponseRules;

/// The fields of a plain request that select a form of a file.
#[derive(Debug, Clone, Copy)]
pub struct Plainly<'a> {
    /// True for GET, false for HEAD.
    pub with_body: bool,
    /// Its parsed `Accept-Encoding`.
    pub accepted: Accepted,
    /// `If-None-Match`.
    pub if_none_match: Option<&'a [u8]>,
    /// `If-Modified-Since`.
    pub if_modified_since: Option<&'a [u8]>,
}

/// A response without the fields that are added to all responses.
#[derive(Debug)]
pub struct Ready {
    /// 200 or 304.
    pub status: StatusCode,
    /// Status line and fields, without the empty line after them.
    pub head: Bytes,
    /// The body; empty for HEAD and 304.
    pub body: Bytes,
    /// The memory file of which the body is all, if it is in one.
    pub sealed: Option<Arc<Sealed>>,
}

impl StaticFiles {
    /// Answers a request for `rest`, the part of the path and its query that [`StaticFiles::find`]
    /// returned. `None`: [`StaticFiles::serve`] has to.
    pub fn at_once(
        &self,
        location: &Location,
        rest: &str,
        asked: &Plainly<'_>,
        now: Instant,
    ) -> Option<Ready> {
        let path = rest.split_once('?').map_or(rest, |(path, _)| path);
        let path = location.file_path(path, self.hidden).ok()?;
        if path.is_directory && !location.has_indexes() {
            return None;
        }
        let (memory, place) = self.shared.memory(location);
        let resource = memory.glance(place, &path.file_name(), now)?;
        let form = resource.choose(&asked.accepted);
        let conditions = Conditions::of_copy(asked.if_none_match, asked.if_modified_since);
        match conditions.evaluate(&form.validators) {
            ConditionOutcome::Send => Some(Ready {
                status: StatusCode::OK,
                head: form.heads.whole(form, location.rules()),
                body: match asked.with_body {
                    // hyper writes the length of an empty body in another place.
                    true => form.bytes.clone().filter(|bytes| !bytes.is_empty())?,
                    false => Bytes::new(),
                },
                sealed: form.sealed.clone().filter(|_| asked.with_body),
            }),
            ConditionOutcome::NotModified => Some(Ready {
                status: StatusCode::NOT_MODIFIED,
                head: form.heads.not_modified(form, location.rules()),
                body: Bytes::new(),
                sealed: None,
            }),
            ConditionOutcome::Failed => None,
        }
    }
}

impl Heads {
    /// A form belongs to one location of one site, whose rules do not change.
    fn whole(&self, form: &Representation, rules: &ResponseRules) -> Bytes {
        let render = || rendered(headers::whole(form), rules);
        self.whole.get_or_init(render).clone()
    }

    fn not_modified(&self, form: &Representation, rules: &ResponseRules) -> Bytes {
        let render = || rendered(headers::not_modified(form), rules);
        self.not_modified.get_or_init(render).clone()
    }
}

/// A head in hyper's format, which a test compares.
fn rendered(mut response: Response<()>, rules: &ResponseRules) -> Bytes {
    rules.change_headers(&mut response);
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes();
    for (name, value) in response.headers() {
        write_name(&mut head, name);
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.into()
}

/// In title case, except for the one field of a file that is never written so.
fn write_name(head: &mut Vec<u8>, name: &HeaderName) {
    if *name == header::ETAG {
        return head.extend_from_slice(b"ETag");
    }
    let mut starts_word = true;
    for byte in name.as_str().bytes() {
        head.push(match starts_word {
            true => byte.to_ascii_uppercase(),
            false => byte,
        });
        starts_word = byte == b'-';
    }
}
