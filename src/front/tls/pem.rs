//! Certificates and keys as text (RFC 7468).

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::pem::Error;

/// The byte order mark that editors of Windows put before a text. Files that were joined may have it
/// in the middle.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The text without byte order marks: the first line would not be known behind one.
pub fn without_marks(text: Vec<u8>) -> Vec<u8> {
    let marks = text.windows(BYTE_ORDER_MARK.len());
    if !marks.clone().any(|bytes| bytes == BYTE_ORDER_MARK) {
        return text;
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = &*text;
    while let Some((first, behind)) = rest.split_first() {
        match rest.strip_prefix(BYTE_ORDER_MARK) {
            Some(behind) => rest = behind,
            None => {
                plain.push(*first);
                rest = behind;
            }
        }
    }
    plain
}

/// The reason why a file has no object with this label, and the remedy. `command` of openssl converts
/// the binary form.
pub fn why_unusable(error: &Error, text: &[u8], label: &str, command: &str) -> String {
    match error {
        // ASN.1 begins with a SEQUENCE.
        Error::NoItemsFound if text.first() == Some(&0x30) => format!(
            "it is binary (DER or PKCS #12), not PEM (for DER: openssl {command} -inform der -in FILE -out NEW)"
        ),
        Error::NoItemsFound => format!("it has no `BEGIN {label}` (give a file in PEM)"),
        Error::MissingSectionEnd { .. } => {
            "a `BEGIN` in it has no `END`: it is incomplete".to_owned()
        }
        Error::Base64Decode(why) => format!("it is damaged: {why}"),
        error => error.to_string(),
    }
}

/// RFC 7468 §2.
pub fn written(label: &str, der: &[u8]) -> String {
    let mut pem = format!("-----BEGIN {label}-----\n");
    let text = BASE64_STANDARD.encode(der);
    let mut rest = &*text;
    while !rest.is_empty() {
        let (line, behind) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = behind;
    }
    pem + &format!("-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_marks_are_removed() {
        for (text, expected) in [
            (&b"\xef\xbb\xbfone\n\xef\xbb\xbftwo"[..], &b"one\ntwo"[..]),
            (b"plain", b"plain"),
            (b"\xef\xbb", b"\xef\xbb"),
            (b"", b""),
        ] {
            assert_eq!(without_marks(text.to_vec()), expected);
        }
    }
}
