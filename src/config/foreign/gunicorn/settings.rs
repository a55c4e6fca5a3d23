//! The names of all settings of gunicorn, and the class of each.
//!
//! They stand in `settings.txt`, in groups that share a class and a reason.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::config::foreign::class::{self, Class};
use crate::config::suggest;

/// A setting of gunicorn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GunicornSetting {
    /// Its name in a file.
    pub name: &'static str,
    /// The type of its value.
    pub kind: Kind,
    /// Its default, empty for none, zero, false and an empty list.
    pub default: &'static str,
    /// Its options on the command line.
    pub flags: Vec<&'static str>,
    /// Its class.
    pub class: Class,
    /// The reason or the advice.
    pub reason: &'static str,
}

/// The type of a value, which is also how the command line takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// A whole number, not negative.
    Int,
    /// The same, on the command line octal with a leading zero.
    Mode,
    /// True by its option alone.
    Switch,
    /// False by its option alone.
    Off,
    /// Strings; the option is repeatable.
    List,
    /// A string that the option may lack.
    Maybe,
    /// The name of a class, or a class.
    Class,
    /// A dictionary.
    Map,
    /// A function of so many arguments.
    Hook(usize),
}

/// The setting of this name; names are compared exactly, as gunicorn does.
pub fn named(name: &str) -> Option<&'static GunicornSetting> {
    TABLE.get(name)
}

/// Every setting.
pub fn all() -> impl Iterator<Item = &'static GunicornSetting> {
    TABLE.values()
}

/// The settings that the option `flag` may mean: the one of this name, else all whose names begin
/// with it, as argparse has it.
pub fn of_flag(flag: &str) -> Vec<&'static GunicornSetting> {
    let has = |is_it: &dyn Fn(&str) -> bool| -> Vec<_> {
        all()
            .filter(|setting| setting.flags.iter().any(|own| is_it(own)))
            .collect()
    };
    let exact = has(&|own| own == flag);
    match exact.is_empty() && flag.starts_with("--") {
        true => has(&|own| own.starts_with(flag)),
        false => exact,
    }
}

/// The setting that was probably meant by `key`.
pub fn meant(key: &str) -> Option<&'static str> {
    let key = key.to_ascii_lowercase();
    let known = SLIPS.iter().find(|(slip, _)| *slip == key);
    let by_flag = || {
        let flag = format!("--{}", key.replace('_', "-"));
        let setting = all().find(|setting| setting.flags.iter().any(|own| *own == flag));
        setting.map(|setting| setting.name)
    };
    known
        .map(|(_, meant)| *meant)
        .or_else(|| named(&key).map(|setting| setting.name))
        .or_else(by_flag)
        .or_else(|| {
            let likely = all().filter(|setting| setting.name.len() > 4);
            suggest::closest(&key, likely.map(|setting| setting.name))
        })
}

/// Names that real files have, and the settings that do what they seem to mean.
const SLIPS: &[(&str, &str)] = &[
    ("access_log", "accesslog"),
    ("address", "bind"),
    ("app", "wsgi_app"),
    ("environment", "raw_env"),
    ("error_log", "errorlog"),
    ("keep_alive", "keepalive"),
    ("log_level", "loglevel"),
    ("max_request", "max_requests"),
    ("max_workers", "workers"),
    ("num_workers", "workers"),
    ("num_threads", "threads"),
    ("pid_file", "pidfile"),
    ("processes", "workers"),
    ("thread", "threads"),
    ("worker", "workers"),
    ("worker_processes", "workers"),
    ("worker_timeout", "timeout"),
];

static TABLE: LazyLock<BTreeMap<&'static str, GunicornSetting>> = LazyLock::new(|| {
    let mut table = BTreeMap::new();
    for (class, reason, line) in class::rows(include_str!("settings.txt")) {
        let mut words = line.split_whitespace();
        let (Some(name), Some(kind)) = (words.next(), words.next()) else {
            continue;
        };
        let (kind, default) = kind.split_once('=').unwrap_or((kind, ""));
        let setting = GunicornSetting {
            name,
            kind: kind_of(kind),
            default,
            flags: words.collect(),
            class,
            reason,
        };
        table.insert(name, setting);
    }
    table
});

fn kind_of(word: &str) -> Kind {
    match word {
        "int" => Kind::Int,
        "mode" => Kind::Mode,
        "switch" => Kind::Switch,
        "off" => Kind::Off,
        "list" => Kind::List,
        "maybe" => Kind::Maybe,
        "class" => Kind::Class,
        "map" => Kind::Map,
        word => match word.strip_prefix("hook").map(str::parse) {
            Some(Ok(arguments)) => Kind::Hook(arguments),
            _ => Kind::Text,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_classified_once_with_a_reason() {
        // gunicorn 27.0.1 declares this number.
        assert_eq!(all().count(), 120);
        let text = include_str!("settings.txt");
        let lines = text.lines().filter(|line| !line.starts_with(['#', '[']));
        let names: Vec<_> = lines
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        assert_eq!(names.len(), 120, "a name stands there twice");
        for line in text.lines().filter(|line| line.starts_with('[')) {
            let word = &line[1..line.find(']').unwrap()];
            let known = [
                "honoured",
                "already",
                "none",
                "note",
                "dangerous",
                "differs",
                "unsupported",
            ];
            assert!(known.contains(&word), "{line}");
            assert!(line.len() > word.len() + 4, "{line}");
        }
        for (slip, meant) in SLIPS {
            assert!(named(slip).is_none() && named(meant).is_some(), "{slip}");
        }
    }

    #[test]
    fn options_may_be_shortened_as_long_as_they_are_clear() {
        let names =
            |flag: &str| -> Vec<_> { of_flag(flag).iter().map(|setting| setting.name).collect() };
        assert_eq!(names("-w"), ["workers"]);
        assert_eq!(names("--max-requests"), ["max_requests"]);
        assert_eq!(names("--max-requests-j"), ["max_requests_jitter"]);
        assert_eq!(names("--worker-c"), ["worker_class", "worker_connections"]);
        assert_eq!(names("--nothing"), [""; 0]);
    }

    #[test]
    fn slips_are_recognised() {
        assert_eq!(meant("wrokers"), Some("workers"));
        assert_eq!(meant("WORKERS"), Some("workers"));
        assert_eq!(meant("error_logfile"), Some("errorlog"));
        assert_eq!(meant("access_log"), Some("accesslog"));
        assert_eq!(meant("hostname_of_the_database"), None);
    }
}
