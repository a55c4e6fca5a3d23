//! Settings that all locations have alike, and that stand once for all.

use super::{Meaning, Table};
use crate::config::foreign::Verdict;

/// Takes what all tables say out of them.
pub fn take_out(meaning: &mut Meaning<'_>, tables: &mut [Table]) {
    normal_paths(meaning, tables);
    charset(meaning, tables);
    types(meaning, tables);
    headers(meaning, tables);
}

/// Says once for all that applications and servers get the normal form of paths, if all of them do.
fn normal_paths(meaning: &mut Meaning<'_>, tables: &mut [Table]) {
    let is_passed = |table: &&Table| table.value("pass").or(table.value("upstream")).is_some();
    if taken_out(tables, "normal_path", is_passed).is_some() {
        let reason = "nginx passes the path without `..` and doubled slashes on";
        meaning.imply("normal_path", "yes", reason);
    }
}

/// Says once for all which charset text has, if all have the same.
fn charset(meaning: &mut Meaning<'_>, tables: &mut [Table]) {
    let mut lines = (0..meaning.tree.items.len()).filter(|at| meaning.name(*at) == "charset");
    let first = lines.find(|at| matches!(meaning.verdicts[*at], Some(Verdict::Honoured(_))));
    if let Some(first) = first
        && let Some(charset) = taken_out(tables, "charset", |table| !is_files(table))
    {
        meaning.set(first, "charset", charset);
    }
}

/// Says once for all which type files with an unknown extension have, if all have the same and no other.
fn types(meaning: &mut Meaning<'_>, tables: &mut [Table]) {
    let is_default = |table: &&Table| {
        let values = table.values("types");
        is_files(table) && values.len() == 1 && values[0].starts_with("*=")
    };
    if !tables
        .iter()
        .filter(is_files)
        .all(|table| is_default(&table))
    {
        return;
    }
    let Some(values) = taken_out(tables, "types", is_files) else {
        return;
    };
    let mut lines = (0..meaning.tree.items.len()).filter(|at| meaning.name(*at) == "default_type");
    let line = lines.find(|at| matches!(meaning.verdicts[*at], Some(Verdict::Honoured(_))));
    match line {
        Some(line) => {
            for value in values {
                meaning.append(line, "types", value);
            }
        }
        None if meaning.layer.entry("types").is_none() => {
            let reason = "nginx's default_type";
            meaning.imply("types", &values[0], reason);
        }
        None => {
            for table in tables.iter_mut().filter(|table| is_files(&&**table)) {
                table.entries.push(("types", values.clone()));
            }
        }
    }
}

/// Says once for all which header fields responses have, if all have the same: errors before a location is found
/// have them as well. Else those have what the default server sends `always`. Rules that other settings have for all
/// would take their place, so beside such each location has its own.
fn headers(meaning: &mut Meaning<'_>, tables: &mut [Table]) {
    let mut lines = (0..meaning.tree.items.len()).filter(|at| meaning.name(*at) == "add_header");
    let first = lines.find(|at| matches!(meaning.verdicts[*at], Some(Verdict::Honoured(_))));
    let Some(first) = first.filter(|_| !meaning.given.has_headers) else {
        return;
    };
    if let Some(values) = taken_out(tables, "header", |_| true) {
        return meaning.insert(first, "header", values);
    }
    let server = meaning.first;
    let own: Vec<String> = meaning
        .nearest(server, "add_header")
        .into_iter()
        .filter(|line| meaning.args(*line).get(2) == Some(&"always"))
        .filter(|line| matches!(meaning.verdicts[*line], Some(Verdict::Honoured(_))))
        .filter_map(|line| rule_of(meaning, line))
        .collect();
    if own.is_empty() {
        return;
    }
    meaning.insert(first, "header", own);
    for table in tables {
        table.set("header_inherit", "no");
    }
}

/// The rule of an `add_header … always` with a text.
fn rule_of(meaning: &Meaning<'_>, line: usize) -> Option<String> {
    let (name, value) = (meaning.arg(line, 0), meaning.arg(line, 1));
    let is_plain = !value.is_empty() && !value.contains(['$', '\r', '\n']);
    // Errors have this field by themselves.
    let action = match name.eq_ignore_ascii_case("x-content-type-options") {
        true => "set",
        false => "add",
    };
    is_plain.then(|| format!("always {action} {name}: {value}"))
}

fn is_files(table: &&Table) -> bool {
    table.value("static").or(table.value("file")).is_some()
}

/// Takes a setting out of the tables, if all that it concerns have it with the same values.
fn taken_out(
    tables: &mut [Table],
    name: &'static str,
    is_concerned: impl Fn(&&Table) -> bool,
) -> Option<Vec<String>> {
    let mut concerned = tables.iter().filter(is_concerned);
    let values = concerned.next()?.values(name).to_vec();
    if values.is_empty() || !concerned.all(|table| table.values(name) == values) {
        return None;
    }
    for table in tables {
        table.entries.retain(|(own, _)| *own != name);
    }
    Some(values)
}
