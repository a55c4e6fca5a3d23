//! What comes from the Python side, in case that a worker has gone mad: frames of replies,
//! heads of responses, messages of templates, log records. Nothing of it may panic the front.

use bytes::Bytes;
use pyserve::internals::upstream::workers::head;
use pyserve_wire::control::{FromTemplate, Loaded};
use pyserve_wire::frames::{self, MAX_PAYLOAD, REPLY_HEADER, ReplyKind, read_file, read_reply};
use pyserve_wire::{orders, record, vars};

use super::cuts;

/// Frames are the same however they arrive; a head has just the fields that it says.
pub fn run(input: &[u8]) {
    let whole = frames_of([input]);
    for cut in cuts(input) {
        let (left, right) = input.split_at(cut);
        assert_eq!(frames_of([left, right]), whole, "cut at {cut}");
    }
    for (kind, payload) in &whole.0 {
        match kind {
            ReplyKind::Head => check_head(payload),
            ReplyKind::File => check_file(payload),
            ReplyKind::Ready => drop(Loaded::from_bytes(payload)),
            _ => {}
        }
    }
    check_head(input);
    check_file(input);
    let _ = (Loaded::from_bytes(input), FromTemplate::from_bytes(input));
    for stack in orders::read_stacks(input) {
        assert!(stack.text.len() <= 3 * input.len(), "no more than there is");
    }
    if let Ok(record) = record::read(input) {
        assert!(input.ends_with(record.text.as_bytes()));
        assert_eq!(record::read(&record.to_bytes()), Ok(record));
    }
}

/// The frames in the order in which they come, and whether something else came then.
fn frames_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> (Vec<(ReplyKind, Vec<u8>)>, bool) {
    let (mut buffer, mut found) = (Vec::new(), Vec::new());
    for part in parts {
        buffer.extend_from_slice(part);
        loop {
            match read_reply(&buffer) {
                Ok(Some((reply, used))) => {
                    assert!(reply.payload.len() <= MAX_PAYLOAD && used <= buffer.len());
                    found.push((reply.kind, reply.payload.to_vec()));
                    buffer.drain(..used);
                }
                Ok(None) => {
                    // Nobody is waited for who will never have enough.
                    if let (true, Some(length)) =
                        (buffer.len() >= REPLY_HEADER, buffer.first_chunk())
                    {
                        assert!(u32::from_le_bytes(*length) as usize <= MAX_PAYLOAD);
                    }
                    break;
                }
                Err(_) => return (found, true),
            }
        }
    }
    (found, false)
}

fn check_head(payload: &[u8]) {
    let payload = Bytes::copy_from_slice(payload);
    let Ok(response) = head::read(&payload) else {
        return;
    };
    let said = frames::read_head(&payload).expect("it was read before");
    assert_eq!(response.status.as_u16(), said.status);
    // Variables of the access log are no fields of the response.
    let fields: Vec<_> = vars::pairs(said.fields)
        .map(Result::unwrap)
        .filter(|(name, _)| !name.starts_with(frames::LOG_VAR))
        .collect();
    assert_eq!(response.headers.len(), fields.len());
    for (name, value) in fields {
        let name = str::from_utf8(name)
            .expect("a field's name")
            .to_ascii_lowercase();
        let mut values = response.headers.get_all(&name).iter();
        assert!(values.any(|kept| kept.as_bytes() == value), "{name}");
        assert!(!value.contains(&b'\r') && !value.contains(&b'\n'), "{name}");
    }
}

fn check_file(payload: &[u8]) {
    if let Ok(piece) = read_file(payload) {
        assert!(i64::try_from(piece.offset + piece.length).is_ok());
    }
}
