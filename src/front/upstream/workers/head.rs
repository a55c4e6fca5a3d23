//! The head of a worker's response: the payload of a frame in, a response without its body out.
//! Pure; a corrupted worker may send anything.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pyserve_wire::{frames, vars};

use crate::front::body::response_stream::ResponseBody;
use crate::front::header_case::is_title_case;
use crate::front::upstream::Response;
use crate::observe::access_log::LogVars;

/// Most variables for the access log that are kept.
const MOST_LOG_VARS: usize = 64;

/// Reads the payload of a `Head` frame.
///
/// # Errors
/// The fault, as text.
pub fn read(payload: &Bytes) -> Result<Response, String> {
    let head = frames::read_head(payload).map_err(|error| error.to_string())?;
    let status = StatusCode::from_u16(head.status).map_err(|error| error.to_string())?;
    if status.is_informational() {
        return Err(format!("{status} is not a final status code"));
    }
    let usual = status.canonical_reason().unwrap_or_default().as_bytes();
    let reason = (head.reason != usual).then(|| payload.slice_ref(head.reason));
    let mut headers = HeaderMap::with_capacity(8);
    let mut header_case = Vec::new();
    let mut log_vars: Option<Box<LogVars>> = None;
    for pair in vars::pairs(head.fields) {
        let (name, value) = pair.map_err(|error| error.to_string())?;
        if let Some(name) = name.strip_prefix(frames::LOG_VAR) {
            let vars = log_vars.get_or_insert_default();
            if vars.len() < MOST_LOG_VARS {
                vars.push((name.into(), value.into()));
            }
            continue;
        }
        let parsed = HeaderName::from_bytes(name)
            .map_err(|_| format!("header name {:?}", String::from_utf8_lossy(name)))?;
        // A slice of the frame, not a copy: the value lives as long as the response does.
        let value = HeaderValue::from_maybe_shared(payload.slice_ref(value))
            .map_err(|_| format!("value of header {parsed}"))?;
        if !is_title_case(name) {
            header_case.push(payload.slice_ref(name));
        }
        // `append` would panic: a frame has room for more fields than a map.
        headers
            .try_append(parsed, value)
            .map_err(|_full| "too many header fields".to_owned())?;
    }
    Ok(Response {
        status,
        reason,
        headers,
        header_case,
        body: ResponseBody::whole(Bytes::new()),
        file: None,
        switched: None,
        worker: None,
        app_time: Duration::ZERO,
        log_vars,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_fields_than_a_map_can_hold_are_refused() {
        let mut fields = Vec::new();
        for number in 0..40_000 {
            vars::push(&mut fields, format!("x{number}").as_bytes(), b"").unwrap();
        }
        let mut payload = Vec::new();
        let head = frames::ReplyHeadFrame {
            status: 200,
            reason: b"OK",
            fields: &fields,
        };
        frames::push_head(&mut payload, &head).unwrap();
        assert!(
            payload.len() <= frames::MAX_PAYLOAD,
            "a frame has room for it"
        );
        assert_eq!(
            read(&payload.into()).err().unwrap(),
            "too many header fields"
        );
    }
}
