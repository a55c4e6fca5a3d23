//! gunicorn's command line, as argparse reads it, and the words of `GUNICORN_CMD_ARGS`.

use super::settings::{self, GunicornSetting, Kind};
use super::value::{PROXY_PROTOCOLS, Value};
use crate::config::foreign::{Line, Place, Verdict, secrets};

/// Options and words of a command line.
#[derive(Debug, Default)]
pub struct Parsed {
    /// Options with their values, in order, and their text.
    pub options: Vec<(&'static GunicornSetting, Value, String)>,
    /// Words that are no options.
    pub words: Vec<String>,
    /// Options that cannot be used.
    pub lines: Vec<Line>,
}

/// Reads the words behind the name of the program.
pub fn parse(words: &[String], place: &Place) -> Parsed {
    let mut parsed = Parsed::default();
    let mut rest = words.iter().peekable();
    while let Some(word) = rest.next() {
        if word == "--" {
            parsed.words.extend(rest.by_ref().cloned());
        } else if !is_option(word) {
            parsed.words.push(word.clone());
        } else if let Err((text, problem)) = option(word, &mut rest, &mut parsed) {
            parsed.lines.push(Line {
                place: place.clone(),
                text: secrets::masked(&text),
                verdict: problem,
            });
        }
    }
    parsed
}

/// True for a word that argparse takes for an option.
fn is_option(word: &str) -> bool {
    let Some(rest) = word.strip_prefix('-') else {
        return false;
    };
    let is_number = rest.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    !rest.is_empty() && !is_number && !word.contains(' ')
}

/// True for a word that is the value of the option before it. A value that may be missing has to be a known
/// one: before gunicorn 24 such an option is a switch, and the next word may be the application.
fn is_value(word: &str, setting: &GunicornSetting) -> bool {
    match setting.kind {
        Kind::Maybe => PROXY_PROTOCOLS.contains(&&*word.to_lowercase()),
        _ => !is_option(word),
    }
}

type Words<'w> = std::iter::Peekable<std::slice::Iter<'w, String>>;

fn option(word: &str, rest: &mut Words<'_>, parsed: &mut Parsed) -> Result<(), (String, Verdict)> {
    let fail = |text: &str, problem: &str| Err((text.to_owned(), Verdict::Wrong(problem.into())));
    let (flag, mut value) = match word.split_once('=') {
        Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
        None => (word.to_owned(), None),
    };
    let mut flag = flag;
    let is_short = !word.starts_with("--");
    if is_short {
        let end = 1 + flag[1..].chars().next().map_or(0, char::len_utf8);
        if flag.len() > end {
            // `-w4`, `-DR`, and `-bhost=x`.
            value = Some(word[end..].to_owned());
            flag.truncate(end);
        }
    }
    if ["-h", "--help", "-v", "--version"].contains(&&*flag) {
        let why = "it prints a text and ends".to_owned();
        return Err((word.to_owned(), Verdict::NoEffect(why)));
    }
    let mut found = settings::of_flag(&flag);
    let setting = match (found.pop(), found.is_empty()) {
        (Some(setting), true) => setting,
        (Some(_), false) => return fail(word, "the option is ambiguous"),
        (None, _) => {
            let name = flag.trim_start_matches('-').replace('-', "_");
            let hint = settings::meant(&name)
                .and_then(settings::named)
                .and_then(|setting| setting.flags.last());
            let hint = hint.map(|flag| format!(", did you mean {flag}?"));
            return fail(
                word,
                &format!("gunicorn has no such option{}", hint.unwrap_or_default()),
            );
        }
    };
    if matches!(setting.kind, Kind::Switch | Kind::Off) {
        let is_on = setting.kind == Kind::Switch;
        let text = setting.flags.last().copied().unwrap_or_default();
        parsed
            .options
            .push((setting, Value::Bool(is_on), text.to_owned()));
        return match value {
            // The next switches of `-DR`.
            Some(more) if is_short && !more.starts_with('=') => {
                option(&format!("-{more}"), rest, parsed)
            }
            Some(_) => fail(word, "the option takes no value"),
            None => Ok(()),
        };
    }
    let value = value.map(|value| match value.strip_prefix('=') {
        Some(value) if is_short => value.to_owned(),
        _ => value,
    });
    let value = value.or_else(|| rest.next_if(|word| is_value(word, setting)).cloned());
    let text = match &value {
        Some(value) => format!("{flag} {value}"),
        None => flag.clone(),
    };
    let value = match (setting.kind, value) {
        (Kind::Maybe, None) => Value::Text("auto".to_owned()),
        (_, None) => return fail(&text, "the option needs a value"),
        (Kind::Int, Some(value)) => match value.trim().replace('_', "").parse() {
            Ok(number) => Value::Int(number),
            Err(_) => return fail(&text, "the value is no whole number"),
        },
        (Kind::Mode, Some(value)) => Value::Text(match value.strip_prefix('0') {
            Some(octal) if octal.starts_with(|c: char| c.is_ascii_digit()) => format!("0o{octal}"),
            _ => value,
        }),
        (_, Some(value)) => Value::Text(value),
    };
    parsed.options.push((setting, value, text));
    Ok(())
}

/// The words of a line, as Python's `shlex.split` has them; `None` if a quote is open.
pub fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars().peekable();
    while let Some(char) = chars.next() {
        match (quote, char) {
            (None, char) if char.is_whitespace() => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            (Some(open), _) if open == char => quote = None,
            (None, '\\') => word.get_or_insert_default().push(chars.next()?),
            // Between double quotes a backslash escapes only these.
            (Some('"'), '\\') => match chars.next_if(|next| matches!(next, '"' | '\\')) {
                Some(next) => word.get_or_insert_default().push(next),
                None => word.get_or_insert_default().push('\\'),
            },
            _ => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word.take());
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(line: &str) -> (Vec<String>, Vec<String>, Vec<String>) {
        let place = Place {
            source: "command line".into(),
            line: 0,
        };
        let words = split(line).unwrap();
        let parsed = parse(&words, &place);
        let options = parsed.options.iter();
        let options = options.map(|(setting, value, _)| {
            let value = value.text().unwrap_or_default();
            format!("{}={value}", setting.name)
        });
        let lines = parsed.lines.iter().map(Line::to_string);
        (options.collect(), parsed.words, lines.collect())
    }

    #[test]
    fn options_are_read_as_argparse_reads_them() {
        let check = |line: &str, options: &[&str], words: &[&str]| {
            let (found, rest, lines) = read(line);
            assert_eq!(
                (found, rest),
                (
                    options.iter().map(|text| (*text).to_owned()).collect(),
                    words.iter().map(|text| (*text).to_owned()).collect(),
                ),
                "{line}"
            );
            assert_eq!(lines, [""; 0], "{line}");
        };
        check(
            "mysite.wsgi:application -b 0.0.0.0:8000 -w 4 --timeout 60",
            &["bind=0.0.0.0:8000", "workers=4", "timeout=60"],
            &["mysite.wsgi:application"],
        );
        check(
            "-w4 --bind=:80 -b unix:/a=b app",
            &["workers=4", "bind=:80", "bind=unix:/a=b"],
            &["app"],
        );
        check(
            "-DR --preload app",
            &[
                "daemon=true",
                "enable_stdio_inheritance=true",
                "preload_app=true",
            ],
            &["app"],
        );
        check(
            "--access-logfile - --log-file=-",
            &["accesslog=-", "errorlog=-"],
            &[],
        );
        check(
            "--worker-cl gthread --no-sendfile",
            &["worker_class=gthread", "sendfile=false"],
            &[],
        );
        check(
            "-m 007 'app:make(\"x\")'",
            &["umask=0o07"],
            &["app:make(\"x\")"],
        );
        check(
            "--proxy-protocol -- app",
            &["proxy_protocol=auto"],
            &["app"],
        );
        check("--proxy-protocol app", &["proxy_protocol=auto"], &["app"]);
        check("--proxy-protocol V2 app", &["proxy_protocol=V2"], &["app"]);
    }

    #[test]
    fn what_argparse_refuses_is_wrong() {
        let check = |line: &str, expected: &str| {
            let (_, _, lines) = read(line);
            assert!(lines.concat().contains(expected), "{line}: {lines:?}");
        };
        check("--wrokers 4", "did you mean --workers?");
        check("--work 4", "ambiguous");
        check("-w", "needs a value");
        check("-w -b :80", "needs a value");
        check("-w four", "no whole number");
        check("--preload=yes", "takes no value");
        check("--env=API_TOKEN=x --nothing", "--nothing: wrong");
        assert_eq!(split("a 'b"), None);
        assert_eq!(split("a\\ b \"c\\d\\\"\"").unwrap(), ["a b", "c\\d\""]);
    }

    proptest! {
        #[test]
        fn any_words_are_read(words in prop::collection::vec("-{0,2}[a-z=]{0,6}\\PC{0,4}", 0..8)) {
            let place = Place { source: "x".into(), line: 0 };
            let _ = parse(&words, &place);
            let _ = split(&words.join(" "));
        }
    }
}
