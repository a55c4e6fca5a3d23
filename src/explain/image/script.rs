//! An entry script: the lines that start a server, and those that stay.

use super::commands::{Became, Conversion};
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
            None => conversion.convert(&command.words),
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
    let mut text = String::new();
    let mut end = 0;
    for (index, (command, became)) in commands.iter().zip(&all).enumerate() {
        let is_last = index + 1 == commands.len();
        match became {
            _ if inner[index].is_some() => {
                text.push_str(inner[index].as_ref().map_or("", |inner| &inner.text));
            }
            Became::Dropped(_) => {}
            Became::Linked(_, nginx) => {
                let variable = nginx
                    .as_ref()
                    .map(|file| format!("PYSERVE_NGINX={} ", shell::quoted(file)));
                text.push_str(&variable.unwrap_or_default());
                text.push_str(&line[command.span.clone()]);
            }
            Became::Pyserve(words) => {
                let before = prefix(&command.words);
                let words = words.iter().map(|word| shell::quoted(word));
                let line: Vec<_> = before
                    .into_iter()
                    .chain(["pyserve".to_owned()])
                    .chain(words)
                    .collect();
                text.push_str(&line.join(" "));
            }
            _ => text.push_str(&line[command.span.clone()]),
        }
        end = command.span.end;
        if !is_last && !matches!(became, Became::Dropped(_)) {
            match &*command.operator {
                "\n" => text.push('\n'),
                operator => text.push_str(&format!(" {operator} ")),
            }
        }
    }
    // A comment behind the last command.
    let behind = line[end..].trim();
    if behind.starts_with('#') {
        text.push_str(&format!(" {behind}"));
    }
    Some(Converted {
        became: became.unwrap_or(Became::Stays("")),
        text: text.trim_end_matches([' ', '&', ';', '|']).to_owned(),
        is_background: is_background(commands.last(), all.last()),
    })
}

/// `sh -c SCRIPT`, with its script converted.
fn inside_shell(words: &[String], conversion: &Conversion<'_>) -> Option<Converted> {
    let at = shell::script(words)?;
    let inner = converted(&words[at], conversion)?;
    let mut words = words.to_vec();
    words[at] = inner.text;
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

/// The line with `exec` before pyserve: else the shell gets the signals, and does not pass them on.
pub fn executed(text: &str) -> String {
    let text = text.trim();
    match text.starts_with("pyserve") {
        true => format!("exec {text}"),
        false => text.replacen("&& pyserve", "&& exec pyserve", 1),
    }
}

/// The words that stay before the program, for the shell.
fn prefix(words: &[String]) -> Vec<String> {
    before(words)
        .iter()
        .map(|word| shell::quoted(word))
        .collect()
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

pub fn explain(text: &str, conversion: &Conversion<'_>, report: &mut Report) {
    let all = logical_lines(text);
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
        if converted.is_background && goes_on(&all[index + 1..], conversion) {
            converted.text.push_str(" &");
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
        let after = match converted.text.is_empty() {
            true => Vec::new(),
            false => vec![format!("{indent}{}", converted.text)],
        };
        report.replace(line.line, &line.lines, after);
    }
}
