//! An entry script: the lines that start a server, and those that stay.

use super::commands::{self, Became, Conversion};
use super::{Report, doubts, instructions};
use crate::config::foreign::{Verdict, shell};
use crate::explain::readers;

/// Programs that a script starts where it starts a server.
const SERVERS: &[&str] = &["nginx", "supervisord", "gunicorn", "uvicorn", "daphne"];

/// True if a command of the script starts a server.
pub fn starts_server(text: &str) -> bool {
    let lines = logical_lines(text).into_iter().filter(|line| !line.is_text);
    lines
        .filter_map(|line| shell::commands(&line.joined))
        .flatten()
        .any(|command| {
            let program = command.words.get(shell::program(&command.words));
            let program = program.map(String::as_str).unwrap_or_default();
            let base = program.rsplit('/').next().unwrap_or(program);
            let starts = |name: &str| command.words.iter().any(|word| word == name);
            SERVERS.contains(&base)
                || readers::of_program(program).is_some()
                || matches!(base, "service" | "systemctl") && starts("nginx")
                || doubts::adds_options(&command.words)
                || doubts::hidden_server(&command.words).is_some()
        })
}

/// True if a line of the script becomes a start of pyserve.
pub fn becomes_pyserve(text: &str, conversion: &Conversion<'_>) -> bool {
    let lines = logical_lines(text).into_iter().filter(|line| !line.is_text);
    let mut all = lines.filter_map(|line| converted(&line.joined, conversion));
    all.any(|one| matches!(one.became, Became::Pyserve(_) | Became::Linked(..)))
}

/// True if a server of the script becomes pyserve without an address.
pub fn needs_port(text: &str, conversion: &Conversion<'_>) -> bool {
    let lines = logical_lines(text).into_iter().filter(|line| !line.is_text);
    let mut all = lines.filter_map(|line| converted(&line.joined, conversion));
    all.any(|one| match one.became {
        Became::Pyserve(words) => !conversion.listens(&words),
        _ => false,
    })
}

/// The servers that scripts of the image start through a link.
pub fn links(conversion: &Conversion<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for text in conversion.scripts() {
        let lines = logical_lines(text).into_iter().filter(|line| !line.is_text);
        for line in lines {
            let became = converted(&line.joined, conversion).map(|one| one.became);
            if let Some(Became::Linked(program, _)) = became
                && !found.contains(&program)
            {
                found.push(program);
            }
        }
    }
    found
}

/// The words of all commands.
pub fn commands(text: &str) -> Vec<Vec<String>> {
    let lines = logical_lines(text).into_iter().filter(|line| !line.is_text);
    let commands = lines
        .filter_map(|line| shell::commands(&line.joined))
        .flatten();
    commands.map(|command| command.words).collect()
}

/// A line with those that continue it.
struct LogicalLine<'a> {
    line: usize,
    lines: Vec<&'a str>,
    joined: String,
    /// True for the text of a file (`<<EOF`).
    is_text: bool,
}

fn logical_lines(text: &str) -> Vec<LogicalLine<'_>> {
    let mut all = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let mut own = vec![line];
        let mut joined = line.trim().to_owned();
        if joined.is_empty() || joined.starts_with('#') {
            continue;
        }
        while let Some(rest) = joined.strip_suffix('\\') {
            joined = rest.trim_end().to_owned();
            let Some((_, next)) = lines.next() else { break };
            own.push(next);
            joined = format!("{joined} {}", next.trim());
        }
        while ["&&", "||", "|"].iter().any(|end| joined.ends_with(end)) {
            let Some((_, next)) = lines.next() else { break };
            own.push(next);
            let next = next.trim();
            if !next.is_empty() && !next.starts_with('#') {
                joined = format!("{joined} {}", next.trim_end_matches('\\').trim_end());
            }
        }
        let end = instructions::heredoc(&joined);
        let mut is_text = false;
        if let Some(end) = end {
            is_text = true;
            for (_, line) in lines.by_ref() {
                own.push(line);
                if line.trim() == end {
                    break;
                }
            }
        }
        all.push(LogicalLine {
            line: index + 1,
            lines: own,
            joined,
            is_text,
        });
    }
    all
}

/// A line of commands, converted.
pub struct Converted {
    /// What the command that matters most becomes.
    pub became: Became,
    /// The line with pyserve in the place of servers.
    pub text: String,
    /// True if its last command is a server in the background.
    is_background: bool,
}

/// Converts the commands of a line; `None` if a quote is not closed.
pub fn converted(line: &str, conversion: &Conversion<'_>) -> Option<Converted> {
    let commands = shell::commands(line)?;
    let inner: Vec<_> = commands
        .iter()
        .map(|command| inside_shell(&command.words, conversion))
        .collect();
    let all: Vec<_> = commands
        .iter()
        .zip(&inner)
        .map(|(command, inner)| match inner {
            Some(inner) => inner.became.clone(),
            None => conversion.convert(&shell::without_redirections(&command.words).0),
        })
        .collect();
    let rank = |became: &Became| match became {
        // A line is right only if all of its commands are.
        Became::Unsupported(_) => 4,
        Became::Pyserve(_) | Became::Linked(..) => 3,
        Became::Dropped(_) => 2,
        Became::Stays("") => 0,
        Became::Stays(_) => 1,
    };
    let became = all.iter().max_by_key(|became| rank(became)).cloned();
    let (text, mut end) = replaced(line, &commands, &all, &inner, conversion);
    let last = commands.last().map_or("", |command| &*command.operator);
    let is_server = matches!(
        all.last(),
        Some(Became::Pyserve(_) | Became::Linked(..) | Became::Dropped(_))
    );
    let mut text = text.trim_end_matches([' ', '&', ';', '|']).to_owned();
    match last {
        ";;" => {
            text.push_str(" ;;");
            end = end.max(line.rfind(";;").map_or(end, |at| at + 2));
        }
        "&" if !is_server && !text.is_empty() => text.push_str(" &"),
        _ => {}
    }
    // A comment behind the last command.
    let behind = line[end..].trim().trim_start_matches(['&', ';']).trim();
    if behind.starts_with('#') {
        text.push_str(&format!(" {behind}"));
    }
    Some(Converted {
        became: became.unwrap_or(Became::Stays("")),
        text: text.trim_start().to_owned(),
        is_background: is_background(commands.last(), all.last()),
    })
}

/// The line with its commands replaced, and the end of the last one in `line`.
fn replaced(
    line: &str,
    commands: &[shell::Command],
    all: &[Became],
    inner: &[Option<Converted>],
    conversion: &Conversion<'_>,
) -> (String, usize) {
    let mut text = String::new();
    for (index, (command, became)) in commands.iter().zip(all).enumerate() {
        let is_last = index + 1 == commands.len();
        let before = index
            .checked_sub(1)
            .map(|before| &*commands[before].operator);
        let given = &line[command.span.clone()];
        let rest = &all[index + 1..];
        // nginx or a shell ended the line in the foreground.
        let comes_last = command.operator == "&"
            && !rest.is_empty()
            && rest.iter().all(|one| matches!(one, Became::Dropped(_)));
        match became {
            _ if inner[index].is_some() => {
                text.push_str(inner[index].as_ref().map_or("", |inner| &inner.text));
            }
            Became::Dropped(_) => match without(command, before, is_last) {
                Some(left) => text.push_str(&left),
                None => continue,
            },
            Became::Linked(program, nginx) => {
                let given = match conversion.hides_links(&command.words) {
                    true => with_path(given, program),
                    false => given.to_owned(),
                };
                let own = linked(&given, nginx.as_deref());
                text.push_str(&if comes_last { foreground(&own) } else { own });
            }
            Became::Pyserve(words) => {
                let before = prefix(&command.words);
                let words = words.iter().map(|word| shell::quoted(word));
                let line: Vec<_> = before
                    .into_iter()
                    .chain(["pyserve".to_owned()])
                    .chain(words)
                    .collect();
                let (_, redirections) = shell::without_redirections(&command.words);
                let own =
                    line.join(" ") + if redirections.is_empty() { "" } else { " " } + &redirections;
                text.push_str(&if comes_last { foreground(&own) } else { own });
            }
            _ => text.push_str(given),
        }
        if !is_last {
            match &*command.operator {
                "\n" => text.push('\n'),
                ";" => text.push_str("; "),
                operator => text.push_str(&format!(" {operator} ")),
            }
        }
    }
    (text, commands.last().map_or(0, |command| command.span.end))
}

/// The text that stands for a command which goes away, if there has to be one: syntax of the shell around it, or
/// operators that look at its success.
fn without(command: &shell::Command, before: Option<&str>, is_last: bool) -> Option<String> {
    let syntax = command
        .words
        .iter()
        .take_while(|word| shell::is_syntax(word));
    let syntax: Vec<_> = syntax.map(String::as_str).collect();
    let operator = &*command.operator;
    let goes = match (before, operator) {
        (Some("||" | "|"), _) | (_, "||" | "|") => false,
        (_, "&&") => true,
        (Some("&&"), _) => is_last,
        _ => true,
    };
    if goes && syntax.is_empty() {
        return None;
    }
    let words = [&syntax[..], &["true"]].concat();
    Some(words.join(" "))
}

/// The command line with the path of the link in the place of the program's name.
fn with_path(given: &str, program: &str) -> String {
    let mut is_done = false;
    let words = given.split_inclusive(char::is_whitespace).map(|piece| {
        match !is_done && piece.trim_end() == program {
            true => {
                is_done = true;
                piece.replacen(program, &commands::linked(program), 1)
            }
            false => piece.to_owned(),
        }
    });
    words.collect()
}

/// The command line of a link, with the file of nginx that it reads.
fn linked(given: &str, nginx: Option<&str>) -> String {
    let Some(file) = nginx else {
        return given.to_owned();
    };
    let variable = format!("PYSERVE_NGINX={} ", shell::quoted(file));
    // Variables stand behind the syntax of the shell.
    let syntax = given
        .split_inclusive(' ')
        .take_while(|word| shell::is_syntax(word.trim_end()));
    let at: usize = syntax.map(str::len).sum();
    format!("{}{variable}{}", &given[..at], &given[at..])
}

/// The command with `exec`, which makes it the process that gets the signals.
fn foreground(text: &str) -> String {
    if text.starts_with("exec ") || text.contains(" exec ") {
        return text.to_owned();
    }
    let is_before = |word: &str| {
        let word = word.trim_end();
        shell::is_syntax(word)
            || word
                .split_once('=')
                .is_some_and(|(name, _)| shell::is_name(name))
    };
    let before = text.split_inclusive(' ').take_while(|word| is_before(word));
    let at: usize = before.map(str::len).sum();
    format!("{}exec {}", &text[..at], &text[at..])
}

/// `sh -c SCRIPT`, with its script converted.
fn inside_shell(words: &[String], conversion: &Conversion<'_>) -> Option<Converted> {
    let at = shell::script(words)?;
    let inner = converted(&words[at], conversion)?;
    let mut words = words.to_vec();
    words[at] = executed(&inner.text);
    let words: Vec<_> = words.iter().map(|word| shell::quoted(word)).collect();
    Some(Converted {
        became: inner.became,
        text: words.join(" "),
        is_background: false,
    })
}

fn is_background(command: Option<&shell::Command>, became: Option<&Became>) -> bool {
    command.is_some_and(|command| command.operator == "&")
        && matches!(became, Some(Became::Pyserve(_) | Became::Linked(..)))
}

/// The line with `exec` before the server that ends it: else the shell gets the signals, and does not pass them on.
pub fn executed(text: &str) -> String {
    let text = text.trim();
    let commands = shell::commands(text).unwrap_or_default();
    let Some((last, before)) = commands.split_last() else {
        return text.to_owned();
    };
    let program = last.words.get(shell::program(&last.words));
    let is_server = program
        .is_some_and(|program| program == "pyserve" || readers::of_program(program).is_some());
    let is_alone = before
        .iter()
        .all(|one| matches!(&*one.operator, "&&" | ";" | "\n"));
    let has_syntax = last.words.iter().any(|word| shell::is_syntax(word));
    if !is_server || !is_alone || has_syntax || !last.operator.is_empty() {
        return text.to_owned();
    }
    let (start, end) = (last.span.start, last.span.end);
    format!(
        "{}{}{}",
        &text[..start],
        foreground(&text[start..end]),
        &text[end..]
    )
}

/// The words that stay before the program, for the shell.
fn prefix(words: &[String]) -> Vec<String> {
    let words = before(words)
        .iter()
        .map(|word| match shell::is_syntax(word) {
            true => word.clone(),
            false => shell::quoted(word),
        });
    words.collect()
}

/// The words that stay before the program: variables, and who runs it.
pub fn before(words: &[String]) -> &[String] {
    let at = shell::program(words);
    let before = &words[..at];
    // `python -m` belonged to the program.
    let end = before.iter().position(|word| {
        let base = word.rsplit('/').next().unwrap_or(word);
        base.starts_with("python")
    });
    &before[..end.unwrap_or(at)]
}

/// True if one of these lines stays, so that a server before them is not to hold the script up.
fn goes_on(lines: &[LogicalLine<'_>], conversion: &Conversion<'_>) -> bool {
    lines.iter().any(|line| {
        let found = converted(&line.joined, conversion);
        found.is_none_or(|found| !matches!(found.became, Became::Dropped(_)))
    })
}

/// True for a program that s6 or runit starts, and starts again when it ends.
fn is_service(name: &str) -> bool {
    let places = ["/services.d/", "/s6-rc.d/", "/service/", "/sv/"];
    name.ends_with("/run") && places.iter().any(|place| name.contains(place))
}

/// True if a block of the shell begins behind this line.
fn opens_block(line: &str) -> bool {
    let last = line.split_whitespace().last().unwrap_or_default();
    matches!(last, "then" | "else" | "do" | "{" | "(") || shell::is_pattern(last)
}

/// The lines of a script with their verdicts.
pub fn explain((name, text): (&str, &str), conversion: &Conversion<'_>, report: &mut Report) {
    let all = logical_lines(text);
    let is_service = is_service(name);
    for (index, line) in all.iter().enumerate() {
        let first = line.lines.join("\n");
        if line.is_text {
            let read = Verdict::Read("it stays, with the text that it writes".to_owned());
            report.say(line.line, &first, read);
            continue;
        }
        let Some(mut converted) = converted(&line.joined, conversion) else {
            // It continues on the next line.
            report.say(line.line, &first, Verdict::Read("it stays".to_owned()));
            continue;
        };
        if converted.is_background {
            match goes_on(&all[index + 1..], conversion) {
                true => converted.text.push_str(" &"),
                // Behind it, what is not there held the script in the foreground.
                false if index + 1 < all.len() => converted.text = executed(&converted.text),
                false => {}
            }
        }
        if is_service && matches!(converted.became, Became::Dropped(_)) && converted.text.is_empty()
        {
            let why = "nginx and supervisord are not here, and a script that ends at once is started again and again: remove the directory of this service";
            report.say(line.line, &first, Verdict::Unsupported(why.to_owned()));
            continue;
        }
        report.say(line.line, &first, conversion.verdict(&converted.became));
        let changes = matches!(
            converted.became,
            Became::Pyserve(_) | Became::Linked(..) | Became::Dropped(_)
        );
        // A command that stays keeps its lines.
        if converted.text == line.joined {
            continue;
        }
        if !changes {
            continue;
        }
        let indent = &line.lines[0][..line.lines[0].len() - line.lines[0].trim_start().len()];
        let is_block = index > 0 && opens_block(&all[index - 1].joined);
        let after = match converted.text.is_empty() {
            // A block of the shell is not empty.
            true if is_block => vec![format!("{indent}true")],
            true => Vec::new(),
            false => vec![format!("{indent}{}", converted.text)],
        };
        report.replace(line.line, &line.lines, after);
    }
}
