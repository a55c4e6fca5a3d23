//! The times at which a companion runs: a line of crontab(5), or a period. Pure.
//!
//! Times are those of a time zone. Where its clocks change, the rules are those of cron (Vixie):
//!
//! - A schedule whose minute and hour both name numbers (`30 2 * * *`) runs once for each of its
//!   times: one that the clocks skip runs at the moment of the change, one that occurs twice at its
//!   first occurrence.
//! - A schedule whose minute or hour begins with `*` (`*/15 * * * *`) runs by the clock as it shows:
//!   not in an hour that is skipped, in both of an hour that occurs twice.

use std::fmt;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::error::{Invalid, invalid};

/// When a companion runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// At times of the calendar.
    Cron(Box<Cron>),
    /// So long after the start of the run before, for the first time after the start of the server.
    Every(Duration),
}

/// A line of crontab(5) in a time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    text: String,
    /// Bits by number.
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// Sunday is 0.
    weekdays: u64,
    /// True if a day has to be of both `days` and `weekdays`, else of one of them.
    needs_both_days: bool,
    /// True if minute or hour begins with `*`.
    follows_clock: bool,
    zone: TimeZone,
}

impl fmt::Display for Schedule {
    /// As in the settings.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron(cron) => write!(f, "{:?} ({})", cron.text, zone_name(&cron.zone)),
            Self::Every(period) => write!(f, "every {period:?}"),
        }
    }
}

fn zone_name(zone: &TimeZone) -> &str {
    zone.iana_name().unwrap_or("local time")
}

/// The time zone of the server: `TZ`, else that of the system, else UTC.
///
/// # Errors
/// [`Invalid`] if `TZ` names no time zone.
pub fn system_zone(tz: Option<&str>) -> Result<TimeZone, Invalid> {
    match (TimeZone::try_system(), tz) {
        (Ok(zone), _) => Ok(zone),
        (Err(_), None) => Ok(TimeZone::UTC),
        (Err(error), Some(name)) => Err(invalid(
            format!("TZ={name} is no time zone: {error}"),
            "set TZ to a name such as Europe/Berlin, or remove it",
        )),
    }
}

/// Days in which a schedule has to occur: 29 February on a given weekday occurs every 28 years, or
/// 40 where a century lies between.
const DAYS: usize = 41 * 366;

/// Fields of a line: name, lowest and highest number, names of numbers.
const FIELDS: [(&str, u32, u32, &[&str]); 5] = [
    ("minute", 0, 59, &[]),
    ("hour", 0, 23, &[]),
    ("day of the month", 1, 31, &[]),
    (
        "month",
        1,
        12,
        &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    ),
    // 0 and 7 are Sunday.
    (
        "day of the week",
        0,
        7,
        &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    ),
];

impl Cron {
    /// Reads five fields, or `@daily` and the like.
    ///
    /// # Errors
    /// [`Invalid`] for anything else, and for a schedule that never occurs.
    pub fn parse(text: &str, zone: TimeZone) -> Result<Self, Invalid> {
        let remedy = "give five fields as in `0 3 * * *`: minute, hour, day of the month, month, day of the week";
        let text = text.trim();
        let spelled = match text.to_ascii_lowercase().as_str() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            "@reboot" => {
                return Err(invalid(
                    "@reboot is no time",
                    "use before_start for what runs before the start, or a companion without a schedule",
                ));
            }
            name if name.starts_with('@') => {
                return Err(invalid(
                    format!("{text} is not known"),
                    "give @hourly, @daily, @weekly, @monthly or @yearly, five fields, or `every`",
                ));
            }
            _ => text,
        };
        let fields: Vec<_> = spelled.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            let problem = match fields.len() {
                6 => "six fields: seconds and years are not supported".to_owned(),
                count => format!("{count} fields"),
            };
            return Err(invalid(problem, remedy));
        };
        let read = |field: &str, index: usize| numbers(field, FIELDS[index], remedy);
        let weekdays = read(weekday, 4)?;
        let cron = Self {
            text: text.to_owned(),
            minutes: read(minute, 0)?,
            hours: read(hour, 1)?,
            days: read(day, 2)?,
            months: read(month, 3)?,
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            needs_both_days: day.starts_with('*') || weekday.starts_with('*'),
            follows_clock: minute.starts_with('*') || hour.starts_with('*'),
            zone,
        };
        match cron.next_after(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(cron),
            None => Err(invalid("no such day exists", remedy)),
        }
    }

    /// The first time behind this one.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        // The day before: zones may be set back by hours.
        let first = self.zone.to_datetime(after).date().yesterday().ok()?;
        std::iter::successors(Some(first), |day| day.tomorrow().ok())
            .take(DAYS)
            .filter(|day| self.has_day(*day))
            .find_map(|day| match self.follows_clock {
                true => self.by_the_clock(day, after),
                false => self.by_the_numbers(day, after),
            })
    }

    /// A time for people, in the time zone of the schedule.
    pub fn local(&self, time: Timestamp) -> String {
        let zoned = time.to_zoned_datetime(self.zone.clone());
        zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }

    fn has_day(&self, day: Date) -> bool {
        let has = |bits: u64, number: i8| bits >> number & 1 == 1;
        let of_month = has(self.days, day.day());
        let of_week = has(self.weekdays, day.weekday().to_sunday_zero_offset());
        // crontab(5): where both are restricted, either is enough.
        let is_day = match self.needs_both_days {
            true => of_month && of_week,
            false => of_month || of_week,
        };
        has(self.months, day.month()) && is_day
    }

    fn has_time(&self, hour: i8, minute: i8) -> bool {
        self.hours >> hour & 1 == 1 && self.minutes >> minute & 1 == 1
    }

    /// The first minute of this day behind `after` that shows a time of the schedule.
    fn by_the_clock(&self, day: Date, after: Timestamp) -> Option<Timestamp> {
        let midnight = |day: Date| {
            let midnight = self.zone.to_ambiguous_timestamp(day.at(0, 0, 0, 0));
            midnight.compatible().ok()
        };
        let (start, end) = (midnight(day)?, midnight(day.tomorrow().ok()?)?);
        let minute = SignedDuration::from_secs(60);
        let whole = after.as_second() - after.as_second().rem_euclid(60);
        let behind = Timestamp::from_second(whole).ok()? + minute;
        std::iter::successors(Some(start.max(behind)), |time| {
            time.checked_add(minute).ok()
        })
        .take_while(|time| *time < end)
        .find(|time| {
            let shown = self.zone.to_datetime(*time);
            shown.date() == day && self.has_time(shown.hour(), shown.minute())
        })
    }

    /// The first time of the schedule on this day that is behind `after`.
    fn by_the_numbers(&self, day: Date, after: Timestamp) -> Option<Timestamp> {
        let times = (0..24).flat_map(|hour| (0..60).map(move |minute| (hour, minute)));
        times
            .filter(|(hour, minute)| self.has_time(*hour, *minute))
            .filter_map(|(hour, minute)| {
                let time = day.at(hour, minute, 0, 0);
                let found = self.zone.to_ambiguous_timestamp(time);
                match found.offset() {
                    AmbiguousOffset::Gap { after, .. } => {
                        let before_change = after.to_timestamp(time).ok()?;
                        let mut changes = self.zone.following(before_change);
                        changes.next().map(|change| change.timestamp())
                    }
                    // The first of two.
                    _ => found.compatible().ok(),
                }
            })
            .find(|time| *time > after)
    }
}

/// The numbers of a field, as bits: `*`, `*/5`, `1,3-9/2,mon`.
fn numbers(
    field: &str,
    (name, lowest, highest, names): (&str, u32, u32, &[&str]),
    remedy: &str,
) -> Result<u64, Invalid> {
    let wrong = |part: &str| {
        let range = format!("{name}: {part:?} is none of {lowest} to {highest}");
        invalid(range, remedy)
    };
    let number = |text: &str| {
        let named = names
            .iter()
            .position(|name| name.eq_ignore_ascii_case(text));
        let first = if names.len() == 12 { 1 } else { 0 };
        match named {
            Some(index) => Ok(index as u32 + first),
            None => Some(text)
                .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|text| text.parse().ok())
                .filter(|number| (lowest..=highest).contains(number))
                .ok_or_else(|| wrong(text)),
        }
    };
    let mut bits = 0;
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            None => (part, None),
            Some((range, step)) => {
                let is_number = step.bytes().all(|byte| byte.is_ascii_digit());
                let step = step
                    .parse::<u32>()
                    .ok()
                    .filter(|step| is_number && *step > 0);
                (range, Some(step.ok_or_else(|| wrong(part))?))
            }
        };
        let (from, to) = match (range, range.split_once('-'), step) {
            ("*", ..) => (lowest, if highest == 7 { 6 } else { highest }),
            (_, Some((from, to)), _) => {
                let (from, to) = (number(from)?, number(to)?);
                // `fri-sun`: Sunday is also the seventh day.
                let to = if highest == 7 && to == 0 && from > 0 {
                    7
                } else {
                    to
                };
                if from > to {
                    return Err(invalid(
                        format!("{name}: the range {range} ends before it begins"),
                        "give two ranges, as in `22-23,0-5`",
                    ));
                }
                (from, to)
            }
            (_, None, None) => {
                let number = number(range)?;
                (number, number)
            }
            (_, None, Some(_)) => {
                return Err(invalid(
                    format!("{name}: the step of {part} has no range"),
                    "give a range, as in `*/5` or `10-50/5`",
                ));
            }
        };
        let step = step.unwrap_or(1).min(64) as usize;
        (from..=to)
            .step_by(step)
            .for_each(|number| bits |= 1 << number);
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// The times of a schedule behind `after`, as the zone shows them.
    fn times(schedule: &str, name: &str, after: &str, count: usize) -> Vec<String> {
        let cron = Cron::parse(schedule, zone(name)).unwrap();
        let next = |time: &Timestamp| cron.next_after(*time);
        std::iter::successors(cron.next_after(time(after)), next)
            .take(count)
            .map(|time| cron.local(time))
            .collect()
    }

    #[test]
    fn fields_have_ranges_steps_lists_and_names() {
        for (schedule, after, expected) in [
            (
                "0 3 * * *",
                "2026-11-28T12:00:00Z",
                "2026-11-29T03:00:00+00:00",
            ),
            (
                "0 3 * * *",
                "2026-11-28T02:59:59Z",
                "2026-11-28T03:00:00+00:00",
            ),
            (
                "0 3 * * *",
                "2026-11-28T03:00:00Z",
                "2026-11-29T03:00:00+00:00",
            ),
            (
                "*/15 * * * *",
                "2026-11-28T12:00:01Z",
                "2026-11-28T12:15:00+00:00",
            ),
            (
                "5-20/15 8,12 * * *",
                "2026-11-28T09:00:00Z",
                "2026-11-28T12:05:00+00:00",
            ),
            (
                "0 0 1 jan *",
                "2026-11-28T09:00:00Z",
                "2027-01-01T00:00:00+00:00",
            ),
            // 28 November 2026 is a Saturday.
            (
                "0 0 * * MON-fri",
                "2026-11-28T09:00:00Z",
                "2026-11-30T00:00:00+00:00",
            ),
            (
                "0 0 * * 7",
                "2026-11-28T09:00:00Z",
                "2026-11-29T00:00:00+00:00",
            ),
            (
                "0 0 * * fri-sun",
                "2026-11-28T09:00:00Z",
                "2026-11-29T00:00:00+00:00",
            ),
        ] {
            assert_eq!(
                times(schedule, "UTC", after, 1),
                [expected],
                "{schedule} {after}"
            );
        }
    }

    #[test]
    fn days_and_short_forms_are_those_of_crontab() {
        for (schedule, after, expected) in [
            (
                "59 23 31 12 *",
                "2026-12-31T23:59:00Z",
                "2027-12-31T23:59:00+00:00",
            ),
            (
                "0 0 29 2 *",
                "2026-11-28T09:00:00Z",
                "2028-02-29T00:00:00+00:00",
            ),
            // crontab(5): the 1st and 15th, and every Friday; `*/2` is not a restriction of its own.
            (
                "30 4 1,15 * 5",
                "2026-11-28T09:00:00Z",
                "2026-12-01T04:30:00+00:00",
            ),
            (
                "30 4 1,15 * 5",
                "2026-12-01T09:00:00Z",
                "2026-12-04T04:30:00+00:00",
            ),
            (
                "0 0 */2 * 1",
                "2026-11-28T09:00:00Z",
                "2026-12-07T00:00:00+00:00",
            ),
            (
                "@hourly",
                "2026-11-28T09:00:00Z",
                "2026-11-28T10:00:00+00:00",
            ),
            (
                "@daily",
                "2026-11-28T09:00:00Z",
                "2026-11-29T00:00:00+00:00",
            ),
            (
                "@weekly",
                "2026-11-28T09:00:00Z",
                "2026-11-29T00:00:00+00:00",
            ),
            (
                "@Monthly",
                "2026-11-28T09:00:00Z",
                "2026-12-01T00:00:00+00:00",
            ),
            (
                "@yearly",
                "2026-11-28T09:00:00Z",
                "2027-01-01T00:00:00+00:00",
            ),
        ] {
            assert_eq!(
                times(schedule, "UTC", after, 1),
                [expected],
                "{schedule} {after}"
            );
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_a_remedy() {
        for (schedule, problem) in [
            ("", "0 fields"),
            ("0 3 * *", "4 fields"),
            ("0 0 3 * * *", "six fields"),
            ("60 * * * *", "minute: \"60\" is none of 0 to 59"),
            ("* 24 * * *", "hour"),
            ("0 0 0 * *", "day of the month"),
            ("0 0 * 13 *", "month"),
            ("0 0 * * 8", "day of the week"),
            ("0 0 * * mon-xyz", "xyz"),
            ("0 0 L * *", "\"L\""),
            ("0 0 ? * *", "\"?\""),
            ("0 22-4 * * *", "ends before it begins"),
            ("5/10 * * * *", "has no range"),
            ("*/0 * * * *", "*/0"),
            ("*/+5 * * * *", "*/+5"),
            ("+5 * * * *", "+5"),
            (", * * * *", "minute"),
            ("0 0 30 2 *", "no such day"),
            ("@reboot", "no time"),
            ("@every 5m", "not known"),
        ] {
            let refused = Cron::parse(schedule, TimeZone::UTC).unwrap_err();
            assert!(refused.problem.contains(problem), "{schedule}: {refused:?}");
            assert!(!refused.remedy.is_empty());
        }
    }

    #[test]
    fn a_time_that_the_clocks_skip_runs_at_the_change() {
        // On 28 March 2027 the clocks of Berlin go from 02:00 to 03:00.
        let after = "2027-03-27T12:00:00Z";
        for (schedule, expected) in [
            (
                "30 2 * * *",
                &["2027-03-28T03:00:00+02:00", "2027-03-29T02:30:00+02:00"][..],
            ),
            (
                "0,30 2,3 * * *",
                &[
                    "2027-03-28T03:00:00+02:00",
                    "2027-03-28T03:30:00+02:00",
                    "2027-03-29T02:00:00+02:00",
                ],
            ),
            // By the clock: there is no such hour.
            (
                "*/30 2 * * *",
                &["2027-03-29T02:00:00+02:00", "2027-03-29T02:30:00+02:00"],
            ),
        ] {
            let found = times(schedule, "Europe/Berlin", after, expected.len());
            assert_eq!(found, expected, "{schedule}");
        }
        let hourly = times("0 * * * *", "Europe/Berlin", "2027-03-28T00:00:00Z", 3);
        assert_eq!(
            hourly,
            [
                "2027-03-28T03:00:00+02:00",
                "2027-03-28T04:00:00+02:00",
                "2027-03-28T05:00:00+02:00"
            ]
        );
    }

    #[test]
    fn a_time_that_occurs_twice_runs_once_and_a_wildcard_by_the_clock() {
        // On 25 October 2026 the clocks of Berlin go from 03:00 to 02:00.
        let after = "2026-10-24T12:00:00Z";
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", after, 2),
            ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]
        );
        // Asked between the two: not once more.
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", "2026-10-25T00:45:00Z", 1),
            ["2026-10-26T02:30:00+01:00"]
        );
        assert_eq!(
            times("*/30 2 * * *", "Europe/Berlin", after, 4),
            [
                "2026-10-25T02:00:00+02:00",
                "2026-10-25T02:30:00+02:00",
                "2026-10-25T02:00:00+01:00",
                "2026-10-25T02:30:00+01:00",
            ]
        );
        // Half an hour, and a change at midnight.
        assert_eq!(
            times(
                "45 1 * * *",
                "Australia/Lord_Howe",
                "2027-04-03T12:00:00Z",
                2
            ),
            ["2027-04-04T01:45:00+11:00", "2027-04-05T01:45:00+10:30"]
        );
        assert_eq!(
            times("0 0 * * *", "America/Santiago", "2026-09-05T12:00:00Z", 2),
            ["2026-09-06T01:00:00-03:00", "2026-09-07T00:00:00-03:00"]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(
            text in "\\PC{0,20}|([0-9*,/-]{1,6} ){5}|@[a-z]{0,8}"
        ) {
            let _ = Cron::parse(&text, TimeZone::UTC);
        }

        #[test]
        fn times_increase_and_each_is_of_the_schedule(
            minute in 0..60, hour in 0..24, seconds in 0..2_000_000_000_i64, star: bool,
        ) {
            let text = match star {
                true => format!("{minute} * * * *"),
                false => format!("{minute} {hour} * * *"),
            };
            let cron = Cron::parse(&text, zone("America/New_York")).unwrap();
            let after = Timestamp::from_second(seconds).unwrap();
            let next = cron.next_after(after).unwrap();
            prop_assert!(next > after && cron.next_after(next).unwrap() > next);
            let latest = SignedDuration::from_hours(if star { 3 } else { 26 });
            prop_assert!(next <= after + latest, "{after} {next}");
            prop_assert_eq!(next.as_second() % 60, 0);
        }
    }
}
