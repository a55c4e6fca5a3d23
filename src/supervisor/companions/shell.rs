//! Lines for `/bin/sh` in which `exec` can replace the shell by its program: pure.
//!
//! `sh -c LINE` may stay between us and the program: it dies of SIGTERM at once and does not
//! forward it. A simple command therefore gets an `exec`. Anything else (`a && b`, a pipe, a
//! builtin) is left unchanged, because `exec` would change its meaning; [`super::leaving`] stops
//! such lines without the help of the shell. In doubt a line is left unchanged.
//!
//! The grammar is that of POSIX, XCU section 2: quoting (2.2), tokens (2.3), simple commands
//! (2.9.1).

/// The line with `exec` before its program; `None` if that is not possible.
pub fn replaced(line: &str) -> Option<String> {
    let line = line.trim();
    let command = command_word(line)?;
    let word = &line[command.start..command.end];
    if word == "exec" {
        return Some(line.to_owned());
    }
    if BUILTIN.contains(&word) || word.contains(['$', '`', '*', '?', '[']) {
        return None;
    }
    let (before, behind) = line.split_at(command.start);
    Some(format!("{before}exec {behind}"))
}

/// Reserved words (POSIX XCU 2.4), special builtins (2.14), and builtins for which no program need
/// exist.
const BUILTIN: &[&str] = &[
    "!", "{", "}", "case", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if",
    "in", "select", "then", "time", "until", "while", "[[", ".", ":", "break", "continue", "eval",
    "exit", "export", "readonly", "return", "set", "shift", "times", "trap", "unset", "alias",
    "bg", "builtin", "cd", "command", "declare", "echo", "false", "fg", "getopts", "hash", "jobs",
    "kill", "let", "local", "printf", "pwd", "read", "source", "test", "true", "type", "typeset",
    "ulimit", "umask", "unalias", "wait",
];

/// Position of the word that names the program, if the line is one simple command.
fn command_word(line: &str) -> Option<std::ops::Range<usize>> {
    let mut at = 0;
    let mut command = None;
    let mut is_target = false;
    loop {
        at = skip_blanks(line, at);
        let rest = &line[at..];
        let Some(first) = rest.chars().next() else {
            return command;
        };
        match first {
            // A comment ends the command, if no line follows it.
            '#' if !rest.contains('\n') => return command,
            ';' | '&' | '|' | '(' | ')' | '\n' | '#' => return None,
            // A here-document needs its own lines.
            '<' | '>' if rest.starts_with("<<") => return None,
            '<' | '>' => {
                let operators = [">>", ">|", ">&", "<&", "<>", ">", "<"];
                let operator = operators.iter().find(|one| rest.starts_with(**one))?;
                at += operator.len();
                is_target = true;
            }
            _ => {
                let end = at + word(rest)?;
                let text = &line[at..end];
                // The number in `2>&1` belongs to the operator.
                let is_number = text.bytes().all(|byte| byte.is_ascii_digit())
                    && line[end..].starts_with(['<', '>']);
                if !std::mem::take(&mut is_target)
                    && !is_number
                    && command.is_none()
                    && !is_assignment(text)
                {
                    command = Some(at..end);
                }
                at = end;
            }
        }
    }
}

fn skip_blanks(line: &str, mut at: usize) -> usize {
    loop {
        let rest = &line[at..];
        match ["\\\n", " ", "\t"]
            .iter()
            .find(|one| rest.starts_with(**one))
        {
            Some(blank) => at += blank.len(),
            None => return at,
        }
    }
}

/// Length of the word at the start of `text`; `None` for an unclosed quote or parenthesis.
fn word(text: &str) -> Option<usize> {
    let mut at = 0;
    while let Some(next) = text[at..].chars().next() {
        at += match next {
            ' ' | '\t' | '\n' | ';' | '&' | '|' | '(' | ')' | '<' | '>' => return Some(at),
            _ => piece(&text[at..])?,
        };
    }
    Some(at)
}

/// Length of one character, or of a quotation or substitution, at the start of `text`.
fn piece(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    match first {
        '\\' => Some(1 + text[1..].chars().next()?.len_utf8()),
        '\'' => Some(2 + text[1..].find('\'')?),
        '`' => Some(2 + text[1..].find('`')?),
        '"' => up_to(text, 1, '"'),
        '$' if text.starts_with("$(") => up_to(text, 2, ')'),
        '$' if text.starts_with("${") => up_to(text, 2, '}'),
        _ => Some(first.len_utf8()),
    }
}

/// Length up to and including `closing`, from `at` on; quotations in between are skipped.
fn up_to(text: &str, mut at: usize, closing: char) -> Option<usize> {
    loop {
        let next = text[at..].chars().next()?;
        if next == closing {
            return Some(at + next.len_utf8());
        }
        at += match next {
            // A parenthesis of a subshell inside `$( )`.
            '(' if closing == ')' => up_to(&text[at..], 1, ')')?,
            // Between double quotes an apostrophe is literal.
            '\'' if closing == '"' => 1,
            _ => piece(&text[at..])?,
        };
    }
}

fn is_assignment(text: &str) -> bool {
    text.split_once('=').is_some_and(|(name, _)| {
        let is_name = |c: char| c == '_' || c.is_ascii_alphanumeric();
        !name.is_empty()
            && name.chars().all(is_name)
            && !name.starts_with(|c: char| c.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn simple_commands_take_the_place_of_the_shell() {
        for (line, expected) in [
            ("celery -A x worker", "exec celery -A x worker"),
            ("  celery worker\n", "exec celery worker"),
            ("A=1 B='x y' celery", "A=1 B='x y' exec celery"),
            ("celery >log 2>&1", "exec celery >log 2>&1"),
            (">log celery", ">log exec celery"),
            ("2>/dev/null celery", "2>/dev/null exec celery"),
            ("celery \"a; b && c | d\"", "exec celery \"a; b && c | d\""),
            ("celery 'it;s' \\; x", "exec celery 'it;s' \\; x"),
            (
                "celery -c $(nproc; echo) \"$(a | b)\"",
                "exec celery -c $(nproc; echo) \"$(a | b)\"",
            ),
            ("celery ${N:-a;b} `x;y`", "exec celery ${N:-a;b} `x;y`"),
            (
                "celery -l info # a; comment",
                "exec celery -l info # a; comment",
            ),
            ("celery \\\n  worker", "exec celery \\\n  worker"),
            ("celery a#b", "exec celery a#b"),
            ("celery \"it's\"", "exec celery \"it's\""),
            ("./run.sh --if x", "exec ./run.sh --if x"),
            ("exec celery", "exec celery"),
            ("A=1 exec celery", "A=1 exec celery"),
        ] {
            assert_eq!(replaced(line).as_deref(), Some(expected), "{line}");
        }
    }

    #[test]
    fn everything_else_is_left_to_the_shell() {
        for line in [
            "",
            "A=1",
            "a && b",
            "a; b",
            "a;",
            "a &",
            "a | b",
            "(a)",
            "a\nb",
            "a # x\nb",
            "cd /x",
            "$CMD x",
            "if x; then y; fi",
            "! a",
            "{ a; }",
            "trap 'x' TERM",
            "a <<E\nx\nE",
            "a 'x",
            "a \"x",
            "a $(x",
            "a `x",
            "a \\",
            "echo x",
            "exec a && b",
            "a &> log",
            "while :",
            ". ./env",
        ] {
            assert_eq!(replaced(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_a_panic(line in "(\\PC|\n){0,40}|([a ='\"$(){}`\\\\;&|<>#é\n]){0,30}") {
            let _ = replaced(&line);
        }
    }
}
