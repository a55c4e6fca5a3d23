//! The listening queue of another server, beside the queue of requests here.

use super::Verdict;
use crate::config::settings::{self, Default};

/// Longest queue that `queue_limit` takes.
const LONGEST: i64 = 1_000_000;

/// The value of `queue_limit` for a listening queue of this length; or the verdict of one that is not
/// longer than the default.
///
/// A full listening queue makes clients of TCP wait, where a full queue of requests refuses them: a short one
/// is no reason to refuse requests that the other server would have answered.
pub fn beyond_default(length: i64) -> Result<String, Verdict> {
    let default = match settings::named("queue_limit").map(|setting| setting.default) {
        Some(Default::Value(value)) => value.parse().unwrap_or_default(),
        _ => 0,
    };
    match length > default {
        true => Ok(length.min(LONGEST).to_string()),
        false => Err(Verdict::AlreadySo(format!(
            "{default} requests may wait (`queue_limit`), each for the time of `queue_timeout`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_listening_queue_does_not_shorten_that_of_requests() {
        let check = |length: i64, expected: Option<&str>| {
            let found = beyond_default(length);
            assert_eq!(found.as_deref().ok(), expected, "{length}");
            let is_so = matches!(found, Ok(_) | Err(Verdict::AlreadySo(_)));
            assert!(is_so, "{length}");
        };
        check(10, None);
        check(1024, None);
        check(1025, Some("1025"));
        check(1 << 40, Some("1000000"));
    }
}
