//! The header fields that every response gets, on both paths that write responses. A new one is
//! added here. `Date` is not among them, because hyper adds it.

use http::header::{SERVER, STRICT_TRANSPORT_SECURITY};
use http::{HeaderName, HeaderValue};

use crate::config::Scheme;
use crate::front::context::X_REQUEST_ID;
use crate::front::site::Site;

/// A header field of all responses.
pub struct CommonField<'a> {
    /// The field's name.
    pub name: HeaderName,
    /// The name as HTTP/1 responses have it.
    pub written: &'static str,
    value: Value<'a>,
}

enum Value<'a> {
    Fixed(&'static str),
    OfRequest(&'a str),
    OfSettings(HeaderValue),
}

/// The fields of the response to a request with this id over this scheme, in order.
pub fn common_fields<'a>(
    site: &Site,
    request_id: &'a str,
    scheme: Scheme,
) -> impl Iterator<Item = CommonField<'a>> + use<'a> {
    let request_id = CommonField {
        name: X_REQUEST_ID,
        written: "X-Request-Id",
        value: Value::OfRequest(request_id),
    };
    let server = site.server_header.then_some(CommonField {
        name: SERVER,
        written: "Server",
        value: Value::Fixed("pyserve"),
    });
    // RFC 6797 §7.2: never over plain HTTP.
    let hsts = site.https.hsts.as_ref().filter(|_| scheme == Scheme::Https);
    let hsts = hsts.map(|value| CommonField {
        name: STRICT_TRANSPORT_SECURITY,
        written: "Strict-Transport-Security",
        value: Value::OfSettings(value.clone()),
    });
    std::iter::once(request_id).chain(server).chain(hsts)
}

impl CommonField<'_> {
    /// The value as bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.value {
            Value::Fixed(text) => text.as_bytes(),
            Value::OfRequest(text) => text.as_bytes(),
            Value::OfSettings(value) => value.as_bytes(),
        }
    }

    /// The value; `None` if it is not valid in a header.
    pub fn header_value(&self) -> Option<HeaderValue> {
        match &self.value {
            Value::Fixed(text) => Some(HeaderValue::from_static(text)),
            Value::OfRequest(text) => HeaderValue::from_str(text).ok(),
            Value::OfSettings(value) => Some(value.clone()),
        }
    }
}
