//! Placeholders of `envsubst`, `sed` and template engines, which are filled when a container starts.

use super::tree::Tree;

/// Fills `$NAME` and `${NAME}` of `envsubst`: names in capitals that are in the environment. Variables
/// of nginx are in lower case.
pub fn fill(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> String {
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
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            rest = &rest[at + 1..];
            let (found, length) = name(rest);
            if let Some(found) =
                found.filter(|found| variable(found).is_none() && !is_defined(tree, found))
            {
                return Some(format!("${found}"));
            }
            rest = &rest[length..];
        }
        None
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
