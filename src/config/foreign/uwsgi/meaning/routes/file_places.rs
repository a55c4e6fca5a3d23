//! The files that routes reach: uWSGI applies its routes before it sends one, too (core/static.c).

use super::Area;
use crate::config::foreign::Verdict;
use crate::config::foreign::uwsgi::meaning::{Meaning, files};

/// Files of an area, which need a location of their own beside that of the application.
pub(super) struct FilePlace {
    /// Their prefix or path.
    pub(super) place: (&'static str, String),
    /// Their directory or file.
    pub(super) handler: (&'static str, String),
    /// The prefix of the line that serves them.
    pub(super) served_at: String,
}

/// The files of an area, for settings of locations; the error is the verdict of a route whose files no
/// location can have.
pub(super) fn of(meaning: &Meaning<'_>, area: &Area) -> Result<Vec<FilePlace>, Verdict> {
    let mut all = Vec::new();
    for path in paths(area) {
        let covers = |(prefix, _): &&(String, String)| rest(path, prefix).is_some();
        let covering = meaning.served.iter().filter(covers);
        let Some((prefix, dir)) = covering.max_by_key(|(prefix, _)| prefix.len()) else {
            continue;
        };
        let rest = rest(path, prefix).unwrap_or_default();
        let file = format!("{}{rest}", dir.trim_end_matches('/'));
        let is_single = rest.is_empty() && is_one_file(meaning, prefix);
        let (place, handler) = match area {
            Area::Below(_) | Area::Start(_) if !is_single => ("prefix", "static"),
            // A directory without an index is the application's, as a file that is not there.
            Area::Exact(_) if path.ends_with('/') && has_index(meaning) => {
                return Err(beside(prefix));
            }
            Area::Exact(_) if !is_single && !is_file(meaning, &file) => continue,
            _ => ("path", "file"),
        };
        // Names that begin so, which no prefix has.
        if matches!(area, Area::Start(_)) && !rest.is_empty() {
            return Err(beside(prefix));
        }
        all.push(FilePlace {
            place: (place, path.to_owned()),
            handler: (handler, file),
            served_at: prefix.clone(),
        });
    }
    match within(meaning, area) {
        Some(prefix) => Err(beside(prefix)),
        None => Ok(all),
    }
}

/// The prefix of files inside an area, which precede what is set or answered for the area.
pub(super) fn within<'a>(meaning: &'a Meaning<'_>, area: &Area) -> Option<&'a str> {
    let is_within = |prefix: &str| match area {
        Area::All | Area::Exact(_) => false,
        Area::Host(_) => true,
        Area::Below(path) => prefix.len() > path.len() && rest(prefix, path).is_some(),
        Area::Start(path) => prefix.len() > path.len() && prefix.starts_with(path.as_str()),
    };
    let mut prefixes = meaning.served.iter().map(|(prefix, _)| prefix.as_str());
    prefixes.find(|prefix| is_within(prefix))
}

/// True if files have the very prefix of an area, or stand within it.
pub(super) fn precede<'a>(meaning: &'a Meaning<'_>, area: &Area) -> Option<&'a str> {
    let mut prefixes = meaning.served.iter().map(|(prefix, _)| prefix.as_str());
    let same = prefixes.find(|prefix| paths(area).contains(prefix));
    same.or(within(meaning, area))
}

/// The verdict of a route that would not reach these files.
pub(super) fn beside(prefix: &str) -> Verdict {
    let advice = format!(
        "it would not reach the files of {prefix}, which have a location of their own: use a [[location]] with `static`, and one for the application"
    );
    Verdict::Unsupported(advice)
}

fn paths(area: &Area) -> Vec<&str> {
    match area {
        Area::Exact(paths) => paths.iter().map(String::as_str).collect(),
        Area::Below(path) | Area::Start(path) => vec![path],
        Area::All | Area::Host(_) => Vec::new(),
    }
}

/// The part of a path behind a prefix, with the slash that begins it.
fn rest<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// True if the line with this prefix serves one file.
fn is_one_file(meaning: &Meaning<'_>, prefix: &str) -> bool {
    let mut tables = meaning.draft.layer.locations.iter();
    tables.any(|table| {
        table.entry("file").is_some() && super::one(table, "path").as_deref() == Some(prefix)
    })
}

fn is_file(meaning: &Meaning<'_>, file: &str) -> bool {
    files::kind(meaning, file).is_some_and(|kind| kind.is_file)
}

fn has_index(meaning: &Meaning<'_>) -> bool {
    meaning.items.iter().any(|item| item.key == "static-index")
}

/// Takes over for these files what is set for those around them.
pub(super) fn inherit(meaning: &mut Meaning<'_>, at: usize, file: &FilePlace) {
    let (_, path) = &file.place;
    if *path == file.served_at {
        return;
    }
    let verdict = meaning.verdicts[at].clone();
    for name in [
        "static_missing",
        "static_index",
        "static_max_age",
        "static_immutable",
    ] {
        let start = format!("{}=", file.served_at);
        let entry = meaning.draft.layer.entry(name);
        let mut values = entry.iter().flat_map(|entry| &entry.values);
        let value = values.find_map(|value| value.strip_prefix(&start));
        if let Some(value) = value.map(|value| format!("{path}={value}")) {
            meaning.append(at, name, value);
        }
    }
    meaning.verdicts[at] = verdict;
}
