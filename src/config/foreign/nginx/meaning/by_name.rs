//! Locations by regular expression for names of files: dotfiles, beginnings of segments, and extensions.

use super::answer::answer;
use super::locations::{Context, Location, Paths, plain, push};
use super::{Meaning, Table};
use crate::config::foreign::Verdict;

/// `location ~ /\. { deny all; }`
pub fn dotfiles(meaning: &mut Meaning<'_>, context: &Context<'_>, at: usize) {
    if !denies(meaning, at) {
        meaning.unsupported(at, "hidden files are never served (--static-hidden)");
        let inside = Verdict::Unsupported("its location is not served".to_owned());
        meaning.say_inside(at, &inside);
        return;
    }
    let inside = Verdict::AlreadySo("hidden files are never served".to_owned());
    let passes = |location: &Location| meaning.has(location.at, |name| name == "proxy_pass");
    let others = match context.locations.iter().any(passes) {
        true => "a server of proxy_pass",
        false => "an application",
    };
    let text = format!("hidden files are never served (404); {others} gets such paths");
    meaning.say(at, Verdict::Differs(text));
    meaning.say_inside(at, &inside);
}

/// True if a location refuses all of its requests.
fn denies(meaning: &Meaning<'_>, at: usize) -> bool {
    meaning.tree.children(Some(at)).any(|child| {
        let line = (meaning.name(child), meaning.arg(child, 0));
        matches!(line, ("deny", "all") | ("return", "403" | "404" | "444"))
    })
}

/// `location ~ /\.ht { deny all; }`: a table at each prefix whose requests the expression takes.
pub fn segments(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    location: &Location,
    texts: &[String],
) {
    let at = location.at;
    let mut children = meaning.tree.children(Some(at));
    let answers = children.any(|child| {
        let name = meaning.name(child);
        matches!(name, "return" | "proxy_pass" | "uwsgi_pass")
            || (name, meaning.arg(child, 0)) == ("deny", "all")
    });
    if answers {
        return at_prefixes(meaning, context, location, ("segment", texts, None));
    }
    if texts.iter().all(|text| text.starts_with(['.', '!'])) {
        return dotfiles(meaning, context, at);
    }
    meaning.unsupported(at, "files by a part of their path: name the prefixes");
    let inside = Verdict::Unsupported("its location is not served".to_owned());
    meaning.say_inside(at, &inside);
}

/// `location ~* \.(css|js)$ { expires 30d; }`: a table at each prefix whose requests the expression
/// takes.
pub fn extensions(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    location: &Location,
    (extensions, below): (&[String], Option<&str>),
) {
    at_prefixes(meaning, context, location, ("extension", extensions, below));
}

/// Tables with a setting beside each prefix.
fn at_prefixes(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    location: &Location,
    (setting, values, below): (&'static str, &[String], Option<&str>),
) {
    let at = location.at;
    let mut first = None;
    let mut is_taken = false;
    for prefix in prefixes(context, location, below) {
        let mut table = Table {
            at,
            entries: Vec::new(),
        };
        table.set("prefix", plain(&prefix));
        if location.ignores_case && below.is_some_and(|below| plain(below) == plain(&prefix)) {
            table.set("ignore_case", "yes");
        }
        table.entries.push((setting, values.to_vec()));
        let made = answer(meaning, context, at, &prefix, &mut table);
        for table in made.into_iter().flatten() {
            let shown = table.shown();
            match push(meaning, context.site, table) {
                true => first = first.or(Some(shown)),
                // Nor has it those for some methods.
                false => {
                    is_taken = true;
                    break;
                }
            }
        }
    }
    match first {
        Some(shown) => meaning.honoured(at, shown),
        None if is_taken => {
            meaning.no_effect(at, "an earlier regular expression takes its requests");
        }
        None => meaning.no_effect(at, "locations with ^~ take its requests"),
    }
}

/// The prefixes at which a regular expression takes requests, the shortest first. nginx takes the
/// longest prefix, then the first expression that matches, unless that prefix has `^~`.
fn prefixes(context: &Context<'_>, location: &Location, below: Option<&str>) -> Vec<String> {
    let number = |of: &Location| {
        let mut all = context.locations.iter();
        all.position(|other| std::ptr::eq(other, of))
    };
    let own = number(location);
    let mut found: Vec<String> = Vec::new();
    let mut closed: Vec<&str> = Vec::new();
    for other in &context.locations {
        let Paths::Prefix(path, is_final) = &other.paths else {
            continue;
        };
        // An earlier expression keeps its requests, and so does a prefix with `^~`.
        let is_final = *is_final || is_below_final(context, other, location.parent);
        if is_final || (other.is_regex && number(other) < own) {
            closed.push(path);
            continue;
        }
        let is_inside = location
            .parent
            .is_none_or(|parent| other.at == parent || ancestors(context, other).contains(&parent));
        if is_inside && below.is_none_or(|below| path.starts_with(below)) {
            found.push(path.clone());
        }
    }
    // Where no location has the whole site, the server answers; a prefix of the expression is part of
    // a longer or shorter one.
    if location.parent.is_none() {
        let all = below.unwrap_or("/");
        let is_closed = closed.iter().any(|path| all.starts_with(path));
        if !is_closed && !found.iter().any(|path| plain(path) == plain(all)) {
            found.push(all.to_owned());
        }
    }
    found.sort_by_key(String::len);
    found
}

/// The locations around another one, the nearest first.
fn ancestors(context: &Context<'_>, of: &Location) -> Vec<usize> {
    let mut all = Vec::new();
    let mut next = of.parent;
    while let Some(at) = next {
        all.push(at);
        let mut locations = context.locations.iter();
        next = locations
            .find(|location| location.at == at)
            .and_then(|found| found.parent);
    }
    all
}

/// True if a location around another one, up to that of the expression, has `^~`.
fn is_below_final(context: &Context<'_>, of: &Location, parent: Option<usize>) -> bool {
    let all = ancestors(context, of);
    let around = all.iter().take_while(|at| Some(**at) != parent);
    let is_final = |at: &usize| {
        let mut locations = context
            .locations
            .iter()
            .filter(|location| location.at == *at);
        locations.any(|location| matches!(location.paths, Paths::Prefix(_, true)))
    };
    around.copied().any(|at| is_final(&at))
}
