//! Workers, threads, and the limits of both.

use std::path::Path;

use super::Meaning;
use crate::config::foreign::uwsgi::numbers::{atoi, flag};
use crate::config::foreign::{Verdict, bounds, waiting};

/// Least address space of a worker that pyserve takes, in megabytes.
const SMALLEST_ADDRESS_SPACE: i64 = 64;

pub(super) fn decide(meaning: &mut Meaning<'_>) {
    workers(meaning);
    if let Some(at) = meaning.last(&["threads"])
        && let Some(threads) = meaning.number(at)
    {
        // No number and zero mean one thread.
        count(meaning, at, "threads", threads.max(1));
    }
    for at in meaning.all(&["enable-threads"]) {
        match meaning.flag(at) {
            true => {
                let verdict = match starts_threads_once(meaning) {
                    true => Verdict::Differs(THREADS_OF_IMPORT.to_owned()),
                    false => {
                        Verdict::AlreadySo("threads of the application run in any case".to_owned())
                    }
                };
                meaning.say(at, verdict);
            }
            false => meaning.no_effect(at, "threads of the application run in any case"),
        }
    }
    deadline(meaning);
    recycling(meaning);
    address_space(meaning);
    patience(meaning);
    queue(meaning);
    mask_and_limit(meaning);
    let touched = [
        "touch-reload",
        "touch-workers-reload",
        "touch-chain-reload",
        "fs-reload",
    ];
    let exits = exit_on_reload(meaning);
    for at in meaning.all(&touched) {
        let file = meaning.value(at).to_owned();
        // uWSGI replaces the workers alone, which is no reload to it.
        let is_in_place =
            ["touch-workers-reload", "touch-chain-reload"].contains(&&*meaning.items[at].key);
        let setting = match exits && is_in_place {
            true => "touch_workers_reload",
            false => "touch_reload",
        };
        let entries = file.trim_end_matches('/');
        match (&*meaning.items[at].key, &*file) {
            (_, "") => meaning.no_effect(at, "no file"),
            // inotify reports the entries of a directory too, the other options compare its own time.
            ("fs-reload", file) if file.ends_with('/') || Path::new(file).is_dir() => {
                meaning.append(at, setting, format!("{entries}/"));
            }
            ("fs-reload", file) => meaning.append(at, setting, file.to_owned()),
            (_, "/") => meaning.append(at, setting, "/.".to_owned()),
            _ => meaning.append(at, setting, entries.to_owned()),
        }
    }
}

/// The difference for threads that begin while the application is imported.
const THREADS_OF_IMPORT: &str = "threads of the application run; those that its import starts run in each worker, in uWSGI without `lazy-apps` in its first process alone";

/// True if the process of uWSGI that imports the application is not the only one.
fn starts_threads_once(meaning: &Meaning<'_>) -> bool {
    let last = |names: &[&str]| {
        let mut items = meaning.items.iter();
        items.rfind(|item| !item.is_placeholder && names.contains(&&*item.key))
    };
    let is_on = |names: &[&str]| last(names).is_some_and(|item| flag(item.value.as_deref()));
    let processes = last(&["processes", "workers"]);
    let count = processes
        .and_then(|item| item.value.as_deref())
        .map_or(1, atoi);
    (is_on(&["master"]) || count > 1) && !is_on(&["lazy", "lazy-apps"])
}

/// Returns true if a reload ends the server.
fn exit_on_reload(meaning: &mut Meaning<'_>) -> bool {
    let Some(at) = meaning.last(&["exit-on-reload"]) else {
        return false;
    };
    let mut items = meaning.items.iter();
    let lazy = items.rfind(|item| item.key == "lazy" && !item.is_placeholder);
    if meaning.flag(at) && lazy.is_some_and(|item| flag(item.value.as_deref())) {
        // uWSGI: core/uwsgi.c, `grace_them_all`.
        let why = "with `lazy` a reload replaces the workers alone, and the server stays";
        meaning.no_effect(at, why);
        return false;
    }
    match meaning.flag(at) {
        true => meaning.honour(at, "exit_on_reload", vec!["yes".to_owned()]),
        false => meaning.say(at, Verdict::AlreadySo("it is off".to_owned())),
    }
    meaning.flag(at)
}

/// `listen`, which uWSGI obeys as soon as it has read it: a `%(name)` in it is not replaced, and counts as 0.
fn queue(meaning: &mut Meaning<'_>) {
    let Some(at) = meaning.last(&["listen"]) else {
        return;
    };
    match meaning.number(at) {
        None => {}
        Some(0) => {
            let value = meaning.value(at);
            let why = format!(
                "uWSGI reads {value:?} as 0, so that one connection waits and others are dropped: the default of `queue_limit` holds"
            );
            meaning.say(at, Verdict::Dangerous(why));
        }
        Some(length) => match waiting::beyond_default(length) {
            Ok(length) => meaning.honour(at, "queue_limit", vec![length]),
            Err(verdict) => meaning.say(at, verdict),
        },
    }
}

fn workers(meaning: &mut Meaning<'_>) {
    let most = meaning.last(&["processes", "workers"]);
    let least = meaning.last(&["cheaper"]);
    let initial = meaning.last(&["cheaper-initial"]);
    let count = match most {
        Some(at) => match meaning.positive(at, "no worker would run") {
            Some(count) => count,
            None => return,
        },
        None => 1,
    };
    let cheaper = least.and_then(|at| Some((at, meaning.number(at)?)));
    match (most, cheaper) {
        (most, Some((at, 0))) => {
            let value = meaning.value(at).to_owned();
            let why = format!("uWSGI reads {value:?} as 0, which means a fixed number of workers");
            meaning.no_effect(at, &why);
            fixed(meaning, most, count);
        }
        (most, Some((at, cheaper))) if cheaper >= count => {
            let why = format!("cheaper has to be lower than processes, which is {count}");
            meaning.say(at, Verdict::Wrong(why));
            fixed(meaning, most, count);
        }
        (Some(most), Some((at, cheaper))) => {
            let range = format!("{cheaper}..{count}");
            meaning.honour(most, "workers", vec![range.clone()]);
            meaning.say(at, Verdict::Honoured(format!("workers = {range:?}")));
        }
        (most, _) => fixed(meaning, most, count),
    }
    if let Some(at) = initial {
        let why = match cheaper {
            Some((_, 1..)) => {
                "it starts with the smaller number, and adds workers as requests wait"
            }
            _ => "the number of workers is fixed",
        };
        meaning.no_effect(at, why);
    }
}

/// The mask for new files, and the limit on the address space.
fn mask_and_limit(meaning: &mut Meaning<'_>) {
    if let Some(at) = meaning.last(&["umask"]) {
        match octal(meaning.value(at)) {
            Some(mask) => meaning.honour(at, "umask", vec![mask]),
            None => {
                let problem = "not a mask: uWSGI takes it for 000, with which every user may write new files (give octal digits, such as 022)";
                meaning.say(at, Verdict::Wrong(problem.to_owned()));
            }
        }
    }
    if let Some(at) = meaning.last(&["limit-as"])
        && let Some(megabytes) = meaning.number(at)
    {
        match megabytes {
            0 => meaning.say(at, Verdict::AlreadySo("no limit".to_owned())),
            ..SMALLEST_ADDRESS_SPACE => {
                let problem = format!(
                    "too small for an interpreter (give at least {SMALLEST_ADDRESS_SPACE}, in megabytes)"
                );
                meaning.say(at, Verdict::Wrong(problem));
            }
            _ => {
                let most = bounds::number(megabytes);
                meaning.honour(at, "limit_as", vec![format!("{most}M")]);
            }
        }
    }
}

/// The octal digits at the beginning, as `strtol` reads them, of a mask.
fn octal(text: &str) -> Option<String> {
    let text = text.trim_start();
    let digits = text.split(|c: char| !c.is_digit(8)).next()?;
    let mask = u32::from_str_radix(digits, 8).ok()?;
    Some(match mask > 0o777 {
        true => digits.to_owned(),
        false => format!("{mask:03o}"),
    })
}

/// A number of workers or threads.
fn count(meaning: &mut Meaning<'_>, at: usize, setting: &str, number: i64) {
    match bounds::count(number) {
        Ok(number) => meaning.honour(at, setting, vec![number]),
        Err(verdict) => meaning.say(at, verdict),
    }
}

/// A time in seconds, of a setting that takes no longer one than a year.
pub(super) fn time(meaning: &mut Meaning<'_>, at: usize, setting: &str, seconds: i64) {
    let (seconds, note) = bounds::seconds(seconds);
    meaning.honour(at, setting, vec![seconds]);
    if let Some(note) = note {
        meaning.note(at, note);
    }
}

fn fixed(meaning: &mut Meaning<'_>, at: Option<usize>, number: i64) {
    match at {
        Some(at) => count(meaning, at, "workers", number),
        None => meaning.imply("workers", "1", "uWSGI runs one process without `processes`"),
    }
}

fn deadline(meaning: &mut Meaning<'_>) {
    if let Some(at) = meaning.last(&["harakiri"])
        && let Some(seconds) = meaning.number(at)
    {
        time(meaning, at, "request_timeout", seconds);
    }
    for at in meaning.all(&["http-harakiri"]) {
        meaning.no_effect(
            at,
            "the front has no request that runs: `request_timeout` is the limit",
        );
    }
    let why = "uWSGI sets no limit without `harakiri`";
    meaning.imply("request_timeout", "0", why);
}

fn recycling(meaning: &mut Meaning<'_>) {
    for (names, setting, unit) in [
        (&["max-requests"][..], "max_requests", ""),
        (&["max-worker-lifetime"], "max_worker_lifetime", ""),
        (
            &["reload-on-rss", "evil-reload-on-rss"],
            "max_worker_memory",
            "M",
        ),
    ] {
        let Some(at) = meaning.last(names) else {
            continue;
        };
        match meaning.number(at) {
            None => {}
            Some(0) if unit == "M" => {
                meaning.say(at, Verdict::AlreadySo("no limit".to_owned()));
            }
            Some(seconds) if setting == "max_worker_lifetime" => {
                time(meaning, at, setting, seconds)
            }
            Some(number) => {
                let most = bounds::number(number);
                meaning.honour(at, setting, vec![format!("{most}{unit}")]);
            }
        }
    }
}

/// `reload-on-as`: the resident memory alone is limited here, which is never more than the address space.
fn address_space(meaning: &mut Meaning<'_>) {
    let Some(at) = meaning.last(&["reload-on-as", "evil-reload-on-as"]) else {
        return;
    };
    if meaning.draft.layer.entry("max_worker_memory").is_some() {
        let why = "`max_worker_memory` limits the resident memory, as reload-on-rss says: address space is not counted";
        return meaning.say(at, Verdict::Noted(why.to_owned()));
    }
    match meaning.number(at) {
        None => {}
        Some(0) => meaning.say(at, Verdict::AlreadySo("no limit".to_owned())),
        Some(megabytes) => {
            let most = megabytes.min(i64::from(u32::MAX));
            meaning.honour(at, "max_worker_memory", vec![format!("{most}M")]);
            let text = format!(
                "max_worker_memory = \"{most}M\", of the resident memory: address space is not counted"
            );
            meaning.say(at, Verdict::Differs(text));
        }
    }
}

/// The longest of the times for workers that end.
fn patience(meaning: &mut Meaning<'_>) {
    let all = meaning.all(&["reload-mercy", "worker-reload-mercy"]);
    let given: Vec<_> = all
        .into_iter()
        .filter_map(|at| Some((at, meaning.number(at)?)))
        .collect();
    let Some((longest, seconds)) = given.iter().max_by_key(|(_, seconds)| *seconds).copied() else {
        return;
    };
    for (at, _) in given.into_iter().filter(|(at, _)| *at != longest) {
        let why = format!("{seconds} seconds, as {} says", meaning.items[longest].key);
        meaning.no_effect(at, &why);
    }
    match seconds {
        0 => meaning.no_effect(longest, "no time"),
        _ => time(meaning, longest, "graceful_timeout", seconds),
    }
}
