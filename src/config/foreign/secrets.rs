//! Text for people without the secrets in it.
//!
//! A value is a secret if its name says so, or if it is the password of a URL. The names are those
//! that settings of web applications have: SECRET_KEY, DB_PASSWORD, API_TOKEN, SENTRY_DSN.

/// In the place of a secret.
pub const HIDDEN: &str = "***";

/// True if the value of a variable or option of this name is a secret.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let words: Vec<_> = name.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let is_telling = |word: &&str| {
        let plain = word.trim_end_matches(|c: char| c.is_ascii_digit());
        let singular = plain.strip_suffix('S').unwrap_or(plain);
        [plain, singular].iter().any(|word| {
            WORDS.contains(word) || LONG_WORDS.iter().any(|telling| word.contains(telling))
        })
    };
    words.iter().any(is_telling)
}

/// Words that mean a secret only if they stand alone: `KEY` does, `KEYBOARD` does not.
const WORDS: &[&str] = &["KEY", "PASS", "PWD", "DSN", "SALT", "PAT"];
/// Words that mean one wherever they stand.
const LONG_WORDS: &[&str] = &[
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "TOKEN",
    "CREDENTIAL",
    "APIKEY",
    "SECRETKEY",
    "PRIVATEKEY",
    "ACCESSKEY",
];

/// The value of `name` for people.
pub fn value(name: &str, value: &str) -> String {
    match is_secret(name) && !value.is_empty() {
        true => HIDDEN.to_owned(),
        false => masked(value),
    }
}

/// [`masked`], and without these `known` secrets wherever they stand.
pub fn hidden<'a>(text: &str, known: impl IntoIterator<Item = &'a String>) -> String {
    masked(&without_known(text, known))
}

/// `text` without these `known` secrets; it has been [`masked`] already.
pub fn without_known<'a>(text: &str, known: impl IntoIterator<Item = &'a String>) -> String {
    let known = known.into_iter().filter(|secret| secret.len() >= SHORTEST);
    known.fold(text.to_owned(), |text, secret| text.replace(secret, HIDDEN))
}

/// Shortest secret that is looked for in other values: a shorter one is part of many words.
const SHORTEST: usize = 4;

/// `text` without the passwords of URLs in it, and without all that follows a telling name
/// (`DB_PASSWORD=x y`, `--token x`): a value ends nowhere for sure.
pub fn masked(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut is_next = false;
    for piece in text.split_inclusive(char::is_whitespace) {
        let word = piece.trim_end_matches(char::is_whitespace);
        let is_filler = word.is_empty() || matches!(word, "=" | ":");
        if is_next && !is_filler && !word.starts_with('-') {
            result.push_str(HIDDEN);
            return result;
        }
        if let Some(end) = secret_begins(word) {
            result.push_str(&word[..end]);
            result.push_str(HIDDEN);
            return result;
        }
        result.push_str(&without_password(word));
        result.push_str(&piece[word.len()..]);
        is_next = (is_next && is_filler) || announces_secret(word);
    }
    result
}

/// The words of `text` behind names such as `--password`, which are secrets wherever they stand.
pub fn behind_names(text: &str) -> Vec<String> {
    let words: Vec<_> = text.split_whitespace().collect();
    let pairs = words.windows(2);
    let secrets = pairs.filter(|pair| announces_secret(pair[0]) && !pair[1].starts_with('-'));
    secrets.map(|pair| pair[1].to_owned()).collect()
}

/// True for `--password`, `SECRET_KEY` and `SECRET_KEY=`, with a value behind a space.
fn announces_secret(word: &str) -> bool {
    let name = word.trim_end_matches(['=', ':']);
    let name = name.rsplit(['=', ':']).next().unwrap_or(name);
    is_name(name) && is_secret(name)
}

/// The position behind the `=` or `:` of a telling name that has a value in this word.
fn secret_begins(word: &str) -> Option<usize> {
    let marks = word.char_indices().filter(|(_, c)| matches!(c, '=' | ':'));
    marks.map(|(at, _)| at + 1).find(|end| {
        let before = &word[..end - 1];
        let name = before.rsplit(['=', ',', '{', '[', '(']).next();
        let name = name.unwrap_or(before).trim_matches(['"', '\'']);
        let value = &word[*end..];
        is_name(name) && is_secret(name) && !value.is_empty() && !value.starts_with("//")
    })
}

/// True for the name of a variable or an option; paths are none.
fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    !text.is_empty() && text.chars().all(is_part)
}

/// `postgres://user:***@host/db`.
fn without_password(word: &str) -> String {
    let Some(start) = word.find("://").map(|at| at + 3) else {
        return word.to_owned();
    };
    let rest = &word[start..];
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    // A password may have a slash or an `@` in it that should have been encoded.
    let Some(end) = authority.rfind('@').or_else(|| rest.rfind('@')) else {
        return word.to_owned();
    };
    match rest[..end].split_once(':') {
        Some((user, _)) => format!("{}{user}:{HIDDEN}{}", &word[..start], &rest[end..]),
        None => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_of_telling_names_are_hidden() {
        let check = |text: &str, expected: &str| assert_eq!(masked(text), expected, "{text}");
        check("env = SECRET_KEY=abc", "env = SECRET_KEY=***");
        check("env = SECRET_KEY = abc", "env = SECRET_KEY = ***");
        check("secret-key = abc def", "secret-key = ***");
        check("DB_PASSWORD='a b c' x", "DB_PASSWORD=***");
        check("run --password hunter2 -x", "run --password ***");
        check("--api-token=abc", "--api-token=***");
        check(
            "env = \"AWS_SECRET_ACCESS_KEY=x\"",
            "env = \"AWS_SECRET_ACCESS_KEY=***",
        );
        check(
            "env = DATABASE_URL=postgres://u:p@db/x",
            "env = DATABASE_URL=postgres://u:***@db/x",
        );
        check("redis://:p@h", "redis://:***@h");
        check("SENTRY_DSN=https://abc@sentry.io/1", "SENTRY_DSN=***");
        check("processes = 4", "processes = 4");
        check("keyboard = x", "keyboard = x");
        check(
            "module = site.wsgi:application",
            "module = site.wsgi:application",
        );
        check("static-map = /tokens=/srv/x", "static-map = /tokens=/srv/x");
        check("http://host:80/a@b", "http://host:***@b");
    }

    proptest! {
        #[test]
        fn any_text_is_masked_without_a_panic_and_without_its_secret(text in "\\PC{0,40}", secret in "[a-zA-Z0-9]{12}") {
            let _ = masked(&text);
            let all = format!("{text} API_TOKEN={secret}");
            prop_assert!(!masked(&all).contains(&secret));
        }
    }
}
