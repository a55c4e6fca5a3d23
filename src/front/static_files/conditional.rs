//! Step 4: conditional requests (RFC 9110 §13).
//!
//! Pure: the request's condition fields and a file's validators go in, a [`ConditionOutcome`] comes
//! out. The fields are taken from the request first, because they are sent to another thread.

use std::fs::Metadata;
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::negotiate::Coding;

/// Identifies one state of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Validators {
    /// A strong entity tag, quotes included.
    pub(super) etag: String,
    /// In whole seconds, never in the future.
    pub(super) last_modified: SystemTime,
}

/// The condition fields of a request.
#[derive(Debug, Clone, Default)]
pub(super) struct Conditions {
    if_match: Vec<HeaderValue>,
    if_none_match: Vec<HeaderValue>,
    if_modified_since: Option<SystemTime>,
    if_unmodified_since: Option<SystemTime>,
    if_range: Vec<HeaderValue>,
}

/// The outcome of the conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConditionOutcome {
    /// Send the response.
    Send,
    /// The client's copy is still valid: 304.
    NotModified,
    /// The client requires another state: 412.
    Failed,
}

impl Validators {
    /// Validators of a file whose bytes are known: the tag depends on them alone, so that replicas
    /// of an image agree, and a deployment that only touches a file changes nothing.
    pub(super) fn of_bytes(bytes: &[u8], metadata: &Metadata) -> Self {
        // SipHash with keys of zero, the same on every server. Only those who can write the files
        // can make two of them collide.
        let mut hasher = DefaultHasher::new();
        hasher.write(bytes);
        let etag = format!("\"{:x}-{:016x}\"", bytes.len(), hasher.finish());
        Self::tagged(etag, metadata)
    }

    /// Validators of a file that is too large to be read for this: its length, and its times, as
    /// far as they distinguish its states. `is_settled`: it did not change just now.
    pub(super) fn of_state(metadata: &Metadata, is_settled: bool) -> Self {
        let time = format!("{:x}.{:x}", metadata.mtime(), metadata.mtime_nsec());
        let mut etag = format!("\"{:x}-{time}", metadata.size());
        if !is_settled || metadata.mtime() < OLDEST_MEANT {
            // The time of the change cannot be set, and two files that replace each other within
            // one tick of its clock have two inodes. Both differ between replicas.
            let changed = (metadata.ctime(), metadata.ctime_nsec());
            etag += &format!("-{:x}.{:x}-{:x}", changed.0, changed.1, metadata.ino());
        }
        Self::tagged(etag + "\"", metadata)
    }

    fn tagged(etag: String, metadata: &Metadata) -> Self {
        Self {
            etag,
            last_modified: last_modified(metadata.mtime(), SystemTime::now()),
        }
    }

    /// The validators of an encoded form: RFC 9110 §8.8.3.3 requires another tag for it.
    pub(super) fn for_coding(&self, coding: Coding) -> Self {
        let tag = self.etag.trim_end_matches('"');
        Self {
            etag: format!("{tag}-{}\"", coding.name()),
            last_modified: self.last_modified,
        }
    }
}

impl Conditions {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self {
            if_match: headers.get_all(header::IF_MATCH).iter().cloned().collect(),
            if_none_match: headers
                .get_all(header::IF_NONE_MATCH)
                .iter()
                .cloned()
                .collect(),
            if_modified_since: date(headers, header::IF_MODIFIED_SINCE),
            if_unmodified_since: date(headers, header::IF_UNMODIFIED_SINCE),
            if_range: headers.get_all(header::IF_RANGE).iter().cloned().collect(),
        }
    }

    /// The conditions about the client's copy; each field occurs once at most.
    pub(super) fn of_copy(none_match: Option<&[u8]>, modified_since: Option<&[u8]>) -> Self {
        let value = |bytes| HeaderValue::from_bytes(bytes).ok();
        Self {
            if_none_match: none_match.and_then(value).into_iter().collect(),
            if_modified_since: modified_since
                .and_then(value)
                .and_then(|only| parsed(&only)),
            ..Self::default()
        }
    }

    /// RFC 9110 §13.1.5: true if a range may be taken from this file, because the client already
    /// has other bytes of the same state. One validator, compared strongly.
    pub(super) fn allow_range(&self, file: &Validators) -> bool {
        match self.if_range.as_slice() {
            [] => true,
            [only] => {
                let value = only.as_bytes().trim_ascii();
                // A date must be identical; two states within the same second are a risk that nginx
                // takes too.
                let date = std::str::from_utf8(value)
                    .ok()
                    .map(httpdate::parse_http_date);
                value == file.etag.as_bytes()
                    || date.is_some_and(|date| date.is_ok_and(|date| date == file.last_modified))
            }
            _ => false,
        }
    }

    /// RFC 9110 §13.2.2, in its order; for GET and HEAD only.
    pub(super) fn evaluate(&self, file: &Validators) -> ConditionOutcome {
        if !self.if_match.is_empty() {
            if !any_matches(&self.if_match, &file.etag, Comparison::Strong) {
                return ConditionOutcome::Failed;
            }
        } else if let Some(date) = self.if_unmodified_since
            && file.last_modified > date
        {
            return ConditionOutcome::Failed;
        }
        let is_unchanged = if !self.if_none_match.is_empty() {
            any_matches(&self.if_none_match, &file.etag, Comparison::Weak)
        } else {
            self.if_modified_since
                .is_some_and(|date| file.last_modified <= date)
        };
        match is_unchanged {
            true => ConditionOutcome::NotModified,
            false => ConditionOutcome::Send,
        }
    }
}

/// RFC 9110 §8.8.3.2.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// True if the lists of entity tags contain `etag`, or are `*`.
fn any_matches(lists: &[HeaderValue], etag: &str, comparison: Comparison) -> bool {
    if let [only] = lists
        && only.as_bytes().trim_ascii() == b"*"
    {
        return true;
    }
    lists
        .iter()
        .flat_map(|list| tags(list.as_bytes()))
        .any(|(is_weak, tag)| {
            tag == etag.as_bytes() && !(is_weak && comparison == Comparison::Strong)
        })
}

/// Iterates over `"a", W/"b"`; ends at the first element that is not an entity tag.
fn tags(list: &[u8]) -> impl Iterator<Item = (bool, &[u8])> {
    let mut rest = list;
    std::iter::from_fn(move || {
        // RFC 9110 §5.6.1.2: empty elements of a list are ignored.
        while let [b',' | b' ' | b'\t', behind @ ..] = rest {
            rest = behind;
        }
        let (is_weak, quoted) = match rest.strip_prefix(b"W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let inner = quoted.strip_prefix(b"\"")?;
        // RFC 9110 §8.8.3: no escapes inside an entity tag; a comma there is no separator.
        let end = inner.iter().position(|&byte| byte == b'"')?;
        let (tag, behind) = quoted.split_at(end + 2);
        rest = behind;
        Some((is_weak, tag))
    })
}

/// RFC 9110 §13.1.3: a recipient must ignore a field whose value is not one date.
fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    let mut values = headers.get_all(name).iter();
    parsed(values.next().filter(|_| values.next().is_none())?)
}

fn parsed(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?).ok()
}

/// RFC 9110 §8.8.2.1: not later than the response itself. Times before 1970 cannot be written.
fn last_modified(mtime_seconds: i64, now: SystemTime) -> SystemTime {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = u64::try_from(mtime_seconds).unwrap_or(0);
    UNIX_EPOCH + Duration::from_secs(seconds.min(now.as_secs()).min(LAST_DATE))
}

/// 9999-12-31T23:59:59Z: an HTTP date has four digits for the year.
const LAST_DATE: u64 = 253_402_300_799;

/// The year 1990. Reproducible builds give all files one time, usually one before this: the epoch
/// of Unix, or of ZIP (1980).
const OLDEST_MEANT: i64 = 631_152_000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const SAME_BY_RFC_850: &str = "Sunday, 06-Nov-94 08:49:37 GMT";
    const SAME_BY_ASCTIME: &str = "Sun Nov  6 08:49:37 1994";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn check(fields: &[(&str, &str)], expected: ConditionOutcome) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        let file = Validators {
            etag: "\"a,b\"".into(),
            last_modified: httpdate::parse_http_date(SAME).unwrap(),
        };
        let verdict = Conditions::of(&headers).evaluate(&file);
        assert_eq!(verdict, expected, "{fields:?}");
    }

    #[test]
    fn an_entity_tag_in_the_list_means_not_modified() {
        for list in [
            "\"a,b\"",
            "W/\"a,b\"",
            "\"x\", \"a,b\"",
            "\"x\",W/\"a,b\" ,\"y\"",
            ", ,\"a,b\"",
            "*",
            " * ",
        ] {
            check(&[("if-none-match", list)], ConditionOutcome::NotModified);
        }
        for list in [
            "\"a\"",
            "a,b",
            "",
            "\"a,b",
            "w/\"a,b\"",
            "x, \"a,b\"",
            "\"*\"",
        ] {
            check(&[("if-none-match", list)], ConditionOutcome::Send);
        }
        check(
            &[("if-none-match", "\"x\""), ("if-none-match", "\"a,b\"")],
            ConditionOutcome::NotModified,
        );
    }

    #[test]
    fn a_date_counts_only_without_entity_tags() {
        for (date, expected) in [
            (BEFORE, ConditionOutcome::Send),
            (SAME, ConditionOutcome::NotModified),
            (SAME_BY_RFC_850, ConditionOutcome::NotModified),
            (SAME_BY_ASCTIME, ConditionOutcome::NotModified),
            (AFTER, ConditionOutcome::NotModified),
            ("yesterday", ConditionOutcome::Send),
            ("", ConditionOutcome::Send),
        ] {
            check(&[("if-modified-since", date)], expected);
            let both = [("if-none-match", "\"x\""), ("if-modified-since", date)];
            check(&both, ConditionOutcome::Send);
        }
        let twice = [("if-modified-since", SAME), ("if-modified-since", AFTER)];
        check(&twice, ConditionOutcome::Send);
    }

    #[test]
    fn preconditions_fail_before_anything_else_is_looked_at() {
        check(&[("if-match", "\"x\"")], ConditionOutcome::Failed);
        check(&[("if-match", "W/\"a,b\"")], ConditionOutcome::Failed);
        check(&[("if-match", "\"a,b\"")], ConditionOutcome::Send);
        check(&[("if-match", "*")], ConditionOutcome::Send);
        check(&[("if-unmodified-since", BEFORE)], ConditionOutcome::Failed);
        check(&[("if-unmodified-since", SAME)], ConditionOutcome::Send);
        check(&[("if-unmodified-since", "never")], ConditionOutcome::Send);
        let tag_over_date = [("if-match", "\"a,b\""), ("if-unmodified-since", BEFORE)];
        check(&tag_over_date, ConditionOutcome::Send);
        let both = [("if-match", "\"x\""), ("if-none-match", "\"a,b\"")];
        check(&both, ConditionOutcome::Failed);
        let both = [("if-match", "*"), ("if-none-match", "\"a,b\"")];
        check(&both, ConditionOutcome::NotModified);
    }

    #[test]
    fn a_range_is_taken_only_out_of_the_very_same_state() {
        let allowed = |fields: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in fields {
                headers.append(header::IF_RANGE, HeaderValue::from_str(value).unwrap());
            }
            let file = Validators {
                etag: "\"a,b\"".into(),
                last_modified: httpdate::parse_http_date(SAME).unwrap(),
            };
            Conditions::of(&headers).allow_range(&file)
        };
        for same in ["\"a,b\"", SAME, SAME_BY_RFC_850] {
            assert!(allowed(&[same]), "{same}");
        }
        assert!(allowed(&[]));
        for other in [
            "W/\"a,b\"",
            "\"a\"",
            "\"x\", \"a,b\"",
            "*",
            "",
            BEFORE,
            AFTER,
            "a,b",
        ] {
            assert!(!allowed(&[other]), "{other}");
        }
        assert!(!allowed(&["\"a,b\"", "\"a,b\""]));
    }

    #[test]
    fn a_time_that_http_cannot_say_becomes_one_that_it_can() {
        let now = UNIX_EPOCH + Duration::new(1_000, 7);
        for (mtime, expected) in [
            (-5, 0),
            (0, 0),
            (999, 999),
            (1_001, 1_000),
            (i64::MAX, 1_000),
        ] {
            let expected = UNIX_EPOCH + Duration::from_secs(expected);
            assert_eq!(last_modified(mtime, now), expected);
        }
        let far = UNIX_EPOCH + Duration::from_secs(LAST_DATE + 1_000);
        httpdate::fmt_http_date(last_modified(i64::MAX, far));
        last_modified(5, UNIX_EPOCH - Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn any_list_is_read_to_its_end(list in prop::collection::vec(any::<u8>(), 0..60)) {
            for (_, tag) in tags(&list) {
                prop_assert!(tag.len() >= 2 && tag.starts_with(b"\"") && tag.ends_with(b"\""));
            }
        }

        #[test]
        fn a_written_list_is_read_back(
            written in prop::collection::vec((any::<bool>(), "[!#-~]{0,8}"), 0..8)
        ) {
            let list: Vec<_> = written
                .iter()
                .map(|(is_weak, tag)| format!("{}\"{tag}\"", if *is_weak { "W/" } else { "" }))
                .collect();
            let list = list.join(", ");
            let read: Vec<_> = tags(list.as_bytes())
                .map(|(is_weak, tag)| (is_weak, String::from_utf8_lossy(&tag[1..tag.len() - 1]).into_owned()))
                .collect();
            prop_assert_eq!(read, written);
        }
    }
}
