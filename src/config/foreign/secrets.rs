//! Text for people without the secrets in it.
//!
//! A value is a secret if its name says so, or if it is the password of a URL. The names are those
//! that settings of web applications have: SECRET_KEY, DB_PASSWORD, API_TOKEN, SENTRY_DSN.

mod arguments;
mod programs;

use self::programs::{Found, Programs};

/// In the place of a secret.
pub const HIDDEN: &str = "***";

/// True if the value of a variable or option of this name is a secret.
pub fn is_secret(given: &str) -> bool {
    let name = given.to_ascii_uppercase();
    let words: Vec<_> = name.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let is_telling = |word: &&str| {
        let plain = word.trim_end_matches(|c: char| c.is_ascii_digit());
        let singular = plain.strip_suffix('S').unwrap_or(plain);
        [plain, singular].iter().any(|word| {
            WORDS.contains(word) || LONG_WORDS.iter().any(|telling| word.contains(telling))
        }) || plain.ends_with("PASS") && !NO_PASSWORDS.contains(&plain)
    };
    let is_variable = !given.contains(|c: char| c.is_ascii_lowercase());
    let last = words.last().unwrap_or(&"");
    words.iter().any(is_telling) || is_variable && LAST_WORDS.contains(last)
}

/// Words that end in PASS and mean no password.
const NO_PASSWORDS: &[&str] = &["BYPASS", "COMPASS"];
/// Words that mean a secret at the end of a variable's name: `BASIC_AUTH`.
const LAST_WORDS: &[&str] = &[
    "AUTH",
    "COOKIE",
    "FERNET",
    "JWT",
    "PRIVATE",
    "SIGNATURE",
    "SIGNING",
    "SK",
];

/// Words that mean a secret only if they stand alone: `KEY` does, `KEYBOARD` does not.
const WORDS: &[&str] = &[
    "KEY",
    "PASS",
    "PWD",
    "PW",
    "DSN",
    "SALT",
    "PAT",
    // Of Redis.
    "REQUIREPASS",
    "MASTERAUTH",
];
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
    // Of Azure's connections.
    "ACCOUNTKEY",
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
    let text = &*arguments::hidden(text);
    let mut result = cut(text);
    if result.len() == text.len() && result == text {
        return result;
    }
    // A quote around the secret, which the cut has left open.
    let end = text.trim_end().chars().last();
    let quote = end.filter(|last| matches!(last, '"' | '\''));
    if let Some(quote) = quote.filter(|_| result.ends_with(HIDDEN)) {
        let open = result.matches(quote).count() % 2 == 1;
        result.extend(open.then_some(quote));
    }
    result
}

/// `text` up to the first secret of a telling name, without the passwords of URLs.
fn cut(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut announced = Announced::Nothing;
    let mut programs = Programs::default();
    let sets_passwords = text.contains("chpasswd");
    for piece in text.split_inclusive(char::is_whitespace) {
        let word = piece.trim_end_matches(char::is_whitespace);
        let is_filler = word.is_empty() || FILLERS.contains(&word);
        let is_secret = match announced {
            Announced::Secret => !word.starts_with('-'),
            Announced::Literal => !word.starts_with(['-', '$']),
            Announced::User | Announced::Nothing => false,
        };
        let of_program = programs.next(word);
        if is_hidden(word) {
            result.push_str(piece);
            announced = Announced::Nothing;
            continue;
        }
        if is_secret && !is_filler {
            result.push_str(HIDDEN);
            return result;
        }
        let begins = match of_program {
            Some(Found::At(at)) => Some(at),
            _ => secret_begins(word),
        };
        if let Some(end) = begins {
            result.push_str(&word[..end]);
            result.push_str(HIDDEN);
            return result;
        }
        match announced == Announced::User || sets_passwords {
            true => result.push_str(&without_password_of_user(word)),
            false => result.push_str(&without_password_of_option(word)),
        }
        result.push_str(&piece[word.len()..]);
        if !is_filler {
            announced = match of_program {
                Some(_) => Announced::Secret,
                None => Announced::by(word),
            };
        }
    }
    result
}

/// True for the mark of a secret that is hidden already, with the end of a quote or list.
fn is_hidden(value: &str) -> bool {
    value.trim_end_matches(['"', '\'', ',', ']', ')']) == HIDDEN
}

/// The words of `text` behind names such as `--password`, which are secrets wherever they stand.
pub fn behind_names(text: &str) -> Vec<String> {
    let words: Vec<_> = text.split_whitespace().collect();
    let pairs = words.windows(2);
    let secrets = pairs
        .filter(|pair| Announced::by(pair[0]) == Announced::Secret && !pair[1].starts_with('-'));
    secrets.map(|pair| pair[1].to_owned()).collect()
}

/// The words of a command line, each [`hidden`], and without the value behind a telling option.
pub fn hidden_words(words: &[String], known: &[String]) -> Vec<String> {
    let mut announced = Announced::Nothing;
    let mut programs = Programs::default();
    let shown = words.iter().map(|word| {
        let is_secret = announced == Announced::Secret && !word.starts_with('-');
        let is_user = announced == Announced::User;
        let of_program = programs.next(word);
        announced = match word.starts_with('-') {
            _ if of_program == Some(Found::Next) => Announced::Secret,
            true => Announced::by(word),
            false => Announced::Nothing,
        };
        if let Some(Found::At(at)) = of_program {
            return format!("{}{HIDDEN}", &word[..at]);
        }
        match is_secret && !word.is_empty() {
            true => HIDDEN.to_owned(),
            false if is_user => without_password_of_user(&hidden(word, known)),
            false => hidden(word, known),
        }
    });
    shown.collect()
}

/// Words between a name and its value.
const FILLERS: &[&str] = &["=", ":", "==", "!=", "=~", "~", "~*", "!~", "!~*"];

/// What a word says about the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Announced {
    Nothing,
    /// It is a secret: `--password`, `SECRET_KEY`, `SECRET_KEY=`, `os.environ["SECRET_KEY"]`, `Bearer`.
    Secret,
    /// The same, unless it is a variable: `$http_x_token`.
    Literal,
    /// A user, perhaps with a password: `curl -u`.
    User,
}

impl Announced {
    fn by(word: &str) -> Self {
        let plain = word.trim_matches(['"', '\'']);
        if matches!(word, "-u" | "--user" | "--proxy-user") {
            return Self::User;
        }
        if ["bearer", "authorization:"].contains(&&*plain.to_ascii_lowercase()) {
            return Self::Secret;
        }
        let name = quoted_name(word).unwrap_or_else(|| {
            let name = word.trim_end_matches(['=', ':']);
            let name = name.rsplit(['=', ':']).next().unwrap_or(name);
            let is_quoted = ['"', '\''].iter().any(|quote| {
                let inside = name.strip_prefix(*quote);
                inside.is_some_and(|inside| inside.ends_with(*quote))
            });
            match is_quoted {
                true => plain,
                false => name.trim_start_matches(['(', '"', '\'']),
            }
        });
        let (name, is_variable) = match name.strip_prefix('$') {
            Some(variable) => (variable, true),
            None => (name, false),
        };
        match (is_name(name) && is_secret(name), is_variable) {
            (false, _) => Self::Nothing,
            (true, true) => Self::Literal,
            (true, false) => Self::Secret,
        }
    }
}

/// The name in the quotes of `environ["NAME"]`, `setdefault("NAME",` and `"NAME":`.
fn quoted_name(word: &str) -> Option<&str> {
    let inside = match word.strip_suffix(',') {
        Some(call) if call.contains(['"', '\'']) => call.rsplit_once('(')?.1,
        Some(_) => return None,
        None => {
            let name = word.trim_end_matches(['=', ':']);
            let index = name
                .strip_suffix(']')
                .and_then(|name| name.rsplit_once('['));
            match index {
                Some((_, name)) => name,
                None if name.len() < word.len() => name.rsplit(['{', '(']).next().unwrap_or(name),
                None => return None,
            }
        }
    };
    let name = inside.strip_prefix(['"', '\''])?;
    name.strip_suffix(['"', '\''])
}

/// The position behind the `=`, `:` or `,` of a telling name that has a value in this word.
fn secret_begins(word: &str) -> Option<usize> {
    let marks = word
        .char_indices()
        .filter(|(_, c)| matches!(c, '=' | ':' | ','));
    marks
        .map(|(at, mark)| (at + 1, mark))
        .find_map(|(end, mark)| {
            let before = &word[..end - 1];
            let name = before
                .rsplit(['=', ',', ';', '{', '[', '(', '?', '&'])
                .next();
            let name = name.unwrap_or(before);
            // `os.environ.setdefault("SECRET_KEY","x")`.
            let is_call = before.ends_with(&format!("({name}")) && name.ends_with(['"', '\'']);
            let is_named = mark != ',' || is_call;
            let name = name.trim_matches(['"', '\'', ']', ')']);
            let value = &word[end..];
            let is_secret = is_name(name) && is_secret(name);
            let is_value = !value.is_empty() && !value.starts_with("//") && !is_hidden(value);
            (is_named && is_secret && is_value).then_some(end)
        })
}

/// True for the name of a variable or an option; paths are none.
fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    !text.is_empty() && text.chars().all(is_part)
}

/// `--user=admin:***`.
fn without_password_of_option(word: &str) -> String {
    match word.split_once('=') {
        Some((name @ ("--user" | "--proxy-user"), user)) => {
            format!("{name}={}", without_password_of_user(user))
        }
        _ => without_password(word),
    }
}

/// `admin:***`.
fn without_password_of_user(word: &str) -> String {
    match word.split_once(':') {
        Some((user, password)) if !user.contains('/') && !password.is_empty() => {
            format!("{user}:{HIDDEN}")
        }
        _ => without_password(word),
    }
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
        check("gunicorn a:app -e PGPASS=x", "gunicorn a:app -e PGPASS=***");
        check("export MYPASS=abc", "export MYPASS=***");
        check("-e BASIC_AUTH=a:b -e X=1", "-e BASIC_AUTH=***");
        check("-e SESSION_COOKIE=a", "-e SESSION_COOKIE=***");
        check(
            "proxy_cache_bypass=$cookie_x",
            "proxy_cache_bypass=$cookie_x",
        );
        check("AUTH_URL=/login", "AUTH_URL=/login");
        check("env = SECRET_KEY=abc", "env = SECRET_KEY=***");
        check("env = SECRET_KEY = abc", "env = SECRET_KEY = ***");
        check("secret-key = abc def", "secret-key = ***");
        check("DB_PASSWORD='a b c' x", "DB_PASSWORD=***");
        check("run --password hunter2 -x", "run --password ***");
        check("--api-token=abc", "--api-token=***");
        check(
            "env = \"AWS_SECRET_ACCESS_KEY=x\"",
            "env = \"AWS_SECRET_ACCESS_KEY=***\"",
        );
        check(
            "env = DATABASE_URL=postgres://u:p@db/x",
            "env = DATABASE_URL=postgres://u:***@db/x",
        );
        check("redis://:p@h", "redis://:***@h");
        check("SENTRY_DSN=https://abc@sentry.io/1", "SENTRY_DSN=***");
        check("processes = 4", "processes = 4");
        check("keyboard = x", "keyboard = x");
        check("set-ph = pw=abc", "set-ph = pw=***");
        check("LABEL pw=abc", "LABEL pw=***");
        check("set $pw \"abc\"", "set $pw ***");
        check("env = STRIPE_SK=abc", "env = STRIPE_SK=***");
        check("env = FERNET=abc==", "env = FERNET=***");
        check("env = JWT_SIGNING=abc", "env = JWT_SIGNING=***");
        check("env = JWT_ALGORITHM=HS256", "env = JWT_ALGORITHM=HS256");
        check("auth_basic \"Restricted\"", "auth_basic \"Restricted\"");
        check("AUTH_USER_MODEL=a.User", "AUTH_USER_MODEL=a.User");
        check("auth_jwt \"realm\"", "auth_jwt \"realm\"");
        check(
            "env = AZ=AccountName=a;AccountKey=abc;EndpointSuffix=x",
            "env = AZ=AccountName=a;AccountKey=***",
        );
        check(
            "module = site.wsgi:application",
            "module = site.wsgi:application",
        );
        check("static-map = /tokens=/srv/x", "static-map = /tokens=/srv/x");
        check("http://host:80/a@b", "http://host:***@b");
    }

    #[test]
    fn names_may_stand_in_quotes_and_brackets() {
        let check = |text: &str, expected: &str| assert_eq!(masked(text), expected, "{text}");
        check(
            "os.environ[\"DB_PASSWORD\"] = \"abc\"",
            "os.environ[\"DB_PASSWORD\"] = ***",
        );
        check("os.environ['API_KEY']='abc'", "os.environ['API_KEY']=***");
        check(
            "os.environ.setdefault(\"STRIPE_KEY\", \"abc\")",
            "os.environ.setdefault(\"STRIPE_KEY\", ***",
        );
        check(
            "os.environ.setdefault('STRIPE_KEY','abc')",
            "os.environ.setdefault('STRIPE_KEY',***",
        );
        check("if ($http_x_token != \"abc\")", "if ($http_x_token != ***");
        check("set $api_key abc", "set $api_key ***");
        check("map $cookie_token $user", "map $cookie_token $user");
        check(
            "curl -H \"Authorization: Basic YTpi\" https://x",
            "curl -H \"Authorization: ***",
        );
        check("x = \"Bearer abc\"", "x = \"Bearer ***\"");
        check("curl -u admin:abc http://x", "curl -u admin:*** http://x");
        check("curl --user=admin:abc", "curl --user=admin:***");
        check("echo \"root:abc\" | chpasswd", "echo \"root:*** | chpasswd");
        check("{\"password\": \"abc\"}", "{\"password\": ***");
        check(
            "os.environ.update({\"API_KEY\": \"abc\"})",
            "os.environ.update({\"API_KEY\": ***",
        );
        check(
            "a certificate and a key, as in",
            "a certificate and a key, as in",
        );
        check(
            "basic_auth = \"htpasswd\", realm = x",
            "basic_auth = \"htpasswd\", realm = x",
        );
    }

    #[test]
    fn the_value_behind_an_option_is_hidden_in_a_list_of_words() {
        let words = |line: &str| -> Vec<String> { line.split(' ').map(str::to_owned).collect() };
        let check = |line: &str, expected: &str| {
            let shown = hidden_words(&words(line), &["known-secret".to_owned()]);
            assert_eq!(shown.join(" "), expected);
        };
        check("celery --password abc -A x", "celery --password *** -A x");
        check("celery --password -A x", "celery --password -A x");
        check("run --token=abc known-secret", "run --token=*** ***");
        check("curl -u me:abc key value", "curl -u me:*** key value");
    }

    #[test]
    fn passwords_of_options_that_do_not_tell_are_hidden_by_their_program() {
        let check = |text: &str, expected: &str| assert_eq!(masked(text), expected, "{text}");
        check("mysql -u root -phunter2 db", "mysql -u root -p***");
        check("mysql -u root -p db", "mysql -u root -p db");
        check("/usr/bin/mysqldump -phunter2", "/usr/bin/mysqldump -p***");
        check("redis-cli -a hunter2 ping", "redis-cli -a ***");
        check(
            "CMD [\"redis-cli\", \"-a\", \"hunter2\"]",
            "CMD [\"redis-cli\", \"-a\", ***",
        );
        check("bash -c \"mysql -phunter2\"", "bash -c \"mysql -p***\"");
        check(
            "redis-server --requirepass hunter2 --port 1",
            "redis-server --requirepass ***",
        );
        check("celery -A site -p x", "celery -A site -p x");
        check("docker run -p 80:80 mysql", "docker run -p 80:80 mysql");
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let hidden = |line: &str| hidden_words(&words(line), &[]).join(" ");
        assert_eq!(hidden("redis-cli -a hunter2 ping"), "redis-cli -a *** ping");
        assert_eq!(hidden("mysql -phunter2 db"), "mysql -p*** db");
    }

    #[test]
    fn text_that_is_masked_stays_as_it_is_and_has_its_quotes_closed() {
        let check = |text: &str, expected: &str| assert_eq!(masked(text), expected, "{text}");
        check("env = \"A_KEY=abc\"", "env = \"A_KEY=***\"");
        check(
            "env = [\"A_KEY=***\", \"B=2\", \"C_KEY=***\"]",
            "env = [\"A_KEY=***\", \"B=2\", \"C_KEY=***\"]",
        );
        check("run --password *** -x", "run --password *** -x");
        check("add_header 'X-Token' 'abc'", "add_header 'X-Token' ***");
        check(
            "more_set_headers \"X-Token: abc\"",
            "more_set_headers \"X-Token: ***\"",
        );
        check("http://x/?a=1&token=abc", "http://x/?a=1&token=***");
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
