//! What is fuzzed: readers of bytes that strangers send, or workers gone mad. Each target takes any bytes and
//! panics where something does not hold that must hold for all of them.
//!
//! Two programs run these: `cargo test`, for a moment, and libFuzzer (`run.rs`), for hours.

mod chunks;
mod fast_path;
mod forwarded;
mod framing;
mod http2;
mod lenient_chunks;
mod nginx_site;
mod proxy_protocol;
mod reply_head;
mod request_head;
mod scoreboard;
mod shared_rings;
mod static_path;
mod uwsgi_options;
mod worker_reply;

/// A target.
pub type Target = fn(&[u8]);

/// All of them, by the names of their folders in `corpus/`.
pub const TARGETS: [(&str, Target); 14] = [
    ("chunks", chunks::run),
    ("fast_path", fast_path::run),
    ("forwarded", forwarded::run),
    ("framing", framing::run),
    ("http2", http2::run),
    ("nginx_site", nginx_site::run),
    ("proxy_protocol", proxy_protocol::run),
    ("reply_head", reply_head::run),
    ("request_head", request_head::run),
    ("scoreboard", scoreboard::run),
    ("shared_rings", shared_rings::run),
    ("static_path", static_path::run),
    ("uwsgi_options", uwsgi_options::run),
    ("worker_reply", worker_reply::run),
];

/// The target called `name`.
///
/// # Panics
/// If there is none.
#[allow(dead_code, reason = "one of the two programs runs all")]
pub fn named(name: &str) -> Target {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.expect("a target of this name").1
}

/// The ways to split `bytes` in two, as lengths of the first part. All of them, if they are
/// few; else some on the whole length.
fn cuts(bytes: &[u8]) -> impl Iterator<Item = usize> + use<> {
    (0..=bytes.len()).step_by(bytes.len() / 200 + 1)
}
