//! Writes points in time the ways that logs want them, always in UTC.
//!
//! UTC, because lines of several machines and containers are read side by side, and because
//! a process cannot ask for the local zone safely once it has threads.

use std::time::{SystemTime, UNIX_EPOCH};

/// A point in time as calendar and clock say it, in UTC. Times before 1970 count as 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp {
    year: u64,
    /// 1 to 12.
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
    millisecond: u16,
}

impl Timestamp {
    /// `2026-11-20T17:54:06.123Z` (RFC 3339).
    pub fn rfc_3339(&self) -> String {
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            self.year, self.month, self.day, self.hour, self.minute, self.second, self.millisecond
        )
    }

    /// `20/Nov/2026:17:54:06 +0000`, as nginx's `$time_local` and Apache's `%t`.
    pub(super) fn common_log(&self) -> String {
        format!(
            "{:02}/{}/{:04}:{:02}:{:02}:{:02} +0000",
            self.day,
            MONTHS[usize::from(self.month) - 1],
            self.year,
            self.hour,
            self.minute,
            self.second
        )
    }

    /// `17:54:06`.
    pub(super) fn clock(&self) -> String {
        format!("{:02}:{:02}:{:02}", self.hour, self.minute, self.second)
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since_1970 = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = since_1970.as_secs();
        let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = date(days);
        Self {
            year,
            month,
            day,
            hour: (second_of_day / 3_600) as u8,
            minute: (second_of_day / 60 % 60) as u8,
            second: (second_of_day % 60) as u8,
            millisecond: since_1970.subsec_millis() as u16,
        }
    }
}

/// Year, month and day from days since 1970 (Howard Hinnant, "chrono-Compatible Low-Level
/// Date Algorithms", `civil_from_days`). Years begin in March there, so that the leap day
/// comes last.
fn date(days_since_1970: u64) -> (u64, u8, u8) {
    let days = days_since_1970 + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = match month_from_march {
        0..=9 => month_from_march + 3,
        _ => month_from_march - 9,
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month as u8, day as u8)
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn at(seconds: u64, millis: u64) -> Timestamp {
        let since = Duration::from_secs(seconds) + Duration::from_millis(millis);
        Timestamp::from(UNIX_EPOCH + since)
    }

    #[test]
    fn a_time_is_written_in_every_form() {
        let time = at(1_795_197_246, 123);
        assert_eq!(time.rfc_3339(), "2026-11-20T17:54:06.123Z");
        assert_eq!(time.common_log(), "20/Nov/2026:17:54:06 +0000");
        assert_eq!(time.clock(), "17:54:06");
        let early = Timestamp::from(UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(early.rfc_3339(), "1970-01-01T00:00:00.000Z");
    }

    proptest! {
        /// `httpdate` is the second opinion.
        #[test]
        fn the_calendar_is_right(seconds in 0u64..253_402_300_800) {
            let expected = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
            let written = at(seconds, 0).common_log().replace(['/', ':'], " ");
            let expected = expected[5..].replace(':', " ").replace(" GMT", " +0000");
            prop_assert_eq!(written, expected);
        }
    }
}
