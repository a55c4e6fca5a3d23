//! The locations of a server, in the order in which nginx chooses.
//!
//! nginx takes an exact path, else the longest prefix, unless a regular expression matches and that
//! prefix has no `^~`. Here the longest prefix wins, so a prefix that a regular expression hides is
//! left out.

use super::method_conditions;
use super::regex::{self, Shape};
use super::served::Site;
use super::{Meaning, Table};
use crate::config::foreign::Verdict;
use crate::config::foreign::nginx::templates;

/// The paths of a location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paths {
    /// This path alone.
    Exact(String),
    /// This prefix as it stands there; true with `^~`.
    Prefix(String, bool),
    /// Names that end so, below the prefix if there is one.
    Extensions(Vec<String>, Option<String>),
    /// Paths with a segment that begins so; behind a `!` an exception.
    Segments(Vec<String>),
    /// Some of the files whose name begins with a dot.
    Dotfiles,
    /// Internal redirects alone.
    Named(String),
}

/// One location with paths that are understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Its block.
    pub at: usize,
    /// Its paths.
    pub paths: Paths,
    /// True if it stands there as a regular expression.
    pub is_regex: bool,
    /// True if that is for letters in any case.
    pub ignores_case: bool,
    /// The location that it stands in.
    pub parent: Option<usize>,
}

impl Location {
    /// True if a path begins as a prefix of this location.
    fn begins(&self, path: &str, prefix: &str) -> bool {
        let begin = path.as_bytes().get(..prefix.len());
        begin.is_some_and(|begin| match self.ignores_case {
            true => begin.eq_ignore_ascii_case(prefix.as_bytes()),
            false => begin == prefix.as_bytes(),
        })
    }
}

/// The locations below a block, with nested ones, as nginx would find them.
pub fn of(meaning: &mut Meaning<'_>, server: usize) -> Vec<Location> {
    let mut all = Vec::new();
    collect(meaning, server, &mut all);
    let hidden = hidden(&all);
    let mut kept = Vec::new();
    let seen = all.iter().zip(&hidden).filter(|(_, by)| by.is_none());
    let seen: Vec<usize> = seen.map(|(location, _)| location.at).collect();
    for (location, by) in all.into_iter().zip(hidden) {
        match by {
            None => kept.push(location),
            // Other paths of the expression have requests.
            Some(_) if seen.contains(&location.at) => {}
            Some(by) => {
                let line = meaning.tree.items[by].line;
                let kind = match meaning.arg(by, 0).get(..2).unwrap_or_default() {
                    "^~" => "location with ^~",
                    _ => "regular expression",
                };
                meaning.no_effect(
                    location.at,
                    format!("the {kind} of line {line} takes its requests"),
                );
                meaning.say_inside(
                    location.at,
                    &Verdict::NoEffect("its location gets no request".to_owned()),
                );
            }
        }
    }
    kept
}

fn collect(meaning: &mut Meaning<'_>, block: usize, all: &mut Vec<Location>) {
    let locations: Vec<_> = meaning.tree.named(Some(block), "location").collect();
    for at in locations {
        if !meaning.tree.items[at].is_block {
            meaning.say(at, Verdict::Wrong("a location has a block".to_owned()));
            continue;
        }
        let parent = meaning.around(block, "location");
        match paths(&meaning.args(at)) {
            Ok((found, false)) if found.iter().any(|own| is_twice(all, parent, own)) => {
                let text = "another location of this block has the path: nginx ends its start";
                meaning.say(at, Verdict::Wrong(text.to_owned()));
                let inside = Verdict::NoEffect("its location is wrong".to_owned());
                meaning.say_inside(at, &inside);
            }
            Ok((found, is_regex)) => {
                all.extend(found.into_iter().map(|paths| Location {
                    at,
                    paths,
                    is_regex,
                    ignores_case: is_regex && meaning.arg(at, 0).starts_with("~*"),
                    parent,
                }));
                collect(meaning, at, all);
            }
            Err(_)
                if let Some(name) =
                    templates::unfilled(meaning.tree, at, meaning.given.variable) =>
            {
                let text = format!("{name} is a placeholder, which has to be filled first");
                meaning.say(at, Verdict::Unset(text));
                let inside = format!("its location has the placeholder {name}");
                meaning.say_inside(at, &Verdict::Unset(inside));
            }
            Err(verdict) => {
                let inside = match &verdict {
                    Verdict::Wrong(_) => Verdict::NoEffect("its location is wrong".to_owned()),
                    Verdict::Noted(_) => {
                        Verdict::NoEffect("its location gets no request".to_owned())
                    }
                    _ => Verdict::Unsupported("its location is not served".to_owned()),
                };
                let verdict = match verdict {
                    Verdict::Unsupported(why) if is_restricted(meaning, at) => {
                        Verdict::Unsupported(format!(
                            "{why}; until then, its restriction is missing here"
                        ))
                    }
                    verdict => verdict,
                };
                meaning.say(at, verdict);
                meaning.say_inside(at, &inside);
            }
        }
    }
}

/// True if a location of the same block has this path, which nginx refuses (`duplicate location`).
fn is_twice(all: &[Location], parent: Option<usize>, own: &Paths) -> bool {
    all.iter()
        .filter(|other| other.parent == parent && !other.is_regex)
        .any(|other| match (&other.paths, own) {
            (Paths::Exact(other), Paths::Exact(own)) => other == own,
            (Paths::Prefix(other, _), Paths::Prefix(own, _)) => other == own,
            _ => false,
        })
}

/// True if a location keeps requests from what another one would answer.
pub fn is_restricted(meaning: &Meaning<'_>, at: usize) -> bool {
    meaning.tree.children(Some(at)).any(|child| {
        let status = meaning.arg(child, 0);
        match meaning.name(child) {
            "deny" | "auth_basic" | "auth_request" | "internal" | "limit_except" => status != "off",
            "return" => matches!(status, "401" | "403" | "404" | "410" | "444"),
            _ => false,
        }
    })
}

/// The paths of a location's arguments, and whether they stand there as a regular expression.
fn paths(args: &[&str]) -> Result<(Vec<Paths>, bool), Verdict> {
    let wrong = |text: &str| Err(Verdict::Wrong(text.to_owned()));
    let (modifier, path) = match args {
        // nginx also takes the modifier without a blank behind it.
        [joined] => match ["~*", "^~", "=", "~"]
            .iter()
            .find_map(|sign| Some((*sign, joined.strip_prefix(sign)?)))
        {
            Some((sign, path)) => (sign, path),
            None => ("", *joined),
        },
        [modifier, path] => (*modifier, *path),
        _ => return wrong("a location has one path"),
    };
    if path.is_empty() {
        return wrong("a location has a path");
    }
    match modifier {
        "" if path.starts_with('@') => Ok((vec![Paths::Named(path.to_owned())], false)),
        // nginx takes it without a word.
        "" | "=" | "^~" if !path.starts_with('/') => Err(Verdict::Noted(
            "the path does not begin with a slash, so no request has it".to_owned(),
        )),
        "" => Ok((vec![Paths::Prefix(path.to_owned(), false)], false)),
        "^~" => Ok((vec![Paths::Prefix(path.to_owned(), true)], false)),
        "=" => Ok((vec![Paths::Exact(path.to_owned())], false)),
        "~" | "~*" => {
            let unsupported = "a regular expression of no known shape: name the prefixes";
            let found = match regex::shape(path) {
                Some(Shape::Prefixes(all)) => all
                    .into_iter()
                    .map(|prefix| Paths::Prefix(prefix, false))
                    .collect(),
                Some(Shape::Paths(all)) => all.into_iter().map(Paths::Exact).collect(),
                Some(Shape::Extensions(all, prefix)) => vec![Paths::Extensions(all, prefix)],
                Some(Shape::Segments(all)) => vec![Paths::Segments(all)],
                Some(Shape::Dotfiles) => vec![Paths::Dotfiles],
                None => return Err(Verdict::Unsupported(unsupported.to_owned())),
            };
            Ok((found, true))
        }
        _ => wrong("an unknown modifier of a location"),
    }
}

/// The regular expression that takes the requests of each, if one does.
fn hidden(all: &[Location]) -> Vec<Option<usize>> {
    let hides = |number: usize, location: &Location| -> Option<usize> {
        let Paths::Prefix(path, is_final) = &location.paths else {
            return None;
        };
        let before = all.iter().enumerate().filter(|(other, by)| {
            let is_earlier = !location.is_regex || *other < number;
            by.is_regex && by.at != location.at && is_earlier && !is_final
        });
        before
            .filter_map(|(_, by)| match &by.paths {
                Paths::Prefix(prefix, _) if by.begins(path, prefix) => Some(by.at),
                _ => None,
            })
            .next()
            .or_else(|| final_prefix(all, location, path))
    };
    all.iter()
        .enumerate()
        .map(|(number, location)| hides(number, location))
        .collect()
}

/// The prefix with `^~` that takes all requests of `path`, a regular expression's, before it.
fn final_prefix(all: &[Location], expression: &Location, path: &str) -> Option<usize> {
    let plain = all.iter().filter(|other| !other.is_regex);
    let siblings = plain.filter(|other| expression.is_regex && other.parent == expression.parent);
    let prefixes: Vec<_> = siblings
        .filter_map(|other| match &other.paths {
            Paths::Prefix(prefix, is_final) => Some((&**prefix, *is_final, other.at)),
            _ => None,
        })
        .collect();
    let is_inside = |(prefix, is_final, _): &(&str, bool, usize)| {
        !is_final && prefix.len() > path.len() && expression.begins(prefix, path)
    };
    if prefixes.iter().any(is_inside) || expression.ignores_case {
        return None;
    }
    let around = prefixes
        .iter()
        .filter(|(prefix, ..)| path.starts_with(prefix));
    let longest = around.max_by_key(|(prefix, ..)| prefix.len())?;
    longest.1.then_some(longest.2)
}

/// The prefix without a slash at its end; `/` for everything.
pub fn plain(prefix: &str) -> &str {
    match prefix.trim_end_matches('/') {
        "" => "/",
        plain => plain,
    }
}

/// A server while its locations are read.
pub struct Context<'s> {
    /// The server.
    pub site: &'s Site,
    /// Its locations.
    pub locations: Vec<Location>,
}

impl Context<'_> {
    /// The location in this one that has the same prefix, and takes all of its requests.
    pub fn inner(&self, location: &Location) -> Option<usize> {
        let is_inner = |other: &&Location| {
            other.parent == Some(location.at) && !other.is_regex && !location.is_regex && {
                let own = (&location.paths, &other.paths);
                matches!(own, (Paths::Prefix(outer, _), Paths::Prefix(inner, _)) if outer == inner)
            }
        };
        self.locations
            .iter()
            .find(is_inner)
            .map(|location| location.at)
    }

    /// The named location, as `@app`.
    pub fn named(&self, name: &str) -> Option<usize> {
        let found = self
            .locations
            .iter()
            .find(|location| matches!(&location.paths, Paths::Named(own) if own == name));
        found.map(|location| location.at)
    }
}

/// Adds a table with the scheme and the hosts of its server, unless there is the same one; false if others have its
/// place.
pub fn push(meaning: &mut Meaning<'_>, site: &Site, mut table: Table) -> bool {
    if site.is_of_scheme {
        table.set("scheme", site.scheme.as_str());
    }
    if !site.hosts.is_empty() && table.value("host").is_none() {
        table.entries.push(("host", site.hosts.clone()));
    }
    let is_files = |table: &Table| table.value("static").or(table.value("file")).is_some();
    let is_open = |table: &Table| table.value("missing") == Some("app");
    let are_shared = |one: &[String], other: &[String]| match one.is_empty() || other.is_empty() {
        true => one == other,
        false => method_conditions::is_shared(one, other),
    };
    let is_same = |other: &&Table| {
        other.value("path") == table.value("path")
            && other.value("prefix") == table.value("prefix")
            && other.value("starts_with") == table.value("starts_with")
            && are_shared(other.values("method"), table.values("method"))
            && other.values("segment").is_empty() == table.values("segment").is_empty()
            && other.value("scheme") == table.value("scheme")
            && other.values("host") == table.values("host")
            && other.values("extension").is_empty() == table.values("extension").is_empty()
            && !(is_files(other) != is_files(&table) && (is_open(other) || is_open(&table)))
    };
    let twins: Vec<&Table> = meaning.tables.iter().filter(is_same).collect();
    let list = ["extension", "segment"]
        .into_iter()
        .find(|name| !table.values(name).is_empty());
    let Some(list) = list else {
        let is_known = twins.iter().any(|twin| twin.has_the_entries_of(&table));
        if twins.is_empty() {
            meaning.tables.push(table);
            return true;
        }
        return is_known;
    };
    // The first regular expression that matches decides.
    let is_free = |text: &String| {
        let mut twins = twins.iter();
        !twins.any(|twin| twin.values(list).contains(text))
    };
    let is_exception = |text: &String| text.starts_with('!');
    let own = table.values(list).iter();
    let free: Vec<String> = own
        .filter(|text| is_exception(text) || is_free(text))
        .cloned()
        .collect();
    if free.iter().all(is_exception) {
        return false;
    }
    table.entries.retain(|(name, _)| *name != list);
    table.entries.push((list, free));
    meaning.tables.push(table);
    true
}
