//! Restricted locations whose prefix has no slash at its end: nginx compares its characters alone, so
//! `location /secret { deny all; }` also keeps requests from `/secrets` and `/secret.bak`.
//!
//! A location without a restriction has whole segments here, and its line says so. One with a slash at its end
//! has what begins so where it answers without a server, since nginx leaves the path without the slash to others.

use super::redirects::Fixed;
use super::{Meaning, Table};

/// The note of a location that has whole segments alone.
pub const WHOLE_SEGMENTS: &str = " (whole segments: not what only begins so)";

/// The tables of a restricted location, for all paths that begin as its prefix does, and what its line
/// says about them.
pub fn of(meaning: &mut Meaning<'_>, at: usize, made: Vec<Table>) -> (Vec<Table>, &'static str) {
    if made.iter().all(is_for_parts)
        && let Some(path) = made.first().and_then(Table::path)
    {
        let path = path.to_owned();
        return (with(meaning, at, &made, &path), "");
    }
    let mut all = made.clone();
    all.extend(made.iter().filter_map(guard));
    match made.iter().any(has_access) {
        true => (all, " (what only begins so is as restricted, and 404)"),
        false => (all, WHOLE_SEGMENTS),
    }
}

/// True for tables of a prefix with a slash at its end that answer what begins so, and nothing for the path
/// without the slash: nginx sends that one to the slash where a server answers below a prefix.
pub fn are_for(made: &[Table], is_regex: bool) -> bool {
    let has_server = |table: &Table| table.value("pass").or(table.value("upstream")).is_some();
    made.iter()
        .all(|table| is_for_parts(table) && (is_regex || !has_server(table)))
}

/// The tables of a location for all paths that begin with `path`.
pub fn with(meaning: &mut Meaning<'_>, at: usize, made: &[Table], path: &str) -> Vec<Table> {
    let prefix = format!("[[location]] prefix = {:?}", path.trim_end_matches('/'));
    let shown = format!("[[location]] starts_with = {path:?}");
    meaning.say_otherwise(at, &prefix, &shown);
    made.iter().map(|table| start(table, path)).collect()
}

/// True if a table can answer for a part of a segment as it answers for whole ones.
fn is_for_parts(table: &Table) -> bool {
    let has = |name: &str| table.value(name).is_some();
    table.value("prefix").is_some()
        && !["static", "file", "replace_prefix"].into_iter().any(has)
        && table
            .value("strip_prefix")
            .is_none_or(|value| value == "no")
        && !(has("redirect") && table.value("keep_path") != Some("no"))
}

fn has_access(table: &Table) -> bool {
    table
        .value("access")
        .or(table.value("basic_auth"))
        .is_some()
}

/// The table for paths that begin so in the place of one for whole segments.
fn start(table: &Table, path: &str) -> Table {
    let mut table = table.clone();
    for entry in &mut table.entries {
        if entry.0 == "prefix" {
            *entry = ("starts_with", vec![path.to_owned()]);
        }
    }
    table
        .entries
        .retain(|(name, _)| *name != "strip_prefix" && *name != "keep_path");
    table
}

/// The table that restricts what only begins so beside one for whole segments; none if that one does not
/// restrict.
fn guard(table: &Table) -> Option<Table> {
    let start = start(table, table.path()?);
    if is_for_parts(table) && start.value("respond").is_some() {
        return Some(start);
    }
    if !has_access(table) {
        return None;
    }
    let kept = |name: &str| {
        super::PLACE.contains(&name)
            || ["access", "basic_auth", "basic_auth_realm", "satisfy"].contains(&name)
    };
    let path = start.path()?.to_owned();
    let mut guard = start;
    guard.entries.retain(|(name, _)| kept(name));
    Fixed::status("404").enter(&mut guard, &path);
    Some(guard)
}
