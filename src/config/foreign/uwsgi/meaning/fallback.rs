//! Options that no other file decides about: those of the table, placeholders, and keys that are no
//! options; and values that are not complete.

use std::collections::BTreeSet;

use super::Meaning;
use crate::config::foreign::Verdict;
use crate::config::foreign::class::Class;
use crate::config::foreign::uwsgi::numbers::atoi;
use crate::config::foreign::uwsgi::options::{self, Argument};
use crate::config::foreign::uwsgi::reader::{Item, is_plugin_by_options, is_plugin_here};
use crate::config::suggest;

/// Refuses values with a `$(NAME)`, `%(name)` or template that was not filled in, where the value counts.
pub(super) fn refuse_unset(meaning: &mut Meaning<'_>) {
    for at in 0..meaning.items.len() {
        let item = &meaning.items[at];
        let counts =
            options::named(&item.key).is_some_and(|option| option.class == Class::Honoured);
        let is_shell = ["exec-", "attach-", "smart-", "hook-", "cron", "unique-cron"]
            .iter()
            .any(|start| item.key.starts_with(start));
        let is_format = item.key.starts_with("log") || item.key.starts_with("route");
        if !counts || item.is_immediate || item.is_placeholder || is_format {
            continue;
        }
        if is_without_effect(meaning, item) || super::tls::can_never_listen(item) {
            continue;
        }
        if let Some(problem) = unset(item.value.as_deref().unwrap_or_default(), is_shell) {
            let is_needed = NEEDED.contains(&&*item.key);
            let verdict = match (problem, is_needed) {
                (Gap::Variable(name), true) => {
                    Verdict::AtStart(format!("the variable {name} is not set now"))
                }
                (Gap::Variable(name), false) => {
                    Verdict::Incomplete(format!("the variable {name} is not set now"))
                }
                (Gap::Template, true) => Verdict::Unset(TEMPLATE.to_owned()),
                (Gap::Template, false) => Verdict::Unfilled(TEMPLATE.to_owned()),
                (Gap::Text(problem), true) => Verdict::Unset(problem),
                (Gap::Text(problem), false) => Verdict::Unsupported(problem),
            };
            // The application may look for it: uWSGI passes the value as it stands.
            if item.key == "env" && item.value.as_deref().is_some_and(|pair| pair.contains('=')) {
                let pair = meaning.value(at).to_owned();
                let is_placeholder = pair.contains("%(");
                meaning.append(at, "env", pair);
                if let (Verdict::Unsupported(problem), true) = (&verdict, is_placeholder) {
                    let note = format!("{problem}, so the text stays, as in uWSGI");
                    meaning.note(at, &note);
                    continue;
                }
            }
            meaning.say(at, verdict);
        }
    }
}

/// True for lines without effect here, whatever their value is: the front server's socket, and the
/// log of a server in the background.
fn is_without_effect(meaning: &Meaning<'_>, item: &Item) -> bool {
    let mut items = meaning.items.iter();
    let speaks_http = |item: &Item| {
        matches!(&*item.key, "protocol" | "socket-protocol")
            && item.value.as_deref() == Some("http")
    };
    match &*item.key {
        "daemonize" | "daemonize2" | "uwsgi-socket" => true,
        "socket" => !items.any(speaks_http),
        _ => false,
    }
}

/// Options without which the server would not be the one that the file describes.
const NEEDED: &[&str] = &[
    "module",
    "wsgi",
    "wsgi-file",
    "file",
    "callable",
    "mount",
    "chdir",
    "home",
    "virtualenv",
    "venv",
    "pyhome",
    "processes",
    "workers",
    "threads",
    "cheaper",
    "http",
    "httprouter",
    "http-socket",
    "http11-socket",
    "https",
    "https2",
    "https-socket",
    "shared-socket",
    "uid",
    "gid",
];

/// The advice for a part that a template engine replaces.
const TEMPLATE: &str = "a template: fill it in first";

/// A part of a value that was not filled in.
enum Gap {
    /// An environment variable of this name.
    Variable(String),
    /// A part for a template engine.
    Template,
    /// Anything else; the problem.
    Text(String),
}

/// The part of a value that was not filled in.
fn unset(value: &str, is_shell: bool) -> Option<Gap> {
    let inside = |start: &str, end: char| {
        let from = value.find(start)? + start.len();
        let length = value[from..].find(end)?;
        Some(value[from..from + length].to_owned())
    };
    if value.contains("{{") || value.contains("{%") {
        return Some(Gap::Template);
    }
    // A shell replaces these itself.
    if is_shell {
        return None;
    }
    if let Some(name) = inside("$(", ')') {
        return Some(Gap::Variable(name));
    }
    if let Some(name) = inside("${", '}') {
        return Some(Gap::Text(format!(
            "uWSGI does not replace ${{{name}}}: write $({name}), or fill the template in first"
        )));
    }
    inside("%(", ')').map(|name| Gap::Text(format!("no line sets {name}")))
}

/// Most misspelt names for which the likely one is searched.
const MOST_HINTS: usize = 100;

/// Decides about everything that is left.
pub(super) fn decide(meaning: &mut Meaning<'_>) {
    let mut hints = MOST_HINTS;
    let in_vain = named_in_vain(meaning);
    for at in 0..meaning.items.len() {
        if meaning.verdicts[at].is_some() {
            continue;
        }
        let item = &meaning.items[at];
        if let Some(verdict) = beside_others(meaning, item) {
            meaning.say(at, verdict);
            continue;
        }
        let verdict = match options::named(&item.key) {
            _ if item.is_placeholder => placeholder(item),

            None if !item.is_used && in_vain.contains(&item.key) => {
                let why = format!("uWSGI does not replace %({}) where it is named", item.key);
                Verdict::NoEffect(why)
            }
            None => unknown(item, &mut hints),
            Some(option) => match option.class {
                Class::Honoured => match structure(item) {
                    Some(verdict) => verdict,
                    None => continue,
                },
                class => by_table(class, option.reason, option.argument, meaning.flag(at)),
            },
        };
        meaning.say(at, verdict);
    }
}

/// Names in values that uWSGI obeys before it replaces anything: `listen = %(name)`.
fn named_in_vain(meaning: &Meaning<'_>) -> BTreeSet<String> {
    let immediate = meaning.items.iter().filter(|item| item.is_immediate);
    let values = immediate.filter_map(|item| item.value.as_deref());
    let references = values.flat_map(|value| value.split("%(").skip(1));
    let inside = references.filter_map(|rest| rest.split(')').next());
    let words = inside.flat_map(|inside| inside.split(' '));
    words.map(str::to_owned).collect()
}

/// The verdict of an option that means less beside others of the file than by itself.
fn beside_others(meaning: &Meaning<'_>, item: &Item) -> Option<Verdict> {
    if item.is_placeholder {
        return None;
    }
    let has = |names: &[&str]| {
        let mut items = meaning.items.iter();
        items.any(|other| !other.is_placeholder && names.contains(&&*other.key))
    };
    match &*item.key {
        // uWSGI: core/uwsgi.c, `uwsgi_parse_vars`: a host without an application of its own gets the default one.
        "vhost"
            if has(&["module", "wsgi", "wsgi-file", "file"])
                && !has(&["mount", "no-default-app", "vhost-host", "vhostdir"]) =>
        {
            let why = "there is one application, which answers for every host";
            Some(Verdict::NoEffect(why.to_owned()))
        }
        "gevent" | "async" | "asyncio" => match atoi(item.value.as_deref().unwrap_or_default()) {
            requests @ 2.. => Some(Verdict::Unsupported(format!(
                "requests run in threads here, not in greenlets: threads = {requests} lets as many run at once, if the code of the application is safe in threads; a greenlet that outlives its request runs only while another one of that thread waits"
            ))),
            _ => None,
        },
        _ => None,
    }
}

fn by_table(class: Class, reason: &str, argument: Argument, is_on: bool) -> Verdict {
    let reason = reason.to_owned();
    let is_switched_off = argument == Argument::None && !is_on;
    match class {
        Class::AlreadySo if is_switched_off => {
            Verdict::NoEffect(format!("it cannot be switched off: {reason}"))
        }
        Class::Noted | Class::NoEffect if is_switched_off => Verdict::NoEffect(reason),
        Class::Differs | Class::Unsupported | Class::Dangerous | Class::Honoured
            if is_switched_off =>
        {
            Verdict::AlreadySo("it is off".to_owned())
        }
        class => class.verdict(reason),
    }
}

/// Options that steer the reading of the file.
fn structure(item: &Item) -> Option<Verdict> {
    let value = item.value.as_deref().unwrap_or_default();
    let read = |text: &str| Verdict::Read(text.to_owned());
    Some(match &*item.key {
        "plugin" | "plugins" | "need-plugin" | "need-plugins" => plugins(value),
        "strict" => {
            let so = "names that are no options are reported in any case";
            Verdict::AlreadySo(so.to_owned())
        }
        "ini" | "yaml" | "yml" | "json" | "js" | "xml" | "xmlconfig" | "config" | "include"
        | "inherit" => Verdict::Read(format!("the options of {value}")),
        key if key.starts_with("end") => read("the end of a condition or loop"),
        // The option or placeholder that it sets has a verdict.
        key if key.starts_with("set") => return None,
        key if key.starts_with("for") => read("a loop"),
        _ => read("a condition"),
    })
}

fn plugins(value: &str) -> Verdict {
    let names = value.split([',', ' ']).filter(|name| !name.is_empty());
    let all: Vec<_> = names.filter(|name| !is_plugin_here(name)).collect();
    let others = all.iter().filter(|name| !is_plugin_by_options(name));
    let others: Vec<_> = others.copied().collect();
    match &others[..] {
        [] if all.is_empty() => {
            Verdict::AlreadySo("Python, HTTP and files are built in".to_owned())
        }
        [] => Verdict::NoEffect(format!(
            "{} works by lines of its own alone, which have their verdicts",
            all.join(", ")
        )),
        others => Verdict::Unsupported(format!(
            "there is no plugin {}: see the lines with its options",
            others.join(", ")
        )),
    }
}

fn placeholder(item: &Item) -> Verdict {
    match item.is_used {
        true => Verdict::Read(format!("the value of %({})", item.key)),
        false => Verdict::NoEffect("no line uses this name".to_owned()),
    }
}

fn unknown(item: &Item, hints: &mut usize) -> Verdict {
    if item.is_used {
        return placeholder(item);
    }
    // Each search compares the key with all options.
    let meant = match hints.checked_sub(1) {
        Some(left) => {
            *hints = left;
            options::meant(&item.key)
        }
        None => None,
    };
    let is_variable = item.place.line == 0 && item.place.source.starts_with("UWSGI_");
    match meant {
        _ if item.key.starts_with('{') || item.key.starts_with("<%") => {
            Verdict::Unfilled(TEMPLATE.to_owned())
        }
        Some(meant) => Verdict::Ignored(format!(
            "no option of uWSGI, which ignores it, did you mean {meant}?"
        )),
        // Other programs of the image have variables of this kind.
        None if is_variable => Verdict::NoEffect("no option of uWSGI".to_owned()),
        None => Verdict::Ignored(elsewhere(&item.key)),
    }
}

/// Advice for keys of other programs.
fn elsewhere(key: &str) -> String {
    // `=======` is a line without a key.
    let is_mark = |mark: &&str| key.starts_with(*mark);
    if key.is_empty() || ["<<<<<<<", ">>>>>>>", "|||||||"].iter().any(is_mark) {
        let why = "no option of uWSGI, which ignores it (it looks like the mark of a merge conflict: of the lines between, the last counts)";
        return why.to_owned();
    }
    let is_capital = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if key.contains('_') && key.chars().all(is_capital) {
        return format!(
            "no option of uWSGI, which ignores it (it looks like an environment variable: `env = {key}=…`)"
        );
    }
    let plain = key.replace('-', "_").to_ascii_lowercase();
    let owner = OTHERS.iter().find(|(_, keys)| {
        let long = keys.iter().copied().filter(|key| key.len() > 6);
        let closest = suggest::closest(&plain, long);
        keys.contains(&&*plain) || closest.is_some_and(|key| key.get(..4) == plain.get(..4))
    });
    let owner = match owner {
        Some((owner, _)) => format!(" (it looks like one of {owner})"),
        None => String::new(),
    };
    format!("no option of uWSGI, which ignores it{owner}")
}

/// Keys that stand in files of uWSGI by mistake, by the program that has them.
const OTHERS: &[(&str, &[&str])] = &[
    (
        "nginx",
        &[
            "client_max_body_size",
            "client_body_buffer_size",
            "server_name",
            "keepalive_timeout",
            "proxy_pass",
            "proxy_read_timeout",
            "uwsgi_pass",
            "uwsgi_read_timeout",
            "uwsgi_send_timeout",
            "location",
            "root",
            "listen_port",
            "worker_processes",
            "sendfile",
            "gzip",
        ],
    ),
    (
        "PHP-FPM",
        &[
            "pm",
            "pm.max_children",
            "pm.start_servers",
            "pm.min_spare_servers",
            "pm.max_spare_servers",
            "pm.max_requests",
            "memory_limit",
            "max_execution_time",
            "post_max_size",
            "upload_max_filesize",
            "request_terminate_timeout",
        ],
    ),
    (
        "supervisord",
        &[
            "command",
            "directory",
            "autostart",
            "autorestart",
            "startsecs",
            "startretries",
            "stdout_logfile",
            "stderr_logfile",
            "redirect_stderr",
            "stopsignal",
            "stopasgroup",
            "killasgroup",
            "stopwaitsecs",
            "numprocs",
            "process_name",
        ],
    ),
    (
        "gunicorn",
        &[
            "worker_class",
            "worker_connections",
            "graceful_timeout",
            "accesslog",
            "errorlog",
            "loglevel",
            "preload_app",
            "max_requests_jitter",
            "proc_name",
        ],
    ),
    (
        "systemd",
        &[
            "execstart",
            "execreload",
            "restart",
            "wantedby",
            "workingdirectory",
            "killsignal",
            "notifyaccess",
        ],
    ),
];
