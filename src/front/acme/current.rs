//! The certificate in use for a host, as the schedule sees it, and the time at which it is due.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::jws::{encoded, sha256};
use super::schedule::{self, Validity};
use super::state::CertificateState;
use super::store;
use crate::config::acme::{self, AcmeSettings};
use crate::front::tls::pair::{Pair, Stamp};
use crate::front::tls::x509::Certificate;

/// A certificate as the schedule sees it.
#[derive(Debug, Clone)]
pub struct Current {
    pub stamp: Stamp,
    /// `None`: there is none that can be used.
    pub facts: Option<Facts>,
}

#[derive(Debug, Clone)]
pub struct Facts {
    pub validity: Validity,
    /// For renewal information; `None`: the certificate does not identify its issuer's key.
    pub identifier: Option<String>,
}

impl Current {
    /// Reads the certificate. Blocks.
    pub fn read(dir: &Path, name: &str) -> Self {
        let file = acme::file(dir, name);
        // Before the read: a change after it is noticed at the next look.
        let stamp = Stamp::of(&file, &file);
        Self {
            stamp,
            facts: store::pair(dir, name).map(|pair| Facts::of(&pair)),
        }
    }

    /// The same, with what is known if the file has not changed. Blocks.
    pub fn refreshed(dir: &Path, name: &str, known: Option<Self>) -> Self {
        let file = acme::file(dir, name);
        let stamp = Stamp::of(&file, &file);
        match known {
            Some(known) if known.stamp == stamp => known,
            _ => Self::read(dir, name),
        }
    }
}

impl Facts {
    fn of(pair: &Pair) -> Self {
        let certificate = &pair.certificate;
        let seconds = |time: SystemTime| {
            let since = time.duration_since(UNIX_EPOCH);
            since.map_or(0, |since| since.as_secs())
        };
        let leaf = pair.certified.cert.first();
        let digest = sha256(leaf.map_or(&[], |leaf| leaf.as_ref()));
        Self {
            validity: Validity {
                from: seconds(certificate.not_before),
                to: seconds(certificate.not_after),
                draw: u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]),
            },
            identifier: identifier(certificate),
        }
    }
}

/// True if the certificate in use is one of the authority of the settings. Without a state, as after
/// its file was removed, it is taken for one.
pub fn is_issued_by(settings: &AcmeSettings, state: &CertificateState) -> bool {
    state.issued_by.is_empty() || state.issued_by == settings.directory
}

/// The time of the next attempt: at once without a certificate of the authority.
pub fn due_at(
    settings: &AcmeSettings,
    state: Option<&CertificateState>,
    facts: Option<&Facts>,
    now: u64,
) -> u64 {
    let unknown = CertificateState::default();
    let state = state.unwrap_or(&unknown);
    let renewal = match facts {
        Some(facts) if is_issued_by(settings, state) => {
            let own = state.renewal.as_ref();
            let own = own.filter(|own| Some(&own.certificate) == facts.identifier.as_ref());
            let usual = schedule::renewal(facts.validity, None);
            let wanted = schedule::renewal(facts.validity, own.and_then(|own| own.window));
            match schedule::may_renew_early(&state.issued, now) {
                true => wanted,
                false => wanted.max(usual),
            }
        }
        // Another authority, for instance the one for tests, or none.
        Some(_) | None => 0,
    };
    renewal.max(state.not_before)
}

/// The identifier of a certificate for renewal information (RFC 9773 §4.1).
fn identifier(certificate: &Certificate) -> Option<String> {
    let key = certificate.authority_key.as_ref()?;
    let digits = certificate.serial.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    let mut serial: Vec<u8> = digits.chunks(2).map(byte).collect::<Option<_>>()?;
    // The octets of the encoding: a positive integer does not begin with a bit of the sign.
    if serial.first().is_some_and(|first| first & 0x80 != 0) {
        serial.insert(0, 0);
    }
    Some(format!("{}.{}", encoded(key), encoded(serial)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identifier_has_the_key_of_the_issuer_and_the_octets_of_the_serial_number() {
        // RFC 9773 §4.1.
        let key = [
            0x69, 0x88, 0x5B, 0x6B, 0x87, 0x46, 0x40, 0x41, 0xE1, 0xB3, 0x7B, 0x84, 0x7B, 0xA0,
            0xAE, 0x2C, 0xDE, 0x01, 0xC8, 0xD4,
        ];
        let check = |serial: &str, expected: &str| {
            let certificate = Certificate {
                names: Vec::new(),
                subject: String::new(),
                issuer: String::new(),
                serial: serial.to_owned(),
                authority_key: Some(key.to_vec()),
                not_before: UNIX_EPOCH,
                not_after: UNIX_EPOCH,
            };
            assert_eq!(identifier(&certificate).as_deref(), Some(expected));
        };
        check("87654321", "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
        check("0765", "aYhba4dGQEHhs3uEe6CuLN4ByNQ.B2U");
    }
}
