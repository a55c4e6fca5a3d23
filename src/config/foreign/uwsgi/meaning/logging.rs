//! Logs: pyserve writes requests to standard output and all else to standard error.

use super::Meaning;
use crate::config::foreign::Verdict;

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
            "logs go to standard output (requests) and standard error: redirect them to files, or let systemd or the container keep them"
                .to_owned(),
        ),
    };
    meaning.say(at, verdict);
}

/// The nearest of the formats.
fn format(meaning: &mut Meaning<'_>) {
    let Some(at) = meaning.last(&["log-format", "logformat"]) else {
        return;
    };
    let given = meaning.value(at).trim_start().to_owned();
    let format = match given.starts_with('{') {
        true => "json",
        false => "combined",
    };
    let note = "the nearest format; its fields are fixed, see `pyserve help logs`";
    meaning.honour_with_note(at, "access_log", vec![format.to_owned()], note);
}

/// `disable-logging`, from which `log-5xx` and the like make exceptions.
fn which_requests(meaning: &mut Meaning<'_>) {
    let off = meaning.last(&["disable-logging"]);
    let is_off = off.is_some_and(|at| meaning.flag(at));
    let mut exceptions = Vec::new();
    for at in meaning.all(&["log-4xx", "log-5xx", "log-slow", "log-big"]) {
        let key = meaning.items[at].key.clone();
        let class = match &*key {
            "log-4xx" => "4xx".to_owned(),
            "log-5xx" => "5xx".to_owned(),
            _ => String::new(),
        };
        let is_on = match class.is_empty() {
            true => meaning.number(at).is_some_and(|number| number > 0),
            false => meaning.flag(at),
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
