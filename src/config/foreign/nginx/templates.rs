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
        if let Some(name) = underlined(text) {
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

/// `__HOST__` in a text.
fn underlined(text: &str) -> Option<&str> {
    let start = text.find("__")?;
    let inner = &text[start + 2..];
    let end = inner.find("__")?;
    let name = &inner[..end];
    let is_name = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    is_name.then(|| &text[start..start + end + 4])
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

    proptest! {
        #[test]
        fn any_text_is_filled_without_a_panic(text in "(\\PC|[${}A_]){0,30}") {
            let _ = fill(&text, &|_| Some("x".to_owned()));
            let _ = underlined(&text);
        }
    }
}
