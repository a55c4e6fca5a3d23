//! Media types: those of texts that a `return` has, and that of files with an unknown extension.
//!
//! nginx takes the extension of the request's path (`ngx_http_set_content_type`), else `default_type`. A file that
//! `http` includes has the lines of its packages around it: `mime.types`, and `application/octet-stream`.

use super::{Meaning, Table};
use crate::config::foreign::Verdict;
use crate::config::values;

/// The type that nginx's packages set for what has no known extension, and that files have here.
const OF_PACKAGES: &str = "application/octet-stream";

/// The type of a text: that of an `add_header`, of which nginx would send two, that of the extension of
/// an exact path, or that of `default_type`.
pub fn of_text(meaning: &mut Meaning<'_>, block: usize) -> Option<String> {
    let added = meaning.nearest(Some(block), "add_header");
    let added = added
        .into_iter()
        .find(|at| meaning.arg(*at, 0).eq_ignore_ascii_case("content-type"));
    if let Some(at) = added {
        let value = meaning.arg(at, 1).to_owned();
        meaning.honoured(at, format!("content_type = {value:?}, once"));
        return Some(value);
    }
    if let Some(value) = of_path(meaning, block) {
        if let Some(at) = meaning.tree.named(Some(block), "default_type").next() {
            meaning.no_effect(at, "the extension of the path has a type of its own");
        }
        return Some(with_charset(meaning, block, &value));
    }
    let (value, line) = by_default(meaning, block);
    if let Some(at) = line {
        meaning.honoured(at, format!("content_type = {value:?}"));
    }
    Some(with_charset(meaning, block, value))
}

/// The note of a text that is the answer to many paths, of which some may have an extension.
pub fn note(table: &Table) -> &'static str {
    let has_text = table.value("respond").is_some_and(|text| !text.is_empty());
    match has_text && table.value("path").is_none() && table.values("extension").is_empty() {
        true => " (nginx: for a path with a known extension, its type)",
        false => "",
    }
}

/// The type of what has no known extension in a block, with the line that says so.
fn by_default<'a>(meaning: &mut Meaning<'a>, block: usize) -> (&'a str, Option<usize>) {
    match meaning.scalar(Some(block), "default_type") {
        Some(line) if !values::is_media_type(meaning.arg(line, 0)) => {
            let text =
                format!("no media type, so that {OF_PACKAGES} is sent: give one as text/plain");
            meaning.unsupported(line, text);
            (OF_PACKAGES, None)
        }
        Some(line) => (meaning.arg(line, 0), Some(line)),
        // `ngx_http_core_merge_loc_conf`.
        None if has_http(meaning) => ("text/plain", None),
        None => (OF_PACKAGES, None),
    }
}

/// True for a whole file, and false for one that `http` includes.
fn has_http(meaning: &Meaning<'_>) -> bool {
    meaning.tree.named(None, "http").next().is_some()
}

/// The type of `location = /robots.txt`: of the `types` of its block, else of `mime.types`, where that is read, as
/// nginx's own are few.
pub fn of_path(meaning: &Meaning<'_>, block: usize) -> Option<String> {
    let args = meaning.args(block);
    let ["=", path] = args[..] else {
        return None;
    };
    let (_, extension) = path.rsplit('/').next()?.rsplit_once('.')?;
    let own = meaning.nearest(Some(block), "types");
    if let Some(own) = own.first().filter(|own| includes_none(meaning, **own)) {
        let mut entries = meaning.tree.children(Some(*own));
        let found = entries.find(|entry| meaning.args(*entry).contains(&extension))?;
        return Some(meaning.name(found).to_owned());
    }
    let mut items = meaning.tree.items.iter();
    let has_types = !has_http(meaning)
        || items.any(|item| item.name == "include" && item.arg(0).ends_with("mime.types"));
    // `types` of ngx_http_core_module without a block, then `mime.types` of nginx's packages.
    let found = match (extension, has_types) {
        ("html", _) | ("htm", true) => "text/html",
        ("gif", _) => "image/gif",
        ("jpg", _) => "image/jpeg",
        ("txt", true) => "text/plain",
        ("json", true) => "application/json",
        ("xml", true) => "text/xml",
        ("rss", true) => "application/rss+xml",
        ("css", true) => "text/css",
        ("js", true) => "application/javascript",
        ("svg", true) => "image/svg+xml",
        ("ico", true) => "image/x-icon",
        ("png", true) => "image/png",
        _ => return None,
    };
    Some(found.to_owned())
}

/// True if a `types` block has all that it says itself.
fn includes_none(meaning: &Meaning<'_>, block: usize) -> bool {
    meaning.tree.named(Some(block), "include").next().is_none()
}

/// The type with the charset that nginx's `charset` adds (`charset_types`).
fn with_charset(meaning: &mut Meaning<'_>, block: usize, value: &str) -> String {
    let has_charset = meaning
        .scalar_value(Some(block), "charset")
        .is_some_and(|charset| charset.eq_ignore_ascii_case("utf-8"));
    let is_text = matches!(
        value,
        "text/html" | "text/xml" | "text/plain" | "application/javascript" | "application/rss+xml"
    );
    match has_charset && is_text {
        true => format!("{value}; charset=utf-8"),
        false => value.to_owned(),
    }
}

/// Sets the type of the one file of a path: nginx looks at the extension of the path.
pub fn of_one_file(
    meaning: &mut Meaning<'_>,
    block: usize,
    (path, file): (&str, &str),
    table: &mut Table,
) {
    let extension = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or_default();
        let ending = name.rsplit_once('.').map(|(_, ending)| ending);
        ending.map(str::to_ascii_lowercase)
    };
    let (own, asked) = (extension(file), extension(path));
    if own == asked || path.ends_with('/') {
        return;
    }
    let kind = match (of_path(meaning, block), asked) {
        (Some(kind), _) => kind,
        (None, None) => by_default(meaning, block).0.to_owned(),
        (None, Some(_)) => return,
    };
    let own = own.unwrap_or_else(|| "*".to_owned());
    table.append("types", format!("{own}={kind}"));
}

/// The `types` that take the place of all others for the files of a block, as nginx inherits them: those of a
/// location, and empty ones.
fn replacing(meaning: &Meaning<'_>, block: usize) -> Vec<usize> {
    let all = meaning.nearest(Some(block), "types");
    let Some(first) = all.first().copied() else {
        return Vec::new();
    };
    // `mime.types` beside them, or in them, has the types that are built in here.
    let beside = meaning.tree.children(meaning.tree.items[first].parent);
    let has_standard = beside
        .filter(|at| meaning.name(*at) == "include")
        .any(|at| meaning.arg(at, 0).ends_with("mime.types"));
    let is_own = meaning.around(first, "location").is_some();
    let is_empty = |at: &usize| meaning.tree.children(Some(*at)).next().is_none();
    let is_whole = all.iter().all(|at| includes_none(meaning, *at));
    match !has_standard && is_whole && (is_own || all.iter().all(is_empty)) {
        true => all,
        false => Vec::new(),
    }
}

/// The entries of a `types` block, as the setting takes them.
pub fn entries(meaning: &mut Meaning<'_>, block: usize) -> Vec<String> {
    let mut entries = Vec::new();
    for at in meaning.tree.children(Some(block)).collect::<Vec<_>>() {
        if meaning.tree.items[at].include.is_some() {
            continue;
        }
        let kind = meaning.name(at);
        let endings = meaning.args(at);
        let is_ending = |ending: &&str| {
            let ending = ending.trim().trim_start_matches('.');
            !ending.is_empty()
                && !ending.contains(['/', '*', '='])
                && !ending.contains(char::is_control)
        };
        if !kind.contains('/') {
            meaning.say(at, Verdict::Wrong("no media type".to_owned()));
        } else if !values::is_media_type(kind) || !endings.iter().all(is_ending) {
            meaning.unsupported(at, "a media type as text/plain, and extensions of files");
        } else {
            entries.extend(endings.iter().map(|ending| format!("{ending}={kind}")));
            meaning.honoured(at, "types");
        }
    }
    entries
}

/// True if the files of a block have none of the types that are built in.
pub fn has_replacing(meaning: &Meaning<'_>, block: usize) -> bool {
    !replacing(meaning, block).is_empty()
}

/// Sets the types of the files of a block: those of its own `types`, and that of files that have no known
/// extension.
pub fn of_files(meaning: &mut Meaning<'_>, block: usize, table: &mut Table) {
    let blocks = replacing(meaning, block);
    let (value, line) = by_default(meaning, block);
    if !blocks.is_empty() {
        let every = format!("**={value}");
        for at in blocks {
            for entry in entries(meaning, at) {
                table.append("types", entry);
            }
            meaning.honoured(
                at,
                format!("types, with {every:?} in the place of all that are built in"),
            );
        }
        if let Some(line) = line {
            meaning.honoured(line, format!("types = {every:?}"));
        }
        return table.append("types", every);
    }
    let mut given = table.values("types").iter();
    if value == OF_PACKAGES || given.any(|entry| entry.starts_with("*=")) {
        return;
    }
    let entry = format!("*={value}");
    if let Some(line) = line {
        meaning.honoured(line, format!("types = {entry:?}"));
    }
    table.append("types", entry);
}

/// True if a file in the place of an error would have another type in the location that nginx takes it from.
pub fn differs(meaning: &mut Meaning<'_>, (block, other): (usize, usize), file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or_default();
    !name.contains('.') && by_default(meaning, block).0 != by_default(meaning, other).0
}

/// The verdict of a `default_type` that no location uses.
pub fn unused(meaning: &Meaning<'_>, at: usize) -> Verdict {
    match meaning.arg(at, 0) {
        OF_PACKAGES => Verdict::AlreadySo("the type of files with an unknown extension".to_owned()),
        _ => Verdict::NoEffect("no file and no text has it".to_owned()),
    }
}
