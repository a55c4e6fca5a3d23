//! Regular expressions that mean prefixes, paths or extensions.

/// The meaning of a regular expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// Paths that begin so; true if every one of them ends a segment.
    Prefixes(Vec<String>),
    /// Exactly these paths.
    Paths(Vec<String>),
    /// Names that end so behind a dot.
    Extensions(Vec<String>),
    /// Files whose name begins with a dot.
    Dotfiles,
}

/// Most alternatives.
const MOST: usize = 64;

/// The meaning of `pattern`, if it has a known shape.
pub fn shape(pattern: &str) -> Option<Shape> {
    if is_dotfiles(pattern) {
        return Some(Shape::Dotfiles);
    }
    match pattern.strip_prefix('^') {
        Some(anchored) => anchored_shape(anchored),
        None => extensions(pattern),
    }
}

/// `/\.`, `/\.ht`, `/\.(?!well-known)`, `/\.git`, with anything plain behind.
fn is_dotfiles(pattern: &str) -> bool {
    let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
    let any = ["(.*)", ".*"]
        .iter()
        .find_map(|any| pattern.strip_prefix(any));
    let pattern = any.unwrap_or(pattern);
    let rest = pattern
        .strip_prefix(r"/\.")
        .or_else(|| pattern.strip_prefix(r"(^|/)\."));
    let Some(rest) = rest else { return false };
    let rest = rest.strip_prefix("(?!well-known)").unwrap_or(rest);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "(|).*+_-/$".contains(c);
    rest.chars().all(is_plain)
}

/// `\.(css|js)$`, with `.*` or `^.+` before it.
fn extensions(pattern: &str) -> Option<Shape> {
    let rest = [".*", ".+", "(.*)", "(.+)"]
        .iter()
        .find_map(|any| pattern.strip_prefix(any))
        .unwrap_or(pattern);
    let rest = rest.strip_prefix(r"\.")?.strip_suffix('$')?;
    let alternatives = alternatives(rest)?;
    let is_extension = |text: &String| {
        !text.is_empty()
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    let mut all = Vec::new();
    for text in alternatives {
        // `jpe?g`
        match text.split_once('?') {
            Some((before, behind)) if !before.is_empty() => {
                let shorter =
                    &before[..before.len() - before.chars().last().map_or(0, char::len_utf8)];
                all.push(format!("{before}{behind}"));
                all.push(format!("{shorter}{behind}"));
            }
            _ => all.push(text),
        }
    }
    all.iter()
        .all(is_extension)
        .then_some(Shape::Extensions(all))
}

/// The alternatives of `(a|b)`, `(?:a|b)`, or the one text.
fn alternatives(text: &str) -> Option<Vec<String>> {
    let inner = text.strip_prefix("(?:").or_else(|| text.strip_prefix('('));
    let all: Vec<_> = match inner.map(|inner| inner.strip_suffix(')')) {
        Some(Some(inner)) => inner.split('|').map(str::to_owned).collect(),
        Some(None) => return None,
        None => vec![text.to_owned()],
    };
    (all.len() <= MOST).then_some(all)
}

fn anchored_shape(pattern: &str) -> Option<Shape> {
    if let Some(Shape::Extensions(all)) = extensions(pattern)
        && (pattern.starts_with('.') || pattern.starts_with("(."))
    {
        return Some(Shape::Extensions(all));
    }
    // What follows a prefix does not narrow it.
    let open = ["/(.*)$", "/(.*)", "/(.+)$", "/.*$", "/.*", "/.+$"]
        .iter()
        .find_map(|end| pattern.strip_suffix(end));
    let (body, is_exact) = match (open, pattern.strip_suffix('$')) {
        (Some(body), _) => (format!("{body}/"), false),
        (None, Some(body)) => (body.to_owned(), true),
        (None, None) => (pattern.to_owned(), false),
    };
    let texts = expand(&body)?;
    let is_path = |text: &String| text.starts_with('/');
    if texts.is_empty() || !texts.iter().all(is_path) {
        return None;
    }
    Some(match is_exact {
        true => Shape::Paths(texts),
        false => Shape::Prefixes(texts),
    })
}

/// All texts that an expression of literals and at most one group matches.
fn expand(body: &str) -> Option<Vec<String>> {
    let Some(open) = body.find('(').filter(|at| !body[..*at].ends_with('\\')) else {
        return literal(body).map(|text| vec![text]);
    };
    let close = open + body[open..].find(')')?;
    let (before, group, behind) = (&body[..open], &body[open..=close], &body[close + 1..]);
    let (before, behind) = (literal(before)?, literal(behind)?);
    let alternatives = alternatives(group)?;
    let all = alternatives
        .iter()
        .map(|text| Some(format!("{before}{}{behind}", literal(text)?)));
    all.collect()
}

/// A text without operators. A bare dot is taken for the character.
fn literal(text: &str) -> Option<String> {
    let mut result = String::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next()? {
                escaped @ ('.' | '/' | '-' | '_') => result.push(escaped),
                _ => return None,
            },
            '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '^' | '$' => return None,
            char => result.push(char),
        }
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_shapes_are_found_and_others_are_not() {
        let check = |pattern: &str, expected: Option<Shape>| {
            assert_eq!(shape(pattern), expected, "{pattern}")
        };
        let texts = |all: &[&str]| {
            all.iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>()
        };
        check(
            "^/(static|media)/",
            Some(Shape::Prefixes(texts(&["/static/", "/media/"]))),
        );
        check("^/api/(.*)$", Some(Shape::Prefixes(texts(&["/api/"]))));
        check("^/api/", Some(Shape::Prefixes(texts(&["/api/"]))));
        check(
            r"^/(favicon\.ico|robots\.txt)$",
            Some(Shape::Paths(texts(&["/favicon.ico", "/robots.txt"]))),
        );
        check("^/$", Some(Shape::Paths(texts(&["/"]))));
        check(
            r"\.(css|jpe?g)$",
            Some(Shape::Extensions(texts(&["css", "jpeg", "jpg"]))),
        );
        check(
            r"^.+\.(ico|gif)$",
            Some(Shape::Extensions(texts(&["ico", "gif"]))),
        );
        check(r"\.php$", Some(Shape::Extensions(texts(&["php"]))));
        for dotfiles in [
            r"/\.",
            r"/\.ht",
            r"/\.(?!well-known).*",
            r"/\.(git|svn)",
            r"(^|/)\.",
        ] {
            check(dotfiles, Some(Shape::Dotfiles));
        }
        for unknown in [
            r"^/api/v\d+/",
            "^/user/([^/]+)/x$",
            "",
            "^",
            "^/(a|b",
            "^/a.*b",
            "static",
            r"^/(a|b+)/",
            "^(.*)$",
        ] {
            check(unknown, None);
        }
    }

    proptest! {
        #[test]
        fn any_pattern_is_read_without_a_panic(pattern in "(\\PC|[()|^$.*?\\\\/]){0,30}") {
            let _ = shape(&pattern);
        }
    }
}
