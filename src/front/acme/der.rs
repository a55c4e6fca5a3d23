//! Writes ASN.1 in DER (X.690): certificate signing requests, and self-signed certificates.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

use super::error::AcmeError;

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0C;
const GENERALIZED_TIME: u8 = 0x18;
const UTC_TIME: u8 = 0x17;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]` of a request, and of a certificate.
const CONTEXT_0: u8 = 0xA0;
/// `[3]` of a certificate: the extensions.
const CONTEXT_3: u8 = 0xA3;
/// `[2]` of a `GeneralName`: the name of a host.
const DNS_NAME: u8 = 0x82;

/// `1.2.840.10045.2.1`, `ecPublicKey`.
const EC_PUBLIC_KEY: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01];
/// `1.2.840.10045.3.1.7`, `prime256v1`.
const P256: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];
/// `1.2.840.10045.4.3.2`, `ecdsa-with-SHA256`.
const ECDSA_WITH_SHA256: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x02];
/// `1.2.840.113549.1.9.14`, `extensionRequest` of PKCS #9.
const EXTENSION_REQUEST: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x09, 0x0E];
/// `2.5.29.17`, `subjectAltName`.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1D, 0x11];
/// `2.5.4.3`, `commonName`.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// `1.3.6.1.5.5.7.1.31`, `acmeIdentifier` (RFC 8737 §6.1).
const ACME_IDENTIFIER: &[u8] = &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x1F];

/// The subject of self-signed certificates: hosts are named by `subjectAltName`.
const SUBJECT: &str = "pyserve self-signed";

/// A key for ECDSA with the curve P-256, which every authority and client supports.
pub struct Key {
    pair: EcdsaKeyPair,
    /// As PKCS #8 in DER.
    pub pkcs8: Vec<u8>,
}

impl Key {
    /// A new one.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn generate() -> Result<Self, AcmeError> {
        let made =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
        let made = made.map_err(|error| AcmeError::internal("cannot make a key", error))?;
        Self::of(made.as_ref().to_vec())
    }

    /// The key in this PKCS #8.
    ///
    /// # Errors
    /// Other bytes.
    pub fn of(pkcs8: Vec<u8>) -> Result<Self, AcmeError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8);
        let pair = pair.map_err(|error| AcmeError::internal("cannot use the key", error))?;
        Ok(Self { pair, pkcs8 })
    }

    /// A request for a certificate for `name` (RFC 2986), without a subject.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn signing_request(&self, name: &str) -> Result<Vec<u8>, AcmeError> {
        let extensions = element(
            SEQUENCE,
            &[&extension(SUBJECT_ALT_NAME, false, &hosts(name))],
        );
        let attribute = element(
            SEQUENCE,
            &[
                &element(OBJECT_IDENTIFIER, &[EXTENSION_REQUEST]),
                &element(SET, &[&extensions]),
            ],
        );
        let info = element(
            SEQUENCE,
            &[
                &element(INTEGER, &[&[0]]),
                &element(SEQUENCE, &[]),
                &self.public_key(),
                &element(CONTEXT_0, &[&attribute]),
            ],
        );
        self.signed(&info)
    }

    /// A self-signed certificate for `name`, valid at these times, in seconds since 1970.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn self_signed(&self, name: &str, (from, to): (u64, u64)) -> Result<Vec<u8>, AcmeError> {
        self.certificate(name, (from, to), &[])
    }

    /// The certificate by which a handshake proves the control over `name` (RFC 8737 §3); `digest` is
    /// that of the key authorization.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn challenge(
        &self,
        name: &str,
        (from, to): (u64, u64),
        digest: &[u8],
    ) -> Result<Vec<u8>, AcmeError> {
        let identifier = element(OCTET_STRING, &[digest]);
        let identifier = extension(ACME_IDENTIFIER, true, &identifier);
        self.certificate(name, (from, to), &[&identifier])
    }

    fn certificate(
        &self,
        name: &str,
        (from, to): (u64, u64),
        extensions: &[&[u8]],
    ) -> Result<Vec<u8>, AcmeError> {
        let mut serial = [0; 16];
        aws_lc_rs::rand::fill(&mut serial)
            .map_err(|error| AcmeError::internal("no random numbers", error))?;
        // Positive and of a fixed length (RFC 5280 §4.1.2.2).
        serial[0] = serial[0] & 0x7F | 0x40;
        let common_name = element(
            SEQUENCE,
            &[
                &element(OBJECT_IDENTIFIER, &[COMMON_NAME]),
                &element(UTF8_STRING, &[SUBJECT.as_bytes()]),
            ],
        );
        let subject = element(SEQUENCE, &[&element(SET, &[&common_name])]);
        let names = extension(SUBJECT_ALT_NAME, false, &hosts(name));
        let mut all: Vec<&[u8]> = vec![&names];
        all.extend(extensions);
        let certificate = element(
            SEQUENCE,
            &[
                &element(CONTEXT_0, &[&element(INTEGER, &[&[2]])]),
                &element(INTEGER, &[&serial]),
                &algorithm(),
                &subject,
                &element(SEQUENCE, &[&time(from)?, &time(to)?]),
                &subject,
                &self.public_key(),
                &element(CONTEXT_3, &[&element(SEQUENCE, &all)]),
            ],
        );
        self.signed(&certificate)
    }

    /// `SubjectPublicKeyInfo` (RFC 5480 §2).
    fn public_key(&self) -> Vec<u8> {
        let algorithm = element(
            SEQUENCE,
            &[
                &element(OBJECT_IDENTIFIER, &[EC_PUBLIC_KEY]),
                &element(OBJECT_IDENTIFIER, &[P256]),
            ],
        );
        let point = self.pair.public_key().as_ref();
        element(
            SEQUENCE,
            &[&algorithm, &element(BIT_STRING, &[&[0], point])],
        )
    }

    fn signed(&self, info: &[u8]) -> Result<Vec<u8>, AcmeError> {
        let signature = self.pair.sign(&SystemRandom::new(), info);
        let signature = signature.map_err(|error| AcmeError::internal("cannot sign", error))?;
        let signature = element(BIT_STRING, &[&[0], signature.as_ref()]);
        Ok(element(SEQUENCE, &[info, &algorithm(), &signature]))
    }
}

fn algorithm() -> Vec<u8> {
    element(
        SEQUENCE,
        &[&element(OBJECT_IDENTIFIER, &[ECDSA_WITH_SHA256])],
    )
}

fn hosts(name: &str) -> Vec<u8> {
    element(SEQUENCE, &[&element(DNS_NAME, &[name.as_bytes()])])
}

fn extension(kind: &[u8], is_critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = match is_critical {
        true => element(BOOLEAN, &[&[0xFF]]),
        false => Vec::new(),
    };
    element(
        SEQUENCE,
        &[
            &element(OBJECT_IDENTIFIER, &[kind]),
            &critical,
            &element(OCTET_STRING, &[value]),
        ],
    )
}

/// RFC 5280 §4.1.2.5: `UTCTime` until 2049, then `GeneralizedTime`.
fn time(seconds: u64) -> Result<Vec<u8>, AcmeError> {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_second(seconds)
        .map_err(|error| AcmeError::internal("no such time", error))?;
    let text = time.strftime("%Y%m%d%H%M%SZ").to_string();
    Ok(match &*text < "2050" {
        true => element(UTC_TIME, &[&text.as_bytes()[2..]]),
        false => element(GENERALIZED_TIME, &[text.as_bytes()]),
    })
}

/// Tag, length and content.
fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut whole = vec![tag];
    match u8::try_from(length) {
        Ok(short @ 0..=0x7F) => whole.push(short),
        _ => {
            let digits = length.to_be_bytes();
            let zeros = digits.iter().take_while(|digit| **digit == 0).count();
            whole.push(0x80 | (digits.len() - zeros) as u8);
            whole.extend_from_slice(&digits[zeros..]);
        }
    }
    for part in parts {
        whole.extend_from_slice(part);
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_the_encoding_rules() {
        let check = |length: usize, head: &[u8]| {
            let content = vec![7; length];
            let whole = element(OCTET_STRING, &[&content]);
            assert_eq!(&whole[..head.len()], head, "{length}");
            assert_eq!(whole.len(), head.len() + length);
        };
        // X.690 §8.1.3.
        check(0, &[4, 0]);
        check(127, &[4, 127]);
        check(128, &[4, 0x81, 128]);
        check(256, &[4, 0x82, 1, 0]);
    }

    #[test]
    fn times_have_the_form_of_their_year() {
        // By `date -u -d @SECONDS`.
        assert_eq!(&time(1_795_885_323).unwrap()[2..], b"261128170203Z");
        assert_eq!(&time(2_524_608_000).unwrap()[2..], b"20500101000000Z");
    }
}
