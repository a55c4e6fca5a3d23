//! Values as C reads them: atoi(3), strtoul(3), and uWSGI's flags.

/// The number at the start of the text, as atoi(3) finds it; 0 without one. Stops at the limits of
/// `i64`.
pub fn atoi(text: &str) -> i64 {
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let (sign, digits) = match text.as_bytes().first() {
        Some(b'-') => (-1, &text[1..]),
        Some(b'+') => (1, &text[1..]),
        _ => (1, text),
    };
    let digits = digits.bytes().take_while(u8::is_ascii_digit);
    digits.fold(0i64, |number, digit| {
        number
            .saturating_mul(10)
            .saturating_add(sign * i64::from(digit - b'0'))
    })
}

/// True if the text begins with a number.
pub fn has_number(text: &str) -> bool {
    let text = text.trim_start();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    digits.starts_with(|c: char| c.is_ascii_digit())
}

/// True unless the whole value is false, off, no (in any case) or 0.
pub fn flag(value: Option<&str>) -> bool {
    let Some(value) = value else { return true };
    !(["false", "off", "no"]
        .iter()
        .any(|word| value.eq_ignore_ascii_case(word))
        || value == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_where_their_digits_end() {
        for (text, expected) in [
            ("4", 4),
            ("32768k", 32768),
            ("60 ; seconds", 60),
            ("-1", -1),
            ("true", 0),
            ("", 0),
            ("  +7x", 7),
            ("99999999999999999999", i64::MAX),
        ] {
            assert_eq!(atoi(text), expected, "{text}");
        }
        assert!(has_number("4 # x") && !has_number("true") && !has_number("-"));
    }

    #[test]
    fn a_flag_is_true_unless_its_whole_value_is_a_no() {
        for value in ["false", "OFF", "No", "0"] {
            assert!(!flag(Some(value)), "{value}");
        }
        for value in ["", "1", "true", "false ; for now", "00", "off # x", "n"] {
            assert!(flag(Some(value)), "{value}");
        }
        assert!(flag(None));
    }
}
