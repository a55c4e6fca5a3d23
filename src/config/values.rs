//! Texts of simple settings into values: durations, sizes, counts, choices.
//!
//! Each function takes the text alone and says what is wrong with it and what would be
//! right; where the text stood is the resolver's business.

use std::time::Duration;

use super::error::{Invalid, invalid};
use super::suggest;

/// Longest time that can be set: a year, far from where adding to a clock could overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// True for a media type (RFC 6838 §4.2), perhaps with parameters.
pub fn is_media_type(text: &str) -> bool {
    let essence = text.split(';').next().unwrap_or_default().trim_end();
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    let is_visible = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    let names = essence.split_once('/');
    names.is_some_and(|(kind, subtype)| is_name(kind) && is_name(subtype))
        && text.bytes().all(is_visible)
}

/// `30`, `30s`, `500ms`, `1.5h`, `2m`, `1d`; a number without unit is seconds.
///
/// # Errors
/// [`Invalid`] for anything else, and above a year.
pub fn duration(text: &str) -> Result<Duration, Invalid> {
    let remedy = "give seconds as in `30`, or a unit as in `500ms`, `2m`, `1h`";
    let (number, unit) = split_unit(text);
    let nanos_per_unit: u64 = match unit {
        "" | "s" => 1_000_000_000,
        "ms" => 1_000_000,
        "m" | "min" => 60 * 1_000_000_000,
        "h" => 3600 * 1_000_000_000,
        "d" => 24 * 3600 * 1_000_000_000,
        _ => return Err(invalid("not a duration", remedy)),
    };
    let nanos = decimal(number, nanos_per_unit).ok_or_else(|| invalid("not a duration", remedy))?;
    match u64::try_from(nanos).map(Duration::from_nanos) {
        Ok(duration) if duration <= LONGEST => Ok(duration),
        _ => Err(invalid("longer than a year", "give at most `365d`")),
    }
}

/// A duration that must not be zero.
///
/// # Errors
/// [`Invalid`] for zero, and as [`duration`].
pub fn positive_duration(text: &str) -> Result<Duration, Invalid> {
    match duration(text)? {
        Duration::ZERO => Err(invalid(
            "a time limit of zero would end everything at once",
            "give a longer time, as in `30` or `500ms`",
        )),
        duration => Ok(duration),
    }
}

/// `100M`, `1.5G`, `512k`, `1048576`, `10MiB`: bytes in powers of 1024, as nginx counts.
/// Zero stands for no limit and becomes `u64::MAX`.
///
/// # Errors
/// [`Invalid`] for anything else.
pub fn byte_limit(text: &str) -> Result<u64, Invalid> {
    let wrong = || {
        invalid(
            "not a size in bytes",
            "give bytes as in `1048576`, or a unit as in `512K`, `100M`, `1.5G`",
        )
    };
    let (number, unit) = split_unit(text);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    if shift == 0 && number.contains('.') {
        return Err(wrong());
    }
    let bytes = decimal(number, 1 << shift).ok_or_else(wrong)?;
    match u64::try_from(bytes) {
        Ok(0)
            if number
                .bytes()
                .any(|digit| digit.is_ascii_digit() && digit != b'0') =>
        {
            Err(wrong())
        }
        Ok(0) => Ok(u64::MAX),
        Ok(bytes) => Ok(bytes),
        Err(_) => Err(invalid(
            "more bytes than there can be",
            "give 0 for no limit",
        )),
    }
}

/// Room that may be taken, as [`byte_limit`], but zero, `no` and `off` stand for none.
///
/// # Errors
/// [`Invalid`] for anything else.
pub fn byte_room(text: &str) -> Result<u64, Invalid> {
    match text {
        "0" | "no" | "off" | "false" => Ok(0),
        text => byte_limit(text),
    }
}

/// A size of at least `least` bytes, or `0` for no limit.
///
/// # Errors
/// [`Invalid`] for anything else.
pub fn byte_limit_from(text: &str, least: u64) -> Result<u64, Invalid> {
    match byte_limit(text)? {
        bytes if bytes < least => Err(invalid(
            "too small",
            format!("give at least {}M, or 0 for no limit", least >> 20),
        )),
        bytes => Ok(bytes),
    }
}

/// A whole number from `least` to `most`.
///
/// # Errors
/// [`Invalid`] for anything else.
pub fn count(text: &str, least: u32, most: u32) -> Result<u32, Invalid> {
    let remedy = format!("give a whole number from {least} to {most}");
    // `parse` alone would take "+5".
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid("not a whole number", remedy));
    }
    match text.parse::<u32>() {
        Ok(number) if number < least => Err(invalid("too few", remedy)),
        Ok(number) if number <= most => Ok(number),
        _ => Err(invalid("too many", remedy)),
    }
}

/// So many in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Number of requests, at least one.
    pub requests: u32,
    /// In which time.
    pub period: Duration,
}

/// `10/s`, `600/m`, `1000/h`; `no` for none.
///
/// # Errors
/// [`Invalid`] for anything else.
pub fn rate(text: &str) -> Result<Option<Rate>, Invalid> {
    if is_no(text) {
        return Ok(None);
    }
    let remedy = "give a number and a time as in `10/s`, `600/m`, `1000/h`, or `no`";
    let (number, unit) = text
        .split_once('/')
        .ok_or_else(|| invalid("not a rate", remedy))?;
    let seconds = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        _ => return Err(invalid("not a rate", remedy)),
    };
    Ok(Some(Rate {
        requests: count(number, 1, 1_000_000)?,
        period: Duration::from_secs(seconds),
    }))
}

/// A whole number of at least one, or `no` for no limit.
///
/// # Errors
/// [`Invalid`] for anything else.
pub fn count_or_none(text: &str, most: u32) -> Result<Option<u32>, Invalid> {
    match is_no(text) {
        true => Ok(None),
        false => count(text, 1, most).map(Some),
    }
}

fn is_no(text: &str) -> bool {
    matches!(
        text.to_ascii_lowercase().as_str(),
        "no" | "off" | "false" | "0"
    )
}

/// `yes`, `no` and the other words for them.
///
/// # Errors
/// [`Invalid`] for anything else.
pub fn yes_or_no(text: &str) -> Result<bool, Invalid> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "on" | "1" => Ok(true),
        "no" | "false" | "off" | "0" => Ok(false),
        _ => Err(invalid("neither yes nor no", "give yes or no")),
    }
}

/// One of a few words; upper and lower case are the same.
///
/// # Errors
/// [`Invalid`] with the words, and the one that was probably meant.
pub fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, Invalid> {
    if let Some((_, value)) = choices
        .iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(text))
    {
        return Ok(*value);
    }
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let problem = match suggest::closest(text, words.iter().copied()) {
        Some(meant) => format!("unknown, did you mean `{meant}`?"),
        None => "unknown".to_owned(),
    };
    Err(invalid(
        problem,
        format!("give one of {}", words.join(", ")),
    ))
}

/// True for a character of a token (RFC 9110 §5.6.2).
pub fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A level, or a filter directive of the `tracing` crates.
///
/// # Errors
/// [`Invalid`] if it is neither.
pub fn log_filter(text: &str) -> Result<String, Invalid> {
    const LEVELS: &[(&str, ())] = &[
        ("off", ()),
        ("error", ()),
        ("warn", ()),
        ("info", ()),
        ("debug", ()),
        ("trace", ()),
    ];
    // No name in this program has other letters, and the filter's own parser panics at some.
    if !text.is_ascii() {
        return Err(invalid(
            "a log filter has no letters beyond ASCII",
            "give a level, or `info,pyserve::front=debug`",
        ));
    }
    // The filter's own parser takes any bare word as the name of a module, and a slip such
    // as `inof` would silence everything else.
    for word in text.split(',').filter(|part| !part.contains(['=', '['])) {
        choice(word.trim(), LEVELS)?;
    }
    tracing_subscriber::filter::EnvFilter::builder()
        .parse(text)
        .map_err(|error| {
            invalid(
                format!("not a log filter: {error}"),
                "give a level, or `info,pyserve::front=debug`",
            )
        })?;
    Ok(text.to_owned())
}

/// Number and unit, with the space around them taken away.
fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

/// `number * unit`, exactly up to the fraction's rounding down. `None` if it is no number.
fn decimal(number: &str, unit: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // Twenty digits hold every u64; nine digits of a fraction resolve a nanosecond.
    if whole.is_empty() || whole.len() > 20 || fraction.len() > 9 || number.ends_with('.') {
        return None;
    }
    let whole: u128 = whole.parse().ok()?;
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: u128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    Some(whole * u128::from(unit) + fraction * u128::from(unit) / scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        let check = |text: &str, expected: Option<Duration>| {
            assert_eq!(duration(text).ok(), expected, "{text:?}");
        };
        let ms = |ms| Some(Duration::from_millis(ms));
        check("30", ms(30_000));
        check("30s", ms(30_000));
        check(" 30 s ", ms(30_000));
        check("500ms", ms(500));
        check("0.5", ms(500));
        check("2m", ms(120_000));
        check("1.5h", ms(5_400_000));
        check("0", ms(0));
        check("365d", ms(365 * 24 * 3_600_000));
        check("366d", None);
        check("99999999999999999999999d", None);
        for wrong in ["", "s", "-1", "1.2.3", "1.", ".5", "1e3", "30 seconds", "٣"] {
            check(wrong, None);
        }
        assert!(positive_duration("0ms").is_err());
        assert_eq!(positive_duration("1ms").ok(), ms(1));
    }

    #[test]
    fn byte_limits() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(byte_limit(text).ok(), expected, "{text:?}");
        };
        check("100M", Some(100 << 20));
        check("75m", Some(75 << 20));
        check("1.5G", Some(3 << 29));
        check("512K", Some(512 << 10));
        check("10MiB", Some(10 << 20));
        check("1048576", Some(1 << 20));
        check("18446744073709551615", Some(u64::MAX));
        check("18446744073709551616", None);
        check("99999999T", None);
        check("0", Some(u64::MAX));
        check("0M", Some(u64::MAX));
        check("0.0000001K", None);
        for wrong in ["", "M", "-1", "1.5", "1,5G", "10X", "unlimited"] {
            check(wrong, None);
        }
    }

    #[test]
    fn counts() {
        let check = |text: &str, expected: Option<u32>| {
            assert_eq!(count(text, 1, 1024).ok(), expected, "{text:?}");
        };
        check("1", Some(1));
        check("1024", Some(1024));
        for wrong in ["0", "1025", "", "+5", "-1", "two", "1.0", "99999999999"] {
            check(wrong, None);
        }
    }

    #[test]
    fn words_for_yes_and_no() {
        for yes in ["yes", "true", "on", "1", "YES"] {
            assert_eq!(yes_or_no(yes), Ok(true));
        }
        for no in ["no", "false", "off", "0"] {
            assert_eq!(yes_or_no(no), Ok(false));
        }
        assert!(yes_or_no("maybe").is_err());
    }

    #[test]
    fn log_filters() {
        for right in [
            "info",
            "OFF",
            "warn,pyserve::front=debug",
            "pyserve[request{id=1}]=trace",
        ] {
            assert_eq!(log_filter(right).as_deref(), Ok(right));
        }
        for wrong in [
            "",
            "inof",
            "info,front",
            "pyserve=info,front",
            "pyserve=loud",
            // The filter's parser panics at this one.
            " À=",
        ] {
            assert!(log_filter(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(
            log_filter("inof").unwrap_err().problem,
            "unknown, did you mean `info`?"
        );
    }

    proptest! {
        #[test]
        fn whole_numbers_of_bytes_read_back(bytes in 1u64..) {
            prop_assert_eq!(byte_limit(&bytes.to_string()), Ok(bytes));
        }

        #[test]
        fn milliseconds_read_back(ms in 0u64..31_536_000_000) {
            prop_assert_eq!(duration(&format!("{ms}ms")), Ok(Duration::from_millis(ms)));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,30}|[0-9.]{0,40}[a-zA-Z]{0,3}") {
            let _ = duration(&text);
            let _ = byte_limit(&text);
            let _ = count(&text, 0, u32::MAX);
            let _ = yes_or_no(&text);
            let _ = log_filter(&text);
        }
    }
}
