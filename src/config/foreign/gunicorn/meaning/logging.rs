//! Logs: their files, formats and levels.

use super::Meaning;
use crate::config::foreign::Verdict;
use crate::config::foreign::percent::up_to_name;
use crate::observe::access_log::pattern::Pattern;

pub(super) fn decide(meaning: &mut Meaning<'_>) {
    let is_logged = access_log(meaning);
    format(meaning, is_logged);
    if let Some((at, value)) = meaning.given("errorlog") {
        let file = value.text().unwrap_or_default();
        match &*file {
            "-" | "" => meaning.already(at, "the log goes to standard error"),
            _ if is_standard(&file) => meaning.already(at, "the log goes to standard error"),
            _ => destination(meaning, at, "log_file", file),
        }
    }
    if let Some((at, value)) = meaning.given("capture_output") {
        let has_file = meaning.draft.layer.entry("log_file").is_some();
        match (value.is_true(), has_file) {
            (true, true) => meaning.say(
                at,
                Verdict::Unsupported(
                    "the file has the log of the server and `wsgi.errors`; standard output and standard error of the application stay where they are"
                        .to_owned(),
                ),
            ),
            (true, false) => meaning.already(at, "the log and the output of the application go to the same place"),
            (false, _) => meaning.already(at, "it is off"),
        }
    }
    if let Some((at, value)) = meaning.given("loglevel") {
        let level = match &*value.text().unwrap_or_default().to_lowercase() {
            "debug" => "debug",
            "warning" | "warn" => "warn",
            "error" | "critical" | "fatal" => "error",
            _ => "info",
        };
        meaning.set(at, "log_level", vec![level.to_owned()]);
    }
}

fn is_standard(file: &str) -> bool {
    let ends = ["/dev/stdout", "/dev/stderr", "/dev/fd/1", "/dev/fd/2"];
    ends.contains(&file) || file.starts_with("/proc/self/fd/") || file.starts_with("/proc/1/fd/")
}

/// True if requests are logged.
fn access_log(meaning: &mut Meaning<'_>) -> bool {
    let Some((at, value)) = meaning.given("accesslog") else {
        let reason = "gunicorn logs no requests without `accesslog`";
        meaning.imply("access_log", &["off"], reason);
        return false;
    };
    let file = value.text().unwrap_or_default();
    if file.is_empty() {
        meaning.set(at, "access_log", vec!["off".to_owned()]);
        return false;
    }
    match file == "-" || is_standard(&file) {
        true => meaning.set(at, "access_log", vec!["combined".to_owned()]),
        false => {
            meaning.set(at, "access_log", vec!["combined".to_owned()]);
            destination(meaning, at, "access_log_file", file);
        }
    }
    true
}

/// The file of a log.
fn destination(meaning: &mut Meaning<'_>, at: usize, setting: &str, file: String) {
    match crate::config::settings::named(setting) {
        Some(_) => meaning.set(at, setting, vec![file]),
        None => meaning.say(
            at,
            Verdict::Noted(
                "logs go to standard output (requests) and standard error: redirect them to files, or let systemd or the container keep them"
                    .to_owned(),
            ),
        ),
    }
}

/// The pattern, with the variables that stand for the same.
fn format(meaning: &mut Meaning<'_>, is_logged: bool) {
    let Some((at, value)) = meaning.given("access_log_format") else {
        return;
    };
    let given = value.text().unwrap_or_default();
    if !is_logged {
        return meaning.no_effect(at, "no request is logged without `accesslog`");
    }
    let (pattern, unknown) = translated(&given);
    if given.contains('$') || Pattern::parse(&pattern).is_err() {
        let advice = "write the pattern with `access_log_format`".to_owned();
        return meaning.say(at, Verdict::Unsupported(advice));
    }
    meaning.set(at, "access_log_format", vec![pattern]);
    if !unknown.is_empty() {
        let note = format!(
            "a hyphen for what is not known here: {}",
            unknown.join(", ")
        );
        meaning.note(at, &note);
    }
}

/// The pattern in variables of `access_log_format`, and the names that have no counterpart.
fn translated(given: &str) -> (String, Vec<String>) {
    let mut pattern = String::new();
    let mut unknown = Vec::new();
    let mut rest = given;
    while let Some((name, behind)) = up_to_name(rest, &mut pattern) {
        let Some(name) = name else {
            pattern.push('%');
            rest = behind;
            continue;
        };
        let known = LOG_VARIABLES.iter().find(|(theirs, _)| {
            *theirs == name.to_ascii_lowercase() && name.starts_with('{') || *theirs == name
        });
        match known {
            Some((_, ours)) => pattern.push_str(ours),
            None => {
                pattern.push('-');
                unknown.push(name.to_owned());
            }
        }
        // The conversion, `s` or `.3f`.
        let end = behind.find(|c: char| c.is_ascii_alphabetic());
        rest = end.map_or("", |end| &behind[end + 1..]);
    }
    (pattern, unknown)
}

/// Variables of gunicorn's format (glogging.py, `atoms`), and ours.
const LOG_VARIABLES: &[(&str, &str)] = &[
    ("h", "${remote_addr}"),
    ("l", "-"),
    ("u", "${remote_user}"),
    ("t", "[${time_local}]"),
    ("r", "${request}"),
    ("m", "${request_method}"),
    ("U", "${uri}"),
    ("q", "${args}"),
    ("H", "${server_protocol}"),
    ("s", "${status}"),
    ("st", "${status}"),
    ("b", "${body_bytes_sent}"),
    ("B", "${body_bytes_sent}"),
    ("f", "${http_referer}"),
    ("a", "${http_user_agent}"),
    ("T", "${request_time}"),
    ("L", "${request_time}"),
    ("M", "${request_time_ms}"),
    ("D", "${request_time_us}"),
    ("{host}i", "${http_host}"),
    ("{referer}i", "${http_referer}"),
    ("{user-agent}i", "${http_user_agent}"),
    ("{x-request-id}i", "${request_id}"),
    ("{x-request-id}o", "${request_id}"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_translated() {
        let check = |given: &str, expected: &str, unknown: &[&str]| {
            let (pattern, names) = translated(given);
            assert_eq!(pattern, expected);
            assert_eq!(names, unknown);
        };
        check(
            "%(h)s %(l)s %(u)s %(t)s \"%(r)s\" %(s)s %(b)s",
            "${remote_addr} - ${remote_user} [${time_local}] \"${request}\" ${status} ${body_bytes_sent}",
            &[],
        );
        check(
            "%(L)s %(D)d%% %(M).3fms",
            "${request_time} ${request_time_us}% ${request_time_ms}ms",
            &[],
        );
        check(
            "%({X-Request-Id}i)s %({X-Forwarded-For}i)s %(p)s",
            "${request_id} - -",
            &["{X-Forwarded-For}i", "p"],
        );
        check("100% %(unclosed", "100% %(unclosed", &[]);
    }
}
