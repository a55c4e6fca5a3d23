//! Lines for the shell: the commands of a line, and the words of a command. Quotes, backslashes and operators
//! are understood; expansions stay as they are written.

use std::ops::Range;

/// Numbers that stand for variables of a command while a reader, which knows no shell, has it: ports, as most
/// variables are, which no option has.
pub const VARIABLES: Range<usize> = 61_007..62_007;

/// A simple command in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Its words, without quotes; redirections are words too.
    pub words: Vec<String>,
    /// Its text in the line, without blanks around.
    pub span: Range<usize>,
    /// The operator behind it, such as `&&`; empty at the end.
    pub operator: String,
}

/// The commands of a line; `None` if a quote is not closed.
pub fn commands(line: &str) -> Option<Vec<Command>> {
    let bytes = line.as_bytes();
    let mut commands = Vec::new();
    let (mut start, mut at) = (0, 0);
    let mut quote = None;
    while at < bytes.len() {
        let byte = bytes[at];
        match (quote, byte) {
            (Some(b'\''), b'\'') | (Some(b'"'), b'"') => quote = None,
            (Some(b'"') | None, b'\\') => at += 1,
            (Some(_), _) => {}
            (None, b'\'' | b'"') => quote = Some(byte),
            (None, b'#') if at == 0 || bytes[at - 1].is_ascii_whitespace() => {
                let end = line[at..].find('\n').map_or(bytes.len(), |end| at + end);
                push(&mut commands, line, start..at, "")?;
                (start, at) = (end, end);
                continue;
            }
            (None, b'&' | b'|' | b';' | b'\n') => {
                let is_redirection = byte == b'&'
                    && (at > 0 && bytes[at - 1] == b'>' || bytes.get(at + 1) == Some(&b'>'));
                if !is_redirection {
                    let is_double = byte != b'\n' && bytes.get(at + 1) == Some(&byte);
                    let end = at + if is_double { 2 } else { 1 };
                    push(&mut commands, line, start..at, &line[at..end])?;
                    (start, at) = (end, end);
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    push(&mut commands, line, start..bytes.len(), "")?;
    if quote.is_some() {
        return None;
    }
    join_patterns(&mut commands, line)?;
    Some(commands)
}

/// Makes one command of `web|worker) exec x`, a pattern of `case` with what follows it.
fn join_patterns(commands: &mut Vec<Command>, line: &str) -> Option<()> {
    let mut at = 0;
    while at + 1 < commands.len() {
        let rest = commands[at..].windows(2);
        let steps = rest.take_while(|pair| pair[0].operator == "|" && pair[0].words.len() == 1);
        let end = at + steps.count();
        let is_pattern = end > at
            && commands[end]
                .words
                .first()
                .is_some_and(|word| is_pattern(word));
        if is_pattern {
            let span = commands[at].span.start..commands[end].span.end;
            let joined = Command {
                words: words(&line[span.clone()])?,
                span,
                operator: commands[end].operator.clone(),
            };
            commands.splice(at..=end, [joined]);
        }
        at += 1;
    }
    Some(())
}

/// True for the end of a pattern of `case`, and for the head of a function, `serve()`.
pub fn is_pattern(word: &str) -> bool {
    word.ends_with("()") || word.len() > 1 && word.ends_with(')') && !word.contains('(')
}

/// True for a word that belongs to the syntax of the shell, as `then` does, and has no quotes.
pub fn is_syntax(word: &str) -> bool {
    is_pattern(word) || SYNTAX.contains(&word)
}

fn push(
    commands: &mut Vec<Command>,
    line: &str,
    range: Range<usize>,
    operator: &str,
) -> Option<()> {
    let text = &line[range.clone()];
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Some(());
    }
    let start = range.start + (text.len() - text.trim_start().len());
    commands.push(Command {
        words: words(trimmed)?,
        span: start..start + trimmed.len(),
        operator: operator.to_owned(),
    });
    Some(())
}

/// The words of a command; `None` if a quote is not closed.
pub fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        match (quote, char) {
            (None, char) if char.is_whitespace() => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            (Some(open), _) if open == char => quote = None,
            (None | Some('"'), '\\') => match chars.next() {
                // A line that goes on.
                Some('\n') => {}
                next => word.get_or_insert_default().extend(next),
            },
            _ => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word.take());
    quote.is_none().then_some(words)
}

/// Words before a program that only change how it runs.
const BEFORE: &[&str] = &["command", "nohup", "time", "setsid"];
/// Words of the shell's syntax before a program.
const SYNTAX: &[&str] = &[
    "!", "{", "(", "if", "then", "else", "elif", "do", "while", "until",
];
/// The same with options of their own, and those of them that have a value in the next word.
const WITH_OPTIONS: &[(&str, &[&str])] = &[
    ("exec", &["-a"]),
    ("env", &["-u", "--unset", "-C", "--chdir"]),
    ("sudo", &["-u", "--user", "-g", "--group"]),
    ("nice", &["-n", "--adjustment"]),
    ("ionice", &["-c", "--class", "-n", "--classdata"]),
    ("setpriv", &["--reuid", "--regid", "--groups"]),
    ("runuser", &["-u", "--user", "-g", "--group"]),
    ("stdbuf", &["-i", "-o", "-e"]),
    (
        "chpst",
        &[
            "-u", "-U", "-e", "-n", "-/", "-C", "-b", "-m", "-d", "-o", "-p", "-f", "-c",
        ],
    ),
];
/// Programs that run the one behind them, after a user.
const AS_USER: &[&str] = &["su-exec", "gosu", "setuser", "s6-setuidgid", "setuidgid"];
/// Programs that run the one behind a word of theirs.
const RUNNERS: &[(&str, &str)] = &[
    ("newrelic-admin", "run-program"),
    ("poetry", "run"),
    ("pipenv", "run"),
    ("uv", "run"),
    ("pdm", "run"),
    ("hatch", "run"),
    ("rye", "run"),
    ("dotenv", "run"),
];
/// Programs that run the one behind their options.
const INITS: &[&str] = &[
    "tini",
    "dumb-init",
    "catatonit",
    "ddtrace-run",
    "opentelemetry-instrument",
    "with-contenv",
];

/// The position of the program in the words of a command: behind variables, `exec`, `gosu USER`,
/// `tini --` and the like; `python -m gunicorn` runs gunicorn.
pub fn program(words: &[String]) -> usize {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let base = word.rsplit('/').next().unwrap_or(word);
        let is_variable = word.split_once('=').is_some_and(|(name, _)| is_name(name));
        if is_variable || BEFORE.contains(&base) || is_syntax(word) {
            at += 1;
        } else if let Some((_, valued)) = WITH_OPTIONS.iter().find(|(name, _)| *name == base) {
            at = behind_options(words, at + 1, valued);
        } else if AS_USER.contains(&base) {
            at += 2;
        } else if INITS.contains(&base) {
            at = behind_options(words, at + 1, &[]);
        } else if let Some(next) = words.get(at + 1)
            && RUNNERS
                .iter()
                .any(|(name, verb)| *name == base && verb == next)
        {
            at = behind_options(words, at + 2, &[]);
        } else if base.starts_with("wait-for") {
            match words[at..].iter().position(|word| word == "--") {
                Some(behind) => at += behind + 1,
                None => break,
            }
        } else if base.starts_with("python") && words.get(at + 1).is_some_and(|word| word == "-m") {
            at += 2;
        } else if base.starts_with("python") && words.get(at + 1).is_some_and(is_installed) {
            at += 1;
        } else {
            break;
        }
    }
    at.min(words.len().saturating_sub(1))
}

/// The words without redirections, and these as one writes them: `>> /var/log/x 2>&1`.
pub fn without_redirections(words: &[String]) -> (Vec<String>, String) {
    let (mut rest, mut found) = (Vec::new(), Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let start = word.trim_start_matches(|c: char| c.is_ascii_digit() || c == '&');
        let target = start.trim_start_matches(['>', '<']);
        let is_operator = target.len() < start.len() && word.len() - start.len() < 2;
        match (is_operator, target) {
            (false, _) => rest.push(word.clone()),
            // `2>&1`, `>/var/log/x`.
            (true, target) if !target.is_empty() => found.push(word.clone()),
            (true, _) => {
                found.push(word.clone());
                found.extend(words.next().map(|word| quoted(word)));
            }
        }
    }
    (rest, found.join(" "))
}

/// The position of a program that runs the one behind it in an environment of its own: `poetry run gunicorn`.
pub fn runner(words: &[String]) -> Option<usize> {
    let end = program(words);
    let bases = words[..end]
        .iter()
        .map(|word| word.rsplit('/').next().unwrap_or(word));
    let mut bases = bases.enumerate();
    let found = bases.find(|(_, base)| ENVIRONMENTS.contains(base));
    found.map(|(at, _)| at)
}

/// Programs that look for the one behind them in an environment of Python that is their own.
const ENVIRONMENTS: &[&str] = &["poetry", "pipenv", "uv", "pdm", "hatch", "rye"];

/// The position behind the options at `at`, some of which have their value in the next word.
fn behind_options(words: &[String], mut at: usize, valued: &[&str]) -> usize {
    while let Some(word) = words.get(at).filter(|word| word.starts_with('-')) {
        at += match valued.contains(&&**word) {
            true => 2,
            false => 1,
        };
        if word == "--" {
            break;
        }
    }
    at
}

/// True for a program of an environment, which its interpreter may run: `python /venv/bin/gunicorn`.
#[allow(clippy::ptr_arg, reason = "the argument of `is_some_and`")]
fn is_installed(word: &String) -> bool {
    word.contains("/bin/") && !word.ends_with(".py") && !word.starts_with('-')
}

/// The variables that stand before the program at `program`, with their values.
pub fn variables(words: &[String], program: usize) -> Vec<(String, String)> {
    let before = words.iter().take(program);
    let pairs = before.filter_map(|word| word.split_once('='));
    pairs
        .filter(|(name, _)| is_name(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Words with the values of `$NAME`, `${NAME}` and `${NAME:-default}`.
pub fn filled_in(words: &[String], value_of: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let filled = words.iter().map(|word| expanded(word, value_of));
    filled.collect()
}

fn expanded(word: &str, value_of: &dyn Fn(&str) -> Option<String>) -> String {
    let mut text = String::new();
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (name, default, behind) = match rest.strip_prefix('{') {
            Some(inside) => match inside.split_once('}') {
                Some((inside, behind)) => {
                    let (name, default) = inside.split_once(":-").unwrap_or((inside, ""));
                    (name, default, behind)
                }
                None => {
                    text.push('$');
                    continue;
                }
            },
            None => {
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let end = rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
                (&rest[..end], "", &rest[end..])
            }
        };
        if name.is_empty() {
            text.push('$');
            continue;
        }
        let value = value_of(name).filter(|value| !value.is_empty());
        text.push_str(&value.unwrap_or_else(|| default.to_owned()));
        rest = behind;
    }
    text.push_str(rest);
    text
}

/// True for the name of a variable.
pub fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !text.is_empty() && !text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(is_part)
}

/// The position of the script in the words `sh -c SCRIPT`.
pub fn script(words: &[String]) -> Option<usize> {
    let at = program(words);
    let base = words.get(at)?.rsplit('/').next()?;
    let is_shell = matches!(base, "sh" | "bash" | "dash" | "ash");
    let option = words
        .get(at + 1)
        .filter(|word| word.starts_with('-') && word.ends_with('c'));
    (is_shell && option.is_some() && words.len() > at + 2).then_some(at + 2)
}

/// A word as one writes it for the shell; variables are still replaced.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+~${}".contains(c);
    match (
        !word.is_empty() && word.chars().all(is_plain),
        word.contains('$'),
    ) {
        (true, _) => word.to_owned(),
        (false, true) => format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"")),
        (false, false) => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_command_line_is_split_as_the_shell_splits_it() {
        let check = |line: &str, expected: Option<&[&str]>| {
            let split = words(line);
            let split = split.as_ref().map(|words| {
                let words: Vec<_> = words.iter().map(String::as_str).collect();
                words
            });
            assert_eq!(split.as_deref(), expected, "{line}");
        };
        check("a  b", Some(&["a", "b"]));
        check("a 'b c' \"d \\\" e\"", Some(&["a", "b c", "d \" e"]));
        check("a \\\n b\\ c ''", Some(&["a", "b c", ""]));
        check("a 'b", None);
    }

    #[test]
    fn commands_end_at_operators_outside_of_quotes() {
        let check = |line: &str, expected: &[(&str, &str)]| {
            let found = commands(line).unwrap();
            let found = found
                .iter()
                .map(|command| (&line[command.span.clone()], &*command.operator));
            assert_eq!(found.collect::<Vec<_>>(), expected, "{line}");
        };
        check(
            "a && b || c; d | e & f",
            &[
                ("a", "&&"),
                ("b", "||"),
                ("c", ";"),
                ("d", "|"),
                ("e", "&"),
                ("f", ""),
            ],
        );
        check("a 'x && y' > f 2>&1 &", &[("a 'x && y' > f 2>&1", "&")]);
        check("a # b && c\nd", &[("a", ""), ("d", "")]);
        check("  ", &[]);
        check("web|a) x | y ;;", &[("web|a) x", "|"), ("y", ";;")]);
        assert_eq!(commands("a 'b"), None);
    }

    #[test]
    fn the_program_stands_behind_what_runs_it() {
        let check = |line: &str, expected: &str| {
            let words = words(line).unwrap();
            assert_eq!(words[program(&words)], expected, "{line}");
        };
        check("PORT=1 exec /usr/bin/uwsgi --http :8000", "/usr/bin/uwsgi");
        check("gosu app uwsgi -p 1", "uwsgi");
        check("tini -g -- gunicorn app", "gunicorn");
        check("python3 -m gunicorn app", "gunicorn");
        check("./wait-for-it.sh db:5432 -t 30 -- uwsgi x.ini", "uwsgi");
        check("python manage.py migrate", "python");
        check("newrelic-admin run-program uwsgi x.ini", "uwsgi");
        check("ddtrace-run uwsgi x.ini", "uwsgi");
        check("nice -n 5 ionice -c2 gunicorn app", "gunicorn");
        check("env -u HOME A=b gunicorn app", "gunicorn");
        check("sudo -u web -E gunicorn app", "gunicorn");
        check(
            "/venv/bin/python /venv/bin/gunicorn app",
            "/venv/bin/gunicorn",
        );
        check("python /srv/bin/run.py app", "python");
        check("exec", "exec");
        check("web) exec gunicorn app", "gunicorn");
        check("serve() { gunicorn app", "gunicorn");
        check("exec s6-setuidgid web gunicorn app", "gunicorn");
        check("exec chpst -u web gunicorn app", "gunicorn");
        check("poetry run gunicorn app", "gunicorn");
    }

    #[test]
    fn redirections_are_told_from_words() {
        let check = |line: &str, rest: &str, found: &str| {
            let (words, redirections) = without_redirections(&words(line).unwrap());
            assert_eq!((&*words.join(" "), &*redirections), (rest, found), "{line}");
        };
        check("a -b 1 > /x 2>&1", "a -b 1", "> /x 2>&1");
        check("a 2>>/x b", "a b", "2>>/x");
        check("a &> '/x y'", "a", "&> '/x y'");
        check("a 10 -x=1>2", "a 10 -x=1>2", "");
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_a_panic(line in "(\\PC|\n|'|\"|\\\\|&|;|#| |é){0,60}") {
            for command in commands(&line).unwrap_or_default() {
                let _ = &line[command.span.clone()];
                let _ = command.words.get(program(&command.words));
            }
            let _ = quoted(&line);
        }
    }
}
