//! The parts of an X.509 certificate (RFC 5280) that people and applications see: names, validity,
//! distinguished names, serial number.
//!
//! rustls and webpki verify certificates and give none of these. Only the structure down to them
//! is read here; a certificate that does not have it is an error, never a panic.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::TlsError;

/// The facts in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Names of hosts in lower case, wildcards as `*.example.org`.
    pub names: Vec<String>,
    /// The distinguished name of the subject, as RFC 2253 and nginx write it.
    pub subject: String,
    /// That of the issuer.
    pub issuer: String,
    /// The serial number in hexadecimal digits.
    pub serial: String,
    /// The identifier of the issuer's key, where there is one (RFC 5280 §4.2.1.1).
    pub authority_key: Option<Vec<u8>>,
    /// Begin of the validity.
    pub not_before: SystemTime,
    /// Its end.
    pub not_after: SystemTime,
}

impl Certificate {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// Another structure.
    pub fn read(der: &[u8]) -> Result<Self, TlsError> {
        read(der).ok_or_else(|| TlsError::new("not an X.509 certificate"))
    }

    /// Its name for people: the first host, else the subject.
    pub fn name(&self) -> &str {
        self.names.first().map_or(&self.subject, String::as_str)
    }

    /// True if it is its own issuer.
    pub fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }

    /// Whole days until it expires; negative if it has expired.
    pub fn days_left(&self, now: SystemTime) -> i64 {
        let left = match self.not_after.duration_since(now) {
            Ok(left) => left.as_secs() as i64,
            Err(past) => -(past.duration().as_secs() as i64),
        };
        left.div_euclid(DAY as i64)
    }

    /// The end of the validity in seconds since 1970.
    pub fn expiry(&self) -> u64 {
        let since = self.not_after.duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs())
    }
}

const DAY: u64 = 24 * 3600;

// Tags of ASN.1 in DER (X.690 §8).
const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const BMP_STRING: u8 = 0x1E;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]` of a `TBSCertificate`: the version.
const VERSION: u8 = 0xA0;
/// `[3]` of a `TBSCertificate`: the extensions.
const EXTENSIONS: u8 = 0xA3;
/// `[2]` of a `GeneralName`: the name of a host.
const DNS_NAME: u8 = 0x82;

/// `2.5.29.17`, `subjectAltName`.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1D, 0x11];
/// `2.5.29.35`, `authorityKeyIdentifier`.
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1D, 0x23];
/// `[0]` of an `AuthorityKeyIdentifier`.
const KEY_IDENTIFIER: u8 = 0x80;
/// `2.5.4.3`, `commonName`.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// Elements in DER, one behind the other.
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    /// Tag and content of the next element; `None` at the end, and for a malformed one.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7F => (usize::from(first), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
                let sum = |sum, digit: &u8| sum << 8 | usize::from(*digit);
                (digits.iter().fold(0, sum), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next element, which must have this tag.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next()
            .filter(|(found, _)| *found == tag)
            .map(|(_, content)| content)
    }

    fn skip_if(&mut self, tag: u8) {
        if self.0.first() == Some(&tag) {
            self.next();
        }
    }
}

fn read(der: &[u8]) -> Option<Certificate> {
    let certificate = Elements(der).expect(SEQUENCE)?;
    let mut parts = Elements(Elements(certificate).expect(SEQUENCE)?);
    parts.skip_if(VERSION);
    let serial = parts.expect(INTEGER)?;
    parts.expect(SEQUENCE)?;
    let issuer = parts.expect(SEQUENCE)?;
    let mut validity = Elements(parts.expect(SEQUENCE)?);
    let not_before = time(validity.next()?)?;
    let not_after = time(validity.next()?)?;
    let subject = parts.expect(SEQUENCE)?;
    // The public key.
    parts.expect(SEQUENCE)?;
    let (mut names, mut authority_key) = (Vec::new(), None);
    while let Some((tag, content)) = parts.next() {
        if tag == EXTENSIONS {
            names = alternative_names(content)?;
            authority_key = key_of_authority(content);
        }
    }
    Some(Certificate {
        names,
        subject: distinguished_name(subject)?,
        issuer: distinguished_name(issuer)?,
        serial: hexadecimal(serial),
        authority_key,
        not_before,
        not_after,
    })
}

/// The values of the extensions of this kind.
fn values<'a>(extensions: &'a [u8], kind: &[u8]) -> Option<Vec<&'a [u8]>> {
    let mut values = Vec::new();
    let mut all = Elements(Elements(extensions).expect(SEQUENCE)?);
    while let Some(extension) = all.expect(SEQUENCE) {
        let mut extension = Elements(extension);
        if extension.expect(OBJECT_IDENTIFIER)? != kind {
            continue;
        }
        extension.skip_if(BOOLEAN);
        values.push(extension.expect(OCTET_STRING)?);
    }
    Some(values)
}

/// The `keyIdentifier` in `authorityKeyIdentifier`.
fn key_of_authority(extensions: &[u8]) -> Option<Vec<u8>> {
    let value = values(extensions, AUTHORITY_KEY_IDENTIFIER)?
        .into_iter()
        .next()?;
    let key = Elements(Elements(value).expect(SEQUENCE)?).expect(KEY_IDENTIFIER)?;
    Some(key.to_vec())
}

/// The hosts in `subjectAltName` (RFC 5280 §4.2.1.6).
fn alternative_names(extensions: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for value in values(extensions, SUBJECT_ALT_NAME)? {
        let mut general = Elements(Elements(value).expect(SEQUENCE)?);
        while let Some((tag, name)) = general.next() {
            if tag == DNS_NAME {
                names.push(str::from_utf8(name).ok()?.to_ascii_lowercase());
            }
        }
    }
    Some(names)
}

/// RFC 5280 §4.1.2.5: in UTC, with seconds.
fn time((tag, text): (u8, &[u8])) -> Option<SystemTime> {
    let text = str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: u64 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    if rest.len() != 10 || !rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let pair = |at: usize| rest[at..at + 2].parse::<u64>().ok();
    let (month, day) = (pair(0)?, pair(2)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let days = days_since_1970(year, month, day)?;
    let seconds = days * DAY + pair(4)? * 3600 + pair(6)? * 60 + pair(8)?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Days of the Gregorian calendar. Times before 1970 count as its first day.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    // Years that begin in March have the leap day at their end.
    let (year, month) = match month {
        1 | 2 => (year.checked_sub(1)?, month + 9),
        _ => (year, month - 3),
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days = year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1;
    // From March of the year 0 to January of 1970.
    Some(days.saturating_sub(719_468))
}

/// A name as RFC 2253 writes it: the last attribute first, special characters escaped.
fn distinguished_name(name: &[u8]) -> Option<String> {
    let mut sets = Vec::new();
    let mut all = Elements(name);
    while let Some(set) = all.expect(SET) {
        let mut text = String::new();
        let mut attributes = Elements(set);
        while let Some(attribute) = attributes.expect(SEQUENCE) {
            if !text.is_empty() {
                text.push('+');
            }
            let mut attribute = Elements(attribute);
            let kind = attribute.expect(OBJECT_IDENTIFIER)?;
            let (tag, value) = attribute.next()?;
            text.push_str(&attribute_name(kind));
            text.push('=');
            push_value(&mut text, tag, value);
        }
        sets.push(text);
    }
    sets.reverse();
    Some(sets.join(","))
}

/// OpenSSL's short name of an attribute, else its number with dots.
fn attribute_name(kind: &[u8]) -> String {
    let known = match kind {
        COMMON_NAME => "CN",
        [0x55, 0x04, 0x04] => "SN",
        [0x55, 0x04, 0x05] => "serialNumber",
        [0x55, 0x04, 0x06] => "C",
        [0x55, 0x04, 0x07] => "L",
        [0x55, 0x04, 0x08] => "ST",
        [0x55, 0x04, 0x09] => "street",
        [0x55, 0x04, 0x0A] => "O",
        [0x55, 0x04, 0x0B] => "OU",
        [0x55, 0x04, 0x0C] => "title",
        [0x55, 0x04, 0x2A] => "GN",
        // 1.2.840.113549.1.9.1
        [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x09, 0x01] => "emailAddress",
        // 0.9.2342.19200300.100.1.25 and 1
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 0x01, 0x19] => "DC",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 0x01, 0x01] => "UID",
        _ => return dotted(kind),
    };
    known.to_owned()
}

fn dotted(kind: &[u8]) -> String {
    let mut numbers: Vec<u64> = Vec::new();
    let mut number: u64 = 0;
    for byte in kind {
        number = number << 7 | u64::from(byte & 0x7F);
        if byte & 0x80 == 0 {
            if numbers.is_empty() {
                let first = (number / 40).min(2);
                numbers.extend([first, number - first * 40]);
            } else {
                numbers.push(number);
            }
            number = 0;
        }
    }
    let numbers: Vec<_> = numbers.iter().map(u64::to_string).collect();
    numbers.join(".")
}

/// RFC 2253 §2.4. Bytes of other characters are escaped as well, as OpenSSL does: the text goes into
/// headers and variables.
fn push_value(text: &mut String, tag: u8, value: &[u8]) {
    let converted;
    let value = match tag {
        BMP_STRING => {
            let units = value.chunks_exact(2);
            let units = units.map(|unit| u16::from_be_bytes([unit[0], unit[1]]));
            converted = String::from_utf16_lossy(&units.collect::<Vec<_>>());
            converted.as_bytes()
        }
        _ => value,
    };
    let last = value.len().saturating_sub(1);
    for (at, &byte) in value.iter().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b'#' | b' ' if at == 0 => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b' ' if at == last => text.push_str("\\ "),
            b' '..=b'~' => text.push(char::from(byte)),
            // Writing to a String cannot fail.
            _ => drop(write!(text, "\\{byte:02X}")),
        }
    }
}

/// An integer as OpenSSL prints it: whole bytes, without the one that only holds the sign.
fn hexadecimal(mut integer: &[u8]) -> String {
    if let [0, rest @ ..] = integer
        && !rest.is_empty()
    {
        integer = rest;
    }
    integer.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02X}");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        let check = |tag, text: &str, expected: Option<u64>| {
            let read = time((tag, text.as_bytes()));
            let since = read.map(|time| time.duration_since(UNIX_EPOCH).unwrap().as_secs());
            assert_eq!(since, expected, "{text}");
        };
        // By `date -u -d ... +%s`.
        check(UTC_TIME, "700101000000Z", Some(0));
        check(UTC_TIME, "261128170203Z", Some(1_795_885_323));
        check(UTC_TIME, "000229120000Z", Some(951_825_600));
        check(GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000));
        check(GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799));
        check(UTC_TIME, "500101000000Z", Some(0));
        for wrong in [
            "",
            "Z",
            "2611281702Z",
            "261328170203Z",
            "261128170203",
            "26112é170203Z",
        ] {
            check(UTC_TIME, wrong, None);
        }
    }

    #[test]
    fn values_are_escaped_as_rfc_2253_wants_it() {
        let check = |value: &[u8], expected: &str| {
            let mut text = String::new();
            push_value(&mut text, 0x0C, value);
            assert_eq!(text, expected);
        };
        // RFC 2253 §5 has the first three.
        check(b"Sue, Grabbit and Runn", "Sue\\, Grabbit and Runn");
        check(b"Before\rAfter", "Before\\0DAfter");
        check("Lu\u{10D}i\u{107}".as_bytes(), "Lu\\C4\\8Di\\C4\\87");
        check(b" #a ", "\\ #a\\ ");
        check(b"#a", "\\#a");
        check(b"a+b\"c\\<>;", "a\\+b\\\"c\\\\\\<\\>\\;");
    }

    #[test]
    fn unknown_attributes_have_numbers() {
        assert_eq!(attribute_name(COMMON_NAME), "CN");
        // 1.3.6.1.4.1.311
        let number = [0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37];
        assert_eq!(attribute_name(&number), "1.3.6.1.4.1.311");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Certificate::read(&bytes);
            let _ = distinguished_name(&bytes);
            let _ = alternative_names(&bytes);
        }
    }
}
