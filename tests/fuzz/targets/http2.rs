//! HTTP/2 below hyper: what hyper gets does not depend on how the bytes arrive, and would pass
//! a second time as it is.

use pyserve::internals::protocol::framing::PREFACE;
use pyserve::internals::protocol::http2::{End, Http2};
use pyserve::internals::protocol::refused::PendingRefusals;
use tokio::io::ReadBuf;

use super::cuts;

/// `input` comes behind the preface.
pub fn run(input: &[u8]) {
    let (got, end) = passed(&[input]);
    for cut in cuts(input) {
        let (first, second) = input.split_at(cut);
        let (parts, ended) = passed(&[first, second]);
        assert_eq!(ended, end, "cut at {cut}");
        match end {
            None => assert_eq!(parts, got, "cut at {cut}"),
            // What came before the end may have passed.
            Some(_) => assert!(parts.starts_with(&got) || got.starts_with(&parts)),
        }
    }
    let bytewise: Vec<&[u8]> = input.chunks(1).collect();
    let (parts, ended) = passed(&bytewise);
    assert_eq!(ended, end);
    assert!(end.is_some() || parts == got);
    let (again, ended) = passed(&[&got]);
    assert_eq!(ended, None);
    assert_eq!(again, got, "what has passed passes");
}

/// What hyper gets, and why the connection ends.
fn passed(parts: &[&[u8]]) -> (Vec<u8>, Option<End>) {
    let mut http2 = Http2::expected();
    let refused = PendingRefusals::default();
    let mut got = Vec::new();
    for part in [&[PREFACE], parts].concat() {
        match http2.received(part, false, &refused) {
            Ok(stay) => got.extend_from_slice(&part[..stay]),
            Err(end) => return (got.split_off(PREFACE.len()), Some(end)),
        }
        loop {
            let mut room = [0; 64];
            let mut into = ReadBuf::new(&mut room);
            http2.give(&mut into);
            if into.filled().is_empty() {
                break;
            }
            got.extend_from_slice(into.filled());
        }
    }
    (got.split_off(PREFACE.len()), None)
}
