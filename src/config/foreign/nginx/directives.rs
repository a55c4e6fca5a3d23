//! The names of all directives of nginx and its modules, and what becomes of those without a meaning
//! of their own here.

use std::sync::LazyLock;

use crate::config::foreign::class::Class;

/// A line of the table: its class, names with their stars, and its text.
type Row = (Class, Vec<&'static str>, &'static str);

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let lines = include_str!("directives.txt").lines();
    lines
        .filter(|line| !line.starts_with('#'))
        .filter_map(row)
        .collect()
});

/// All names: from the programs of nginx itself, and of modules that are often added.
pub fn names() -> impl Iterator<Item = &'static str> {
    include_str!("names.txt").split_whitespace()
}

/// The class of a directive with its text; `None` if nginx has none of this name. `value` is its first
/// argument, for which the table may have a class of its own.
pub fn class(name: &str, value: &str) -> Option<(Class, &'static str)> {
    let has_value = |row: &&Row| {
        let mut pairs = row.1.iter().filter_map(|pattern| pattern.split_once('='));
        pairs.any(|(own, given)| own == name && given == value)
    };
    let has_name = |row: &&Row| row.1.contains(&name);
    let covers = |row: &&Row| row.1.iter().any(|pattern| fits(pattern, name));
    let found = ROWS
        .iter()
        .find(has_value)
        .or_else(|| ROWS.iter().find(has_name))
        .or_else(|| ROWS.iter().find(covers));
    let (class, _, text) = found.filter(|_| names().any(|known| known == name))?;
    Some((*class, text))
}

fn fits(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(rest), Some(_)) => name.contains(rest.trim_end_matches('*')),
        (Some(end), None) => name.ends_with(end),
        (None, Some(start)) => name.starts_with(start),
        (None, None) => pattern == name,
    }
}

fn row(line: &'static str) -> Option<Row> {
    let (names, text) = line.split_once('|').unwrap_or((line, ""));
    let mut names = names.split_whitespace();
    let class = Class::of(names.next()?)?;
    Some((class, names.collect(), text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_class_and_every_class_a_name() {
        let lines = include_str!("directives.txt").lines();
        assert_eq!(
            lines.filter(|line| !line.starts_with('#')).count(),
            ROWS.len()
        );
        let unknown: Vec<_> = names().filter(|name| class(name, "").is_none()).collect();
        assert_eq!(unknown, [""; 0]);
        for (class, own, text) in ROWS.iter() {
            assert!(*class == Class::Honoured || !text.is_empty(), "{own:?}");
            for pattern in own {
                let pattern = pattern.split('=').next().unwrap_or_default();
                assert!(names().any(|name| fits(pattern, name)), "{pattern}");
            }
        }
        assert_eq!(class("server_nmae", ""), None);
        for (value, expected) in [("off", Class::AlreadySo), ("on", Class::Unsupported)] {
            let found = class("underscores_in_headers", value);
            assert_eq!(found.map(|(class, _)| class), Some(expected));
        }
    }
}
