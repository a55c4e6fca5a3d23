//! The longest times and the largest numbers that the settings here take, for values of other servers.

use super::Verdict;
use super::shell::VARIABLES;

/// Longest time, in seconds.
pub const A_YEAR: i64 = 365 * 86_400;
/// The note for a longer one.
pub const TOO_LONG: &str = "a year, which is the longest time";
/// Most workers, and threads of one.
const MOST: i64 = 1024;

/// A time in seconds, and the note for one that is shorter than the given one.
pub fn seconds(given: i64) -> (String, Option<&'static str>) {
    let note = (given > A_YEAR).then_some(TOO_LONG);
    (given.min(A_YEAR).to_string(), note)
}

/// A number of workers or threads, which may stand for a variable.
///
/// # Errors
/// The verdict of a line with more of them than there can be.
pub fn count(given: i64) -> Result<String, Verdict> {
    let is_variable = usize::try_from(given).is_ok_and(|number| VARIABLES.contains(&number));
    match given > MOST && !is_variable {
        true => Err(Verdict::Wrong(format!("too many (give at most {MOST})"))),
        false => Ok(given.to_string()),
    }
}

/// A number of requests or megabytes, of which the largest is no limit in practice.
pub fn number(given: i64) -> String {
    given.min(i64::from(u32::MAX)).to_string()
}
