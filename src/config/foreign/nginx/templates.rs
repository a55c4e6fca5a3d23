//! Placeholders of `envsubst`, `sed` and template engines, which are filled when a container starts.
//!
//! A start fills those of `envsubst` from its environment. Where a variable is not set, as for a
//! file that is only explained, a number takes its place while the file is read ([`StandIns`]): so
//! the lines around it get the verdicts that they have behind the start.

use std::collections::BTreeSet;

use super::tree::{Directive, Tree};
use crate::config::foreign::{Reading, Verdict};

/// Fills `$NAME` and `${NAME}` of `envsubst`: names in capitals that are in the environment. Variables
/// of nginx are in lower case.
fn fill(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let (name, length) = name(behind);
        match name.and_then(variable) {
            Some(value) => result.push_str(&value),
            None => result.push_str(&rest[at..at + 1 + length]),
        }
        rest = &behind[length..];
    }
    result.push_str(rest);
    result
}

/// The name in capitals at the beginning, and the length of what stands there.
fn name(text: &str) -> (Option<&str>, usize) {
    let (inner, is_braced) = match text.strip_prefix('{') {
        Some(inner) => (inner, true),
        None => (text, false),
    };
    let length = inner
        .bytes()
        .take_while(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_')
        .count();
    let is_name = inner
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_uppercase());
    let ends = match is_braced {
        true => inner[length..].starts_with('}'),
        false => !inner[length..].starts_with(|c: char| c.is_ascii_lowercase()),
    };
    match is_name && ends {
        true => (Some(&inner[..length]), length + 2 * usize::from(is_braced)),
        false => (None, 0),
    }
}

/// Numbers in the place of variables that are not set now.
#[derive(Debug, Default)]
pub struct StandIns {
    /// Names with their numbers, which do not occur in the file.
    numbers: Vec<(String, String)>,
    /// The first of these names in each directive.
    used: Vec<Option<String>>,
}

impl StandIns {
    /// Numbers for the variables whose place takes any number; `has_app` if a `uwsgi_pass` may mean
    /// the application.
    pub fn of(tree: &Tree, variable: &dyn Fn(&str) -> Option<String>, has_app: bool) -> Self {
        let mut found: Vec<String> = Vec::new();
        let mut refused: Vec<String> = Vec::new();
        let mut paths = BTreeSet::new();
        for item in &tree.items {
            for text in item.texts() {
                for (name, behind) in names_of(text) {
                    if variable(name).is_some() || is_defined(tree, name) {
                        continue;
                    }
                    if is_path(item, text) {
                        paths.insert(name.to_owned());
                    }
                    let takes_number = match is_path(item, text) {
                        true => !behind.starts_with(|c: char| c.is_ascii_digit()),
                        false => !behind.starts_with(|c: char| c.is_ascii_alphanumeric()),
                    };
                    let list = match takes_number && has_place(item, text, has_app) {
                        true => &mut found,
                        false => &mut refused,
                    };
                    if !list.iter().any(|known| known == name) {
                        list.push(name.to_owned());
                    }
                }
            }
        }
        found.retain(|name| !refused.contains(name));
        let is_free = |number: &String| {
            let mut items = tree.items.iter();
            !items.any(|item| item.text.contains(number.as_str()))
        };
        let mut numbers = (FIRST..=u16::MAX).map(|n| n.to_string()).filter(is_free);
        let numbers = found.into_iter().map_while(|name| {
            let number = numbers.next()?;
            let slash = if paths.contains(&name) { "/" } else { "" };
            Some((name, format!("{slash}{number}")))
        });
        Self {
            numbers: numbers.collect(),
            used: Vec::new(),
        }
    }

    /// Fills the placeholders of all directives, with these numbers where `variable` has no value.
    pub fn fill(&mut self, tree: &mut Tree, variable: &dyn Fn(&str) -> Option<String>) {
        for item in &mut tree.items {
            self.used.push(self.first_in(item));
            let value = |name: &str| variable(name).or_else(|| self.number(name));
            for word in &mut item.args {
                word.text = fill(&word.text, &value);
            }
            // A variable alone on its line that is empty leaves the directive behind it.
            while item.name.starts_with('$') && fill(&item.name, &value).is_empty() {
                if item.args.is_empty() {
                    break;
                }
                item.name = item.args.remove(0).text;
            }
        }
    }

    /// The first name of a directive that has a number.
    fn first_in(&self, item: &Directive) -> Option<String> {
        let mut own = item.texts().flat_map(names_of).map(|(name, _)| name);
        own.find(|name| self.number(name).is_some())
            .map(str::to_owned)
    }

    fn number(&self, name: &str) -> Option<String> {
        let mut all = self.numbers.iter();
        all.find(|(own, _)| own == name)
            .map(|(_, number)| number.clone())
    }

    /// Puts the names back in the place of the numbers, and says which lines the start fills.
    pub fn put_back(&self, reading: &mut Reading) {
        if self.numbers.is_empty() {
            return;
        }
        let named = |text: &str| {
            let mut text = text.to_owned();
            for (name, number) in &self.numbers {
                text = text.replace(number.as_str(), &format!("${{{name}}}"));
            }
            text
        };
        reading.layer.change_values(&named);
        for (text, reason) in &mut reading.implied {
            (*text, *reason) = (named(text), named(reason));
        }
        for (at, line) in reading.lines.iter_mut().enumerate() {
            line.verdict = line.verdict.map(named);
            let Some(name) = self.used.get(at).and_then(Option::as_ref) else {
                continue;
            };
            // The application needs no address.
            let is_needed = match &line.verdict {
                Verdict::Honoured(text) => text != APPLICATION,
                Verdict::Read(_)
                | Verdict::Noted(_)
                | Verdict::Differs(_)
                | Verdict::Dangerous(_) => true,
                _ => false,
            };
            if is_needed {
                let text = format!("the variable {name} is not set now");
                line.verdict = Verdict::AtStart(text);
            }
        }
    }
}

/// The verdict of a `uwsgi_pass` or `proxy_pass` to the application.
pub const APPLICATION: &str = "the application";

/// Lowest number that stands for a variable: a port, as most of them are.
const FIRST: u16 = 60_001;

/// True for the path of a location that begins with a placeholder, whose value then has the slash.
fn is_path(item: &Directive, text: &str) -> bool {
    let is_last = item.args.last().is_some_and(|word| word.text == text);
    item.name == "location" && is_last && text.starts_with('$')
}

/// True if the file reads the same for every value of the placeholders in this argument: the address of
/// a server may name a port or not, or be a URL.
fn has_place(item: &Directive, text: &str, has_app: bool) -> bool {
    match &*item.name {
        "proxy_pass" | "server" => {
            let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
            let authority = rest.split('/').next().unwrap_or_default();
            authority.contains(':') && (item.name == "server" || text.contains("://"))
        }
        "uwsgi_pass" => has_app || text.contains(':'),
        _ => true,
    }
}

/// The names in a text, each with what follows it.
fn names_of(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let behind = &rest[rest.find('$')? + 1..];
            let (found, length) = name(behind);
            rest = &behind[length..];
            if let Some(found) = found {
                return Some((found, rest));
            }
        }
    })
}

/// A placeholder of a directive that is not filled.
pub fn unfilled(
    tree: &Tree,
    at: usize,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Option<String> {
    let item = &tree.items[at];
    item.texts().find_map(|text| {
        if let Some(start) = text.find("{{") {
            return Some(
                text[start..]
                    .split_inclusive("}}")
                    .next()
                    .unwrap_or(text)
                    .to_owned(),
            );
        }
        if let Some(name) = enclosed(text) {
            return Some(name.to_owned());
        }
        names_of(text)
            .map(|(name, _)| name)
            .find(|name| variable(name).is_none() && !is_defined(tree, name))
            .map(|name| format!("${name}"))
    })
}

/// `__HOST__`, `%%HOST%%`, `%HOST%`, `@HOST@` or `<HOST>` in a text, or a word that says that it stands
/// for another, `PORT_PLACEHOLDER`.
fn enclosed(text: &str) -> Option<&str> {
    let ends = [
        ("__", "__"),
        ("%%", "%%"),
        ("%", "%"),
        ("@", "@"),
        ("<", ">"),
        ("#", "#"),
    ];
    let found = ends
        .iter()
        .find_map(|(open, close)| between(text, open, close));
    let word = || {
        let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.find(|word| {
            let is_name = word.contains('_') && !word.bytes().any(|byte| byte.is_ascii_lowercase());
            is_name && (word.ends_with("_PLACEHOLDER") || word.starts_with("PLACEHOLDER_"))
        })
    };
    found.or_else(word)
}

/// A name in capitals with these marks around it.
fn between<'t>(text: &'t str, open: &str, close: &str) -> Option<&'t str> {
    let mut from = 0;
    while let Some(at) = text[from..].find(open) {
        let start = from + at;
        let inner = &text[start + open.len()..];
        let length = inner
            .bytes()
            .take_while(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_')
            .count();
        // An underscore may belong to the mark behind the name.
        let name = inner[..length].trim_end_matches('_');
        let is_name = name
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_uppercase());
        if is_name && name.len() > 1 && inner[name.len()..].starts_with(close) {
            return Some(&text[start..start + open.len() + name.len() + close.len()]);
        }
        from = start + open.len();
    }
    None
}

/// True if the file itself gives the variable a value.
fn is_defined(tree: &Tree, name: &str) -> bool {
    let variable = format!("${name}");
    tree.items.iter().any(|item| match &*item.name {
        "set" => item.arg(0) == variable,
        "map" | "geo" | "split_clients" => item.args.last().is_some_and(|arg| arg.text == variable),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_in_capitals_are_filled() {
        let variable = |name: &str| (name == "PORT").then(|| "8080".to_owned());
        for (text, expected) in [
            ("$PORT", "8080"),
            ("0.0.0.0:${PORT};", "0.0.0.0:8080;"),
            ("$PORTs ${PORTS} $port", "$PORTs ${PORTS} $port"),
            ("$", "$"),
            ("${", "${"),
        ] {
            assert_eq!(fill(text, &variable), expected, "{text}");
        }
    }

    #[test]
    fn placeholders_of_other_programs_are_found() {
        for (text, expected) in [
            ("__HOST__", Some("__HOST__")),
            ("http://__APP_HOST__:80", Some("__APP_HOST__")),
            ("%%HOST%%", Some("%%HOST%%")),
            ("http://@BACKEND@:80", Some("@BACKEND@")),
            ("<HOST>", Some("<HOST>")),
            ("PORT_PLACEHOLDER", Some("PORT_PLACEHOLDER")),
            ("/a__b__c", None),
            ("%20A%20", None),
            ("@app", None),
            ("HTTP_HOST", None),
            ("%2A%", None),
        ] {
            assert_eq!(enclosed(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_filled_without_a_panic(text in "(\\PC|[${}A_]){0,30}") {
            let _ = fill(&text, &|_| Some("x".to_owned()));
            let _ = enclosed(&text);
        }
    }
}
