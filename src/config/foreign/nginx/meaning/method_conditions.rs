//! The shapes of `if ($request_method …)` that are understood, and of `if` for requests without TLS.

use super::{Meaning, regex};
use crate::config::methods::{Methods, method_name};

/// An `if` on the method.
pub struct Condition {
    /// As `[[location]] method` takes them.
    pub methods: Vec<String>,
    /// Its content.
    pub kind: Kind,
}

/// The content of an `if`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It answers.
    Returns,
    /// It changes header fields of the response.
    AddsHeaders,
}

/// The condition of an `if` at `at`, if it is one on the method, of a known shape.
pub fn condition(meaning: &Meaning<'_>, at: usize) -> Option<Condition> {
    let methods = compared(&meaning.args(at).join(" "))?;
    let inside: Vec<&str> = meaning
        .tree
        .children(Some(at))
        .map(|child| meaning.name(child))
        .collect();
    let returns = |name: &&str| matches!(*name, "return" | "rewrite");
    let adds = |name: &&str| matches!(*name, "add_header" | "expires");
    let kind = match inside.iter().any(returns) {
        true => Kind::Returns,
        false => Kind::AddsHeaders,
    };
    let is_known = |name: &&str| returns(name) || adds(name);
    (!inside.is_empty() && inside.iter().all(is_known)).then_some(Condition { methods, kind })
}

/// The methods of `($request_method = GET)`, `!=`, `~ ^(GET|HEAD)$` and so on, as the setting has
/// them.
fn compared(text: &str) -> Option<Vec<String>> {
    let inner = text.strip_prefix('(')?.strip_suffix(')')?.trim();
    let rest = inner
        .strip_prefix("$request_method")
        .or_else(|| inner.strip_prefix("${request_method}"))?
        .trim_start();
    let (operator, value) = ["!~*", "!~", "!=", "~*", "~", "="]
        .iter()
        .find_map(|operator| Some((*operator, rest.strip_prefix(operator)?)))?;
    let value = value.trim().trim_matches(['"', '\'']);
    let all = match operator.ends_with('=') {
        true => vec![value.to_owned()],
        false => regex::methods(value, operator.ends_with('*'))?,
    };
    let sign = if operator.starts_with('!') { "!" } else { "" };
    let all: Vec<String> = all.iter().map(|method| format!("{sign}{method}")).collect();
    let is_method = |text: &String| method_name(text).is_ok();
    (!all.is_empty() && all.iter().all(is_method)).then_some(all)
}

/// The one line of an `if` for requests without TLS.
pub fn of_plain(meaning: &Meaning<'_>, at: usize) -> Option<usize> {
    let text = meaning.args(at).concat().replace(['"', '\''], "");
    let is_plain = matches!(
        &*text,
        "($scheme=http)" | "($scheme!=https)" | "($https=)" | "($https!=on)"
    );
    let inside: Vec<_> = meaning.tree.children(Some(at)).collect();
    match inside[..] {
        [line] if is_plain && matches!(meaning.name(line), "return" | "rewrite") => Some(line),
        _ => None,
    }
}

/// The set of methods of a setting's values.
pub fn set(values: &[String]) -> Methods {
    let named = values.iter().filter_map(|text| method_name(text).ok());
    Methods::of(named.collect()).unwrap_or_default()
}

/// True if a method is in both of two settings.
pub fn is_shared(one: &[String], other: &[String]) -> bool {
    set(one).overlap(&set(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_of_conditions_are_read() {
        for (text, expected) in [
            ("($request_method = 'OPTIONS')", Some(vec!["OPTIONS"])),
            ("( $request_method = OPTIONS )", Some(vec!["OPTIONS"])),
            ("($request_method = \"POST\")", Some(vec!["POST"])),
            ("($request_method != GET)", Some(vec!["!GET"])),
            (
                "($request_method ~ ^(GET|HEAD)$)",
                Some(vec!["GET", "HEAD"]),
            ),
            (
                "($request_method !~ ^(GET|HEAD|POST)$ )",
                Some(vec!["!GET", "!HEAD", "!POST"]),
            ),
            (
                "($request_method ~* \"(GET|POST)\")",
                Some(vec!["GET", "POST"]),
            ),
            (
                "($request_method ~* ^(put|delete)$)",
                Some(vec!["PUT", "DELETE"]),
            ),
            ("($request_method ~ ^(put)$)", None),
            ("($request_method ~ LOCK)", Some(vec!["LOCK", "UNLOCK"])),
            ("($request_method ~ ^LOCK)", Some(vec!["LOCK"])),
            ("($request_method ~ ^P)", None),
            ("($request_method ~ [A-Z]+)", None),
            ("($request_method)", None),
            ("($host = a)", None),
        ] {
            let expected = expected.map(|all| all.into_iter().map(str::to_owned).collect());
            assert_eq!(compared(text), expected, "{text}");
        }
    }
}
