//! Settings of one location beside its handler: header fields, pages for errors, limits, logging.

use super::locations::{Context, Location, Paths, plain};
use super::try_files;
use super::{Meaning, Table, numbers, site};
use crate::config::foreign::Verdict;
use crate::config::response_rules::{self, HeaderRule};

/// Completes a table by what holds in its block.
pub fn enter(meaning: &mut Meaning<'_>, context: &Context<'_>, at: usize, table: &mut Table) {
    let is_files = table.value("static").or(table.value("file")).is_some();
    let has_server = table.value("pass").or(table.value("upstream")).is_some();
    if is_files {
        max_age(meaning, at, table);
    } else {
        expires(meaning, at, table);
    }
    headers(meaning, at, table);
    charset(meaning, at, table);
    error_pages(meaning, context, at, table);
    if is_files && let Some(line) = own(meaning, at, "gzip") {
        match meaning.arg(line, 0) {
            "on" => meaning.already(line, "files are compressed"),
            _ => meaning.say(
                line,
                Verdict::Noted("files are compressed for clients that accept it".to_owned()),
            ),
        }
    }
    if has_server {
        limits(meaning, at, table);
    } else if let Some(line) = own(meaning, at, "client_max_body_size") {
        meaning.no_effect(line, "no body is read here");
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
pub fn replace_headers(meaning: &mut Meaning<'_>, at: usize, table: &mut Table) {
    table.entries.retain(|(name, _)| *name != "header");
    if table.value("static").or(table.value("file")).is_none() {
        expires(meaning, at, table);
    }
    headers(meaning, at, table);
}

/// The directive of this name in the block itself.
fn own(meaning: &Meaning<'_>, at: usize, name: &str) -> Option<usize> {
    meaning.tree.named(Some(at), name).next()
}

/// The maximum age that `expires` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    /// Clients ask each time.
    NoCache,
    Seconds(u64),
}

/// The age of `expires`; `None` for `off`, and what is no time.
fn age(meaning: &mut Meaning<'_>, line: usize) -> Option<Age> {
    let args = meaning.args(line);
    match args[..] {
        ["off"] => {
            meaning.already(line, "no maximum age of its own");
            None
        }
        ["max"] => Some(Age::Seconds(315_360_000)),
        ["epoch"] => Some(Age::NoCache),
        [time] if time.starts_with('-') => Some(Age::NoCache),
        [time] if time.starts_with('@') => {
            meaning.unsupported(line, "a time of the day: give one from the response on");
            None
        }
        [time] => {
            let seconds = numbers::seconds(time.trim_start_matches('+'));
            if seconds.is_none() {
                match time.contains('$') {
                    true => meaning.unsupported(line, "a time that depends on the request"),
                    false => meaning.say(line, Verdict::Wrong("no time".to_owned())),
                }
            }
            seconds.map(Age::Seconds)
        }
        _ => {
            meaning.unsupported(
                line,
                "a time from the change of the file: give one from the response on",
            );
            None
        }
    }
}

/// Longest maximum age, a year.
const LONGEST_AGE: u64 = 31_536_000;

/// `expires` of files.
fn max_age(meaning: &mut Meaning<'_>, at: usize, table: &mut Table) {
    let Some(line) = meaning.scalar(Some(at), "expires") else {
        return;
    };
    if let Some(age) = age(meaning, line) {
        let seconds = match age {
            Age::NoCache => 0,
            Age::Seconds(seconds) => seconds.min(LONGEST_AGE),
        };
        table.set("max_age", seconds.to_string());
        meaning.honoured(line, format!("max_age = {seconds}"));
    }
}

/// `expires` of other responses, as the field that all clients understand.
fn expires(meaning: &mut Meaning<'_>, at: usize, table: &mut Table) {
    let Some(line) = meaning.scalar(Some(at), "expires") else {
        return;
    };
    if let Some(age) = age(meaning, line) {
        let value = match age {
            Age::NoCache => "no-cache".to_owned(),
            Age::Seconds(seconds) => format!("max-age={seconds}"),
        };
        let rule = format!("set Cache-Control: {value}");
        meaning.honoured(line, format!("header = {rule:?}, without Expires"));
        add(table, "header", rule);
    }
}

fn add(table: &mut Table, name: &'static str, value: String) {
    match table.entries.iter_mut().find(|(own, _)| *own == name) {
        Some((_, values)) if !values.contains(&value) => values.push(value),
        Some(_) => {}
        None => table.entries.push((name, vec![value])),
    }
}

/// `add_header`, `proxy_hide_header` and the like.
fn headers(meaning: &mut Meaning<'_>, at: usize, table: &mut Table) {
    let is_files = table.value("static").or(table.value("file")).is_some();
    for name in ["proxy_hide_header", "uwsgi_hide_header"] {
        for line in meaning.nearest(Some(at), name) {
            let field = meaning.arg(line, 0).to_owned();
            rule(meaning, line, table, format!("remove {field}"));
        }
    }
    for line in meaning.nearest(Some(at), "add_header") {
        let (name, value) = (
            meaning.arg(line, 0).to_owned(),
            meaning.arg(line, 1).to_owned(),
        );
        let always = match meaning.args(line).get(2) {
            Some(&"always") => "always ",
            None => "",
            Some(_) => {
                meaning.say(
                    line,
                    Verdict::Wrong("add_header has a name, a value, and perhaps always".to_owned()),
                );
                continue;
            }
        };
        if name.eq_ignore_ascii_case("content-type") && table.value("content_type").is_some() {
            continue;
        }
        let is_empty = table.value("respond") == Some("");
        if name.eq_ignore_ascii_case("content-length") && is_empty && value == "0" {
            meaning.already(line, "the response has no body");
            continue;
        }
        if value.contains('$') {
            match changing(meaning, &name, &value) {
                Some(text) => meaning.already(line, text),
                None if value == "$http_origin" => meaning.unsupported(line, EVERY_SITE),
                None => meaning.unsupported(
                    line,
                    "a header field with a value of each request: have the application set it",
                ),
            }
            continue;
        }
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        // nginx replaces these two (ngx_http_headers_module, `ngx_http_set_headers`).
        let is_validator = is("last-modified") || is("etag");
        if value.is_empty() {
            match is_validator {
                true => rule(meaning, line, table, format!("remove {name}")),
                false => meaning.already(line, "an empty field is not sent"),
            }
            continue;
        }
        // Files have these fields by themselves. The Cache-Control of `expires` stays beside this one,
        // as in nginx.
        let is_of_files =
            is("x-content-type-options") || is("cache-control") && table.value("max_age").is_none();
        let replaces = is_validator || is_files && is_of_files;
        let action = if replaces { "set" } else { "add" };
        rule(
            meaning,
            line,
            table,
            format!("{always}{action} {name}: {value}"),
        );
    }
}

/// The advice for an `Access-Control-Allow-Origin $http_origin`.
const EVERY_SITE: &str = "it lets every site read the responses, also with the user's cookies: name one site, or have the application choose (django-cors-headers, Flask-Cors)";

/// The reason for which a field with a variable needs nothing.
fn changing(meaning: &Meaning<'_>, name: &str, value: &str) -> Option<&'static str> {
    let mut items = meaning.tree.items.iter();
    let has_cache = items.any(|item| item.name.ends_with("_cache") && item.arg(0) != "off");
    match value {
        "$upstream_cache_status" if !has_cache => {
            Some("without a cache the variable is empty, and an empty field is not sent")
        }
        "$request_id" if name.eq_ignore_ascii_case("x-request-id") => {
            Some("every response has its id")
        }
        _ => None,
    }
}

fn rule(meaning: &mut Meaning<'_>, line: usize, table: &mut Table, rule: String) {
    match HeaderRule::parse(&rule) {
        Ok(_) => {
            meaning.honoured(line, format!("header = {rule:?}"));
            add(table, "header", rule);
        }
        Err(problem) => {
            let text = format!("a field that is not changed here ({})", problem.problem);
            meaning.unsupported(line, text);
        }
    }
}

/// `error_page` with pages in files.
fn error_pages(meaning: &mut Meaning<'_>, context: &Context<'_>, at: usize, table: &mut Table) {
    if let Some(line) = ["proxy_intercept_errors", "uwsgi_intercept_errors"]
        .iter()
        .find_map(|name| meaning.scalar(Some(at), name))
    {
        let is_on = meaning.arg(line, 0) == "on";
        if is_on && table.value("pass").or(table.value("upstream")).is_some() {
            table.set("intercept_errors", "yes");
            meaning.honoured(line, "intercept_errors = true");
        } else {
            meaning.already(line, "errors of servers pass");
        }
    }
    for line in meaning.nearest(Some(at), "error_page") {
        let mut args = meaning.args(line);
        let Some(page) = args.pop() else { continue };
        let status = args
            .iter()
            .position(|arg| arg.starts_with('='))
            .map(|at| args.remove(at));
        if try_files::is_of_returns(meaning, context, line) {
            // The `return` decides.
            continue;
        }
        if meaning.verdicts[line].as_ref().is_some_and(
            |verdict| matches!(verdict, Verdict::Honoured(text) if text.starts_with("missing")),
        ) {
            continue;
        }
        let codes: Vec<_> = args
            .iter()
            .filter(|code| {
                code.parse::<u16>()
                    .is_ok_and(|code| (400..600).contains(&code))
            })
            .copied()
            .collect();
        if !args.is_empty()
            && args
                .iter()
                .all(|code| matches!(*code, "495" | "496" | "497"))
        {
            meaning.no_effect(
                line,
                "a request without TLS, or without a certificate, has no such status",
            );
            continue;
        }
        if codes.len() != args.len() || codes.is_empty() {
            meaning.unsupported(line, "pages for the statuses 400 to 599");
            continue;
        }
        let Some(file) = page_file(meaning, context, page) else {
            if is_of_nginx(meaning, context, page) {
                let text = "a page of nginx's installation: the built-in page is sent".to_owned();
                meaning.say(line, Verdict::Noted(text));
                continue;
            }
            let verdict = page_of_server(meaning, context, page, &codes);
            meaning.say(line, verdict);
            continue;
        };
        if let Some(named) = page.starts_with('@').then(|| context.named(page)).flatten() {
            meaning.honoured(named, "the page for errors");
            meaning.say_inside(named, &Verdict::Honoured(format!("the page {file}")));
        }
        let status = match status {
            None => String::new(),
            Some("=") => "=200 ".to_owned(),
            Some(status) => format!("{status} "),
        };
        let value = format!("{}={status}{file}", codes.join(","));
        meaning.honoured(line, format!("error_page = {value:?}"));
        let is_for_all = meaning.is_alone && meaning.around(line, "location").is_none();
        match is_for_all {
            true => meaning.append(line, "error_page", value),
            false => add(table, "error_page", value),
        }
    }
}

/// The file that the location of a path has for it.
pub fn page_file(meaning: &Meaning<'_>, context: &Context<'_>, page: &str) -> Option<String> {
    if page.starts_with('@') {
        return page_of_named(meaning, context, page);
    }
    if !page.starts_with('/') || page.contains('$') {
        return None;
    }
    let fits = |paths: &Paths| match paths {
        Paths::Exact(path) if path == page => Some(usize::MAX),
        Paths::Prefix(prefix, _) if page.starts_with(prefix.as_str()) => Some(prefix.len()),
        _ => None,
    };
    let best = context
        .locations
        .iter()
        .filter_map(|location| Some((fits(&location.paths)?, location)));
    let best = best
        .max_by_key(|(length, _)| *length)
        .map(|(_, location)| location);
    let block = best.map_or(context.site.at, |location| location.at);
    let has_server = meaning
        .tree
        .children(Some(block))
        .any(|child| meaning.name(child).ends_with("_pass") || meaning.name(child) == "return");
    if has_server {
        return None;
    }
    if let Some(alias) = meaning.tree.named(Some(block), "alias").next() {
        let dir = meaning.arg(alias, 0);
        return match best.map(|location| &location.paths) {
            Some(Paths::Exact(_)) => Some(dir.to_owned()),
            Some(Paths::Prefix(prefix, _)) => Some(format!(
                "{}/{}",
                plain(dir),
                page.strip_prefix(prefix.as_str())?.trim_start_matches('/')
            )),
            _ => None,
        };
    }
    let root = meaning.nearest(Some(block), "root").first().copied()?;
    let dir = meaning.arg(root, 0);
    let is_plain = dir.starts_with('/') && !dir.contains('$');
    is_plain.then(|| format!("{}{page}", dir.trim_end_matches('/')))
}

/// The verdict of a page that no file is.
fn page_of_server(
    meaning: &Meaning<'_>,
    context: &Context<'_>,
    page: &str,
    codes: &[&str],
) -> Verdict {
    let unsupported = "a page for an error is a file, which a location of the same server has";
    let has_server = |location: &Location| {
        let mut children = meaning.tree.children(Some(location.at));
        children.any(|child| meaning.name(child).ends_with("_pass"))
    };
    let fits = |location: &&Location| matches!(&location.paths, Paths::Prefix(prefix, _) if page.starts_with(prefix.as_str()));
    let found = context.locations.iter().filter(fits);
    let found = found.max_by_key(|location| match &location.paths {
        Paths::Prefix(prefix, _) => prefix.len(),
        _ => 0,
    });
    let mut items = meaning.tree.items.iter();
    let intercepts =
        items.any(|item| item.name.ends_with("_intercept_errors") && item.arg(0) == "on");
    if !page.starts_with('/') || intercepts || !found.is_some_and(has_server) {
        return Verdict::Unsupported(unsupported.to_owned());
    }
    let mut addresses: Vec<_> = (0..meaning.tree.items.len())
        .filter(|at| meaning.around(*at, "server") == Some(context.site.at))
        .filter(|at| meaning.name(*at).ends_with("_pass"))
        .map(|at| meaning.arg(at, 0))
        .collect();
    addresses.dedup();
    if codes.iter().all(|code| code.starts_with('5')) && addresses.len() == 1 {
        let text = "the server that fails would have the page: the built-in page is sent";
        return Verdict::Noted(text.to_owned());
    }
    let mut items = (0..meaning.tree.items.len())
        .filter(|at| meaning.around(*at, "server") == Some(context.site.at));
    let has_files =
        items.any(|at| matches!(meaning.name(at), "alias" | "root" | "deny" | "return"));
    match has_files {
        true => Verdict::Noted(
            "the server has the page, for missing files alone: these get the built-in page"
                .to_owned(),
        ),
        false => Verdict::NoEffect("the server answers by itself, also with errors".to_owned()),
    }
}

/// True if the page lies in a directory that is relative to nginx's own.
fn is_of_nginx(meaning: &Meaning<'_>, context: &Context<'_>, page: &str) -> bool {
    let is_exact = |paths: &Paths| matches!(paths, Paths::Exact(path) if path == page);
    let mut all = context.locations.iter();
    let exact = all.find(|location| is_exact(&location.paths));
    let root = exact.and_then(|exact| meaning.nearest(Some(exact.at), "root").first().copied());
    exact.is_some() && root.is_none_or(|root| !meaning.arg(root, 0).starts_with('/'))
}

/// The one file that a named location answers with, as `rewrite ^ /maintenance.html break` and
/// `try_files /maintenance.html =503` say.
fn page_of_named(meaning: &Meaning<'_>, context: &Context<'_>, name: &str) -> Option<String> {
    let block = context.named(name)?;
    let own: Vec<_> = meaning.tree.children(Some(block)).collect();
    let is_known = |at: &usize| {
        matches!(
            meaning.name(*at),
            "root" | "rewrite" | "try_files" | "internal" | "default_type" | "add_header"
        )
    };
    if !own.iter().all(is_known) {
        return None;
    }
    let page = own.iter().find_map(|at| {
        let args = meaning.args(*at);
        match (meaning.name(*at), &args[..]) {
            ("rewrite", ["^" | "^(.*)$" | "^.*$" | ".*" | "(.*)", page, "break"]) => Some(*page),
            ("try_files", [page, ..]) => Some(*page),
            _ => None,
        }
    })?;
    let root = meaning.nearest(Some(block), "root").first().copied()?;
    let dir = meaning.arg(root, 0);
    let is_plain = page.starts_with('/') && !page.contains('$') && !dir.contains('$');
    is_plain.then(|| format!("{}{page}", dir.trim_end_matches('/')))
}

/// nginx's default of `client_max_body_size`.
const DEFAULT_MAX_BODY: &str = "1M";

/// Settings of requests that reach an application or server, where the location has its own.
fn limits(meaning: &mut Meaning<'_>, at: usize, table: &mut Table) {
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
    // One time limit for both directions: the longer one.
    let pauses = ["client_body_timeout", "send_timeout"].map(|name| {
        let line = own(meaning, at, name)?;
        let seconds = numbers::seconds(meaning.arg(line, 0)).filter(|seconds| *seconds > 0);
        Some((line, seconds?))
    });
    let longest = pauses.iter().flatten().map(|(_, seconds)| *seconds).max();
    if let Some(seconds) = longest {
        table.set("body_timeout", seconds.to_string());
        for (line, _) in pauses.into_iter().flatten() {
            meaning.honoured(line, format!("body_timeout = {seconds}"));
        }
    }
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
    if let Some(line) = own(meaning, at, "gzip") {
        if meaning.arg(line, 0) == "off" {
            table.set("compress", "no");
            meaning.honoured(line, "compress = \"no\"");
        } else {
            meaning.already(line, "responses are compressed");
        }
    }
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
        return meaning.say(line, Verdict::Noted(text.to_owned()));
    }
    let is_everything = path == "/" && table.value("prefix").is_some();
    let extensions = table.values("extension");
    let is_of_some = !context.site.hosts.is_empty() || context.site.is_of_scheme;
    let skipped: Vec<String> = match table.value("prefix") {
        // The table of a longer prefix, which the same extensions have.
        Some(_) if !extensions.is_empty() && !is_everything => return,
        Some(_) if !extensions.is_empty() => {
            let ends = extensions.iter();
            ends.map(|extension| format!("*.{extension}")).collect()
        }
        Some(prefix) => vec![format!("{prefix}*")],
        None => vec![path],
    };
    if is_of_some || is_everything && extensions.is_empty() {
        let text = "the access log has a line for every request of this host";
        return meaning.say(line, Verdict::Noted(text.to_owned()));
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
