//! Header fields of responses: `expires`, `add_header`, `proxy_hide_header`.

use super::locations::Context;
use super::redirects::constant;
use super::{Meaning, Table, numbers};
use crate::config::foreign::Verdict;
use crate::config::response_rules::HeaderRule;

/// The maximum age that `expires` asks for (`ngx_http_set_expires`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    /// Clients ask each time.
    NoCache,
    /// As [`Self::NoCache`], with a time that has always passed.
    Epoch,
    /// Ten years, with a time that is long ahead.
    Max,
    Seconds(u64),
}

impl Age {
    /// Its seconds, 0 for none.
    fn seconds(self) -> u64 {
        match self {
            Self::NoCache | Self::Epoch => 0,
            Self::Max => 315_360_000,
            Self::Seconds(seconds) => seconds,
        }
    }

    /// The value of `Expires` where it is the same for all responses.
    fn fixed_expires(self) -> Option<&'static str> {
        match self {
            Self::Epoch => Some("Thu, 01 Jan 1970 00:00:01 GMT"),
            Self::Max => Some("Thu, 31 Dec 2037 23:55:55 GMT"),
            Self::NoCache | Self::Seconds(_) => None,
        }
    }
}

/// The age of `expires`; `None` for `off`, and what is no time.
fn age(meaning: &mut Meaning<'_>, line: usize) -> Option<Age> {
    let args = meaning.args(line);
    match args[..] {
        ["off"] => {
            meaning.already(line, "no maximum age of its own");
            None
        }
        ["max"] => Some(Age::Max),
        ["epoch"] => Some(Age::Epoch),
        [time] if time.starts_with('@') => {
            meaning.unsupported(line, "a time of the day: give one from the response on");
            None
        }
        [time] => {
            let seconds = numbers::seconds(time.trim_start_matches(['+', '-']));
            if seconds.is_none() {
                match time.contains('$') {
                    true => meaning.unsupported(line, "a time that depends on the request"),
                    false => meaning.say(line, Verdict::Wrong("no time".to_owned())),
                }
            }
            match seconds? {
                seconds if time.starts_with('-') && seconds > 0 => Some(Age::NoCache),
                seconds => Some(Age::Seconds(seconds)),
            }
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

/// Longest `max_age` in seconds, a year.
const LONGEST_AGE: u64 = 31_536_000;

/// `expires` of a block, for files or other responses.
pub fn expires(meaning: &mut Meaning<'_>, at: usize, is_files: bool, table: &mut Table) {
    let Some(line) = meaning.scalar(Some(at), "expires") else {
        return;
    };
    let Some(age) = age(meaning, line) else {
        return;
    };
    // Another Cache-Control stands beside that of nginx, which has no `public`.
    let mut fields = meaning.nearest(Some(at), "add_header").into_iter();
    let has_other = fields.any(|at| meaning.arg(at, 0).eq_ignore_ascii_case("cache-control"));
    if is_files && age.seconds() <= LONGEST_AGE && !has_other {
        let seconds = age.seconds();
        table.set("max_age", seconds.to_string());
        let with = fixed_expires(age, table);
        let public = if seconds > 0 {
            " (Cache-Control: public)"
        } else {
            ""
        };
        meaning.honoured(line, format!("max_age = {seconds}{public}, {with}"));
    } else {
        let value = match age {
            Age::NoCache | Age::Epoch => "no-cache".to_owned(),
            Age::Max | Age::Seconds(_) => format!("max-age={}", age.seconds()),
        };
        let rule = format!("set Cache-Control: {value}");
        table.append("header", rule.clone());
        let with = fixed_expires(age, table);
        if age.fixed_expires().is_none() {
            // That of a server stays away, since nginx has one of its own in its place.
            table.append("header", "success remove Expires".to_owned());
        }
        meaning.honoured(line, format!("header = {rule:?}, {with}"));
    }
}

/// Adds the `Expires` of an age, and says what became of it.
fn fixed_expires(age: Age, table: &mut Table) -> String {
    match age.fixed_expires() {
        Some(time) => {
            let rule = format!("set Expires: {time}");
            let text = format!("header = {rule:?}");
            table.append("header", rule);
            text
        }
        None => "without Expires".to_owned(),
    }
}

/// `add_header`, `proxy_hide_header` and the like.
pub fn headers(meaning: &mut Meaning<'_>, context: &Context<'_>, at: usize, table: &mut Table) {
    let is_files = table.value("static").or(table.value("file")).is_some();
    for name in ["proxy_hide_header", "uwsgi_hide_header"] {
        for line in meaning.nearest(Some(at), name) {
            let field = meaning.arg(line, 0).to_owned();
            if field.eq_ignore_ascii_case("date") {
                // nginx sends its own in the place of the server's.
                meaning.no_effect(line, "every response has one Date (RFC 9110, 6.6.1)");
                continue;
            }
            rule(meaning, line, table, format!("remove {field}"));
        }
    }
    if is_files {
        etag(meaning, at, table);
    }
    for line in meaning.nearest(Some(at), "add_header") {
        let name = meaning.arg(line, 0).to_owned();
        let given = on_one_line(meaning.arg(line, 1));
        // Of a variable that the file decides, the value; others stay.
        let value = constant(meaning, context.site, at, &given).unwrap_or(given);
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
        let mut rules = table.values("header").iter();
        let has_age = rules.any(|rule| rule.starts_with("set Cache-Control:"))
            || table.value("max_age").is_some();
        let is_of_files = is("x-content-type-options") || is("cache-control") && !has_age;
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

/// `etag off` of files.
fn etag(meaning: &mut Meaning<'_>, at: usize, table: &mut Table) {
    if let Some(line) = meaning.scalar(Some(at), "etag")
        && meaning.arg(line, 0) == "off"
    {
        rule(meaning, line, table, "remove ETag".to_owned());
    }
}

/// The value of a field without line breaks (RFC 9112, 5.2).
fn on_one_line(value: &str) -> String {
    let parts: Vec<_> = value.split(['\r', '\n']).map(str::trim).collect();
    match parts.len() {
        1 => value.to_owned(),
        _ => parts.join(" "),
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
            table.append("header", rule);
        }
        Err(problem) => {
            let text = format!("a field that is not changed here ({})", problem.problem);
            meaning.unsupported(line, text);
        }
    }
}
