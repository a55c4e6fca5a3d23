//! The arguments of factories of applications, as in `site:create_app('…')`, which may be secrets.

use std::borrow::Cow;

use super::HIDDEN;

/// `text` without the arguments of factories, unless each is as harmless as `'production'`.
pub fn hidden(text: &str) -> Cow<'_, str> {
    let mut result = Cow::Borrowed(text);
    let mut from = 0;
    while let Some(at) = result[from..].find('(').map(|at| from + at) {
        from = at + 1;
        if !is_factory(&result[..at]) {
            continue;
        }
        let end = end_of(&result[from..]).map_or(result.len(), |end| from + end);
        let arguments = &result[from..end];
        if arguments.split(',').all(is_harmless) {
            continue;
        }
        let text = format!("{}{HIDDEN}{}", &result[..from], &result[end..]);
        result = Cow::Owned(text);
    }
    result
}

/// True if the text ends in `module:name`.
fn is_factory(before: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let rest = before.trim_end_matches(is_part);
    let module = rest.strip_suffix(':').filter(|_| rest.len() < before.len());
    module.is_some_and(|module| module.ends_with(is_part))
}

/// The position of the bracket that closes.
fn end_of(text: &str) -> Option<usize> {
    let mut depth = 1;
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), _) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// Words for the kind of a configuration, in small letters; any other word may be a secret.
const KINDS: &[&str] = &[
    "",
    "app",
    "base",
    "ci",
    "config",
    "debug",
    "default",
    "dev",
    "develop",
    "development",
    "docker",
    "false",
    "flask",
    "heroku",
    "live",
    "local",
    "main",
    "none",
    "prod",
    "production",
    "qa",
    "release",
    "settings",
    "site",
    "stage",
    "staging",
    "test",
    "testing",
    "true",
    "uat",
    "web",
    "www",
];

/// True for a word that says the kind of a configuration, a path or name of a module with such a part, a number, or
/// such a value behind a name: names that tell are dealt with elsewhere.
fn is_harmless(argument: &str) -> bool {
    let value = argument
        .split_once('=')
        .map_or(argument, |(_, value)| value);
    let value = value.trim().trim_matches(['\\', '"', '\'']);
    // `config:/srv/app.ini#main` of Paste.
    let value = value.strip_prefix("config:").unwrap_or(value);
    let mut parts = value.split(['.', '#']).map(str::to_ascii_lowercase);
    let is_plain = value
        .chars()
        .all(|c| c.is_ascii_alphabetic() || "_-./#".contains(c));
    // `config.ProdConfig` has a kind in it.
    let is_kind = |part: String| {
        let part = part.trim_end_matches("config").trim_end_matches("settings");
        KINDS.contains(&part.trim_end_matches(['_', '-']))
    };
    let is_word = is_plain && (value.starts_with('/') || parts.any(is_kind));
    is_word || value.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_may_be_secrets_are_hidden() {
        for (text, expected) in [
            (
                "gunicorn 'a:create_app(\"tok_5\", 1)' -w 2",
                "gunicorn 'a:create_app(***)' -w 2",
            ),
            ("a.b:f('x1)', (2))", "a.b:f(***)"),
            ("a:f('x1", "a:f(***"),
            ("a:f('production')", "a:f('production')"),
            (
                "a:f(config='config.Prod', debug=False, n=3)",
                "a:f(config='config.Prod', debug=False, n=3)",
            ),
            ("a:f()", "a:f()"),
            ("a:f('correcthorse')", "a:f(***)"),
            ("a:f(key='hunter')", "a:f(***)"),
            ("a:f('my-test-horse')", "a:f(***)"),
            (
                "a:f('config.ProductionConfig')",
                "a:f('config.ProductionConfig')",
            ),
            ("a:f(None, True)", "a:f(None, True)"),
            (
                "a:f(\"config:/srv/app.ini#main\")",
                "a:f(\"config:/srv/app.ini#main\")",
            ),
            ("~ ^/(?:a|b)(.x1)", "~ ^/(?:a|b)(.x1)"),
            ("%(host):%(port)", "%(host):%(port)"),
        ] {
            assert_eq!(hidden(text), expected, "{text}");
        }
    }
}
