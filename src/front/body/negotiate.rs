//! Selects the encoded form of a response (RFC 9110 §12.5.3).
//!
//! Pure: an `Accept-Encoding` field becomes weights, and the weights select one of the codings that
//! the caller offers.

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

/// A content coding, in the order of the usual size, smallest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
    /// RFC 1952.
    Gzip,
}

impl Coding {
    /// All codings, in the order of preference at equal weight.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// Its name in `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// The suffix of files in this coding.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }

    /// Its index in [`Coding::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

/// The codings that a client accepts. Weights are in thousandths; zero means not acceptable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accepted {
    codings: [Option<u16>; 3],
    identity: Option<u16>,
    any: Option<u16>,
}

/// The selected form. There is no 406: a client that refuses every form gets the identity, as from
/// nginx and as RFC 9110 §12.5.3 advises; the set of forms may change between two requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The identity.
    Identity,
    /// An encoded form.
    Encoded(Coding),
}

impl Accepted {
    /// Without the field, or with an empty one, only the identity is accepted: RFC 9110 would allow
    /// any coding in the first case, but such clients decode none.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut accepted = Self::default();
        for value in headers.get_all(ACCEPT_ENCODING) {
            accepted.add_list(value.as_bytes());
        }
        accepted
    }

    /// Parses the value of an `Accept-Encoding` field.
    pub fn of_field(field: &[u8]) -> Self {
        let mut accepted = Self::default();
        accepted.add_list(field);
        accepted
    }

    fn add_list(&mut self, field: &[u8]) {
        for element in field.split(|&byte| byte == b',') {
            self.add(element.trim_ascii());
        }
    }

    /// Adds one element, `coding;q=0.5`. A malformed weight makes the coding unknown.
    fn add(&mut self, element: &[u8]) {
        let (name, weight) = match element.iter().position(|&byte| byte == b';') {
            None => (element, Some(FULL)),
            Some(at) => (
                element[..at].trim_ascii_end(),
                weight(element[at + 1..].trim_ascii()),
            ),
        };
        let Some(weight) = weight else { return };
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        let place = if is("identity") {
            &mut self.identity
        } else if is("*") {
            &mut self.any
        } else if is("x-gzip") {
            // RFC 9110 §8.4.1.3: equivalent to gzip.
            &mut self.codings[Coding::Gzip.index()]
        } else {
            match Coding::ALL.into_iter().find(|coding| is(coding.name())) {
                Some(coding) => &mut self.codings[coding.index()],
                None => return,
            }
        };
        place.get_or_insert(weight);
    }

    /// Selects the best of the codings for which `is_there`, and the identity.
    pub fn choose(&self, is_there: impl Fn(Coding) -> bool) -> Choice {
        let is_there = |coding: &Coding| is_there(*coding);
        self.best(Coding::ALL.into_iter().filter(is_there))
    }

    /// Selects the best of these codings and the identity; at equal weight the first.
    pub fn best(&self, there: impl DoubleEndedIterator<Item = Coding>) -> Choice {
        // An identity that is not named is acceptable, but less than every named coding.
        let identity = self.identity.or(self.any).unwrap_or(1);
        let mut best = (identity, Choice::Identity);
        for coding in there.rev() {
            let weight = self.codings[coding.index()].or(self.any).unwrap_or(0);
            if weight > 0 && weight >= best.0 {
                best = (weight, Choice::Encoded(coding));
            }
        }
        best.1
    }

    /// True if the client excludes the identity, `identity;q=0` or `*;q=0`.
    pub fn refuses_identity(&self) -> bool {
        self.identity.or(self.any) == Some(0)
    }
}

/// Parses a weight (RFC 9110 §12.4.2): `q=` with a number from 0 to 1 and at most three digits
/// after the point, in thousandths.
fn weight(parameter: &[u8]) -> Option<u16> {
    let [b'q' | b'Q', b'=', value @ ..] = parameter else {
        return None;
    };
    let (whole, fraction) = match value {
        [whole] => (whole, &[][..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let thousandths = fraction
        .iter()
        .chain([b'0'; 3].iter())
        .take(3)
        .fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    match (whole, thousandths) {
        (b'0', thousandths) => Some(thousandths),
        (b'1', 0) => Some(FULL),
        _ => None,
    }
}

const FULL: u16 = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use Choice::{Encoded, Identity};
    use Coding::{Brotli, Gzip, Zstd};
    use http::HeaderValue;
    use proptest::prelude::*;

    fn choose(fields: &[&[u8]], there: &[Coding]) -> Choice {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(ACCEPT_ENCODING, HeaderValue::from_bytes(field).unwrap());
        }
        Accepted::of(&headers).choose(|coding| there.contains(&coding))
    }

    #[test]
    fn the_heaviest_coding_that_is_there_wins() {
        let all = &Coding::ALL[..];
        let check = |field: &str, there: &[Coding], expected: Choice| {
            assert_eq!(choose(&[field.as_bytes()], there), expected, "{field}");
        };
        for (field, expected) in [
            ("", Identity),
            ("gzip", Encoded(Gzip)),
            ("GZip", Encoded(Gzip)),
            ("x-gzip", Encoded(Gzip)),
            ("gzip, deflate, br, zstd", Encoded(Brotli)),
            ("gzip;q=0.5, br;q=0.4", Encoded(Gzip)),
            ("gzip ; q=0.001", Encoded(Gzip)),
            ("br;q=1.000,zstd;q=1.0,gzip;q=1", Encoded(Brotli)),
            ("*", Encoded(Brotli)),
            ("*;q=0.1", Encoded(Brotli)),
            ("br;q=0, *", Encoded(Zstd)),
            ("*;q=0.5, gzip;q=0.6", Encoded(Gzip)),
            ("identity", Identity),
            ("identity, gzip;q=0.5", Identity),
            ("identity;q=0.5, gzip;q=0.4", Identity),
            ("identity;q=0.5, gzip;q=0.5", Encoded(Gzip)),
            ("gzip;q=0", Identity),
            ("gzip;q=0, gzip", Identity),
            ("gzip;q=2", Identity),
            ("gzip;q=0.1234", Identity),
            ("gzip;q=", Identity),
            ("gzip;q=-1", Identity),
            ("gzip;level=9", Identity),
            ("compress, exi", Identity),
            (",,gzip,,", Encoded(Gzip)),
        ] {
            check(field, all, expected);
        }
        check("br, gzip", &[Gzip], Encoded(Gzip));
        check("br", &[Gzip], Identity);
        check("identity;q=0", &[], Identity);
        check("identity;q=0, gzip", &[], Identity);
        check("gzip;q=1.0, *;q=0", &[], Identity);
        check("gzip;q=1.0, *;q=0", &[Brotli], Identity);
        check("identity;q=0, gzip", &[Gzip], Encoded(Gzip));
        check("*;q=0", all, Identity);
        check("*;q=0, gzip;q=0", all, Identity);
        check("*;q=0, identity;q=0.5", all, Identity);
        check("*;q=0, gzip", all, Encoded(Gzip));
        check("identity;q=0, *", &[Zstd], Encoded(Zstd));
    }

    #[test]
    fn several_fields_are_one_list_and_none_asks_for_the_file_as_it_is() {
        assert_eq!(choose(&[], &Coding::ALL), Identity);
        assert_eq!(choose(&[b"br;q=0", b"gzip"], &Coding::ALL), Encoded(Gzip));
        assert_eq!(choose(&[b"\xff\xfe, gzip"], &Coding::ALL), Encoded(Gzip));
    }

    proptest! {
        #[test]
        fn only_what_is_there_and_accepted_is_chosen(
            field in "[ ,;]{0,2}((br|gzip|zstd|identity|\\*|x)(;q=[01](\\.[0-9]{0,4})?)?,? ?){0,6}",
            there in prop::sample::subsequence(&Coding::ALL[..], 0..=3)
        ) {
            let choice = choose(&[field.as_bytes()], &there);
            if let Encoded(coding) = choice {
                prop_assert!(there.contains(&coding));
                prop_assert!(field.contains(coding.name()) || field.contains('*'));
            }
        }

        #[test]
        fn any_field_is_read_without_a_panic(field in prop::collection::vec(32u8..=255, 0..60)) {
            let field: Vec<u8> = field.into_iter().filter(|byte| *byte != 127).collect();
            choose(&[&field], &Coding::ALL);
        }
    }
}
