//! File names by pattern, as `include` takes them: `*`, `?` and `[a-z]` in each segment of a path.

use std::path::{Component, Path, PathBuf};

use crate::config::native;

/// Most files of one pattern.
const MOST: usize = 1000;

/// The files that a path with patterns names, in order. A dot at the beginning of a name has to be in
/// the pattern.
pub fn files(pattern: &Path, list: &dyn Fn(&Path) -> Vec<PathBuf>) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let part = native::text(component.as_os_str());
        let is_pattern =
            matches!(component, Component::Normal(_)) && part.contains(['*', '?', '[']);
        if !is_pattern {
            found.iter_mut().for_each(|path| path.push(component));
            continue;
        }
        let wanted: Vec<char> = part.chars().collect();
        let mut next = Vec::new();
        for dir in &found {
            let mut names = list(dir);
            names.sort();
            let fits = |name: &PathBuf| {
                let name: Vec<char> = native::text(name.as_os_str()).chars().collect();
                (name.first() != Some(&'.') || wanted.first() == Some(&'.'))
                    && matches(&wanted, &name)
            };
            next.extend(
                names
                    .iter()
                    .filter(|name| fits(name))
                    .map(|name| dir.join(name)),
            );
        }
        next.truncate(MOST);
        found = next;
    }
    found
}

/// True if the pattern covers the whole name.
fn matches(pattern: &[char], name: &[char]) -> bool {
    // Each pair of positions is reached once, so the time is bounded by their number.
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    let mut rest = pattern;
    while let Some(first) = rest.first() {
        let (set, behind) = class(rest);
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            if *first == '*' {
                next[at] = reached[at] || (at > 0 && next[at - 1]);
            } else if at > 0 && reached[at - 1] {
                next[at] = match (&set, first) {
                    (Some(set), _) => set.covers(name[at - 1]),
                    (None, '?') => true,
                    (None, char) => *char == name[at - 1],
                };
            }
        }
        reached = next;
        rest = behind;
    }
    reached[name.len()]
}

/// `[a-z]` or `[!a-z]`.
struct Class<'a> {
    chars: &'a [char],
    is_negated: bool,
}

impl Class<'_> {
    fn covers(&self, char: char) -> bool {
        let mut rest = self.chars;
        let mut found = false;
        while let [first, behind @ ..] = rest {
            rest = behind;
            match behind {
                ['-', last, behind @ ..] => {
                    found |= (*first..=*last).contains(&char);
                    rest = behind;
                }
                _ => found |= *first == char,
            }
        }
        found != self.is_negated
    }
}

/// The class at the beginning of a pattern, if there is one, and what follows the first element.
fn class(pattern: &[char]) -> (Option<Class<'_>>, &[char]) {
    let plain = (None, pattern.get(1..).unwrap_or_default());
    let ['[', inside @ ..] = pattern else {
        return plain;
    };
    let (is_negated, inside) = match inside {
        ['!' | '^', inside @ ..] => (true, inside),
        inside => (false, inside),
    };
    // A `]` at the beginning is one of the characters.
    let end = inside.iter().skip(1).position(|char| *char == ']');
    let Some(end) = end.map(|end| end + 1) else {
        return plain;
    };
    let chars = &inside[..end];
    (Some(Class { chars, is_negated }), &inside[end + 1..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fits(pattern: &str, name: &str) -> bool {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        matches(&chars(pattern), &chars(name))
    }

    #[test]
    fn patterns_cover_names_as_in_the_shell() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf~", false),
            ("*", "", true),
            ("?", "é", true),
            ("[a-c]*", "bx", true),
            ("[!a-c]*", "bx", false),
            ("[]x]", "]", true),
            ("[", "[", true),
            ("a*b*c", "abbc", true),
            ("a*b*c", "abb", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn any_pattern_ends(pattern in "[*?\\[\\]!a-]{0,30}", name in "[a\\]-]{0,30}") {
            let _ = fits(&pattern, &name);
            prop_assert!(fits("*", &name));
        }
    }
}
