//! Logs: their files, formats and levels.

use super::Meaning;
use crate::config::foreign::Verdict;
use crate::config::foreign::gunicorn::value::Value;
use crate::config::foreign::percent::{QUOTES, up_to_name};
use crate::observe::access_log::pattern::Pattern;

pub(super) fn decide(meaning: &mut Meaning<'_>) {
    let is_logged = access_log(meaning);
    format(meaning, is_logged);
    if let Some((at, value)) = meaning.given("errorlog") {
        let file = value.text().unwrap_or_default();
        match &*file {
            "-" | "" => meaning.already(at, "the log goes to standard error"),
            _ if is_output(&file) => meaning.no_effect(at, "the log goes to standard error"),
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

/// True for standard output and standard error of the process.
fn is_standard(file: &str) -> bool {
    is_output(file) || is_error(file) || file.starts_with("/proc/self/fd/")
}

fn is_output(file: &str) -> bool {
    let names = [
        "/dev/stdout",
        "/dev/fd/1",
        "/proc/self/fd/1",
        "/proc/1/fd/1",
    ];
    names.contains(&file)
}

fn is_error(file: &str) -> bool {
    let names = [
        "/dev/stderr",
        "/dev/fd/2",
        "/proc/self/fd/2",
        "/proc/1/fd/2",
    ];
    names.contains(&file)
}

/// True if requests are logged.
fn access_log(meaning: &mut Meaning<'_>) -> bool {
    let elsewhere = elsewhere(meaning);
    let given = meaning.given("accesslog");
    let file = given.as_ref().and_then(|(_, value)| value.text());
    let file = file.unwrap_or_default();
    let Some((at, _)) = given.filter(|_| !file.is_empty() || elsewhere.is_none()) else {
        return match elsewhere {
            Some(line) => {
                let reason = format!(
                    "gunicorn logs requests where `{line}` says: here they go to standard output, or to `access_log_file`"
                );
                meaning.imply("access_log", &["combined"], &reason);
                true
            }
            None => {
                let reason = "gunicorn logs no requests without `accesslog`";
                meaning.imply("access_log", &["off"], reason);
                false
            }
        };
    };
    if file.is_empty() {
        meaning.set(at, "access_log", vec!["off".to_owned()]);
        return false;
    }
    meaning.set(at, "access_log", vec!["combined".to_owned()]);
    if file != "-" && !is_standard(&file) {
        destination(meaning, at, "access_log_file", file.clone());
    }
    if is_error(&file) {
        meaning.note(at, "to standard output");
    }
    match elsewhere {
        Some("syslog") => meaning.note(at, "and not to syslog, as `syslog` asks"),
        Some(line) => {
            let note = format!("in gunicorn, `{line}` decides where requests are logged, and how");
            meaning.note(at, &note);
        }
        None => {}
    }
    true
}

/// The setting besides `accesslog` by which gunicorn logs requests (glogging.py, `_compute_access_log_enabled`).
fn elsewhere(meaning: &Meaning<'_>) -> Option<&'static str> {
    let is_empty = |value: &Value| match value {
        Value::Map(entries) => entries.is_empty(),
        value => value.text().is_none_or(|text| text.is_empty()),
    };
    // Loggers that it names take the place of gunicorn's defaults, and leave the access log as it is.
    let leaves = |value: &Value| {
        let Value::Map(entries) = value else {
            return false;
        };
        let loggers = entries.iter().find(|(name, _)| name == "loggers");
        loggers.is_some_and(|(_, loggers)| match loggers {
            Value::Map(loggers) => loggers.iter().all(|(name, _)| name != "gunicorn.access"),
            _ => false,
        })
    };
    let by_config = ["logconfig_dict", "logconfig_json", "logconfig"]
        .into_iter()
        .find(|name| {
            let given = meaning.given(name);
            given.is_some_and(|(_, value)| !is_empty(&value) && !leaves(&value))
        });
    let is_on = |name| {
        let given = meaning.given(name);
        given.is_some_and(|(_, value)| value.is_true())
    };
    let by_syslog = is_on("syslog") && !is_on("disable_redirect_access_to_syslog");
    by_config.or(by_syslog.then_some("syslog"))
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
    let (pattern, notes) = translated(&given);
    if given.contains('$') || Pattern::parse(&pattern).is_err() {
        let advice = "write the pattern with `access_log_format`".to_owned();
        return meaning.say(at, Verdict::Unsupported(advice));
    }
    meaning.set(at, "access_log_format", vec![pattern]);
    if !notes.is_empty() {
        meaning.note(at, &notes.join("; "));
    }
}

/// The pattern in variables of `access_log_format`, and the differences of the lines.
fn translated(given: &str) -> (String, Vec<String>) {
    let mut pattern = String::new();
    let (mut unknown, mut notes) = (Vec::new(), Vec::new());
    // A pattern of JSON has nothing for what is missing.
    let is_json = given.trim_start().starts_with('{');
    let mut note = |text: String| {
        if !notes.contains(&text) {
            notes.push(text);
        }
    };
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
            Some((_, ours)) if is_json && is_optional(ours) => {
                pattern.push_str(&ours.replace('}', ":--}"));
            }
            Some((_, ours)) => pattern.push_str(ours),
            None => {
                pattern.push('-');
                unknown.push(name.to_owned());
            }
        }
        match known.map(|(_, ours)| *ours) {
            Some("${uri}") => note(format!("{name} is the path as it was sent, not decoded")),
            Some("[${time_local}]") => note("times in UTC".to_owned()),
            Some("${http_user_agent}" | "${http_referer}") => note(QUOTES.to_owned()),
            Some("${request_id}") => {
                note("X-Request-ID has a value for every request".to_owned());
            }
            _ => {}
        }
        // The conversion, `s` or `.3f`.
        let end = behind.find(|c: char| c.is_ascii_alphabetic());
        if end.is_some_and(|end| end > 0) {
            note(format!("{name} without its width and precision"));
        }
        rest = end.map_or("", |end| &behind[end + 1..]);
    }
    if !unknown.is_empty() {
        let unknown = unknown.join(", ");
        notes.insert(0, format!("a hyphen for what is not known here: {unknown}"));
    }
    (pattern, notes)
}

/// True for a variable of a field that a request may lack.
fn is_optional(variable: &str) -> bool {
    variable.starts_with("${http_") || variable == "${remote_user}"
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
    ("q", "${args:-}"),
    ("H", "${server_protocol}"),
    ("s", "${status}"),
    ("st", "${status}"),
    ("b", "${body_bytes_sent}"),
    ("B", "${body_bytes_sent}"),
    ("f", "${http_referer}"),
    ("a", "${http_user_agent}"),
    ("T", "${request_time_s}"),
    ("L", "${request_time_6}"),
    ("M", "${request_time_ms}"),
    ("D", "${request_time_us}"),
    ("{host}i", "${http_host}"),
    ("{referer}i", "${http_referer}"),
    ("{user-agent}i", "${http_user_agent}"),
    ("{x-request-id}i", "${request_id}"),
    ("{x-request-id}o", "${request_id}"),
    ("{http_host}e", "${http_host}"),
    ("{http_referer}e", "${http_referer}"),
    ("{http_user_agent}e", "${http_user_agent}"),
    ("{http_x_request_id}e", "${request_id}"),
    ("{path_info}e", "${uri}"),
    ("{query_string}e", "${args:-}"),
    ("{raw_uri}e", "${request_uri}"),
    ("{remote_addr}e", "${remote_addr}"),
    ("{request_method}e", "${request_method}"),
    ("{server_protocol}e", "${server_protocol}"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_translated() {
        let check = |given: &str, expected: &str, notes: &[&str]| {
            let (pattern, found) = translated(given);
            assert_eq!(pattern, expected);
            assert_eq!(found, notes);
            assert!(Pattern::parse(&pattern).is_ok(), "{pattern}");
        };
        check(
            "%(h)s %(l)s %(u)s %(t)s \"%(r)s\" %(s)s %(b)s",
            "${remote_addr} - ${remote_user} [${time_local}] \"${request}\" ${status} ${body_bytes_sent}",
            &["times in UTC"],
        );
        check(
            "%(T)s %(L)s %(D)d%% %(M).3fms \"%(U)s\" '%(q)s'",
            "${request_time_s} ${request_time_6} ${request_time_us}% ${request_time_ms}ms \"${uri}\" '${args:-}'",
            &[
                "M without its width and precision",
                "U is the path as it was sent, not decoded",
            ],
        );
        check(
            "%({X-Request-Id}i)s %({X-Forwarded-For}i)s %(p)s %({Server}o)s %({REMOTE_ADDR}e)s",
            "${request_id} - - - ${remote_addr}",
            &[
                "a hyphen for what is not known here: {X-Forwarded-For}i, p, {Server}o",
                "X-Request-ID has a value for every request",
            ],
        );
        check(
            "{\"q\": \"%(q)s\", \"f\": \"%(f)s\", \"s\": %(s)s, \"t\": \"%(t)s\"}",
            "{\"q\": \"${args:-}\", \"f\": \"${http_referer:--}\", \"s\": ${status}, \"t\": \"[${time_local}]\"}",
            &[QUOTES, "times in UTC"],
        );
        check("100% %(unclosed", "100% %(unclosed", &[]);
    }
}
