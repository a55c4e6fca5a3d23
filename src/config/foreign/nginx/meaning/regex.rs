//! Regular expressions that mean prefixes, paths or extensions.

use crate::config::segment_beginning;

/// The meaning of a regular expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// Paths that begin so; true if every one of them ends a segment.
    Prefixes(Vec<String>),
    /// Exactly these paths.
    Paths(Vec<String>),
    /// Names that end so behind a dot, in paths that begin with the prefix.
    Extensions(Vec<String>, Option<String>),
    /// Paths with a segment that begins so; behind a `!` an exception.
    Segments(Vec<String>),
    /// Some of the files whose name begins with a dot.
    Dotfiles,
}

/// Most alternatives.
const MOST: usize = 64;

/// The meaning of `pattern`, if it has a known shape.
pub fn shape(pattern: &str) -> Option<Shape> {
    let anchored = pattern.strip_prefix('^').unwrap_or(pattern);
    // The usual recipe for certbot, with a dot that means itself.
    let escaped = anchored.replacen("/.well-known", r"/\.well-known", 1);
    let anchored = match anchored.starts_with("/.well-known") {
        true => &*escaped,
        false => anchored,
    };
    if let Some(Shape::Prefixes(all)) = anchored
        .starts_with(r"/\.well-known")
        .then(|| anchored_shape(anchored))
        .flatten()
    {
        return Some(Shape::Prefixes(all));
    }
    if let Some(all) = segments(pattern) {
        return Some(Shape::Segments(all));
    }
    if is_dotfiles(pattern) {
        return Some(Shape::Dotfiles);
    }
    match pattern.strip_prefix('^') {
        Some(anchored) => anchored_shape(anchored),
        None => extensions(pattern),
    }
}

/// The beginnings of segments in `/\.`, `/\.ht`, `/\.(git|svn)`, `/\.(?!well-known)`, `/(admin|setup)`.
fn segments(pattern: &str) -> Option<Vec<String>> {
    let anywhere = ["^(.*)/", "^.*/", "^.+/", "(.*)/", ".*/", "(^|/)", "/"];
    let rest = anywhere
        .iter()
        .find_map(|begin| pattern.strip_prefix(begin))?;
    let ends = [".*$", "(.*)$", ".*", "(.*)"];
    let rest = ends
        .iter()
        .find_map(|end| rest.strip_suffix(end))
        .unwrap_or(rest);
    let exceptions = [
        r"\.(?!well-known)",
        r"\.(?!well-known/)",
        r"\.(?!well-known\/)",
        r"\.(?!(well-known))",
    ];
    if exceptions.contains(&rest) {
        return Some(vec![".".to_owned(), "!.well-known".to_owned()]);
    }
    let all = expand(rest)?;
    let is_known = |text: &String| segment_beginning(text).is_ok() && !text.starts_with('!');
    (!all.is_empty() && all.len() <= MOST && all.iter().all(is_known)).then_some(all)
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

/// `\.(css|js)$`, with `.*` or `.+` before it.
fn extensions(pattern: &str) -> Option<Shape> {
    let rest = [".*", ".+", "(.*)", "(.+)"]
        .iter()
        .find_map(|any| pattern.strip_prefix(any))
        .unwrap_or(pattern);
    // Before a group, a bare dot is meant as the character.
    let rest = rest
        .strip_prefix(r"\.")
        .or_else(|| rest.strip_prefix('.').filter(|rest| rest.starts_with('(')))?;
    let rest = rest.strip_suffix('$')?;
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
        .then_some(Shape::Extensions(all, None))
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

/// The prefix in `^/prefix/(.*)$` and `^/prefix/(.+\.(css|js))$`, whose one capture is all that follows
/// it.
pub fn captured_behind(pattern: &str) -> Option<String> {
    let body = pattern.strip_prefix('^')?;
    let ends = ["/(.*)$", "/(.+)$", "/(.*)"];
    let prefix = match ends.iter().find_map(|end| body.strip_suffix(end)) {
        Some(prefix) => format!("{prefix}/"),
        None => captured_name(body)?.0.to_owned(),
    };
    literal(&prefix)
}

/// The parts of `/prefix/(.+\.(css|js))$`: the prefix, and the expression of the name without the group.
fn captured_name(pattern: &str) -> Option<(&str, String)> {
    let open = ["(.+\\.", "(.*\\."]
        .iter()
        .find_map(|open| pattern.find(open))?;
    let (prefix, group) = pattern.split_at(open);
    let inner = group.strip_prefix('(')?.strip_suffix(")$")?;
    let mut depth = 0_usize;
    for char in inner.chars() {
        depth = match char {
            '(' => depth + 1,
            ')' => depth.checked_sub(1)?,
            _ => depth,
        };
    }
    // Other groups would capture as well.
    let is_alone = depth == 0 && inner.matches('(').count() == inner.matches("(?:").count();
    (is_alone && prefix.ends_with('/')).then(|| (prefix, format!("{inner}$")))
}

fn anchored_shape(pattern: &str) -> Option<Shape> {
    if let Some((prefix, name)) = captured_name(pattern) {
        return anchored_shape(&format!("{prefix}{name}"));
    }
    // `^/static/.*\.(css|js)$`
    let open = [".*", ".+", "(.*)", "(.+)"]
        .iter()
        .filter_map(|any| pattern.find(&format!(r"{any}\.")))
        .min();
    if let Some(at) = open
        && let Some(Shape::Extensions(all, None)) = extensions(&pattern[at..])
    {
        return match literal(&pattern[..at])?.as_str() {
            "" | "/" => Some(Shape::Extensions(all, None)),
            prefix if prefix.starts_with('/') && prefix.ends_with('/') => {
                Some(Shape::Extensions(all, Some(prefix.to_owned())))
            }
            _ => None,
        };
    }
    // Whole segments, as locations have them here: `^/(admin|api)(/|$)`.
    let segments = [
        "(/|$)",
        "(?:/|$)",
        "(/.*)?$",
        "(?:/.*)?$",
        "(/.*|$)",
        "($|/)",
    ];
    if let Some(body) = segments.iter().find_map(|end| pattern.strip_suffix(end)) {
        let texts = expand(body)?;
        let is_path = |text: &String| text.starts_with('/') && !text.ends_with('/');
        return (!texts.is_empty() && texts.iter().all(is_path)).then_some(Shape::Prefixes(texts));
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

/// The paths that a `rewrite` moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moved {
    /// Exactly these.
    Paths(Vec<String>),
    /// All behind this prefix, which ends in a slash; `$1` is what follows it.
    Prefix(String),
}

/// The meaning of the expression of a `rewrite`, if it is one path, `^/old/?$`, or a prefix with a
/// capture, `^/old/(.*)$`.
pub fn moved(pattern: &str) -> Option<Moved> {
    let body = pattern.strip_prefix('^')?;
    let is_path = |path: &str| path.starts_with('/') && !path.contains("//");
    for end in ["/(.*)$", "/(.*)", "/(.+)$", "/(.+)"] {
        if let Some(prefix) = body.strip_suffix(end) {
            let prefix = literal(prefix)?;
            return is_path(&prefix).then(|| Moved::Prefix(prefix + "/"));
        }
    }
    let body = body.strip_suffix('$')?;
    let (body, is_open) = match body.strip_suffix("/?") {
        Some(body) if !body.is_empty() => (body, true),
        _ => (body, false),
    };
    let mut paths = expand(body)?;
    if is_open {
        let with_slash: Vec<_> = paths.iter().map(|path| format!("{path}/")).collect();
        paths.extend(with_slash);
    }
    paths
        .iter()
        .all(|path| is_path(path))
        .then_some(Moved::Paths(paths))
}

/// The prefix that `^/prefix/(.*)$` takes away, and whether the capture begins with its slash. Without
/// the `^`, the first match of a path below the prefix is at its beginning, too.
pub fn stripped(pattern: &str) -> Option<(String, bool)> {
    let body = pattern.strip_prefix('^').unwrap_or(pattern);
    let body = body.strip_suffix('$').unwrap_or(body);
    let ends = [
        ("/?(.*)", false),
        ("/(.*)", false),
        ("/(.+)", false),
        ("(/.*)", true),
        ("(.*)", true),
    ];
    let (prefix, is_slash_captured) = ends
        .iter()
        .find_map(|(end, captured)| Some((body.strip_suffix(end)?, *captured)))?;
    let prefix = literal(prefix)?;
    (prefix.starts_with('/') && !prefix.ends_with('/')).then_some((prefix, is_slash_captured))
}

/// True if no path matches, because characters follow `$`, as where a variable was meant.
pub fn ends_before_its_end(pattern: &str) -> bool {
    // An alternative or an option could match all the same.
    if pattern.contains('|') || pattern.contains("(?") {
        return false;
    }
    let (mut depth, mut is_class, mut is_escaped) = (0_usize, false, false);
    for (at, char) in pattern.char_indices() {
        match char {
            _ if is_escaped => {
                is_escaped = false;
                continue;
            }
            '\\' => is_escaped = true,
            '[' => is_class = true,
            ']' => is_class = false,
            '(' if !is_class => depth += 1,
            ')' if !is_class => depth = depth.saturating_sub(1),
            '$' if !is_class && depth == 0 => {
                let mut behind = pattern[at + 1..].chars();
                let mut is_name = || behind.next().is_some_and(|c| c.is_ascii_alphanumeric());
                // A quantifier can make the last character optional, but not the one before.
                if is_name() && is_name() {
                    return true;
                }
            }
            _ => {}
        }
    }
    false
}

/// The hosts of `^(www\.)?a\.org$`, `^(a|b)\.org$` and the like: alternatives between both anchors.
pub fn hosts(pattern: &str) -> Option<Vec<String>> {
    let body = pattern.strip_prefix('^')?.strip_suffix('$')?;
    // An optional group at the beginning.
    let optional = body
        .strip_prefix('(')
        .and_then(|rest| rest.split_once(")?"))
        .filter(|(group, _)| !group.contains(['(', '|', ')']));
    let all = match optional {
        Some((group, rest)) => {
            let rest = expand(rest)?;
            let group = literal(group)?;
            let with = rest.iter().map(|rest| format!("{group}{rest}"));
            with.chain(rest.iter().cloned()).collect()
        }
        None => expand(body)?,
    };
    (all.len() <= MOST).then_some(all)
}

/// The methods that `^(GET|POST)$` and the like match, of those that are registered (RFC 9110, RFC 4918,
/// RFC 5789), or stand there in full.
pub fn methods(pattern: &str, is_caseless: bool) -> Option<Vec<String>> {
    let (body, begins) = match pattern.strip_prefix('^') {
        Some(body) => (body, true),
        None => (pattern, false),
    };
    let (body, ends) = match body.strip_suffix('$') {
        Some(body) => (body, true),
        None => (body, false),
    };
    let is_group = body.starts_with('(');
    // In `^GET|POST$` each anchor belongs to one alternative.
    if !is_group && body.contains('|') && (begins || ends) {
        return None;
    }
    let body = match is_group {
        true => body.to_owned(),
        false => format!("({body})"),
    };
    let mut all: Vec<String> = Vec::new();
    for text in alternatives(&body)? {
        let text = match is_caseless {
            true => text.to_ascii_uppercase(),
            false => text,
        };
        let is_name = |text: &str| text.bytes().all(|byte| byte.is_ascii_uppercase());
        // A part of a name, as in `^P`, is of no known shape.
        let is_whole = begins && ends && !text.is_empty() && is_name(&text);
        if !METHODS.contains(&&*text) && !is_whole {
            return None;
        }
        let is_found = |known: &&&str| {
            known.match_indices(&*text).any(|(at, found)| {
                (!begins || at == 0) && (!ends || at + found.len() == known.len())
            })
        };
        all.push(text.clone());
        all.extend(
            METHODS
                .iter()
                .filter(is_found)
                .map(|known| (*known).to_owned()),
        );
    }
    let mut once = Vec::new();
    all.retain(|method| {
        let is_new = !once.contains(method);
        once.push(method.clone());
        is_new
    });
    Some(all)
}

/// Methods of the registry that nginx and applications know.
const METHODS: [&str; 16] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "OPTIONS",
    "PATCH",
    "TRACE",
    "CONNECT",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
];

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
    fn a_name_behind_the_end_of_a_path_matches_nothing() {
        for pattern in ["^(.*)$http_host(.*[^/])$", "^/$uri", "^$request_uri$"] {
            assert!(ends_before_its_end(pattern), "{pattern}");
        }
        for pattern in [
            "^/a$",
            "^/(a$|b)",
            "^/[$ab]c",
            r"^/\$ab",
            "^/($ab)?",
            "^/$a?",
            "(?m)^/$ab",
            "$",
            "",
            "[",
            "\\",
        ] {
            assert!(!ends_before_its_end(pattern), "{pattern}");
        }
    }

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
        for segments in [
            "^/(admin|api)(/|$)",
            "^/(?:admin|api)(?:/|$)",
            "^/(admin|api)(/.*)?$",
        ] {
            check(segments, Some(Shape::Prefixes(texts(&["/admin", "/api"]))));
        }
        check(
            ".(ico|gif)$",
            Some(Shape::Extensions(texts(&["ico", "gif"]), None)),
        );
        check("^/api/", Some(Shape::Prefixes(texts(&["/api/"]))));
        check(
            r"^/(favicon\.ico|robots\.txt)$",
            Some(Shape::Paths(texts(&["/favicon.ico", "/robots.txt"]))),
        );
        check("^/$", Some(Shape::Paths(texts(&["/"]))));
        check(
            r"\.(css|jpe?g)$",
            Some(Shape::Extensions(texts(&["css", "jpeg", "jpg"]), None)),
        );
        check(
            r"^.+\.(ico|gif)$",
            Some(Shape::Extensions(texts(&["ico", "gif"]), None)),
        );
        check(
            r"^/static/.*\.(css|js)$",
            Some(Shape::Extensions(
                texts(&["css", "js"]),
                Some("/static/".to_owned()),
            )),
        );
        check(
            r"^/.+\.css$",
            Some(Shape::Extensions(texts(&["css"]), None)),
        );
        check(
            r"/\.well-known/acme-challenge",
            Some(Shape::Prefixes(texts(&["/.well-known/acme-challenge"]))),
        );
        check(r"\.php$", Some(Shape::Extensions(texts(&["php"]), None)));
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

    #[test]
    fn beginnings_of_segments_are_found() {
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
        let check = |pattern: &str, expected: Shape| {
            assert_eq!(shape(pattern), Some(expected), "{pattern}")
        };
        for (pattern, begin) in [
            (r"/\.", &["."][..]),
            (r"/\.ht", &[".ht"]),
            (r"/\.(?!well-known).*", &[".", "!.well-known"]),
            (r"/\.(git|svn)", &[".git", ".svn"]),
            (r"(^|/)\.", &["."]),
            (r"^.*/\.env.*$", &[".env"]),
            (r"/(wp-admin|wp-login\.php)", &["wp-admin", "wp-login.php"]),
            ("/admin", &["admin"]),
        ] {
            check(pattern, Shape::Segments(texts(begin)));
        }
        for dotfiles in [r"/\.env$", r"/\.git/", r"^/\.ht"] {
            check(dotfiles, Shape::Dotfiles);
        }
    }

    #[test]
    fn a_capture_of_all_behind_a_prefix_is_found() {
        let extensions = ["gif", "jpeg", "jpg"].map(str::to_owned).to_vec();
        assert_eq!(
            shape(r"^/img/(.+\.(?:gif|jpe?g))$"),
            Some(Shape::Extensions(extensions, Some("/img/".to_owned()))),
        );
        for (pattern, expected) in [
            (r"^/img/(.+\.(?:gif|png))$", Some("/img/")),
            (r"^/img/(.*\.png)$", Some("/img/")),
            ("^/img/(.*)$", Some("/img/")),
            (r"^/img/(.+\.(gif|png))$", None),
            (r"^/img(.+\.png)$", None),
            (r"^/(a|b)/(.+\.png)$", None),
            (r"^/img/(.+\.png)", None),
        ] {
            assert_eq!(captured_behind(pattern).as_deref(), expected, "{pattern}");
        }
    }

    #[test]
    fn rewrites_of_paths_and_prefixes_are_found() {
        let paths = |all: &[&str]| {
            let all = all.iter().map(|path| (*path).to_owned());
            Some(Moved::Paths(all.collect()))
        };
        for (pattern, expected) in [
            (r"^/favicon\.ico$", paths(&["/favicon.ico"])),
            ("^/$", paths(&["/"])),
            ("^/old/?$", paths(&["/old", "/old/"])),
            ("^/(a|b)$", paths(&["/a", "/b"])),
            ("^/old/(.*)$", Some(Moved::Prefix("/old/".to_owned()))),
            ("^/old/(.*)", Some(Moved::Prefix("/old/".to_owned()))),
            ("^/old", None),
            ("/old/(.*)$", None),
            (r"^/v\d/(.*)$", None),
            ("^(.*)$", None),
            ("^/(.*)/$", None),
        ] {
            assert_eq!(moved(pattern), expected, "{pattern}");
        }
        for (pattern, expected) in [
            ("^/api/(.*)$", Some(("/api", false))),
            ("^/api/?(.*)", Some(("/api", false))),
            ("^/api(/.*)$", Some(("/api", true))),
            ("^/(.*)$", None),
            // Below a location of that prefix, the first match begins with the path.
            ("/api/(.*)", Some(("/api", false))),
        ] {
            let expected = expected.map(|(prefix, captured)| (prefix.to_owned(), captured));
            assert_eq!(stripped(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn hosts_between_anchors_are_found() {
        for (pattern, expected) in [
            (r"^(a\.org|b\.org)$", Some(vec!["a.org", "b.org"])),
            (r"^(www\.)?a\.org$", Some(vec!["www.a.org", "a.org"])),
            (r"^a.org$", Some(vec!["a.org"])),
            (r"^(www|api)\.a\.org$", Some(vec!["www.a.org", "api.a.org"])),
            (r"a\.org", None),
            (r"^.+\.a\.org$", None),
        ] {
            let expected = expected.map(|all| all.into_iter().map(str::to_owned).collect());
            assert_eq!(hosts(pattern), expected, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn any_pattern_is_read_without_a_panic(pattern in "(\\PC|[()|^$.*?\\\\/]){0,30}") {
            let _ = (hosts(&pattern), moved(&pattern), stripped(&pattern));
            let _ = (shape(&pattern), captured_behind(&pattern));
        }
    }
}
