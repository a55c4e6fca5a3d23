//! Logs: pyserve writes requests to standard output and all else to standard error.

use super::Meaning;
use crate::config::foreign::Verdict;
use crate::config::foreign::percent::QUOTES;
use crate::observe::access_log::pattern::Pattern;

/// Options that choose a destination.
const DESTINATIONS: &[&str] = &[
    "logger",
    "req-logger",
    "logger-req",
    "logto",
    "logto2",
    "daemonize",
    "daemonize2",
    "log-syslog",
    "log-socket",
];

pub(super) fn decide(meaning: &mut Meaning<'_>) {
    for at in meaning.all(DESTINATIONS) {
        destination(meaning, at);
    }
    format(meaning);
    which_requests(meaning);
    for at in meaning.all(&["log-x-forwarded-for"]) {
        let verdict = match meaning.flag(at) {
            true => Verdict::Dangerous(
                "every client can write this header; the log has its address if the proxy is named with `trust`"
                    .to_owned(),
            ),
            false => Verdict::AlreadySo("the log has the address of the peer".to_owned()),
        };
        meaning.say(at, verdict);
    }
}

fn destination(meaning: &mut Meaning<'_>, at: usize) {
    let key = meaning.items[at].key.clone();
    let value = meaning.value(at).to_owned();
    let target = value.rsplit([':', ' ']).next().unwrap_or_default();
    let is_standard = matches!(
        target,
        "stdio" | "/dev/stdout" | "/dev/stderr" | "/proc/1/fd/1" | "/proc/1/fd/2"
    ) || value.ends_with("stdio:");
    let verdict = match &*key {
        "daemonize" | "daemonize2" => Verdict::Noted(
            "the server stays in the foreground, and logs to standard output and standard error: let systemd, a container or the shell (`&`) run it"
                .to_owned(),
        ),
        _ if is_standard => {
            Verdict::AlreadySo("logs go to standard output and standard error".to_owned())
        }
        _ => Verdict::Noted(
            "logs go to standard output (requests) and standard error: let systemd or the container keep them, or name files with `access_log_file` and `log_file`"
                .to_owned(),
        ),
    };
    meaning.say(at, verdict);
}

/// The pattern, with the variables that stand for the same.
fn format(meaning: &mut Meaning<'_>) {
    let Some(at) = meaning.last(&["log-format", "logformat"]) else {
        return;
    };
    let given = meaning.value(at).to_owned();
    if given.is_empty() {
        return meaning.no_effect(at, "no format");
    }
    // The text of a pattern has no `$` that stands for itself.
    if given.contains("$(") {
        let why = "a variable in it is not set now".to_owned();
        return meaning.say(at, Verdict::Incomplete(why));
    }
    if given.contains('$') {
        let advice = "no text has a $ here: write the pattern with `access_log_format`".to_owned();
        return meaning.say(at, Verdict::Unsupported(advice));
    }
    let (pattern, unknown, own) = translated(&given);
    if Pattern::parse(&pattern).is_err() {
        let advice = "write the pattern with `access_log_format`".to_owned();
        return meaning.say(at, Verdict::Unsupported(advice));
    }
    let mut notes = Vec::new();
    if !unknown.is_empty() {
        notes.push(format!(
            "a hyphen for what is not known here: {}",
            unknown.join(", ")
        ));
    }
    if !own.is_empty() {
        let own = own.join(", ");
        notes.push(format!("with uwsgi_module, uwsgi.set_logvar sets {own}"));
    }
    let is_own_time = meaning.all(&["logformat-strftime", "log-format-strftime"]);
    let is_own_time = is_own_time.iter().any(|at| meaning.flag(*at));
    let has = |name: &str| given.contains(&format!("%({name})"));
    if has("ctime") || has("ftime") && is_own_time {
        notes.push("times have the form of time_local, in UTC".to_owned());
    } else if has("ltime") || has("ftime") {
        notes.push("times in UTC".to_owned());
    }
    if has("wid") {
        notes.push(
            "workers are numbered from 0, and requests that none has answered have a hyphen"
                .to_owned(),
        );
    }
    if has("epoch") {
        notes.push("epoch is the time of arrival".to_owned());
    }
    if has("size") {
        notes.push("size without the bytes of the header".to_owned());
    }
    if has("user") || has("var.REMOTE_USER") {
        notes.push("the user is the name in the Authorization header".to_owned());
    }
    if has("uagent") || has("referer") {
        notes.push(QUOTES.to_owned());
    }
    if has("var.HTTP_X_REQUEST_ID") {
        notes.push("X-Request-ID has a value for every request".to_owned());
    }
    let setting = "access_log_format";
    match notes.is_empty() {
        true => meaning.honour(at, setting, vec![pattern]),
        false => meaning.honour_with_note(at, setting, vec![pattern], &notes.join("; ")),
    }
}

/// The pattern in variables of `access_log_format`, the names that have no counterpart, and those that
/// are variables of the application, as every name is that uWSGI does not know.
fn translated(given: &str) -> (String, Vec<String>, Vec<String>) {
    let mut pattern = String::new();
    let (mut unknown, mut own) = (Vec::new(), Vec::new());
    let is_word = |name: &str| {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        !name.is_empty() && name.chars().all(is_part)
    };
    // A pattern of JSON has nothing for what is missing, where uWSGI has a hyphen.
    let otherwise = match given.trim_start().starts_with('{') {
        true => ":--",
        false => "",
    };
    let mut rest = given;
    while let Some(at) = rest.find("%(") {
        pattern.push_str(&rest[..at]);
        let inside = &rest[at + 2..];
        let Some(end) = inside.find(')') else {
            rest = &rest[at..];
            break;
        };
        let name = &inside[..end];
        match LOG_VARIABLES.iter().find(|(theirs, _)| *theirs == name) {
            Some((_, ours)) if ALWAYS_THERE.contains(ours) => {
                pattern.push_str(&format!("${{{ours}}}"));
            }
            Some((_, ours)) => pattern.push_str(&format!("${{{ours}{otherwise}}}")),
            // Here there is Python alone, which is plugin 0.
            None if matches!(name, "modifier1" | "modifier2") => pattern.push('0'),
            None if is_word(name) && !WITHOUT_COUNTERPART.contains(&name) => {
                pattern.push_str(&format!("${{logvar_{name}{otherwise}}}"));
                own.push(name.to_owned());
            }
            None => {
                pattern.push('-');
                unknown.push(name.to_owned());
            }
        }
        rest = &inside[end + 1..];
    }
    pattern.push_str(rest);
    (pattern, unknown, own)
}

/// Variables that have a value for every request.
const ALWAYS_THERE: &[&str] = &[
    "body_bytes_sent",
    "remote_addr",
    "request_id",
    "request_method",
    "request_time_6",
    "request_time_ms",
    "request_time_us",
    "request_uri",
    "server_protocol",
    "status",
    "time_epoch",
    "time_local",
];

/// Variables of uWSGI's log format that have no counterpart.
const WITHOUT_COUNTERPART: &[&str] = &[
    "cl", "core", "headers", "hsize", "ioerr", "pid", "pktsize", "rerr", "rss", "rssM", "switches",
    "tmicros", "tmsecs", "vars", "vsz", "vszM", "werr",
];

/// Variables of uWSGI's log format, and ours.
const LOG_VARIABLES: &[(&str, &str)] = &[
    ("addr", "remote_addr"),
    ("ctime", "time_local"),
    ("epoch", "time_epoch"),
    ("ftime", "time_local"),
    ("host", "host"),
    ("ltime", "time_local"),
    ("method", "request_method"),
    ("micros", "request_time_us"),
    ("msecs", "request_time_ms"),
    ("proto", "server_protocol"),
    ("referer", "http_referer"),
    ("rsize", "body_bytes_sent"),
    ("secs", "request_time_6"),
    ("size", "body_bytes_sent"),
    ("status", "status"),
    ("time", "time_epoch"),
    ("uagent", "http_user_agent"),
    ("uri", "request_uri"),
    ("user", "remote_user"),
    ("var.HTTP_HOST", "http_host"),
    ("var.HTTP_REFERER", "http_referer"),
    ("var.HTTP_USER_AGENT", "http_user_agent"),
    ("var.HTTP_X_REQUEST_ID", "request_id"),
    ("var.QUERY_STRING", "args"),
    ("var.REMOTE_ADDR", "remote_addr"),
    ("var.REMOTE_USER", "remote_user"),
    ("var.REQUEST_METHOD", "request_method"),
    ("var.REQUEST_URI", "request_uri"),
    ("var.SERVER_PROTOCOL", "server_protocol"),
    ("wid", "worker"),
];

/// `disable-logging`, from which `log-5xx` and the like make exceptions.
fn which_requests(meaning: &mut Meaning<'_>) {
    let off = meaning.last(&["disable-logging"]);
    let is_off = off.is_some_and(|at| meaning.flag(at));
    let mut exceptions = Vec::new();
    for at in meaning.all(&[
        "log-4xx",
        "log-5xx",
        "log-slow",
        "log-big",
        "log-zero",
        "log-sendfile",
        "log-ioerror",
    ]) {
        let key = meaning.items[at].key.clone();
        let class = match &*key {
            "log-4xx" => "4xx".to_owned(),
            "log-5xx" => "5xx".to_owned(),
            _ => String::new(),
        };
        let is_on = match &*key {
            "log-slow" | "log-big" => meaning.number(at).is_some_and(|number| number > 0),
            _ => meaning.flag(at),
        };
        if meaning.verdicts[at].is_some() {
            continue;
        }
        if !is_on {
            meaning.no_effect(at, "it is off");
        } else if !is_off {
            meaning.say(at, Verdict::AlreadySo("all requests are logged".to_owned()));
        } else if class.is_empty() {
            let advice = "requests are chosen by their status alone: `access_log_status`";
            meaning.say(at, Verdict::Unsupported(advice.to_owned()));
        } else {
            meaning.append(at, "access_log_status", class.clone());
            exceptions.push(class);
        }
    }
    let Some(at) = off else { return };
    match (is_off, exceptions.is_empty()) {
        (false, _) => {
            meaning.say(at, Verdict::AlreadySo("all requests are logged".to_owned()));
        }
        (true, true) => meaning.honour(at, "access_log", vec!["off".to_owned()]),
        (true, false) => {
            let text = format!("access_log_status = {exceptions:?}");
            meaning.say(at, Verdict::Honoured(text));
        }
    }
}
