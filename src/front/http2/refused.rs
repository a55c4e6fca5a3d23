//! Requests that are malformed (RFC 9113 §8.1.1), on their way past hyper.
//!
//! hyper gets a request of our own in place of each, on the same stream, so that streams,
//! windows, limits, logs and metrics go their normal way. That request is `GET *`, which no
//! client can send: it is malformed itself. It carries the number of its stream, under which
//! the truth is kept here. Even if the number is unknown, or a client did send such a request,
//! the answer is 400.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use http::{Method, request};

use super::fields::Broken;
use super::hpack::{Fields, write_literal};

/// Field of the request in its place.
const FIELD: &str = "pyserve-refused";
/// Most that wait for hyper at a time. h2 holds as many streams as it may, and those that the
/// client has reset meanwhile; a few more than both.
const MOST: usize = 1024;
/// What is kept of a method, of a target, and of the name of a field, in bytes.
const LONGEST: (usize, usize, usize) = (32, 2048, 64);

/// A malformed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The beginning of its method as it was sent; empty if it has none.
    pub method: Vec<u8>,
    /// The beginning of its target as it was sent; empty if it has none.
    pub target: Vec<u8>,
    /// Why it is refused.
    pub why: Why,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It breaks a rule of HTTP.
    Broken(Broken),
    /// Its head is larger than SETTINGS_MAX_HEADER_LIST_SIZE.
    TooLarge {
        /// As the setting counts.
        total: usize,
        /// Name of the biggest field.
        biggest: String,
        /// Length of that field's value.
        length: usize,
    },
}

impl Refused {
    /// A request with these fields.
    pub(super) fn new(fields: &Fields, why: Why) -> Self {
        let first = |wanted: &[u8], most: usize| {
            let found = fields.iter().find(|(name, _)| *name == wanted);
            let value = found.map(|(_, value)| value).unwrap_or_default();
            value[..value.len().min(most)].to_vec()
        };
        Self {
            method: first(b":method", LONGEST.0),
            target: first(b":path", LONGEST.1),
            why,
        }
    }

    /// A request whose head is too large.
    pub(super) fn too_large(fields: &Fields) -> Self {
        let (name, length) = fields.biggest();
        let name = &name[..name.len().min(LONGEST.2)];
        let why = Why::TooLarge {
            total: fields.size,
            biggest: String::from_utf8_lossy(name).into_owned(),
            length,
        };
        Self::new(fields, why)
    }
}

/// Appends the block of the request in place of that on `stream`.
pub(super) fn write_stand_in(stream: u32, block: &mut Vec<u8>) {
    let number = stream.to_string();
    for (name, value) in [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "*"),
        (FIELD, &number),
    ] {
        write_literal(block, name.as_bytes(), value.as_bytes());
    }
}

/// The malformed requests of one connection.
#[derive(Debug, Default)]
pub struct Waiting {
    any: AtomicBool,
    by_stream: Mutex<HashMap<u32, Refused>>,
}

impl Waiting {
    /// Keeps one until hyper has its stand-in.
    pub fn add(&self, stream: u32, refused: Refused) {
        let mut waiting = self
            .by_stream
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Those that h2 has refused, because too many streams were open, stay for ever.
        if waiting.len() >= MOST
            && let Some(oldest) = waiting.keys().min().copied()
        {
            waiting.remove(&oldest);
        }
        waiting.insert(stream, refused);
        self.any.store(true, Ordering::Relaxed);
    }

    /// The request that hyper's stands for, if it stands for one.
    pub fn take(&self, head: &request::Parts) -> Option<Refused> {
        if !self.any.load(Ordering::Relaxed) || head.method != Method::GET || head.uri != "*" {
            return None;
        }
        let stream = head.headers.get(FIELD)?.to_str().ok()?.parse().ok()?;
        let mut waiting = self
            .by_stream
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let refused = waiting.remove(&stream);
        self.any.store(!waiting.is_empty(), Ordering::Relaxed);
        refused
    }
}
