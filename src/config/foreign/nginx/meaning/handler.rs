//! The tables of each server and location.

use std::path::Path;

use super::answer::{answer, behind, with_files};
use super::locations::{self, Context, Location, Paths, plain, push};
use super::redirects::{self, Fixed};
use super::served::Site;
use super::{Meaning, Table, access, by_name, circles, methods, rewrites, rules, starts};
use crate::config::foreign::Verdict;

/// Makes the tables of a server.
pub fn server(meaning: &mut Meaning<'_>, site: &Site) {
    let context = Context {
        site,
        locations: locations::of(meaning, site.at),
    };
    let first = meaning.tables.len();
    rewrites::moved(meaning, &context);
    if let Some((at, fixed)) = redirects::fixed(meaning, site, site.at) {
        // nginx decides by it before it looks for a location.
        if let Some(fixed) = fixed {
            let mut table = Table {
                at: site.at,
                entries: Vec::new(),
            };
            table.set("prefix", "/");
            fixed.enter(&mut table, "/");
            rules::enter(meaning, &context, site.at, &mut table);
            meaning.honoured(at, table.shown());
            push(meaning, site, table);
        }
        methods::of_server(meaning, &context, first);
        let line = meaning.tree.items[at].line;
        let inside = Verdict::NoEffect(format!("line {line} answers all requests"));
        let all: Vec<_> = meaning.tree.named(Some(site.at), "location").collect();
        for block in all {
            meaning.verdicts[block] = Some(inside.clone());
            meaning.say_inside(block, &inside);
        }
        return;
    }
    // `^~` comes before a regular expression with the same prefix.
    let mut order: Vec<_> = context.locations.iter().collect();
    order.sort_by_key(|location| !matches!(location.paths, Paths::Prefix(_, true)));
    for location in order {
        self::location(meaning, &context, location);
    }
    let has_all = context
        .locations
        .iter()
        .any(|location| matches!(&location.paths, Paths::Prefix(path, _) if path == "/"));
    if !has_all && !files_of_server(meaning, &context) {
        // The application would answer where nothing else does, or one be looked for.
        let mut table = Table {
            at: site.at,
            entries: Vec::new(),
        };
        table.set("prefix", "/");
        Fixed::status("404").enter(&mut table, "/");
        rules::enter(meaning, &context, site.at, &mut table);
        push(meaning, site, table);
    }
    methods::of_server(meaning, &context, first);
    for location in &context.locations {
        if matches!(location.paths, Paths::Named(_)) && meaning.verdicts[location.at].is_none() {
            let unused = Verdict::NoEffect("no line refers to it".to_owned());
            meaning.say(location.at, unused.clone());
            meaning.say_inside(location.at, &unused);
        }
    }
}

fn location(meaning: &mut Meaning<'_>, context: &Context<'_>, location: &Location) {
    if let Some(line) = rewrites::whole(meaning, location) {
        let line = meaning.tree.items[line].line;
        meaning.no_effect(location.at, format!("line {line} redirects its requests"));
        let inside = Verdict::NoEffect("no request gets so far".to_owned());
        meaning.say_inside(location.at, &inside);
        return;
    }
    if let Some(inner) = context.inner(location) {
        return outer(meaning, location.at, inner);
    }
    match &location.paths {
        Paths::Named(_) => {}
        Paths::Segments(texts) => by_name::segments(meaning, context, location, texts),
        Paths::Dotfiles => by_name::dotfiles(meaning, context, location.at),
        Paths::Extensions(extensions, below) => {
            by_name::extensions(meaning, context, location, (extensions, below.as_deref()))
        }
        Paths::Exact(path) => path_or_prefix(meaning, context, location, ("path", path)),
        Paths::Prefix(prefix, _) => path_or_prefix(meaning, context, location, ("prefix", prefix)),
    }
}

/// A location whose requests the one at `inner` takes, which inherits no handler and no condition
/// (`ngx_http_core_find_location`).
fn outer(meaning: &mut Meaning<'_>, at: usize, inner: usize) {
    let line = meaning.tree.items[inner].line;
    let unused = Verdict::NoEffect(format!("the location of line {line} takes the requests"));
    let children: Vec<_> = meaning.tree.children(Some(at)).collect();
    for child in children {
        let is_handler = matches!(
            meaning.name(child),
            "if" | "rewrite" | "return" | "break" | "set" | "try_files"
        ) || meaning.name(child).ends_with("_pass");
        if is_handler {
            meaning.say(child, unused.clone());
            meaning.say_inside(child, &unused);
        }
    }
    meaning.honoured(at, "the locations in it");
}

fn path_or_prefix(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    location: &Location,
    place: (&'static str, &str),
) {
    let at = location.at;
    let (name, path) = place;
    let shown = match name {
        "prefix" => plain(path),
        _ => path,
    };
    if is_unserved(meaning, at, path) {
        return;
    }
    let mut table = Table {
        at,
        entries: Vec::new(),
    };
    table.set(name, shown);
    if location.ignores_case && path.contains(|c: char| c.is_ascii_alphabetic()) {
        table.set("ignore_case", "yes");
    }
    let made = answer(meaning, context, at, path, &mut table);
    let Some(made) = made else { return };
    let is_part = name == "prefix" && shown != "/";
    let is_below = is_part && path.ends_with('/');
    let made = to_the_slash(meaning, context, (location, shown), made);
    let (made, note) = match (is_below, is_part) {
        (true, _) if starts::are_for(&made, location.is_regex) => {
            (starts::with(meaning, at, &made, path), "")
        }
        (true, _) | (_, false) => (made, ""),
        (false, true) if locations::is_restricted(meaning, at) => starts::of(meaning, at, made),
        (false, true) => (made, starts::WHOLE_SEGMENTS),
    };
    let text = made.first().map(|table| format!("{}{note}", table.shown()));
    for table in made {
        let has_handler = table.value("pass").or(table.value("upstream")).is_some();
        // nginx redirects from `/api` to `/api/` where a server answers below it.
        let is_directory = is_below && has_handler && !location.is_regex;
        let headers = table
            .entries
            .iter()
            .find(|(name, _)| *name == "header")
            .cloned();
        if !push(meaning, context.site, table) {
            meaning.say(
                at,
                Verdict::Unsupported("another location has the same path here".to_owned()),
            );
            return;
        }
        if is_directory && !has_own(context, shown) {
            let mut redirect = Table {
                at,
                entries: Vec::new(),
            };
            redirect.set("path", shown);
            redirect.set("redirect", format!("{shown}/"));
            redirect.set("status", "301");
            redirect.entries.extend(headers);
            push(meaning, context.site, redirect);
        }
    }
    if let Some(text) = text {
        meaning.honoured(at, text);
    }
    if is_below {
        without_slash(meaning, context, location, shown);
    }
}

/// True for a path that no location has here; its lines then say why.
fn is_unserved(meaning: &mut Meaning<'_>, at: usize, path: &str) -> bool {
    if is_expression(path) {
        let text = "without ~ before it, it is no regular expression but the beginning of paths, which no request has";
        meaning.no_effect(at, text);
        let inside = Verdict::NoEffect("its location gets no request".to_owned());
        meaning.say_inside(at, &inside);
        return true;
    }
    if !is_plain(path) {
        meaning.unsupported(at, "a path with characters that no location has here");
        let inside = Verdict::Unsupported("its location is not served".to_owned());
        meaning.say_inside(at, &inside);
        return true;
    }
    false
}

/// True if a location begins with this path, which has no slash at its end.
fn has_own(context: &Context<'_>, path: &str) -> bool {
    let is_it = |other: &Location| match &other.paths {
        Paths::Exact(own) | Paths::Prefix(own, _) => own == path,
        _ => false,
    };
    context.locations.iter().any(is_it)
}

/// Leaves a redirect from `/x` to `/x/` to the path itself, where another location has what begins with `/x/`.
fn to_the_slash(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    (location, path): (&Location, &str),
    mut made: Vec<Table>,
) -> Vec<Table> {
    let below = format!("{path}/");
    let is_it = |other: &Location| matches!(&other.paths, Paths::Prefix(own, _) if *own == below);
    if !location.is_regex && context.locations.iter().any(is_it) {
        for table in &mut made {
            if let Some(path) = circles::slashless(table) {
                let place = |name: &str| format!("[[location]] {name} = {path:?}");
                meaning.say_otherwise(location.at, &place("prefix"), &place("path"));
                circles::only_path(table, path);
            }
        }
    }
    made
}

/// True for a path that a location has here.
fn is_plain(path: &str) -> bool {
    !path.contains(['?', '#', '%', '\\', '$', '*'])
        && !path.contains("//")
        && !path.contains("/./")
        && !path.contains("/../")
}

/// True for a path that was meant as a regular expression.
fn is_expression(path: &str) -> bool {
    let signs = ["(.", "([", ".*", ".+", "[^", "[0-9", "[a-z", "\\."];
    signs.iter().any(|sign| path.contains(sign))
}

/// The path of a prefix without its slash, which belongs to another location in nginx: where a location
/// with a fixed response, with a directory that is not there, or a regular expression, would take it here.
fn without_slash(meaning: &mut Meaning<'_>, context: &Context<'_>, own: &Location, path: &str) {
    let is_of = |table: &&Table| table.value("prefix") == Some(path) && table.at == own.at;
    let is_fixed = |table: &Table| table.value("redirect").or(table.value("respond")).is_some();
    // Where there is no directory, nothing is redirected to the slash.
    let is_absent = |table: &Table| {
        let dir = table.value("static");
        dir.is_some_and(|dir| !(meaning.given.is_dir)(Path::new(dir)))
    };
    let mut tables = meaning.tables.iter().filter(is_of);
    if !tables.any(|table| own.is_regex || is_fixed(table) || is_absent(table)) {
        return;
    }
    let prefix = |other: &Location| match &other.paths {
        Paths::Prefix(prefix, _) if path.starts_with(prefix.as_str()) => Some(prefix.clone()),
        Paths::Exact(exact) if exact == path => Some(exact.clone()),
        _ => None,
    };
    let all = context.locations.iter();
    let found = all.filter_map(|other| Some((prefix(other)?, other)));
    let found =
        found.max_by_key(|(prefix, other)| (matches!(other.paths, Paths::Exact(_)), prefix.len()));
    let mut table = Table {
        at: own.at,
        entries: Vec::new(),
    };
    table.set("path", path);
    let made = match found {
        Some((_, other)) if matches!(other.paths, Paths::Exact(_)) => return,
        Some((prefix, other)) if let Some(named) = behind_one_file(meaning, context, other) => {
            table.at = other.at;
            if access::enter(meaning, other.at, &mut table) != access::Access::Open {
                return;
            }
            behind(meaning, context, named, &prefix, &table)
        }
        // A file or a directory may have the path.
        Some((_, other)) if !is_server(meaning, other) => return,
        Some((prefix, other)) => {
            table.at = other.at;
            answer(meaning, context, other.at, &prefix, &mut table).unwrap_or_default()
        }
        None if !meaning.nearest(Some(context.site.at), "root").is_empty() => return,
        None => {
            Fixed::status("404").enter(&mut table, path);
            rules::enter(meaning, context, context.site.at, &mut table);
            vec![table]
        }
    };
    // Behind another path, the one path would have to be replaced as a whole.
    if made
        .iter()
        .any(|table| table.value("replace_prefix").is_some())
    {
        return;
    }
    for table in made {
        push(meaning, context.site, table);
    }
}

/// True if a location has a fixed response, or passes its requests to a server, and to no files.
fn is_server(meaning: &Meaning<'_>, location: &Location) -> bool {
    let has = |wanted: &[&str]| meaning.has(location.at, |name| wanted.contains(&name));
    has(&["uwsgi_pass", "proxy_pass", "return"]) && !has(&["try_files", "rewrite", "location"])
}

/// The named location of `try_files $uri @app`, which gets the path of a directory as well.
fn behind_one_file(
    meaning: &Meaning<'_>,
    context: &Context<'_>,
    location: &Location,
) -> Option<usize> {
    let line = meaning.tree.named(Some(location.at), "try_files").next()?;
    let is_alone = !meaning.has(location.at, |name| {
        matches!(name, "if" | "rewrite" | "return" | "location") || name.ends_with("_pass")
    });
    match meaning.args(line)[..] {
        ["$uri", name] if is_alone && name.starts_with('@') => context.named(name),
        _ => None,
    }
}

/// The files of a server that has no location for everything; false if it has no root.
fn files_of_server(meaning: &mut Meaning<'_>, context: &Context<'_>) -> bool {
    let at = context.site.at;
    if meaning.nearest(Some(at), "root").is_empty() {
        return false;
    }
    let mut table = Table {
        at,
        entries: Vec::new(),
    };
    table.set("prefix", "/");
    let made = with_files(meaning, context, at, "/", &mut table);
    for made in made.into_iter().flatten() {
        push(meaning, context.site, made);
    }
    true
}
