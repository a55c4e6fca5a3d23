//! A request that is refused for its head, passed around hyper.
//!
//! hyper would answer such a head with a bare status, or not at all, without a request. So hyper
//! gets another request in its place, from [`framing`](crate::front::protocol::framing) over HTTP/1
//! and from [`http2`](crate::front::protocol::http2) over HTTP/2, and [`PendingRefusals`] keeps the
//! [`Refused`] one until [`answer`](crate::front::request::answer) has that stand-in: the refused
//! request is then handled like every request, with limits, metrics, an error page and log lines.

use parking_lot::{Mutex, MutexGuard};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::{Method, Version, request};

use crate::front::context::{AsSent, RequestLabel};
use crate::front::error::Rejection;
use crate::front::protocol::framing::target;

/// Field of a stand-in of HTTP/2: the id of its stream.
pub const FIELD: &str = "pyserve-refused";
/// The key of a request of HTTP/1, of which hyper has one at a time. No stream has this id.
pub const NEXT: u32 = 0;
/// Most that wait for hyper at a time. h2 holds its limit of streams, and those that the client has
/// reset meanwhile; a few more than both.
const MOST: usize = 1024;

/// Most bytes kept of a method and of a target: one more than in a log line, so that it shows the
/// cut.
const LONGEST_METHOD: usize = 257;
const LONGEST_TARGET: usize = 2049;
/// Longest name of a field in a log line.
const LONGEST_NAME: usize = 64;
/// Most bytes of a field in a stand-in.
const LONGEST_FIELD: usize = 1024;

/// Fields that the logs, the client's address and the id are derived from.
const SINGLE: [&str; 7] = [
    "host",
    "referer",
    "user-agent",
    "x-real-ip",
    "x-request-id",
    // Usual names of `trust_header`; behind proxies with others, the log has the proxy's address.
    "cf-connecting-ip",
    "true-client-ip",
];
/// List fields, to which each proxy appends.
const LISTS: [&str; 2] = ["forwarded", "x-forwarded-for"];

/// A request that is refused for its head.
#[derive(Debug)]
pub struct Refused {
    /// The reason.
    pub rejection: Rejection,
    sent: Box<AsSent>,
}

impl Refused {
    /// A request with this method and target, any bytes; empty where it has none.
    pub fn new(rejection: Rejection, method: &[u8], target: &[u8]) -> Self {
        let sent = AsSent {
            method: method[..method.len().min(LONGEST_METHOD)].to_vec(),
            target: target[..target.len().min(LONGEST_TARGET)].to_vec(),
        };
        Self {
            rejection,
            sent: Box::new(sent),
        }
    }

    /// Its label, without an id.
    pub(crate) fn identity(&self) -> RequestLabel {
        RequestLabel {
            // A response to HEAD has no body.
            method: Method::from_bytes(&self.sent.method).unwrap_or_default(),
            as_sent: Some(self.sent.clone()),
            ..RequestLabel::default()
        }
    }
}

/// The well-formed fields of a refused request that its stand-in keeps. `fields` can have any
/// bytes.
pub fn kept<'a>(
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Vec<(&'static str, Cow<'a, [u8]>)> {
    let mut kept: Vec<(&'static str, Cow<'a, [u8]>)> = Vec::new();
    for (name, value) in fields {
        let value = value.trim_ascii();
        let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
        let known = SINGLE.into_iter().chain(LISTS);
        let mut known = known.filter(|known| known.as_bytes().eq_ignore_ascii_case(name));
        let Some(known) = known.next().filter(|_| !value.iter().any(is_control)) else {
            continue;
        };
        let before = kept.iter_mut().find(|(name, _)| *name == known);
        let is_list = LISTS.contains(&known);
        let value = match is_list {
            true => without_empty_end(value),
            false => value,
        };
        match before {
            // The nearest proxy has written the end.
            Some((_, before)) if is_list => {
                let list = [before, &b", "[..], value].concat();
                *before = Cow::Owned(end_of_list(&list).to_vec());
            }
            None if is_list => kept.push((known, Cow::Borrowed(end_of_list(value)))),
            None if value.len() <= LONGEST_FIELD => kept.push((known, Cow::Borrowed(value))),
            _ => {}
        }
    }
    kept
}

/// A list without the empty members at its end (RFC 9110 §5.6.1).
fn without_empty_end(mut list: &[u8]) -> &[u8] {
    while let [before @ .., b',' | b' ' | b'\t'] = list {
        list = before;
    }
    list
}

/// The last whole members of a list.
fn end_of_list(list: &[u8]) -> &[u8] {
    let Some(cut) = list.len().checked_sub(LONGEST_FIELD) else {
        return list;
    };
    let comma = list[cut..].iter().position(|byte| *byte == b',');
    comma.map_or(b"", |comma| list[cut + comma + 1..].trim_ascii_start())
}

/// The beginning of a field's name, any bytes, as text for the log.
pub fn name_shown(name: &[u8]) -> String {
    target::printable(&name[..name.len().min(LONGEST_NAME)])
}

/// The refused requests of one connection of which hyper has, or is about to have, stand-ins.
#[derive(Debug, Default)]
pub struct PendingRefusals {
    any: AtomicBool,
    by_stream: Mutex<HashMap<u32, Refused>>,
    /// Streams that are refused for want of memory and whose reset has not been sent.
    resets: AtomicUsize,
}

impl PendingRefusals {
    /// Keeps the request of a stream, or the [`NEXT`] one, until hyper has its stand-in.
    pub fn add(&self, stream: u32, refused: Refused) {
        let mut waiting = self.lock();
        // Those that hyper never reports stay until then.
        if waiting.len() >= MOST
            && let Some(oldest) = waiting.keys().min().copied()
        {
            waiting.remove(&oldest);
        }
        waiting.insert(stream, refused);
        self.any.store(true, Ordering::Relaxed);
    }

    /// The refused request, if `head` is a stand-in.
    pub fn take(&self, head: &request::Parts) -> Option<Refused> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let stream = match head.version {
            // No client can send `GET *`: it is refused itself.
            Version::HTTP_2 if head.method == Method::GET && head.uri == "*" => {
                head.headers.get(FIELD)?.to_str().ok()?.parse().ok()?
            }
            Version::HTTP_2 => return None,
            _ => NEXT,
        };
        let mut waiting = self.lock();
        let refused = waiting.remove(&stream);
        self.any.store(!waiting.is_empty(), Ordering::Relaxed);
        refused
    }

    /// h2 has refused the stream, because too many were open: hyper never sees it.
    pub fn forget(&self, stream: u32) {
        if self.any.load(Ordering::Relaxed) {
            let mut waiting = self.lock();
            waiting.remove(&stream);
            self.any.store(!waiting.is_empty(), Ordering::Relaxed);
        }
    }

    /// A stream is refused for want of memory: h2 is about to send its reset.
    pub fn resets_stream(&self) {
        self.resets.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of such streams whose reset has not been sent.
    pub fn unsent_resets(&self) -> usize {
        self.resets.load(Ordering::Relaxed)
    }

    /// So many streams are open, as the client sees it. h2 sends no reset for one that the client has
    /// reset meanwhile.
    pub fn limit_resets(&self, open: usize) {
        if self.unsent_resets() > open {
            self.resets.fetch_min(open, Ordering::Relaxed);
        }
    }

    /// A reset with REFUSED_STREAM is sent. Returns true if it may be for want of memory, false if
    /// h2 has refused a stream beyond its limit.
    pub fn reset_is_sent(&self) -> bool {
        let one_less = |resets: usize| resets.checked_sub(1);
        let resets = &self.resets;
        let counted = resets.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        counted.is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Refused>> {
        self.by_stream.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fields: &[(&str, &str)], expected: &[(&str, &str)]) {
        let bytes = fields
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let kept = kept(bytes);
        let kept: Vec<_> = kept
            .iter()
            .map(|(name, value)| (*name, str::from_utf8(value).unwrap()))
            .collect();
        assert_eq!(kept, expected);
    }

    #[test]
    fn the_first_of_each_field_is_kept_if_it_is_well_formed_and_short() {
        check(
            &[
                ("Host", " a "),
                ("HOST", "b"),
                ("Cookie", "c"),
                ("referer", "a\u{1}b"),
                ("User-Agent", &"x".repeat(1025)),
                ("X-Request-ID", "\tid"),
            ],
            &[("host", "a"), ("x-request-id", "id")],
        );
    }

    /// Otherwise a client of a proxy that adds a line of its own could choose its address.
    #[test]
    fn lists_of_proxies_are_kept_in_all_lines_and_up_to_their_end() {
        check(
            &[
                ("X-Forwarded-For", "192.0.2.1"),
                ("x-forwarded-for", "192.0.2.2, 192.0.2.3"),
                ("X-Forwarded-For", "a\u{1}"),
                ("Forwarded", "for=192.0.2.4"),
            ],
            &[
                ("x-forwarded-for", "192.0.2.1, 192.0.2.2, 192.0.2.3"),
                ("forwarded", "for=192.0.2.4"),
            ],
        );
        let long = "192.0.2.1, ".repeat(1000);
        let end = format!("{}192.0.2.9", "192.0.2.1, ".repeat(92));
        check(
            &[("X-Forwarded-For", &format!("{long}192.0.2.9"))],
            &[("x-forwarded-for", &end)],
        );
        check(
            &[
                ("X-Forwarded-For", &long.repeat(2)),
                ("X-Forwarded-For", "192.0.2.9"),
            ],
            &[("x-forwarded-for", &end)],
        );
    }
}
