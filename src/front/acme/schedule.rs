//! The times of renewals and of attempts after a failure: pure, in seconds since 1970.

/// A certificate in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Begin of its validity.
    pub from: u64,
    /// Its end.
    pub to: u64,
    /// A number between 0 and 1 in 2^32 parts that belongs to the certificate, so that the moment in
    /// a window is random and yet stays the same for each server and after a restart.
    pub draw: u32,
}

/// A time window in which the authority suggests a renewal (RFC 9773 §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Window {
    /// Its begin.
    pub start: u64,
    /// Its end.
    pub end: u64,
}

/// The time at which a certificate is to be renewed.
///
/// RFC 9773 §4.2 wants a random moment in the window of the authority. Without a window it is the
/// moment at which a third of the lifetime is left, or a half where the whole is below ten days, as
/// Let's Encrypt recommends: that holds for 90 days as well as for 45 and for six.
pub fn renewal(validity: Validity, window: Option<Window>) -> u64 {
    let lifetime = validity.to.saturating_sub(validity.from);
    match window {
        Some(window) => {
            let length = window.end.saturating_sub(window.start);
            let part = (u128::from(length) * u128::from(validity.draw)) >> 32;
            // A window that begins too late for a second try is not of this certificate.
            let latest = validity.to.saturating_sub(lifetime / 12);
            window.start.saturating_add(part as u64).min(latest)
        }
        None => {
            let left = match lifetime < SHORT_LIVED {
                true => lifetime / 2,
                false => lifetime / 3,
            };
            // A little earlier or later, so that the certificates of many servers do not expire together.
            let spread = (u128::from(lifetime / 50) * u128::from(validity.draw)) >> 32;
            validity.to.saturating_sub(left + spread as u64)
        }
    }
}

/// The delay after so many failures in succession, at least one. `is_free`: the authority has not seen
/// the attempt, so it may be repeated soon. `draw` spreads it by a quarter.
pub fn delay(failures: u32, is_free: bool, draw: u32) -> u64 {
    let steps = match is_free {
        true => FREE_DELAYS,
        // Five failed validations within an hour are a limit of Let's Encrypt.
        false => DELAYS,
    };
    let last = steps.len() - 1;
    let base = steps[(failures.max(1) as usize - 1).min(last)];
    base + ((base / 4 * u64::from(draw)) >> 32)
}

/// True if one more renewal before its time may be ordered at `now`: an authority whose windows lie
/// always in the past must not get one order after the other.
pub fn may_renew_early(issued: &[u64], now: u64) -> bool {
    let recent = issued.iter().filter(|at| **at + DAY > now).count();
    recent < EARLY_IN_A_DAY
}

/// Interval of questions for the window: what the authority wants, within the bounds of RFC 9773 §4.3.2.
pub fn next_question(retry_after: Option<u64>) -> u64 {
    retry_after.map_or(QUESTION, |after| after.clamp(60, DAY))
}

const DAY: u64 = 24 * 3600;
/// Lifetime of certificates of which a half is left at their renewal.
const SHORT_LIVED: u64 = 10 * DAY;
/// Seconds between attempts that reach the authority.
const DELAYS: &[u64] = &[60, 300, 1200, 3600, 3 * 3600, 6 * 3600];
/// Seconds between attempts that do not.
const FREE_DELAYS: &[u64] = &[2, 4, 8, 15, 30, 60, 120, 300, 600];
/// Certificates of a host in a day, first and early ones together.
const EARLY_IN_A_DAY: usize = 3;
/// Interval of questions for the window without the authority's wish.
const QUESTION: u64 = 6 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    fn lasting(days: u64, draw: u32) -> Validity {
        Validity {
            from: 1_000_000,
            to: 1_000_000 + days * DAY,
            draw,
        }
    }

    #[test]
    fn without_a_window_a_third_of_the_lifetime_is_left_and_a_half_of_a_short_one() {
        let check = |days: u64, left: u64| {
            let validity = lasting(days, 0);
            assert_eq!(renewal(validity, None), validity.to - left * DAY, "{days}");
            let spread = validity.to - left * DAY - renewal(lasting(days, u32::MAX), None);
            assert!(spread <= days * DAY / 50, "{days}: {spread}");
        };
        check(90, 30);
        check(45, 15);
        check(6, 3);
    }

    #[test]
    fn a_moment_in_the_window_is_drawn_and_never_too_late() {
        let window = Window {
            start: 2_000_000,
            end: 2_100_000,
        };
        let check = |draw: u32, expected: u64| {
            assert_eq!(renewal(lasting(90, draw), Some(window)), expected);
        };
        check(0, 2_000_000);
        check(1 << 31, 2_050_000);
        check(u32::MAX, 2_099_999);
        let late = Window {
            start: u64::MAX / 2,
            end: u64::MAX / 2 + 1,
        };
        assert!(renewal(lasting(90, 0), Some(late)) < lasting(90, 0).to);
        let reversed = Window { start: 5, end: 3 };
        assert_eq!(renewal(lasting(90, u32::MAX), Some(reversed)), 5);
    }

    #[test]
    fn delays_grow_and_stay_below_a_limit() {
        for is_free in [true, false] {
            let delays: Vec<_> = (0..100).map(|count| delay(count, is_free, 0)).collect();
            assert!(delays.is_sorted());
            assert_eq!(delays[0], delays[1]);
        }
        assert_eq!(delay(u32::MAX, false, 0), 6 * 3600);
        assert_eq!(delay(1, false, u32::MAX), 74);
        // Not more than five within an hour.
        let five: u64 = (1..=5).map(|count| delay(count, false, 0)).sum();
        assert!(five > 3600, "{five}");
    }

    #[test]
    fn early_renewals_are_limited_in_a_day() {
        let now = 10 * DAY;
        assert!(may_renew_early(&[], now));
        assert!(may_renew_early(&[now - 10, now - 5], now));
        assert!(!may_renew_early(&[now - 10, now - 5, now - 2], now));
        assert!(may_renew_early(&[now - 2 * DAY, now - 5, now - 2], now));
    }

    #[test]
    fn the_interval_of_questions_has_bounds() {
        assert_eq!(next_question(None), QUESTION);
        assert_eq!(next_question(Some(0)), 60);
        assert_eq!(next_question(Some(7200)), 7200);
        assert_eq!(next_question(Some(u64::MAX)), DAY);
    }
}
