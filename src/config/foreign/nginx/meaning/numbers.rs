//! Times and sizes, as nginx writes them.

use crate::config::foreign::bounds;

/// nginx's times: `30`, `30s`, `1m30s`, `500ms`; in whole seconds, rounded up.
pub fn seconds(text: &str) -> Option<u64> {
    let mut total_ms: u64 = 0;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        rest = &rest[digits..];
        let units = [
            ("ms", 1),
            ("s", 1000),
            ("m", 60_000),
            ("h", 3_600_000),
            ("d", 86_400_000),
            ("w", 604_800_000),
            ("M", 2_592_000_000),
            ("y", 31_536_000_000),
        ];
        let (unit, factor) = units
            .into_iter()
            .find(|(unit, _)| rest.starts_with(unit))
            .unwrap_or(("", 1000));
        rest = rest[unit.len()..].trim_start();
        total_ms = total_ms.checked_add(number.checked_mul(factor)?)?;
    }
    // nginx's are signed.
    i64::try_from(total_ms).ok()?;
    Some(total_ms.div_ceil(1000))
}

/// The time that a setting has for these seconds, with the note of one that would be too long.
pub fn longest(seconds: u64) -> (u64, String) {
    let most = bounds::A_YEAR.unsigned_abs();
    match seconds > most {
        true => (most, format!(" ({})", bounds::TOO_LONG)),
        false => (seconds, String::new()),
    }
}

/// nginx's sizes: `1024`, `8k`, `50m`, `1g`; 0 for no limit.
pub fn bytes(text: &str) -> Option<String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text.get(..digits)?.parse().ok()?;
    let unit = &text[digits..];
    let factor = match unit {
        "" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        _ => return None,
    };
    // nginx's are signed.
    i64::try_from(number.checked_mul(factor)?).ok()?;
    Some(format!("{number}{}", unit.to_ascii_uppercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_nginx_s() {
        for (text, expected) in [
            ("60", Some(60)),
            ("1m30s", Some(90)),
            ("500ms", Some(1)),
            ("30d", Some(2_592_000)),
            ("1h 30m", Some(5400)),
            ("x", None),
            ("", None),
            ("1x", None),
            ("9999999999999999999s", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
        for (text, expected) in [
            ("75M", Some("75M")),
            ("8k", Some("8K")),
            ("0", Some("0")),
            ("1048576", Some("1048576")),
            ("1T", None),
            ("99999999999999999g", None),
            ("", None),
            ("m", None),
        ] {
            assert_eq!(bytes(text).as_deref(), expected, "{text}");
        }
    }
}
