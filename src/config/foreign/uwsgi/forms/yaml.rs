//! The yaml form: one mapping below the section, with scalars and lists of scalars.
//!
//! uWSGI has two readers, libyaml's and a simple one of its own. Both agree on `key: value`; lists
//! and quoted scalars follow libyaml, which the packages of the distributions have.

use super::{Entry, Parsed};

pub fn parse(text: &str, asked: &str) -> Parsed {
    let mut parsed = Parsed::default();
    let mut section: Option<(String, usize)> = None;
    // The key whose list follows, and the indentation of the keys.
    let mut list: Option<String> = None;
    let mut keys_at: Option<usize> = None;
    for (at, line) in text.split('\n').enumerate() {
        let number = at + 1;
        let line = without_comment(line.trim_end_matches(['\r', ' ', '\t']));
        let content = line.trim_start_matches([' ', '\t']);
        if content.is_empty() || matches!(content, "---" | "...") || content.starts_with('%') {
            continue;
        }
        let depth = line.len() - content.len();
        if section.as_ref().is_none_or(|(_, at)| depth <= *at) && !content.starts_with("- ") {
            let name = content.split_once(':').map_or(content, |(name, _)| name);
            section = Some((unquoted(name.trim()), depth));
            parsed.is_found |= section.as_ref().is_some_and(|(name, _)| name == asked);
            (list, keys_at) = (None, None);
            continue;
        }
        let name = section.as_ref().map_or("", |(name, _)| name);
        if name != asked {
            let reason = super::unread_section(name, asked);
            parsed.unread.push((number, content.to_owned(), reason));
            continue;
        }
        let entry = |key: &str, value: &str| Entry {
            key: key.to_owned(),
            value: unquoted(value),
            line: number,
        };
        if let Some(item) = content
            .strip_prefix('-')
            .filter(|rest| is_blank_first(rest))
        {
            match &list {
                Some(key) => parsed.entries.push(entry(key, item.trim())),
                None => {
                    parsed.error = Some((number, "a list without a key".to_owned()));
                    return parsed;
                }
            }
            continue;
        }
        if *keys_at.get_or_insert(depth) != depth {
            let message = "the line is indented differently from the keys above".to_owned();
            parsed.error = Some((number, message));
            return parsed;
        }
        let Some((key, value)) = key_and_value(content) else {
            parsed.error = Some((number, "no `key: value`".to_owned()));
            return parsed;
        };
        list = None;
        match flow_list(value) {
            _ if value.is_empty() => list = Some(key.to_owned()),
            Some(items) => parsed
                .entries
                .extend(items.iter().map(|item| entry(key, item))),
            None => parsed.entries.push(entry(key, value)),
        }
    }
    parsed
}

fn is_blank_first(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with([' ', '\t'])
}

/// `key: value`, with the value empty if a list follows.
fn key_and_value(content: &str) -> Option<(&str, &str)> {
    let at = content
        .match_indices(':')
        .map(|(at, _)| at)
        .find(|at| is_blank_first(&content[at + 1..]))?;
    Some((
        content[..at].trim().trim_matches(['"', '\'']),
        content[at + 1..].trim(),
    ))
}

/// The items of `[a, b]`.
fn flow_list(value: &str) -> Option<Vec<&str>> {
    let inside = value.strip_prefix('[')?.strip_suffix(']')?;
    let items = inside.split(',').map(str::trim);
    Some(items.filter(|item| !item.is_empty()).collect())
}

/// The line without ` # comment`, which may stand in quotes.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut before = ' ';
    for (at, char) in line.char_indices() {
        match (quote, char) {
            (None, '#') if before == ' ' || before == '\t' => {
                return line[..at].trim_end_matches([' ', '\t']);
            }
            (None, '"' | '\'') if matches!(before, ' ' | '\t' | '[' | ',') => quote = Some(char),
            (Some(open), _) if open == char => quote = None,
            _ => {}
        }
        before = char;
    }
    line
}

/// The scalar without its quotes.
fn unquoted(value: &str) -> String {
    let inside = |quote: char| {
        let inside = value.strip_prefix(quote)?.strip_suffix(quote)?;
        Some(inside.to_owned())
    };
    match (inside('\''), inside('"')) {
        (Some(text), _) => text.replace("''", "'"),
        (_, Some(text)) => text.replace("\\\"", "\"").replace("\\\\", "\\"),
        _ => value.to_owned(),
    }
}
