//! The names of all options of uWSGI 2.0, and the class of each.
//!
//! They stand in `options.txt`, in groups that share a class and a reason.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::config::foreign::class::{self, Class};
use crate::config::suggest;

/// An option of uWSGI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UwsgiOption {
    /// Its name.
    pub name: &'static str,
    /// Its class.
    pub class: Class,
    /// The reason or the advice.
    pub reason: &'static str,
    /// Its value on the command line.
    pub argument: Argument,
}

/// The value of an option on the command line, as getopt(3) has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// None.
    None,
    /// Only behind `=`.
    Optional,
    /// Always.
    Required,
}

/// The option of this name; names are compared exactly.
pub fn named(name: &str) -> Option<&'static UwsgiOption> {
    TABLE.by_name.get(name)
}

/// The option of the command line that `name` names or begins, as getopt_long(3) takes it: the start of one option alone
/// is enough.
pub fn begun(name: &str) -> Option<&'static UwsgiOption> {
    let mut all = all().filter(|option| !name.is_empty() && option.name.starts_with(name));
    let first = all.next();
    named(name).or(first.filter(|_| all.next().is_none()))
}

/// The option of this letter, as in `-p`: the first that has it, as uWSGI reports it.
pub fn short(letter: char) -> Option<&'static UwsgiOption> {
    TABLE.by_letter.get(&letter).and_then(|name| named(name))
}

/// `--ini=uwsgi.ini` for `–ini=uwsgi.ini`, if the name behind the dash is that of an option.
pub fn with_hyphens(word: &str) -> Option<String> {
    let rest = word.trim_start_matches(suggest::is_dash);
    let name = rest.split('=').next().unwrap_or(rest);
    let mut letters = name.chars();
    let is_letter = letters.next().is_some_and(|letter| short(letter).is_some());
    let hyphens = match (named(name).is_some(), is_letter && letters.next().is_none()) {
        (true, _) => "--",
        (false, true) => "-",
        (false, false) => return None,
    };
    suggest::begins_with_dash(word).then(|| format!("{hyphens}{rest}"))
}

/// Every option.
pub fn all() -> impl Iterator<Item = &'static UwsgiOption> {
    TABLE.by_name.values()
}

/// The option that was probably meant by `key`.
pub fn meant(key: &str) -> Option<&'static str> {
    let key = key.to_ascii_lowercase().replace('_', "-");
    let known = SLIPS.iter().find(|(slip, _)| *slip == key);
    let exact = || named(&key).map(|option| option.name);
    let likely = all().filter(|option| option.class == Class::Honoured || option.name.len() > 4);
    let closest = || suggest::closest(&key, likely.map(|option| option.name));
    known
        .map(|(_, meant)| *meant)
        .or_else(exact)
        .or_else(closest)
}

/// Keys that real files have, and the options that do what they seem to mean.
const SLIPS: &[(&str, &str)] = &[
    ("auto-reload", "py-autoreload"),
    ("autoreload", "py-autoreload"),
    ("basic-auth", "route"),
    ("chmod-sock", "chmod-socket"),
    ("app", "module"),
    ("application", "callable"),
    ("env-file", "envdir"),
    ("bind", "http-socket"),
    ("body-size", "limit-post"),
    ("buffer", "buffer-size"),
    ("crontab", "cron"),
    ("daemon", "daemonize"),
    ("daemonise", "daemonize"),
    ("enable-logging", "disable-logging"),
    ("enable-master", "master"),
    ("enable-thread", "enable-threads"),
    ("exec-before", "exec-pre-app"),
    ("exec-pre", "exec-pre-app"),
    ("error-page", "error-page-404"),
    ("group", "gid"),
    ("header", "add-header"),
    ("host", "http-socket"),
    ("log", "logto"),
    ("log-2xx", "log-4xx"),
    ("log-3xx", "log-4xx"),
    ("log-buffering", "log-master-bufsize"),
    ("log-file", "logto"),
    ("logfile", "logto"),
    ("logging", "logto"),
    ("max-body-size", "limit-post"),
    ("max-request", "max-requests"),
    ("max-workers", "workers"),
    ("num-workers", "workers"),
    ("pid", "pidfile"),
    ("pid-file", "pidfile"),
    ("port", "http-socket"),
    ("proc-name-prefix", "procname-prefix"),
    ("process", "processes"),
    ("python-home", "home"),
    ("reload-on-memory", "reload-on-rss"),
    ("remove-header", "rem-header"),
    ("socket-chmod", "chmod-socket"),
    ("static", "static-map"),
    ("static-file", "static-map"),
    ("static-files", "static-map"),
    ("static-url", "static-map"),
    ("thread", "threads"),
    ("threaded-log", "threaded-logger"),
    ("timeout", "harakiri"),
    ("user", "uid"),
    ("virtual-env", "virtualenv"),
    ("worker", "workers"),
];

struct Table {
    by_name: BTreeMap<&'static str, UwsgiOption>,
    by_letter: BTreeMap<char, &'static str>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table {
        by_name: BTreeMap::new(),
        by_letter: BTreeMap::new(),
    };
    for (class, reason, line) in class::rows(include_str!("options.txt")) {
        let options = line.split_whitespace();
        options.for_each(|text| add(&mut table, text, class, reason));
    }
    table
});

fn add(table: &mut Table, text: &'static str, class: Class, reason: &'static str) {
    let (name, letter) = match text.split_once('=') {
        Some((name, letter)) => (name, letter.chars().next()),
        None => (text, None),
    };
    let (name, argument) = if let Some(name) = name.strip_suffix('.') {
        (name, Argument::None)
    } else if let Some(name) = name.strip_suffix('?') {
        (name, Argument::Optional)
    } else {
        (name, Argument::Required)
    };
    let option = UwsgiOption {
        name,
        class,
        reason,
        argument,
    };
    table.by_name.insert(name, option);
    if let Some(letter) = letter {
        table.by_letter.entry(letter).or_insert(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_classified_once_with_a_reason() {
        // uWSGI 2.0.31 declares this number in its core and plugins.
        assert_eq!(all().count(), 1261);
        let text = include_str!("options.txt");
        let lines = text.lines().filter(|line| !line.starts_with(['#', '[']));
        let words = lines.flat_map(str::split_whitespace);
        assert_eq!(words.count(), 1261, "a name stands there twice");
        for line in text.lines().filter(|line| line.starts_with('[')) {
            let word = &line[1..line.find(']').unwrap()];
            let known = [
                "honoured",
                "already",
                "none",
                "note",
                "differs",
                "dangerous",
                "unsupported",
            ];
            assert!(known.contains(&word), "{line}");
            assert!(
                !line.ends_with('.') && line.len() > word.len() + 6,
                "{line}"
            );
        }
        for (slip, meant) in SLIPS {
            assert!(named(slip).is_none() && named(meant).is_some(), "{slip}");
        }
    }

    #[test]
    fn a_misspelt_name_is_recognised() {
        let check = |key: &str, expected: Option<&str>| assert_eq!(meant(key), expected, "{key}");
        check("harakari", Some("harakiri"));
        check("proesses", Some("processes"));
        check("threaded-log", Some("threaded-logger"));
        check("max_requests", Some("max-requests"));
        check("optmize", Some("optimize"));
        check("buffer_size", Some("buffer-size"));
        check("client_max_body_size", None);
        check("project", None);
        check("base", None);
    }

    #[test]
    fn letters_and_arguments_are_those_of_uwsgi() {
        let of = |letter| short(letter).map(|option| (option.name, option.argument));
        assert_eq!(of('p'), Some(("processes", Argument::Required)));
        assert_eq!(of('M'), Some(("master", Argument::None)));
        assert_eq!(of('C'), Some(("chmod-socket", Argument::Optional)));
        assert_eq!(of('w'), Some(("module", Argument::Required)));
        assert_eq!(of('H'), Some(("home", Argument::Required)));
        assert_eq!(of('Z'), None);
        let begun = |name| begun(name).map(|option| option.name);
        assert_eq!(begun("process"), Some("processes"));
        assert_eq!(begun("harakiri"), Some("harakiri"));
        assert_eq!(begun("harak"), None);
        assert_eq!(begun(""), None);
    }
}
