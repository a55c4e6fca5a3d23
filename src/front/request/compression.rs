//! Decides if an upstream's response is compressed for its client, and changes its head accordingly
//! (RFC 9110 §8.4, §8.8.3, §12.5.3). Files have their own forms and are not handled here.
//!
//! BREACH: an attacker who makes a browser send requests, has his own text reflected in the
//! responses, and sees their length on the wire, can guess a secret in them by how well it
//! compresses with his text. So unless `compress_private` is set, no response is compressed that
//! may hold a secret: responses to requests with cookies or credentials, and those that set a
//! cookie.
//!
//! A HEAD is answered as the GET would be (RFC 9110 §9.3.2), so the head decides. A response to a
//! HEAD without `Content-Length` has no `Content-Encoding`, but `Vary`. A 304 has `Vary` too, where
//! the 200 would (RFC 9110 §15.4.5).

use std::sync::Arc;

use http::header::{
    ACCEPT_RANGES, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, COOKIE, ETAG, IF_NONE_MATCH, SET_COOKIE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use crate::config::{CompressTypes, Compression};
use crate::front::body::Body;
use crate::front::body::encoded::{EncodedBody, HERE};
use crate::front::body::encoder;
use crate::front::body::encoder::{Encoder, Encoders, PREFERRED};
use crate::front::body::negotiate::{Accepted, Choice, Coding};
use crate::front::body::response_stream::ResponseBody;
use crate::front::client_limits::memory_budget::{Account, SMALL};

/// Fields that are valid only for the bytes as the application made them.
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];

/// The request and the settings that decide.
pub struct Case<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// The request's header fields.
    pub asked: &'a HeaderMap,
    /// The compression settings.
    pub compression: &'a Compression,
    /// The media types to compress.
    pub types: &'a CompressTypes,
}

/// The response, compressed if the settings allow it and the client accepts it.
pub async fn compress(
    case: &Case<'_>,
    said: Response<()>,
    body: ResponseBody,
    encoders: &Encoders,
    account: &Arc<Account>,
) -> Response<Body> {
    let whole = match body.as_whole() {
        Some(bytes) if *case.method != Method::HEAD => Some(bytes.len() as u64),
        _ => None,
    };
    match case.decide(&said, whole) {
        Decision::Never => unchanged(case, said, body),
        Decision::NotForThisClient => {
            let mut response = unchanged(case, said, body);
            vary(response.headers_mut());
            response
        }
        Decision::AsHeld => {
            let mut response = unchanged(case, said, body);
            vary(response.headers_mut());
            case.tag_as_held(response.headers_mut());
            response
        }
        // Boxed: keeps the future of every request small.
        Decision::As(coding) => {
            Box::pin(encoded(case, said, body, coding, encoders, account)).await
        }
    }
}

/// The response with its body unchanged.
fn unchanged(case: &Case<'_>, said: Response<()>, body: ResponseBody) -> Response<Body> {
    let is_unsaid = *case.method == Method::HEAD && !said.headers().contains_key(CONTENT_LENGTH);
    let body = match is_unsaid {
        true => Body::Unsaid,
        false => Body::Upstream(body),
    };
    said.map(|()| body)
}

async fn encoded(
    case: &Case<'_>,
    mut said: Response<()>,
    body: ResponseBody,
    coding: Coding,
    encoders: &Encoders,
    account: &Arc<Account>,
) -> Response<Body> {
    vary(said.headers_mut());
    if *case.method == Method::HEAD {
        let is_sure = said.headers().contains_key(CONTENT_LENGTH);
        change(said.headers_mut(), coding);
        if !is_sure {
            said.headers_mut().remove(CONTENT_ENCODING);
        }
        return said.map(|()| Body::Unsaid);
    }
    if let Some(bytes) = body.as_whole() {
        let bytes = bytes.clone();
        let length = bytes.len();
        let job = move || encoder::whole(&bytes, coding);
        let result = match length <= HERE {
            true => job(),
            false => encoders.pool.run(job).await,
        };
        return match result {
            // Used even if it is longer: a response to HEAD could not know that.
            Ok(encoded) => {
                change(said.headers_mut(), coding);
                let length = HeaderValue::from(encoded.len());
                said.headers_mut().insert(CONTENT_LENGTH, length);
                // Charged in place of the original body, whose memory is free now.
                let encoded = match encoded.len() {
                    ..=SMALL => encoded,
                    held => account.hold(held).around(encoded),
                };
                said.map(|()| Body::Full(encoded))
            }
            Err(_) => said.map(|()| Body::Upstream(body)),
        };
    }
    // Without room for this coding, gzip is tried; else the body is sent as it is.
    let begin = |coding| {
        let slot = encoders.stream(coding, account)?;
        Some((coding, slot, Encoder::new(coding).ok()?))
    };
    let smaller = || begin(case.best([Coding::Gzip].into_iter())?);
    match begin(coding).or_else(smaller) {
        Some((coding, slot, encoder)) => {
            change(said.headers_mut(), coding);
            let body = EncodedBody::new(body, encoder, encoders.clone(), slot);
            said.map(|()| Body::Encoded(Box::new(body)))
        }
        None => said.map(|()| Body::Upstream(body)),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// Never compressed, whatever the client accepts.
    Never,
    /// Not compressed here; another client might get it compressed.
    NotForThisClient,
    /// Nothing to compress: the client holds the body, perhaps compressed.
    AsHeld,
    As(Coding),
}

impl Case<'_> {
    /// `whole` is the length of a body that is complete already.
    fn decide(&self, said: &Response<()>, whole: Option<u64>) -> Decision {
        let headers = said.headers();
        let status = said.status();
        let has_body = !status.is_informational()
            && !matches!(status, StatusCode::NO_CONTENT | StatusCode::PARTIAL_CONTENT);
        let is_held = status == StatusCode::NOT_MODIFIED;
        // A 304 may leave out the type, which could then be any. Frameworks that send a length with
        // it send that of its own content, which is zero.
        let may_be_any = is_held && !headers.contains_key(CONTENT_TYPE);
        let is_none = |length: u64| is_held && length == 0;
        let is_open = PREFERRED
            .into_iter()
            .any(|coding| self.compression.has(coding.name()));
        if !is_open
            || !has_body
            || length(headers)
                .is_some_and(|length| length < self.compression.min && !is_none(length))
            || headers.contains_key(CONTENT_ENCODING)
            || headers.contains_key(CONTENT_RANGE)
            || DIGESTS.iter().any(|digest| headers.contains_key(digest))
            || forbids_transforming(headers)
            || !(may_be_any || self.types.include(essence(headers)))
            || self.is_private(headers)
        {
            return Decision::Never;
        }
        if is_held {
            return Decision::AsHeld;
        }
        if whole.is_some_and(|length| length < self.compression.min) {
            // The length is not in the head: a HEAD would not know it, nor would it hold for the
            // next response.
            return Decision::NotForThisClient;
        }
        match self.best(PREFERRED.into_iter()) {
            Some(coding) => Decision::As(coding),
            None => Decision::NotForThisClient,
        }
    }

    /// The first of these codings that the client and the settings accept.
    fn best(&self, codings: impl DoubleEndedIterator<Item = Coding>) -> Option<Coding> {
        let codings = codings.filter(|coding| self.compression.has(coding.name()));
        match Accepted::of(self.asked).best(codings) {
            Choice::Encoded(coding) => Some(coding),
            Choice::Identity => None,
        }
    }

    /// RFC 9111 §4.3.4: a cache selects the stored response that a 304 updates by its entity tag. A
    /// compressed response was stored, and is revalidated, with the weak tag ([`change`]).
    fn tag_as_held(&self, said: &mut HeaderMap) {
        let Some(weak) = said.get(ETAG).and_then(weakened) else {
            return;
        };
        if list(self.asked, &IF_NONE_MATCH).any(|held| weak == *held) {
            said.insert(ETAG, weak);
        }
    }

    /// True if the response may contain a secret.
    fn is_private(&self, said: &HeaderMap) -> bool {
        !self.compression.private
            && (said.contains_key(SET_COOKIE)
                || self.asked.contains_key(COOKIE)
                || self.asked.contains_key(AUTHORIZATION))
    }
}

/// RFC 9110 §8.8.1: an encoded form is another representation, for which the application's strong
/// tag is not valid. The tag is weakened, as in nginx.
fn change(headers: &mut HeaderMap, coding: Coding) {
    let name = HeaderValue::from_static(coding.name());
    headers.insert(CONTENT_ENCODING, name);
    headers.remove(CONTENT_LENGTH);
    // No ranges of a body that is compressed on the fly.
    headers.remove(ACCEPT_RANGES);
    if let Some(weak) = headers.get(ETAG).and_then(weakened) {
        headers.insert(ETAG, weak);
    }
}

/// The weak form of a strong tag.
fn weakened(tag: &HeaderValue) -> Option<HeaderValue> {
    let strong = Some(tag.as_bytes()).filter(|tag| tag.starts_with(b"\""))?;
    HeaderValue::from_bytes(&[b"W/", strong].concat()).ok()
}

fn vary(headers: &mut HeaderMap) {
    let is_said = list(headers, &VARY)
        .any(|name| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding"));
    if !is_said {
        headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// RFC 9111 §5.2.2.6.
fn forbids_transforming(headers: &HeaderMap) -> bool {
    list(headers, &CACHE_CONTROL).any(|word| word.eq_ignore_ascii_case(b"no-transform"))
}

fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let values = headers.get_all(name).into_iter();
    values.flat_map(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .map(<[u8]>::trim_ascii)
    })
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The media type without parameters.
fn essence(headers: &HeaderMap) -> &str {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let value = value.unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}
