//! Status and header fields of a response, checked when the application sets them.
//!
//! An invalid value raises in the application, from `start_response`: nothing unchecked can reach
//! the wire (PEP 3333, "The start_response() Callable"; RFC 9110 §5.5 and §5.6.2).

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};
use pyserve_wire::frames::{self, MAX_PAYLOAD};
use pyserve_wire::vars;

use crate::{ffi, log};

/// Hop-by-hop fields, which belong to the server (RFC 9110 §7.6.1; PEP 3333, "Other HTTP
/// Features"). They are dropped with a log line, as most servers do; PEP 3333 calls them an error.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
];

/// One bit per name of [`HOP_BY_HOP`] that was logged: once per worker is enough.
static REPORTED: AtomicU32 = AtomicU32::new(0);

/// The head of a response, as the bytes that are sent.
pub struct ResponseHead {
    /// Payload of the head frame.
    payload: Vec<u8>,
    /// Status code.
    pub status: u16,
    /// `Content-Length`, if the application gave one.
    pub length: Option<u64>,
}

impl ResponseHead {
    /// Checks the arguments of `start_response`. `seq` is for the log.
    ///
    /// # Errors
    /// `TypeError` and `ValueError`, for the application.
    pub fn read(status: &Bound<'_, PyAny>, headers: &Bound<'_, PyAny>, seq: u64) -> PyResult<Self> {
        let mut head = Self::of_status(status)?;
        let headers = headers.cast::<PyList>().map_err(|_| {
            PyTypeError::new_err(format!(
                "response headers must be a list of tuples, not {}",
                type_name(headers)
            ))
        })?;
        for field in headers.iter() {
            head.add(&field, seq)?;
        }
        if head.payload.len() > MAX_PAYLOAD - 64 {
            return Err(PyValueError::new_err(
                "response headers are over one megabyte",
            ));
        }
        Ok(head)
    }

    /// True if a response with this status has no body (RFC 9110 §6.4.1).
    pub fn is_bodiless(&self) -> bool {
        matches!(self.status, 204 | 304)
    }

    /// Adds the length that the server has determined.
    pub fn add_length(&mut self, length: u64) {
        self.length = Some(length);
        // Two short strings always fit.
        let _ = vars::push(
            &mut self.payload,
            b"Content-Length",
            length.to_string().as_bytes(),
        );
    }

    /// Adds a variable for the access log ([`frames::LOG_VAR`]).
    pub fn add_log_var(&mut self, name: &[u8], value: &[u8]) {
        let name = [frames::LOG_VAR, name].concat();
        // One that finds no room is left out.
        if self.payload.len() + name.len() + value.len() < MAX_PAYLOAD - 64 {
            let _ = vars::push(&mut self.payload, &name, value);
        }
    }

    /// The payload of the head frame.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    fn of_status(status: &Bound<'_, PyAny>) -> PyResult<Self> {
        let Ok(status) = status.cast::<PyString>() else {
            return Err(PyTypeError::new_err(format!(
                "status must be a str, not {}",
                type_name(status)
            )));
        };
        let bytes = ffi::to_latin1(status)?;
        let invalid = || {
            PyValueError::new_err(format!(
                "status must be three digits from 200 on, a space and a reason, not {status:?}"
            ))
        };
        let (code, reason) = parse_status(bytes.as_bytes()).ok_or_else(invalid)?;
        let mut payload = Vec::with_capacity(512);
        let start = frames::ReplyHeadFrame {
            status: code,
            reason,
            fields: &[],
        };
        frames::push_head(&mut payload, &start).map_err(|_| invalid())?;
        Ok(Self {
            payload,
            status: code,
            length: None,
        })
    }

    fn add(&mut self, field: &Bound<'_, PyAny>, seq: u64) -> PyResult<()> {
        let py = field.py();
        let (name, value) = match field.cast::<PyTuple>() {
            Ok(pair) if pair.len() == 2 => (pair.get_item(0)?, pair.get_item(1)?),
            _ => {
                return Err(PyTypeError::new_err(format!(
                    "a response header must be a tuple of name and value, not {}",
                    field.repr()?
                )));
            }
        };
        let (Ok(name), Ok(value)) = (name.cast::<PyString>(), value.cast::<PyString>()) else {
            return Err(PyTypeError::new_err(format!(
                "name and value of a response header must be str: {}",
                field.repr()?
            )));
        };
        let name_bytes = ffi::to_latin1(name)?;
        let value_bytes = ffi::to_latin1(value)?;
        let (name_bytes, value_bytes) = (name_bytes.as_bytes(), value_bytes.as_bytes());
        if name_bytes.is_empty() || !name_bytes.iter().all(|byte| is_token(*byte)) {
            return Err(PyValueError::new_err(format!(
                "{name:?} is not a response header name"
            )));
        }
        if !value_bytes.iter().all(|byte| is_field_text(*byte)) {
            return Err(PyValueError::new_err(format!(
                "the value of response header {name:?} has control characters: {value:?}"
            )));
        }
        if name_bytes.eq_ignore_ascii_case(b"content-length") {
            if !self.note_length(value_bytes)? {
                return Ok(());
            }
        } else if let Some(index) = hop_by_hop(name_bytes) {
            let bit = 1 << index;
            if REPORTED.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
                log::warn(
                    py,
                    seq,
                    &format!(
                        "dropped the response header {name:?}: connections are the server's \
                         (reported once per worker)"
                    ),
                );
            }
            return Ok(());
        }
        vars::push(&mut self.payload, name_bytes, value_bytes).map_err(|_| {
            PyValueError::new_err(format!(
                "response header {name:?} is longer than 65535 bytes"
            ))
        })
    }

    /// Records the application's length. `false`: the field must not be sent.
    fn note_length(&mut self, value: &[u8]) -> PyResult<bool> {
        // RFC 9110 §8.6: digits only; no length with 1xx and 204.
        let length = std::str::from_utf8(value)
            .ok()
            .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse::<u64>().ok())
            .ok_or_else(|| PyValueError::new_err("Content-Length must be a decimal number"))?;
        match self.length {
            Some(earlier) if earlier == length => return Ok(false),
            Some(_) => {
                return Err(PyValueError::new_err(
                    "two different Content-Length headers",
                ));
            }
            None => self.length = Some(length),
        }
        Ok(self.status != 204)
    }
}

/// The name of an object's type, for messages.
pub fn type_name(object: &Bound<'_, PyAny>) -> String {
    use pyo3::types::PyTypeMethods;
    object
        .get_type()
        .name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_else(|_| "an object".to_owned())
}

/// `200 OK` as 200 and `OK`; the reason may be empty. An interim response, 1xx, would need a final
/// one after it, which WSGI cannot express.
fn parse_status(status: &[u8]) -> Option<(u16, &[u8])> {
    let (code, rest) = status.split_first_chunk::<3>()?;
    if !code.iter().all(u8::is_ascii_digit) || matches!(code[0], b'0' | b'1') {
        return None;
    }
    let number = code
        .iter()
        .fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    let reason = match rest {
        [] => rest,
        [b' ', reason @ ..] => reason,
        _ => return None,
    };
    reason
        .iter()
        .all(|byte| is_field_text(*byte))
        .then_some((number, reason))
}

fn hop_by_hop(name: &[u8]) -> Option<usize> {
    // Most names differ from all of these in their first letter.
    if !matches!(name[0] | 0x20, b'c' | b'k' | b'p' | b't' | b'u') {
        return None;
    }
    HOP_BY_HOP
        .iter()
        .position(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 9110 §5.5: visible characters, space, tab, and bytes over 127.
fn is_field_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
