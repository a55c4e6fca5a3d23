//! The user and the password of a request, from its `Authorization` field (RFC 7617 §2).

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::UserName;

/// nginx accepts a missing padding too.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// User and password, unverified.
pub(super) struct Credentials {
    pub(super) user: UserName,
    pub(super) password: Box<[u8]>,
}

impl Credentials {
    /// The credentials of the Basic scheme; `None` if there are none, or more than one field.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        let (field, None) = (fields.next()?, fields.next()) else {
            return None;
        };
        let (scheme, rest) = field.as_bytes().split_at_checked(5)?;
        if !scheme.eq_ignore_ascii_case(b"basic") || !rest.starts_with(b" ") {
            return None;
        }
        let decoded = BASE64.decode(rest.trim_ascii()).ok()?;
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        let (user, password) = (&decoded[..colon], &decoded[colon + 1..]);
        let is_control = |byte: &u8| byte.is_ascii_control();
        if user.is_empty() || user.iter().any(is_control) {
            return None;
        }
        Some(Self {
            user: user.into(),
            password: password.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn of(fields: &[&str]) -> Option<(String, String)> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(AUTHORIZATION, HeaderValue::from_str(field).unwrap());
        }
        let read = Credentials::of(&headers)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some((text(&read.user), text(&read.password)))
    }

    #[test]
    fn user_and_password_are_before_and_behind_the_first_colon() {
        // RFC 7617 §2: user Aladdin, password "open sesame"; §2.1: test, "123£".
        for (field, user, password) in [
            (
                "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
                "Aladdin",
                "open sesame",
            ),
            (
                "basic  QWxhZGRpbjpvcGVuIHNlc2FtZQ== ",
                "Aladdin",
                "open sesame",
            ),
            ("BASIC QWxhZGRpbjpvcGVuIHNlc2FtZQ", "Aladdin", "open sesame"),
            ("Basic dGVzdDoxMjPCow==", "test", "123\u{a3}"),
            ("Basic YTpiOmM=", "a", "b:c"),
            ("Basic YTo=", "a", ""),
        ] {
            assert_eq!(
                of(&[field]),
                Some((user.into(), password.into())),
                "{field}"
            );
        }
    }

    #[test]
    fn everything_else_has_no_credentials() {
        let good = "Basic YTpi";
        for fields in [
            &[][..],
            &["Bearer YTpi"],
            &["Basic"],
            &["Basic YQ=="],
            &["Basic OmI="],
            &["Basic !!!"],
            &["BasicYTpi"],
            &["Basic\u{9}YTpi"],
            &["Basic YQA6Yg=="],
            &[good, good],
        ] {
            assert_eq!(of(fields), None, "{fields:?}");
        }
    }

    proptest! {
        #[test]
        fn any_field_is_read_without_a_panic(field in "(Basic )?[ -~]{0,40}") {
            let _ = of(&[&field]);
        }
    }
}
