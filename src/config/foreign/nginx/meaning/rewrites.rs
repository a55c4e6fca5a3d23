//! `rewrite` of known shapes: redirects of paths and prefixes, one file in place of another path, and
//! a prefix that a server does not see.

use std::path::Path;

use super::locations::{Context, Location, Paths, plain, push};
use super::redirects::{self, Fixed, Keep};
use super::{Meaning, Table, error_pages, regex, rules};
use crate::config::Segments;
use crate::config::foreign::Verdict;

/// Makes the tables of the `rewrite`s of a server, and of its locations, that concern paths of their
/// own.
pub fn moved(meaning: &mut Meaning<'_>, context: &Context<'_>) {
    of_block(meaning, context, None);
    for location in &context.locations {
        let is_prefix = matches!(location.paths, Paths::Prefix(_, _)) && !location.is_regex;
        if is_prefix && context.inner(location).is_none() {
            of_block(meaning, context, Some(location));
        }
    }
}

fn of_block(meaning: &mut Meaning<'_>, context: &Context<'_>, location: Option<&Location>) {
    let block = location.map_or(context.site.at, |location| location.at);
    let children: Vec<_> = meaning.tree.children(Some(block)).collect();
    for at in children {
        match meaning.name(at) {
            "rewrite" if meaning.verdicts[at].is_none() => {
                let Some(source) = regex::moved(meaning.arg(at, 0)) else {
                    continue;
                };
                if is_reached(context, location, &source) {
                    one(meaning, context, at, &source);
                }
            }
            // What follows is not reached, or not for all requests.
            "return" | "break" | "if" => return,
            _ => {}
        }
    }
}

/// True if every request for these paths gets to the block, and no location below takes a part of them.
fn is_reached(context: &Context<'_>, location: Option<&Location>, source: &regex::Moved) -> bool {
    let block = location.map(|location| location.at);
    let is_other = |other: &&Location| Some(other.at) != block;
    let others = || context.locations.iter().filter(is_other);
    let is_below = |prefix: &str| {
        others().any(|other| match &other.paths {
            Paths::Exact(path) | Paths::Prefix(path, _) => path.starts_with(prefix),
            _ => false,
        })
    };
    let Some(location) = location else {
        // Of the server: before any location.
        return match source {
            regex::Moved::Paths(_) => true,
            regex::Moved::Prefix(prefix) => !is_below(prefix),
        };
    };
    let Paths::Prefix(own, _) = &location.paths else {
        return false;
    };
    // Of a location: another one with a longer prefix, or a regular expression, is not closer.
    let is_closer = |path: &str| {
        others().any(|other| match &other.paths {
            Paths::Exact(exact) => exact == path,
            Paths::Prefix(prefix, _) => {
                path.starts_with(prefix.as_str()) && (other.is_regex || prefix.len() > own.len())
            }
            Paths::Extensions(..) | Paths::Dotfiles => {
                path.rsplit('/').next().unwrap_or("").contains('.')
            }
            Paths::Segments(texts) => {
                Segments::of(texts.clone()).is_ok_and(|segments| segments.are_in(path))
            }
            Paths::Named(_) => false,
        })
    };
    match source {
        regex::Moved::Paths(paths) => paths
            .iter()
            .all(|path| path.starts_with(own.as_str()) && !is_closer(path)),
        regex::Moved::Prefix(prefix) => {
            let has_extensions = others().any(|other| matches!(other.paths, Paths::Extensions(..)));
            prefix.starts_with(own.as_str())
                && !is_closer(prefix)
                && !is_below(prefix)
                && !has_extensions
        }
    }
}

fn one(meaning: &mut Meaning<'_>, context: &Context<'_>, at: usize, source: &regex::Moved) {
    let args = meaning.args(at);
    let [_, to, flags @ ..] = &args[..] else {
        return;
    };
    let is_url = ["http://", "https://", "$scheme"]
        .iter()
        .any(|start| to.starts_with(start));
    let status = match flags.first() {
        Some(&"permanent") => "301",
        Some(&"redirect") => "302",
        _ if is_url => "302",
        Some(&"last" | &"break") | None => return file(meaning, context, at, source, to),
        Some(_) => return,
    };
    let (to, has_query) = match to.strip_suffix('?') {
        Some(to) => (to, false),
        None => (*to, !to.contains('?')),
    };
    let (to, keep) = match source {
        regex::Moved::Paths(_) => (to, Keep::Nothing),
        regex::Moved::Prefix(_) if !has_query => return,
        regex::Moved::Prefix(_) => match to.strip_suffix("$1") {
            Some(base) if base.ends_with('/') => (base, Keep::Rest),
            _ => return,
        },
    };
    let block = meaning.tree.items[at].parent.unwrap_or(at);
    let Ok(base) = redirects::address(meaning, context.site, block, to) else {
        return;
    };
    let paths = match source {
        regex::Moved::Paths(paths) => paths.iter().map(|path| ("path", path.as_str())).collect(),
        regex::Moved::Prefix(prefix) => vec![("prefix", plain(prefix))],
    };
    for (name, path) in paths {
        let mut table = Table {
            at,
            entries: Vec::new(),
        };
        table.set(name, path);
        table.set("redirect", base.clone());
        table.set("status", status);
        if keep == Keep::Nothing && !has_query && !base.contains(['?', '#']) {
            table.set("keep_path", "no");
        }
        rules::enter(meaning, context, block, &mut table);
        let shown = table.shown();
        if push(meaning, context.site, table) {
            meaning.honoured(at, shown);
        }
    }
}

/// `rewrite ^/favicon\.ico$ /static/favicon.ico last;` where files answer at the new path.
fn file(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    at: usize,
    source: &regex::Moved,
    to: &str,
) {
    let regex::Moved::Paths(paths) = source else {
        return;
    };
    let block = meaning.tree.items[at].parent.unwrap_or(at);
    // In a location, `break` looks for the file by the settings of that location.
    let is_break = meaning.arg(at, 2) == "break" && meaning.name(block) == "location";
    let Some(file) = error_pages::page_file(meaning, context, to).filter(|_| !is_break) else {
        return;
    };
    for path in paths {
        let mut table = Table {
            at,
            entries: Vec::new(),
        };
        table.set("path", path.as_str());
        match (meaning.given.is_dir)(Path::new(&file).parent().unwrap_or(Path::new("/"))) {
            true => table.set("file", file.clone()),
            false => Fixed::status("404").enter(&mut table, path),
        }
        rules::enter(meaning, context, block, &mut table);
        let shown = table.shown();
        if push(meaning, context.site, table) {
            meaning.honoured(at, shown);
        }
    }
}

/// The `rewrite` in a location that redirects all of its requests.
pub fn whole(meaning: &Meaning<'_>, location: &Location) -> Option<usize> {
    let Paths::Prefix(path, _) = &location.paths else {
        return None;
    };
    let tables = meaning.tables.iter();
    let is_own = |table: &&Table| {
        meaning.tree.items[table.at].parent == Some(location.at)
            && table.value("prefix") == Some(plain(path))
            && table.value("redirect").is_some()
    };
    tables
        .map(|table| (table.at, table))
        .find(|(_, table)| is_own(table))
        .map(|(at, _)| at)
}

/// The directory below a `root` in which the files of `path` are, by `rewrite ^/path(.*)$ /$1 break`, with the line.
/// Of the doubled slashes that such a line makes, one counts in the name of a file.
pub fn directory(meaning: &Meaning<'_>, block: usize, path: &str) -> Option<(usize, String)> {
    if let Some(found) = replaced(meaning, block, path) {
        return Some(found);
    }
    let at = meaning.tree.named(Some(block), "rewrite").next()?;
    let [pattern, to, "break"] = meaning.args(at)[..] else {
        return None;
    };
    let (prefix, is_slash_captured) = regex::stripped(pattern)?;
    let base = to.strip_suffix("$1")?;
    let is_known = is_slash_captured && prefix == plain(path) && !base.contains(['$', '?']);
    let is_path = base.starts_with('/') && base.ends_with('/');
    (is_known && is_path).then(|| (at, plain(base).to_owned()))
}

/// The `rewrite` in a block that has no meaning here, so that paths stay as they were asked for.
pub fn unknown(meaning: &Meaning<'_>, block: usize) -> Option<usize> {
    let mut all = meaning.tree.named(Some(block), "rewrite");
    all.find(|line| {
        let verdict = meaning.verdicts[*line].as_ref();
        matches!(verdict, None | Some(Verdict::Unsupported(_)))
    })
}

/// The prefix that a server gets in place of `path`, by `rewrite ^/path/(.*)$ /other/$1 break`, with
/// the line.
pub fn replaced(meaning: &Meaning<'_>, block: usize, path: &str) -> Option<(usize, String)> {
    let at = meaning.tree.named(Some(block), "rewrite").next()?;
    let args = meaning.args(at);
    let [pattern, to, "break"] = args[..] else {
        return None;
    };
    let (prefix, is_slash_captured) = regex::stripped(pattern)?;
    if prefix != plain(path) {
        return None;
    }
    let base = to
        .strip_suffix("$1")
        .filter(|base| !base.contains(['$', '?']))?;
    let base = match is_slash_captured {
        true => base,
        false => base.strip_suffix('/')?,
    };
    match base {
        "" => Some((at, "/".to_owned())),
        base if base.starts_with('/') && !base.ends_with('/') => Some((at, base.to_owned())),
        _ => None,
    }
}
