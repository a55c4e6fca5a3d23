//! Redirects that lead back to their own location. nginx sends them, and clients go round in circles until they
//! give up; here a start would refuse them.

use super::redirects::Fixed;
use super::{Meaning, Table};
use crate::config::foreign::Verdict;

/// Ends all circles: `location /x { return 301 /x/; }` redirects `/x` alone, and others answer with 508.
pub fn end(meaning: &mut Meaning<'_>, tables: &mut [Table]) {
    while let Some(number) = (0..tables.len()).find(|number| is_in_circle(tables, *number)) {
        let at = tables[number].at;
        let mut children = meaning.tree.children(Some(at));
        let line = children.find(|child| matches!(meaning.name(*child), "return" | "rewrite"));
        let line = line.unwrap_or(at);
        let table = &mut tables[number];
        if let Some(path) = slashless(table) {
            let text = format!(
                "nginx also redirects {path}/ to itself, so that clients go round in circles: {path} alone is redirected here (location = {path})"
            );
            meaning.say(line, Verdict::Dangerous(text));
            only_path(table, path);
            if line != at && matches!(meaning.verdicts[at], Some(Verdict::Honoured(_))) {
                meaning.verdicts[at] = Some(Verdict::Honoured(table.shown()));
            }
            continue;
        }
        let text = "it leads back to its own location, so clients go round in circles: redirect to a path that another location answers (here it is 508)";
        meaning.unsupported(line, text);
        if line != at {
            let text = "its redirect leads back to it, so the location answers 508";
            meaning.unsupported(at, text);
        }
        table.clear();
        Fixed::status("508").enter(table, "");
    }
}

/// The prefix of a table that redirects to it with a slash at its end.
pub fn slashless(table: &Table) -> Option<String> {
    let prefix = table.value("prefix").or(table.value("starts_with"))?;
    let to = table.value("redirect")?.strip_suffix('/')?;
    let is_it = to == prefix && !prefix.ends_with('/') && table.value("keep_path") == Some("no");
    is_it.then(|| prefix.to_owned())
}

/// Leaves the redirect to requests for the path itself.
pub fn only_path(table: &mut Table, path: String) {
    let is_place = |name: &str| matches!(name, "prefix" | "starts_with");
    table.entries.retain(|(name, _)| !is_place(name));
    table.entries.insert(0, ("path", vec![path]));
}

/// True if the redirect of a table leads back to it.
fn is_in_circle(tables: &[Table], number: usize) -> bool {
    let start = &tables[number];
    let Some(mut path) = start.path().map(str::to_owned) else {
        return false;
    };
    for _ in 0..=tables.len() {
        match next(tables, start, &path) {
            Some(next) => path = next,
            None => return false,
        }
    }
    true
}

/// The path to which a request for `path` is redirected, on the hosts of `start`.
fn next(tables: &[Table], start: &Table, path: &str) -> Option<String> {
    let is_for = |table: &&Table| {
        ["host", "scheme"].iter().all(|name| {
            let own = table.values(name);
            own.is_empty() || own.iter().any(|value| start.values(name).contains(value))
        })
    };
    let all = tables.iter().filter(is_for).filter(|table| is_got(table));
    let found = all.filter_map(|table| Some((rank(table, path)?, table)));
    let (_, table) = found.reduce(|best, other| if other.0 > best.0 { other } else { best })?;
    let to = table.value("redirect")?.split(['?', '#']).next()?;
    let keeps =
        table.value("keep_path") != Some("no") && !table.value("redirect")?.contains(['?', '#']);
    let own = table.value("prefix").unwrap_or(path);
    let rest = path
        .strip_prefix(own.trim_end_matches('/'))
        .unwrap_or_default();
    let next = match keeps && !rest.is_empty() {
        true => format!("{}{rest}", to.trim_end_matches('/')),
        false => to.to_owned(),
    };
    next.starts_with('/').then_some(next)
}

/// True for tables that answer a GET.
fn is_got(table: &Table) -> bool {
    let methods = table.values("method");
    let is_excluded = methods.iter().any(|method| method == "!GET");
    let is_listed = methods
        .iter()
        .any(|method| method == "GET" || method.starts_with('!'));
    methods.is_empty() || is_listed && !is_excluded
}

/// The precedence of a table for a path, if it has it: hosts and schemes, then exact paths, then longer prefixes,
/// then extensions.
fn rank(table: &Table, path: &str) -> Option<(bool, bool, bool, usize, bool, bool)> {
    let (is_exact, length) = match (table.value("path"), table.value("starts_with")) {
        (Some(own), _) => (own == path).then_some((true, own.len()))?,
        (None, Some(start)) => path.starts_with(start).then_some((false, start.len()))?,
        (None, None) => {
            let prefix = table.value("prefix")?.trim_end_matches('/');
            let rest = path.strip_prefix(prefix)?;
            (rest.is_empty() || rest.starts_with('/')).then_some((false, prefix.len()))?
        }
    };
    let extensions = table.values("extension");
    let own = path
        .rsplit('/')
        .next()?
        .rsplit_once('.')
        .map_or("", |(_, own)| own);
    let fits = extensions.is_empty() || extensions.iter().any(|extension| extension == own);
    let has = |name: &str| !table.values(name).is_empty();
    let is_file = has("static") || has("file");
    (fits && !has("segment")).then_some((
        has("host"),
        has("scheme"),
        is_exact,
        length,
        !extensions.is_empty(),
        is_file,
    ))
}
