//! Files that uWSGI serves itself, and those that it makes: with its process id, and for commands.

use super::Meaning;
use crate::config::foreign::Verdict;
use crate::config::foreign::surroundings::FileKind;
use crate::config::locations;

pub(super) fn decide(meaning: &mut Meaning<'_>) {
    for at in meaning.all(&["static-map", "static-map2"]) {
        map(meaning, at);
    }
    for at in meaning.all(&["check-static", "static-check"]) {
        let dir = meaning.value(at).to_owned();
        serve(meaning, at, "/", &dir);
    }
    for at in meaning.all(&["check-static-docroot"]) {
        let verdict = match meaning.flag(at) {
            true => Verdict::Unsupported("name the directory with `static`".to_owned()),
            false => Verdict::AlreadySo("it is off".to_owned()),
        };
        meaning.say(at, verdict);
    }
    for at in meaning.all(&["static-index"]) {
        match meaning.value(at) {
            "index.html" => {
                let how = "index.html is the index of a directory at paths with a slash at the end: others are redirected there, where uWSGI serves it at once";
                meaning.say(at, Verdict::Differs(how.to_owned()));
            }
            _ => {
                let advice = "index.html alone is the index of a directory".to_owned();
                meaning.say(at, Verdict::Unsupported(advice));
            }
        }
    }
    for at in meaning.all(&["static-safe"]) {
        let dir = meaning.value(at).to_owned();
        match dir.is_empty() {
            true => meaning.no_effect(at, "no directory"),
            false => meaning.append(at, "static_links", dir),
        }
    }
    precompressed(meaning);
    let expiry = [
        "static-expires",
        "static-expires-mtime",
        "static-expires-uri",
        "static-expires-path-info",
    ];
    for at in meaning.all(&expiry) {
        expires(meaning, at);
    }
    for at in meaning.all(&["mimefile", "mime-file"]) {
        let file = meaning.value(at).to_owned();
        match file.is_empty() {
            true => meaning.no_effect(at, "no file"),
            false => meaning.append(at, "types_file", file),
        }
    }
    fifo(meaning);
    pidfile(meaning);
}

/// The file with the process id, of which uWSGI writes up to four.
fn pidfile(meaning: &mut Meaning<'_>) {
    let kinds = ["safe-pidfile2", "safe-pidfile", "pidfile2", "pidfile"];
    let last = kinds.map(|kind| meaning.last(&[kind]));
    let mut last = last.into_iter().flatten();
    let Some(at) = last.next() else {
        return;
    };
    for other in last {
        let advice = format!("one file: that of {}", meaning.items[at].key);
        meaning.say(other, Verdict::Unsupported(advice));
    }
    let file = meaning.value(at).to_owned();
    // uWSGI writes the first kind before it changes the directory.
    let is_before_chdir = meaning.items[at].key == "pidfile"
        && !file.starts_with('/')
        && meaning.draft.layer.entry("chdir").is_some();
    let file = match is_before_chdir {
        true => {
            let path = meaning.around.current_dir.join(&file);
            crate::config::native::text(path.as_os_str())
        }
        false => file,
    };
    if file.is_empty() {
        return meaning.no_effect(at, "no file");
    }
    // Without the rights of root uWSGI does not try (core/uwsgi.c, `vacuum`).
    let is_after_drop = meaning.items[at].key.ends_with('2');
    let drops = meaning.draft.layer.entry("uid").is_some();
    let note = match vacuum(meaning) {
        true if is_after_drop || !drops => return meaning.honour(at, "pidfile", vec![file]),
        true => "removed at the end, which uWSGI does not do with `uid`",
        false => "removed at the end, which uWSGI does with `vacuum` alone",
    };
    meaning.honour_with_note(at, "pidfile", vec![file], note);
}

/// True if the file removes what the server has made.
fn vacuum(meaning: &Meaning<'_>) -> bool {
    let mut items = meaning.items.iter();
    let last = items.rfind(|item| item.key == "vacuum" && !item.is_placeholder);
    last.is_some_and(|item| super::super::numbers::flag(item.value.as_deref()))
}

/// The FIFO with commands; of several, uWSGI opens the first, and another one at a digit.
fn fifo(meaning: &mut Meaning<'_>) {
    for (index, at) in meaning.all(&["master-fifo"]).into_iter().enumerate() {
        let file = meaning.value(at).to_owned();
        if file.is_empty() {
            meaning.no_effect(at, "no file");
        } else if index > 0 {
            let advice = "there is one FIFO, that of the first line: the digits that choose another are ignored";
            meaning.say(at, Verdict::Unsupported(advice.to_owned()));
        } else {
            let note = "commands r R c w W q Q + - l P s; others are logged and ignored";
            meaning.honour_with_note(at, "control_fifo", vec![file], note);
        }
    }
}

/// Compressed files beside the files, for all or for some of them. Here a file that has one is always sent so.
fn precompressed(meaning: &mut Meaning<'_>) {
    let some = [
        "static-gzip",
        "static-gzip-dir",
        "static-gzip-prefix",
        "static-gzip-ext",
        "static-gzip-suffix",
    ];
    let yes = || vec!["yes".to_owned()];
    for at in meaning.all(&some) {
        let note = "for every file that has a compressed one beside it";
        meaning.honour_with_note(at, "static_precompressed", yes(), note);
    }
    if let Some(at) = meaning.last(&["static-gzip-all"]) {
        match meaning.flag(at) {
            true => meaning.honour(at, "static_precompressed", yes()),
            false => meaning.say(at, Verdict::AlreadySo("it is off".to_owned())),
        }
    }
}

/// `static-map = /prefix=DIR`; with `static-map2` the directory has the prefix in it.
fn map(meaning: &mut Meaning<'_>, at: usize) {
    let value = meaning.value(at).to_owned();
    let Some((prefix, dir)) = value.split_once('=') else {
        return meaning.say(at, Verdict::Wrong("it needs `/prefix=DIR`".to_owned()));
    };
    if !prefix.starts_with('/') {
        return meaning.no_effect(at, "no path begins so: the prefix has no slash before it");
    }
    let dir = match &*meaning.items[at].key {
        "static-map2" => format!("{}{prefix}", dir.trim_end_matches('/')),
        _ => dir.to_owned(),
    };
    let prefix = match prefix.trim_end_matches('/') {
        "" => "/",
        prefix => prefix,
    };
    // uWSGI compares bytes. Where the prefix ends with a name, files beside it are an accident.
    if prefix.ends_with(['-', '_', '.']) {
        let advice = format!(
            "a location has whole segments of the path, and {prefix} is the start of a name: serve its directory with `static`"
        );
        return meaning.say(at, Verdict::Unsupported(advice));
    }
    serve(meaning, at, prefix, &dir);
}

fn serve(meaning: &mut Meaning<'_>, at: usize, prefix: &str, dir: &str) {
    if dir.is_empty() {
        return meaning.no_effect(at, "no directory");
    }
    if meaning.served.iter().any(|(known, _)| known == prefix) {
        let advice = format!("one directory for a prefix: another line has {prefix}");
        return meaning.say(at, Verdict::Unsupported(advice));
    }
    let mounts = meaning.stripped_mounts();
    let is_in = |mount: &String| is_below(prefix, mount);
    if let Some(mount) = mounts.iter().find(|mount| is_in(mount)) {
        let why = format!(
            "uWSGI takes the mount point {mount} off the path before it compares, so that no path begins so"
        );
        return meaning.no_effect(at, &why);
    }
    meaning.served.push((prefix.to_owned(), dir.to_owned()));
    if is_single_file(meaning, prefix, dir) {
        return one_file(meaning, at, prefix, dir);
    }
    let is_code = meaning.is_at_or_above_code(dir);
    let has_index = !meaning.all(&["static-index"]).is_empty();
    directory(meaning, at, prefix, dir, has_index);
    // Paths of mounted applications, which have lost their mount points, are compared too.
    let also: Vec<_> = mounts.iter().filter(|_| prefix != "/").collect();
    for mount in &also {
        let prefix = format!("{mount}{prefix}");
        directory(meaning, at, &prefix, dir, has_index);
        meaning.served.push((prefix, dir.to_owned()));
    }
    if !also.is_empty() {
        let prefixes = also.iter().map(|mount| format!("{mount}{prefix}={dir}"));
        let prefixes: Vec<_> = std::iter::once(format!("{prefix}={dir}"))
            .chain(prefixes)
            .collect();
        meaning.say(at, Verdict::Honoured(format!("static = {prefixes:?}")));
    }
    if is_code {
        let why = format!(
            "the directory holds the code: static = \"{prefix}={dir}\" without dotfiles, Python's files, databases and backups"
        );
        meaning.say(at, Verdict::Dangerous(why));
    } else if let Some(Verdict::Honoured(text)) = &mut meaning.verdicts[at] {
        text.push_str(", static_missing = \"app\"");
        if !has_index {
            text.push_str(", static_index = \"no\"");
        }
        text.push_str(OF_FILES);
    }
}

/// A directory whose missing files the application answers for. Without `static-index` uWSGI leaves to it
/// what is a directory, too.
fn directory(meaning: &mut Meaning<'_>, at: usize, prefix: &str, dir: &str, has_index: bool) {
    meaning.append(at, "static_missing", format!("{prefix}=app"));
    if !has_index {
        meaning.append(at, "static_index", format!("{prefix}=no"));
    }
    meaning.append(at, "static", format!("{prefix}={dir}"));
}

/// True if the path is `dir`, or below it.
fn is_below(path: &str, dir: &str) -> bool {
    let rest = path.strip_prefix(dir);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The fields of files that uWSGI does not send.
const OF_FILES: &str = " (with nosniff, and without `static-expires` Cache-Control: max-age=60)";

/// A location of one path. As in uWSGI, the application answers where the file is missing.
fn one_file(meaning: &mut Meaning<'_>, at: usize, path: &str, file: &str) {
    if path == "/" {
        let advice = "the front page of a directory is its index.html: use `static`";
        return meaning.say(at, Verdict::Unsupported(advice.to_owned()));
    }
    let given = [("path", path.to_owned()), ("file", file.to_owned())];
    let table = meaning.table(at, &mut locations::all(), &given);
    meaning.draft.layer.locations.push(table);
    meaning.append(at, "static_missing", format!("{path}=app"));
    let text = format!(
        "[[location]] path = {path:?}, file = {file:?}, static_missing = \"{path}=app\"{OF_FILES}"
    );
    meaning.say(at, Verdict::Honoured(text));
}

/// True for `/favicon.ico=/srv/favicon.ico`.
fn is_single_file(meaning: &Meaning<'_>, prefix: &str, dir: &str) -> bool {
    let ending = |text: &str| {
        let name = text.rsplit('/').next().unwrap_or(text);
        name.rsplit_once('.').map(|(_, ending)| ending.to_owned())
    };
    match kind(meaning, dir) {
        Some(kind) => kind.is_file,
        // It may be there on another machine.
        None => ending(prefix).is_some() && ending(prefix) == ending(dir),
    }
}

/// The kind of a file or directory, which may be below `chdir`.
pub(super) fn kind(meaning: &Meaning<'_>, path: &str) -> Option<FileKind> {
    let chdir = meaning.draft.layer.entry("chdir");
    let chdir = chdir.and_then(|entry| entry.values.first());
    match chdir {
        Some(chdir) if !path.starts_with('/') => meaning.around.kind(&format!("{chdir}/{path}")),
        _ => meaning.around.kind(path),
    }
}

/// `static-expires = /srv/static/* 3600`: the known shapes of the pattern.
fn expires(meaning: &mut Meaning<'_>, at: usize) {
    let served = meaning.served.clone();
    let value = meaning.value(at).to_owned();
    let Some((pattern, seconds)) = value.split_once(' ') else {
        return meaning.say(at, Verdict::Wrong("it needs `PATTERN SECONDS`".to_owned()));
    };
    let asked = super::atoi(seconds.trim()).max(0);
    let age = asked.min(LONGEST_AGE).to_string();
    let is_by_file = matches!(
        &*meaning.items[at].key,
        "static-expires" | "static-expires-mtime"
    );
    let plain = literal_start(pattern).map(|start| start.trim_end_matches('/').to_owned());
    let covers = |(prefix, dir): &&(String, String)| {
        let subject = if is_by_file { dir } else { prefix };
        let subject = subject.trim_end_matches('/');
        plain
            .as_deref()
            .is_some_and(|plain| is_below(subject, plain))
    };
    let start = pattern.trim_start_matches('^');
    let is_inside = |(prefix, _): &&(String, String)| !is_by_file && start.starts_with(&**prefix);
    let below = served
        .iter()
        .find(is_inside)
        .map(|(prefix, _)| prefix.clone());
    let places = served.iter().filter(covers);
    let places: Vec<_> = places.map(|(prefix, _)| prefix.clone()).collect();
    match (plain.as_deref(), &places[..]) {
        (Some(""), _) => meaning.append(at, "static_max_age", age),
        (_, [_, ..]) => {
            for prefix in &places {
                meaning.append(at, "static_max_age", format!("{prefix}={age}"));
            }
            if places.len() > 1 {
                let ages = places.iter().map(|prefix| format!("{prefix}={age}"));
                let text = format!("static_max_age = {:?}", ages.collect::<Vec<_>>());
                meaning.say(at, Verdict::Honoured(text));
            }
        }
        // Names with a content hash, for which that setting is made.
        _ if names_hashes(pattern) => match below {
            Some(prefix) => meaning.append(at, "static_immutable", format!("{prefix}=auto")),
            None => meaning.no_effect(at, "no line serves such files"),
        },
        _ => {
            let advice = "patterns are not matched: set `static_max_age` for a prefix".to_owned();
            meaning.say(at, Verdict::Unsupported(advice));
        }
    }
    if let Some(Verdict::Honoured(text)) = &mut meaning.verdicts[at] {
        text.push_str(match asked > LONGEST_AGE {
            true => " (a year, which is the longest; as Cache-Control, without Expires)",
            false => " (as Cache-Control, without Expires)",
        });
    }
}

/// Longest time for which clients keep files, in seconds: RFC 2616 advises against more than a year.
const LONGEST_AGE: i64 = 365 * 86_400;

/// True for a pattern of names that Django's manifest storage makes, `/static/.*\.[a-f0-9]{12,}\.(css|js)`.
fn names_hashes(pattern: &str) -> bool {
    ["[a-f0-9]{", "[0-9a-f]{", "[a-z0-9]{", "[0-9a-z]{"]
        .iter()
        .any(|class| pattern.contains(class))
}

/// The text before a pattern's end that matches all: `/static/` of `/static/.*`. `None` for any other
/// pattern.
fn literal_start(pattern: &str) -> Option<&str> {
    let start = pattern.strip_prefix('^').unwrap_or(pattern);
    let start = start.strip_suffix('$').unwrap_or(start);
    let start = [".*", ".+", "*"]
        .iter()
        .find_map(|all| start.strip_suffix(all))
        .unwrap_or(start);
    let is_plain = !start.contains(['*', '+', '?', '(', ')', '[', ']', '|', '\\', '^', '$']);
    is_plain.then_some(start)
}
