//! Commands that uWSGI runs at times of the calendar: `cron`, `cron2`, `unique-cron`.
//!
//! uWSGI's fields are numbers: -1 for every value, -N for the values that N divides. The last two
//! differ from crontab(5) for days and months, whose steps there begin at 1: such a field becomes a
//! list of numbers.

use jiff::tz::TimeZone;

use super::Meaning;
use super::companions::{companion, quoted};
use crate::config::foreign::Verdict;
use crate::config::schedule::Cron;

/// `cron = MINUTE HOUR DAY MONTH WEEKDAY COMMAND`; others need a legion before the numbers.
const PLAIN: &[&str] = &["cron", "unique-cron"];
const OF_A_LEGION: &[&str] = &[
    "legion-cron",
    "cron-legion",
    "unique-legion-cron",
    "unique-cron-legion",
];

pub(super) fn decide(meaning: &mut Meaning<'_>, names: &mut Vec<String>) {
    let limit = time_limit(meaning);
    for at in meaning.all(PLAIN) {
        let value = meaning.value(at).to_owned();
        let is_unique = meaning.items[at].key == "unique-cron";
        let job = fields(&value).map(|(fields, command)| Job {
            fields,
            command: command.to_owned(),
            limit,
            is_unique,
        });
        schedule(meaning, at, job, names);
    }
    for at in meaning.all(&["cron2"]) {
        let value = meaning.value(at).to_owned();
        let job = keyed(&value, limit);
        schedule(meaning, at, job, names);
    }
    for at in meaning.all(OF_A_LEGION) {
        let value = meaning.value(at).to_owned();
        let verdict = of_a_legion(&value);
        meaning.say(at, verdict);
    }
}

/// A command with its times.
struct Job {
    /// Minute, hour, day, month and weekday.
    fields: [i64; 5],
    command: String,
    /// Seconds after which uWSGI kills the command; 0 for never.
    limit: i64,
    /// True if uWSGI does not start it while it still runs.
    is_unique: bool,
}

/// `cron-harakiri`, for the jobs without a limit of their own.
fn time_limit(meaning: &mut Meaning<'_>) -> i64 {
    let Some(at) = meaning.last(&["cron-harakiri"]) else {
        return 0;
    };
    let Some(seconds) = meaning.number(at) else {
        return 0;
    };
    let has_jobs = !meaning.all(&["cron", "unique-cron", "cron2"]).is_empty();
    match (seconds, !has_jobs) {
        (0, _) => meaning.say(at, Verdict::AlreadySo("no limit".to_owned())),
        (_, true) => meaning.no_effect(at, "no line has a schedule"),
        (seconds, false) => {
            let text = format!("timeout -s KILL {seconds} before the commands of the schedules");
            meaning.say(at, Verdict::Honoured(text));
        }
    }
    seconds
}

fn schedule(
    meaning: &mut Meaning<'_>,
    at: usize,
    job: Result<Job, Verdict>,
    names: &mut Vec<String>,
) {
    let spelled = job.and_then(|job| Ok((crontab(job.fields)?, job)));
    let (schedule, job) = match spelled {
        Ok(both) => both,
        Err(verdict) => return meaning.say(at, verdict),
    };
    let command = match job.limit {
        0 => job.command.clone(),
        seconds => format!(
            "exec timeout -s KILL {seconds} /bin/sh -c {}",
            quoted(&job.command)
        ),
    };
    companion(meaning, at, &command, &[("schedule", schedule)], names);
    if let Some(Verdict::Honoured(text)) = &mut meaning.verdicts[at]
        && !job.is_unique
    {
        text.push_str(" (a run is skipped while the one before works)");
    }
}

/// Five numbers, and the command behind them.
fn fields(value: &str) -> Result<([i64; 5], &str), Verdict> {
    let wrong = || Verdict::Wrong("it needs `MINUTE HOUR DAY MONTH WEEKDAY COMMAND`".to_owned());
    let mut numbers = [0; 5];
    let mut rest = value.trim_start();
    for number in &mut numbers {
        let (word, behind) = rest.split_once(char::is_whitespace).ok_or_else(wrong)?;
        *number = word.parse().map_err(|_| match word {
            word if word.starts_with('*') => {
                Verdict::Wrong("uWSGI has -1 in place of *, and -5 in place of */5".to_owned())
            }
            _ => wrong(),
        })?;
        rest = behind.trim_start();
    }
    match rest {
        "" => Err(wrong()),
        command => Ok((numbers, command)),
    }
}

/// `cron2 = minute=-5,unique=1 COMMAND`.
fn keyed(value: &str, limit: i64) -> Result<Job, Verdict> {
    let wrong = |why: &str| Verdict::Wrong(why.to_owned());
    let (pairs, command) = value
        .trim_start()
        .split_once(' ')
        .ok_or_else(|| wrong("it needs `minute=N,... COMMAND`"))?;
    let mut job = Job {
        fields: [-1; 5],
        command: command.trim().to_owned(),
        limit,
        is_unique: false,
    };
    if job.command.is_empty() {
        return Err(wrong("no command"));
    }
    for pair in pairs.split(',').filter(|pair| !pair.is_empty()) {
        let (key, number) = pair
            .split_once('=')
            .ok_or_else(|| wrong("it needs `minute=N,... COMMAND`"))?;
        let number = super::atoi(number);
        match key {
            "minute" => job.fields[0] = number,
            "hour" => job.fields[1] = number,
            "day" => job.fields[2] = number,
            "month" => job.fields[3] = number,
            "week" => job.fields[4] = number,
            "harakiri" => job.limit = number.max(0),
            "unique" => job.is_unique = number != 0,
            "legion" => return Err(one_server(&job.fields)),
            other => return Err(wrong(&format!("uWSGI has no {other:?} here"))),
        }
    }
    Ok(job)
}

fn of_a_legion(value: &str) -> Verdict {
    match value.trim_start().split_once(' ') {
        Some((_, rest)) => match fields(rest) {
            Ok((numbers, _)) => one_server(&numbers),
            Err(verdict) => verdict,
        },
        None => {
            Verdict::Wrong("it needs `LEGION MINUTE HOUR DAY MONTH WEEKDAY COMMAND`".to_owned())
        }
    }
}

fn one_server(fields: &[i64; 5]) -> Verdict {
    let schedule = crontab(*fields).unwrap_or_default();
    Verdict::Unsupported(format!(
        "a [[companion]] with schedule = {schedule:?} runs on every server that has it: give it to one of them"
    ))
}

/// Lowest and highest value of the fields, as localtime(3) gives them.
const RANGES: [(i64, i64); 5] = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];
const DAY: usize = 2;
const WEEKDAY: usize = 4;

/// The times as a line of crontab(5).
fn crontab(mut fields: [i64; 5]) -> Result<String, Verdict> {
    let never = |why: &str| Err(Verdict::NoEffect(format!("it never runs: {why}")));
    let is_possible = |field: usize| {
        let (lowest, highest) = RANGES[field];
        fields[field] < 0 || (lowest..=highest).contains(&fields[field])
    };
    // Where both days are numbers, either is enough.
    if fields[DAY] >= 0 && fields[WEEKDAY] >= 0 {
        match (is_possible(DAY), is_possible(WEEKDAY)) {
            (true, false) => fields[WEEKDAY] = -1,
            (false, true) => fields[DAY] = -1,
            _ => {}
        }
    }
    let is_possible = |field: usize| {
        let (lowest, highest) = RANGES[field];
        fields[field] < 0 || (lowest..=highest).contains(&fields[field])
    };
    if fields[WEEKDAY] == 7 {
        return never("the days of the week are 0 (Sunday) to 6 in uWSGI");
    }
    if !(0..fields.len()).all(is_possible) {
        return never("no time has these numbers");
    }
    if fields[DAY] < -1 && fields[WEEKDAY] >= 0 {
        let advice = "both days restrict the times here, which crontab(5) cannot say: let the command look at the day of the week";
        return Err(Verdict::Unsupported(advice.to_owned()));
    }
    let mut words = Vec::new();
    for (index, number) in fields.into_iter().enumerate() {
        let Some(word) = field(index, number) else {
            return never("no time has these numbers");
        };
        words.push(word);
    }
    let text = words.join(" ");
    match Cron::parse(&text, TimeZone::UTC) {
        Ok(_) => Ok(text),
        Err(_) => never("no such day exists"),
    }
}

/// One field; `None` if it has no value.
fn field(index: usize, number: i64) -> Option<String> {
    let (lowest, highest) = RANGES[index];
    Some(match number {
        0.. => number.to_string(),
        -1 => "*".to_owned(),
        step if index == WEEKDAY => format!("*/{}", step.unsigned_abs().min(7)),
        step if lowest == 0 && step.unsigned_abs() as i64 <= highest => {
            format!("*/{}", step.unsigned_abs())
        }
        step => {
            let step = i64::try_from(step.unsigned_abs()).ok()?;
            let values = (lowest..=highest).filter(|value| value % step == 0);
            let values: Vec<_> = values.map(|value| value.to_string()).collect();
            (!values.is_empty()).then(|| values.join(","))?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_uwsgi_become_fields_of_crontab() {
        let check = |given: [i64; 5], expected: &str| {
            assert_eq!(crontab(given).as_deref(), Ok(expected), "{given:?}");
        };
        check([59, 2, -1, -1, -1], "59 2 * * *");
        check([-1, -1, -1, -1, -1], "* * * * *");
        check([-15, -2, -1, -1, -1], "*/15 */2 * * *");
        // localtime(3) counts minutes and hours from 0: 60 divides no other one.
        check([-60, -24, -1, -1, -1], "0 0 * * *");
        // Days and months count from 1.
        check([0, 0, -10, -6, -1], "0 0 10,20,30 6,12 *");
        check([0, 0, -1, -1, -2], "0 0 * * */2");
        check([0, 0, 1, -1, 3], "0 0 1 * 3");
        // A number that is no day of the week leaves the other day.
        check([0, 0, 1, -1, 7], "0 0 1 * *");
    }

    #[test]
    fn times_that_never_occur_in_uwsgi_are_not_honoured() {
        let check = |given: [i64; 5]| {
            let verdict = crontab(given).unwrap_err();
            assert!(
                matches!(verdict, Verdict::NoEffect(_)),
                "{given:?}: {verdict:?}"
            );
        };
        check([60, 2, -1, -1, -1]);
        check([0, 24, -1, -1, -1]);
        check([0, 0, 0, -1, -1]);
        check([0, 0, 31, 2, -1]);
        check([0, 0, -1, 13, -1]);
        check([0, 0, -1, -1, 7]);
        check([0, 0, -40, -1, -1]);
        let both = crontab([0, 0, -2, -1, 3]);
        assert!(matches!(both, Err(Verdict::Unsupported(_))), "{both:?}");
    }

    #[test]
    fn the_command_is_all_behind_the_numbers() {
        let read = fields(" 0  3 -1 -1 -1  run 'a b'  c ");
        assert_eq!(read, Ok(([0, 3, -1, -1, -1], "run 'a b'  c ")));
        assert!(fields("0 3 -1 -1 run").is_err());
        assert!(fields("0 3 -1 -1 -1").is_err());
        let Err(Verdict::Wrong(why)) = fields("0 3 * * * run") else {
            panic!();
        };
        assert!(why.contains("-1"), "{why}");
    }
}
