//! Step 5: the requested ranges (RFC 9110 §14).
//!
//! Pure: the value of a `Range` field and a length go in, a [`Selection`] comes out, which never
//! has more than [`MAX_RANGES`] pieces nor any byte twice. A malformed field is ignored, as RFC
//! 9110 §14.2 allows: the client then gets the whole file, which it has to expect anyway.

use std::ops::Range;

use crate::config::MAX_RANGES;

/// The part of a representation to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selection {
    /// Everything: 200.
    Whole,
    /// These bytes, none empty, none overlapping, all within the length: 206.
    Parts(Vec<Range<u64>>),
    /// No byte of the file: 416.
    Unsatisfiable,
}

/// Reads the value of a `Range` field for a representation of `length` bytes.
pub(super) fn select(value: &[u8], length: u64) -> Selection {
    select_at_most(value, length, MAX_RANGES)
}

/// As [`select`]; for more than `most` ranges everything is selected.
pub(super) fn select_at_most(value: &[u8], length: u64, most: usize) -> Selection {
    let Some(specs) = byte_ranges(value) else {
        return Selection::Whole;
    };
    let mut parts = Vec::new();
    let mut count = 0;
    let mut is_whole = false;
    for spec in specs {
        count += 1;
        let Some(spec) = Spec::read(spec).filter(|_| count <= most) else {
            return Selection::Whole;
        };
        // RFC 9110 §14.1.2: a non-empty suffix is satisfiable even for an empty file; no
        // Content-Range could describe it, so the client gets the whole empty file.
        is_whole |= length == 0 && matches!(spec, Spec::Suffix(1..));
        parts.extend(spec.within(length));
    }
    match parts.len() {
        _ if count == 0 || is_whole => Selection::Whole,
        0 => Selection::Unsatisfiable,
        _ => Selection::Parts(without_overlaps(parts)),
    }
}

/// One range of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spec {
    From(u64),
    FromTo(u64, u64),
    Suffix(u64),
}

impl Spec {
    /// RFC 9110 §14.1.1; a range whose last position is before its first is invalid.
    fn read(text: &[u8]) -> Option<Self> {
        let dash = text.iter().position(|&byte| byte == b'-')?;
        match (&text[..dash], &text[dash + 1..]) {
            (b"", suffix) => Some(Self::Suffix(number(suffix)?)),
            (first, b"") => Some(Self::From(number(first)?)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::FromTo(first, last))
            }
        }
    }

    /// The part of it within the file; `None` if it is empty.
    fn within(self, length: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From(first) => first..length,
            Self::FromTo(first, last) => first..last.saturating_add(1).min(length),
            Self::Suffix(count) => length.saturating_sub(count)..length,
        };
        (!range.is_empty()).then_some(range)
    }
}

/// The elements after `bytes=`. `None`: another unit, or no ranges at all.
fn byte_ranges(value: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let equals = value.iter().position(|&byte| byte == b'=')?;
    let (unit, specs) = (&value[..equals], &value[equals + 1..]);
    // RFC 9110 §14.1: the names of range units are case-insensitive.
    let specs = specs
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        // RFC 9110 §5.6.1.2: empty elements of a list are ignored.
        .filter(|spec| !spec.is_empty());
    unit.eq_ignore_ascii_case(b"bytes").then_some(specs)
}

/// Digits only. A number that no file reaches is replaced by the largest one.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |number: u64, digit| {
        number
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    }))
}

/// Overlapping ranges are merged, and then all are sorted; others keep the order of the request
/// (RFC 9110 §15.3.7.2).
fn without_overlaps(parts: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut sorted = parts.clone();
    sorted.sort_by_key(|part| part.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
    for part in sorted {
        match merged.last_mut() {
            Some(last) if part.start < last.end => last.end = last.end.max(part.end),
            _ => merged.push(part),
        }
    }
    match merged.len() == parts.len() {
        true => parts,
        false => merged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(parts: &[(u64, u64)]) -> Selection {
        Selection::Parts(parts.iter().map(|&(start, end)| start..end).collect())
    }

    #[test]
    fn ranges_of_ten_bytes() {
        let check = |value: &str, expected: Selection| {
            assert_eq!(select(value.as_bytes(), 10), expected, "{value}");
        };
        check("bytes=0-0", parts(&[(0, 1)]));
        check("bytes=2-5", parts(&[(2, 6)]));
        check("Bytes=2-5", parts(&[(2, 6)]));
        check("bytes=5-", parts(&[(5, 10)]));
        check("bytes=-3", parts(&[(7, 10)]));
        check("bytes=-30", parts(&[(0, 10)]));
        check("bytes=0-99999999999999999999999", parts(&[(0, 10)]));
        check("bytes=9-18446744073709551615", parts(&[(9, 10)]));
        check("bytes= 0-1 ,, 4-5", parts(&[(0, 2), (4, 6)]));
        check("bytes=4-5,0-1", parts(&[(4, 6), (0, 2)]));
        check("bytes=0-1,2-3", parts(&[(0, 2), (2, 4)]));
        check("bytes=0-5,3-7", parts(&[(0, 8)]));
        check("bytes=8-9,0-5,3-7", parts(&[(0, 8), (8, 10)]));
        check("bytes=0-,0-,0-", parts(&[(0, 10)]));
        check("bytes=0-1,50-60", parts(&[(0, 2)]));
        for missing in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99-,-0"] {
            check(missing, Selection::Unsatisfiable);
        }
        for unread in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=5-2",
            "bytes=0-1,5-2",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=1-2-3",
            "bytes=0 - 1",
            "items=0-1",
            "bytes 0-1",
            "0-1",
        ] {
            check(unread, Selection::Whole);
        }
    }

    #[test]
    fn an_empty_file_has_no_first_byte_but_a_suffix() {
        assert_eq!(select(b"bytes=0-", 0), Selection::Unsatisfiable);
        assert_eq!(select(b"bytes=-5", 0), Selection::Whole);
        assert_eq!(select(b"bytes=-0", 0), Selection::Unsatisfiable);
    }

    #[test]
    fn too_many_ranges_are_ignored() {
        let many = |count: u64| {
            let specs: Vec<_> = (0..count)
                .map(|at| format!("{}-{}", at * 2, at * 2))
                .collect();
            select(format!("bytes={}", specs.join(",")).as_bytes(), 1 << 20)
        };
        assert!(matches!(many(32), Selection::Parts(parts) if parts.len() == 32));
        assert_eq!(many(33), Selection::Whole);
        assert_eq!(many(10_000), Selection::Whole);
        let same = format!("bytes={}0-", "0-,".repeat(9_999));
        assert_eq!(select(same.as_bytes(), 1 << 20), Selection::Whole);
    }

    /// Almost valid fields, more often than random bytes contain them.
    fn nearly_ranges() -> impl Strategy<Value = Vec<u8>> {
        let text = "[bB]ytes=[0-9, -]{0,40}|bytes=([0-9]{0,21}-[0-9]{0,21},?){0,40}";
        prop_oneof![
            text.prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..40),
        ]
    }

    proptest! {
        #[test]
        fn whatever_is_asked_for_is_there_and_asked_for_once(
            value in nearly_ranges(), length in prop_oneof![0u64..40, any::<u64>()]
        ) {
            if let Selection::Parts(mut parts) = select(&value, length) {
                prop_assert!(!parts.is_empty() && parts.len() <= MAX_RANGES);
                parts.sort_by_key(|part| part.start);
                for part in &parts {
                    prop_assert!(part.start < part.end && part.end <= length);
                }
                for pair in parts.windows(2) {
                    prop_assert!(pair[0].end <= pair[1].start);
                }
            }
        }

        #[test]
        fn every_byte_of_a_written_range_is_sent(
            written in prop::collection::vec((0u64..60, 0u64..60), 1..8), length in 1u64..50
        ) {
            let specs: Vec<_> = written
                .iter()
                .map(|(a, b)| format!("{}-{}", a.min(b), a.max(b)))
                .collect();
            let selection = select(format!("bytes={}", specs.join(",")).as_bytes(), length);
            let is_wanted = |byte| written.iter().any(|(a, b)| (*a.min(b)..=*a.max(b)).contains(&byte));
            for byte in 0..length {
                let is_sent = match &selection {
                    Selection::Parts(parts) => parts.iter().any(|part| part.contains(&byte)),
                    Selection::Whole => true,
                    Selection::Unsatisfiable => false,
                };
                prop_assert_eq!(is_sent, is_wanted(byte));
            }
        }
    }
}
