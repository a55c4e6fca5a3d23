//! A uwsgi request packet: four bytes of header, then the variables.
//!
//! ```text
//! | modifier1 u8 | length of the variables u16le | modifier2 u8 | variables | body
//! ```
//!
//! The variables are those of every request and nginx's `uwsgi_params`, with those of the
//! settings. uWSGI trusts `HTTP_X_FORWARDED_PROTO` and `HTTP_X_FORWARDED_SSL` from any client
//! (`core/protocol.c`); `front/protocol/forwarded.rs` has validated them by now.

use std::borrow::Cow;
use std::os::unix::ffi::OsStrExt;

use pyserve_wire::frames::REQUEST_HEADER;
use pyserve_wire::vars;

use crate::config::upstream::UwsgiSettings;
use crate::front::upstream::Failure;

/// Bytes before the variables.
pub const HEADER: usize = 4;
/// Longest block of variables that the header can declare.
const LONGEST: usize = u16::MAX as usize;

/// Builds the packet from a message of `front/request/environ.rs`.
///
/// # Errors
/// [`Failure::BlockTooLarge`] if the variables exceed the longest packet.
pub fn build(message: &[u8], settings: &UwsgiSettings) -> Result<Vec<u8>, Failure> {
    let request = message.get(REQUEST_HEADER..).unwrap_or_default();
    let mut packet = Vec::with_capacity(message.len() + 256);
    packet.resize(HEADER, 0);
    // nginx always sends both; applications may rely on it.
    let (mut has_type, mut has_length) = (false, false);
    for (name, value) in vars::pairs(request).filter_map(Result::ok) {
        if is_left_out(name, value, settings) {
            continue;
        }
        has_type |= name == b"CONTENT_TYPE";
        has_length |= name == b"CONTENT_LENGTH";
        push(&mut packet, name, value);
    }
    let given = |name: &str| settings.params.iter().any(|(given, _)| given == name);
    let root = settings.document_root.as_os_str().as_bytes();
    let missing: [(&str, bool, &[u8]); 3] = [
        ("CONTENT_TYPE", has_type, b""),
        ("CONTENT_LENGTH", has_length, b""),
        ("DOCUMENT_ROOT", false, root),
    ];
    for (name, is_there, value) in missing {
        if !is_there && !given(name) {
            push(&mut packet, name.as_bytes(), value);
        }
    }
    for (name, value) in &settings.params {
        push(&mut packet, name.as_bytes(), value.as_bytes());
    }
    let length = packet.len() - HEADER;
    if length > LONGEST {
        return Err(too_large(&packet[HEADER..]));
    }
    let [low, high] = (length as u16).to_le_bytes();
    packet[..HEADER].copy_from_slice(&[settings.modifier1, low, high, settings.modifier2]);
    Ok(packet)
}

fn is_left_out(name: &[u8], value: &[u8], settings: &UwsgiSettings) -> bool {
    let is_needless = match name {
        // gunicorn's name for REQUEST_URI; uWSGI's buffer is too small for both.
        b"RAW_URI" => true,
        b"SCRIPT_NAME" => value.is_empty(),
        _ => false,
    };
    let mut params = settings.params.iter();
    is_needless || params.any(|(given, _)| given.as_bytes() == name)
}

/// A value too long for the format makes the whole packet too long, and is refused there.
fn push(packet: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    if vars::push(packet, name, value).is_err() {
        packet.resize(packet.len() + LONGEST + 1, 0);
    }
}

fn too_large(block: &[u8]) -> Failure {
    let biggest = vars::pairs(block)
        .filter_map(Result::ok)
        .max_by_key(|(_, value)| value.len());
    let (name, length) = biggest.map_or((Cow::from(""), 0), |(name, value)| {
        (String::from_utf8_lossy(name), value.len())
    });
    Failure::BlockTooLarge {
        total: block.len(),
        limit: LONGEST,
        biggest: name.into_owned(),
        length,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut message = vec![0; REQUEST_HEADER];
        for (name, value) in pairs {
            vars::push(&mut message, name.as_bytes(), value.as_bytes()).unwrap();
        }
        message
    }

    fn settings(params: &[(&str, &str)]) -> UwsgiSettings {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).into());
        UwsgiSettings {
            modifier1: 30,
            modifier2: 2,
            params: params.iter().map(own).collect(),
            document_root: "/srv".into(),
        }
    }

    fn shown(packet: &[u8]) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let pairs = vars::pairs(&packet[HEADER..]).map(|pair| {
            let (name, value) = pair.unwrap();
            format!("{}={}", text(name), text(value))
        });
        pairs.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_header_tells_modifiers_and_length_in_little_endian() {
        let message = message(&[("A", &"x".repeat(300))]);
        let packet = build(&message, &settings(&[])).unwrap();
        let length = (packet.len() - HEADER) as u16;
        assert_eq!(packet[0], 30);
        assert_eq!(packet[1..3], length.to_le_bytes());
        assert_eq!(packet[3], 2);
    }

    #[test]
    fn nginx_s_variables_are_there_and_what_nobody_reads_is_not() {
        let message = message(&[
            ("SCRIPT_NAME", ""),
            ("PATH_INFO", "/"),
            ("RAW_URI", "/"),
            ("CONTENT_LENGTH", "5"),
            ("HTTP_A", "b"),
        ]);
        assert_eq!(
            shown(&build(&message, &settings(&[])).unwrap()),
            "PATH_INFO=/ CONTENT_LENGTH=5 HTTP_A=b CONTENT_TYPE= DOCUMENT_ROOT=/srv"
        );
    }

    #[test]
    fn params_win_over_what_the_request_says() {
        let message = message(&[("SCRIPT_NAME", "/x"), ("HTTP_A", "b"), ("HTTP_B", "c")]);
        let params = [("HTTP_A", "own"), ("DOCUMENT_ROOT", "/own"), ("MORE", "1")];
        assert_eq!(
            shown(&build(&message, &settings(&params)).unwrap()),
            "SCRIPT_NAME=/x HTTP_B=c CONTENT_TYPE= CONTENT_LENGTH= HTTP_A=own DOCUMENT_ROOT=/own MORE=1"
        );
    }

    #[test]
    fn a_block_longer_than_the_header_can_say_is_refused_by_name() {
        let message = message(&[
            ("HTTP_COOKIE", &"c".repeat(50_000)),
            ("HTTP_A", &"a".repeat(16_000)),
        ]);
        let failure = build(&message, &settings(&[])).unwrap_err();
        assert!(failure.to_string().contains("HTTP_COOKIE"), "{failure}");
    }

    #[test]
    fn a_block_of_all_that_the_header_can_say_is_sent_and_one_byte_more_is_not() {
        let empty = build(&message(&[("A", "")]), &settings(&[])).unwrap();
        let room = LONGEST + HEADER - empty.len();
        let full = build(&message(&[("A", &"a".repeat(room))]), &settings(&[])).unwrap();
        assert_eq!(full[1..3], [0xFF, 0xFF]);
        assert_eq!(full.len(), HEADER + 65_535);
        let over = message(&[("A", &"a".repeat(room + 1))]);
        assert!(build(&over, &settings(&[])).is_err());
    }
}
