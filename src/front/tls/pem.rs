//! Certificates and keys as text (RFC 7468).

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

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
