//! Settings of one location beside its handler: limits, logging, and by other files header fields and
//! pages for errors.

use super::error_pages::error_pages;
use super::locations::{Context, Paths};
use super::response_fields::{expires, headers};
use super::{Meaning, Table, numbers, site};
use crate::config::foreign::Verdict;
use crate::config::response_rules;

/// Completes a table by what holds in its block.
pub fn enter(meaning: &mut Meaning<'_>, context: &Context<'_>, at: usize, table: &mut Table) {
    let is_files = table.value("static").or(table.value("file")).is_some();
    let has_server = table.value("pass").or(table.value("upstream")).is_some();
    expires(meaning, at, is_files, table);
    headers(meaning, context, at, table);
    charset(meaning, at, table);
    error_pages(meaning, context, at, table);
    if is_files || has_server {
        compression(meaning, at, is_files, table);
    }
    if has_server {
        limits(meaning, at, table);
    } else if let Some(line) = own(meaning, at, "client_max_body_size") {
        let text = "no body is read here: a longer one gets the location's response, and not 413";
        meaning.say(line, Verdict::Differs(text.to_owned()));
    }
    log(meaning, context, at, table);
}

/// The charset of text whose type names none.
fn charset(meaning: &mut Meaning<'_>, at: usize, table: &mut Table) {
    let Some(line) = meaning.scalar(Some(at), "charset") else {
        return;
    };
    let name = meaning.arg(line, 0).to_owned();
    let is_utf8 = matches!(&*name.to_ascii_lowercase(), "utf-8" | "utf8");
    let is_files = table.value("static").or(table.value("file")).is_some();
    match (&*name, response_rules::charset(&name)) {
        ("off", _) => meaning.already(line, "the application names the charset of its text"),
        (_, Ok(Some(_))) if !is_files => {
            table.set("charset", name.clone());
            meaning.honoured(line, format!("charset = {name:?}"));
        }
        (_, Ok(Some(_))) if is_utf8 && meaning.verdicts[line].is_some() => {}
        (_, Ok(Some(_))) if is_utf8 => meaning.already(line, "text files are UTF-8"),
        (_, Ok(_)) => meaning.unsupported(line, "text files are UTF-8: --types NAME=TYPE"),
        (_, Err(_)) => meaning.unsupported(line, "a charset with a value of each request"),
    }
}

/// Puts the header fields that the responses of a block have in the place of those of a table.
pub fn replace_headers(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    at: usize,
    table: &mut Table,
) {
    table.entries.retain(|(name, _)| *name != "header");
    if table.value("static").or(table.value("file")).is_none() {
        expires(meaning, at, false, table);
    }
    headers(meaning, context, at, table);
}

/// The directive of this name in the block itself.
fn own(meaning: &Meaning<'_>, at: usize, name: &str) -> Option<usize> {
    meaning.tree.named(Some(at), name).next()
}

/// nginx's default of `client_max_body_size`.
const DEFAULT_MAX_BODY: &str = "1M";

/// Settings of requests that reach an application or server, where the location has its own.
fn limits(meaning: &mut Meaning<'_>, at: usize, table: &mut Table) {
    max_body(meaning, at, table);
    times(meaning, at, table);
    buffers(meaning, at, table);
}

/// The longest body of the requests of a block.
fn max_body(meaning: &mut Meaning<'_>, at: usize, table: &mut Table) {
    let line = meaning.scalar(Some(at), "client_max_body_size");
    let is_own = line.is_some_and(|line| meaning.tree.items[line].parent == Some(at));
    let is_other = |bytes: &str| bytes != meaning.max_body;
    if line.is_none() && is_other(DEFAULT_MAX_BODY) {
        table.set("max_body", DEFAULT_MAX_BODY);
    } else if let Some(line) = line {
        match numbers::bytes(meaning.arg(line, 0)) {
            Some(bytes) if !is_own && !is_other(&bytes) => {}
            Some(bytes) => {
                table.set("max_body", bytes.clone());
                meaning.honoured(line, format!("max_body = {bytes:?}"));
            }
            None => meaning.say(line, Verdict::Wrong("no size".to_owned())),
        }
    }
}

/// The longest body of requests that the location at `outer` passes on to the named one at `named`: nginx
/// compares the `Content-Length` with that of the location which the path has.
pub fn passed_body(meaning: &mut Meaning<'_>, outer: usize, named: usize, table: &mut Table) {
    if table.value("pass").or(table.value("upstream")).is_none() {
        return;
    }
    let inherited = meaning.nearest(Some(outer), "client_max_body_size");
    if let Some(line) = own(meaning, named, "client_max_body_size")
        && !inherited.contains(&line)
    {
        let is_same =
            inherited.first().map(|line| meaning.arg(*line, 0)) == Some(meaning.arg(line, 0));
        let is_noted = matches!(
            meaning.verdicts[line],
            Some(Verdict::Noted(_) | Verdict::Differs(_))
        );
        meaning.verdicts[line] = Some(match is_same && !is_noted {
            true => {
                Verdict::AlreadySo("the limit of the location that passes bodies on".to_owned())
            }
            false => {
                let outer = meaning.tree.items[outer].line;
                Verdict::Differs(format!(
                    "bodies have the limit of the location that passes them on (line {outer}), as in nginx if their length is known: it compares this one with others alone"
                ))
            }
        });
    }
    if let Some(line) = own(meaning, outer, "client_max_body_size") {
        // It had one for the files alone.
        meaning.verdicts[line] = None;
    }
    table.entries.retain(|(name, _)| *name != "max_body");
    max_body(meaning, outer, table);
}

/// The times that a client may take for a body and a response.
fn times(meaning: &mut Meaning<'_>, at: usize, table: &mut Table) {
    // One time limit for both directions: the longer one. That of sending ends no upload.
    let pauses = ["client_body_timeout", "send_timeout"].map(|name| {
        let line = own(meaning, at, name)?;
        let seconds = numbers::seconds(meaning.arg(line, 0)).filter(|seconds| *seconds > 0);
        Some((line, seconds?))
    });
    let longest = pauses.iter().flatten().map(|(_, seconds)| *seconds).max();
    let reading = site::reading_time(meaning, at);
    let is_enough = |longest: &u64| pauses[0].is_some() || *longest > reading;
    if let Some(seconds) = longest.filter(is_enough) {
        let (seconds, note) = numbers::longest(seconds);
        table.set("body_timeout", seconds.to_string());
        for (line, _) in pauses.into_iter().flatten() {
            meaning.honoured(
                line,
                format!("body_timeout = {seconds}, for reading and sending{note}"),
            );
        }
    } else if let Some((line, _)) = pauses[1] {
        meaning.say(line, site::one_time(reading));
    }
}

/// Buffers towards a server or the application.
fn buffers(meaning: &mut Meaning<'_>, at: usize, table: &mut Table) {
    for (name, setting) in [
        ("proxy_buffering", "buffering"),
        ("uwsgi_buffering", "buffering"),
        ("proxy_request_buffering", "request_buffering"),
        ("uwsgi_request_buffering", "request_buffering"),
    ] {
        let Some(line) = meaning.scalar(Some(at), name) else {
            continue;
        };
        if meaning.arg(line, 0) == "on" {
            meaning.already(line, "buffered");
        } else if table.value(setting).is_none() {
            table.set(setting, "no");
            meaning.honoured(line, format!("{setting} = false"));
        }
    }
}

/// `gzip` where it differs from that for all.
fn compression(meaning: &mut Meaning<'_>, at: usize, is_files: bool, table: &mut Table) {
    let Some(line) = meaning.scalar(Some(at), "gzip") else {
        return;
    };
    let is_off = meaning.arg(line, 0) == "off";
    if is_off == meaning.is_uncompressed {
        match is_off {
            true => meaning.honoured(line, "compress = \"no\""),
            false => meaning.already(line, "text is compressed, by zstd, brotli or gzip"),
        }
        return;
    }
    let codings: &[&str] = match (is_off, is_files) {
        (true, _) => &["no"],
        (false, true) => &["br", "gzip"],
        (false, false) => &["zstd", "br", "gzip"],
    };
    let codings: Vec<_> = codings.iter().map(|coding| (*coding).to_owned()).collect();
    meaning.honoured(line, format!("compress = {:?}", codings.join(",")));
    table.entries.push(("compress", codings));
}

/// `access_log off` of one location.
fn log(meaning: &mut Meaning<'_>, context: &Context<'_>, at: usize, table: &Table) {
    let Some(line) = own(meaning, at, "access_log") else {
        return;
    };
    if meaning.name(at) == "server" {
        return;
    }
    let path = table.path().unwrap_or_default().to_owned();
    if meaning.arg(line, 0) != "off" {
        match meaning.args(line).iter().any(|arg| arg.starts_with("if=")) {
            true => meaning.unsupported(line, "a condition for the access log of one location"),
            false => site::log_target(meaning, line),
        }
        return;
    }
    if table.value("segment").is_some() {
        let text = "the access log has a line for these requests as well";
        return meaning.say(line, Verdict::Differs(text.to_owned()));
    }
    let is_everything = path == "/" && table.value("prefix").is_some();
    let extensions = table.values("extension");
    let is_of_some = !context.site.hosts.is_empty() || context.site.is_of_scheme;
    let skipped: Vec<String> = match table.value("prefix") {
        // The table of a longer prefix, whose paths the ends of `/` skip.
        Some(_) if !extensions.is_empty() && are_skipped(meaning, extensions) => return,
        Some(prefix) if !extensions.is_empty() => {
            let below = match is_everything {
                true => String::new(),
                false => format!("{}/", prefix.trim_end_matches('/')),
            };
            let ends = extensions.iter();
            ends.map(|extension| format!("{below}*.{extension}"))
                .collect()
        }
        Some(prefix) if meaning.arg(at, meaning.args(at).len() - 1).ends_with('/') => {
            vec![format!("{}/*", prefix.trim_end_matches('/'))]
        }
        Some(prefix) => vec![format!("{prefix}*")],
        None if table.value("starts_with").is_some() => vec![format!("{path}*")],
        None => vec![path],
    };
    if is_of_some || is_everything && extensions.is_empty() {
        let text = "its requests are logged as well: access_log_skip is for paths of all hosts";
        return meaning.say(line, Verdict::Differs(text.to_owned()));
    }
    if let Some(other) = logged_below(meaning, context, at, &skipped) {
        let other = meaning.tree.items[other].line;
        let text = format!(
            "its requests are logged as well: access_log_skip would take those of line {other} too"
        );
        return meaning.say(line, Verdict::Differs(text));
    }
    let shown = match &skipped[..] {
        [one] => format!("access_log_skip = {one:?}"),
        several => format!("access_log_skip = {several:?}"),
    };
    meaning.honoured(line, shown);
    for skip in skipped {
        meaning.append(line, "access_log_skip", skip);
    }
}

/// True if no path that ends so has a line in the access log.
fn are_skipped(meaning: &Meaning<'_>, extensions: &[String]) -> bool {
    let entry = meaning.layer.entry("access_log_skip");
    let is_skipped = |extension: &String| {
        entry.is_some_and(|entry| entry.values.contains(&format!("*.{extension}")))
    };
    extensions.iter().all(is_skipped)
}

/// The location whose requests are logged, and that has a path for which an `access_log_skip` holds.
fn logged_below(
    meaning: &Meaning<'_>,
    context: &Context<'_>,
    at: usize,
    skipped: &[String],
) -> Option<usize> {
    let is_below = |paths: &Paths| {
        skipped
            .iter()
            .any(|skip| match (skip.split_once('*'), paths) {
                (Some((start, "")), Paths::Exact(path) | Paths::Prefix(path, _)) => {
                    path.starts_with(start)
                }
                (Some((start, end)), Paths::Exact(path)) => {
                    path.starts_with(start) && path.ends_with(end)
                }
                // It keeps its requests from the expression.
                (Some((start, _)), Paths::Prefix(path, true)) => {
                    path.starts_with(start) && path.len() > start.len()
                }
                _ => false,
            })
    };
    let is_logged = |at: usize| {
        let lines = meaning.nearest(Some(at), "access_log");
        !lines.iter().any(|line| meaning.arg(*line, 0) == "off")
    };
    let mut all = context.locations.iter();
    all.find(|other| other.at != at && is_below(&other.paths) && is_logged(other.at))
        .map(|other| other.at)
}
