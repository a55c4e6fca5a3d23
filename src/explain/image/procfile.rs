//! A Procfile: one process type on each line.

use super::commands::{Became, Conversion};
use super::{Report, script};
use crate::config::foreign::Verdict;
use crate::config::foreign::shell;

/// The words of the commands of `web`.
pub fn commands(text: &str) -> Vec<Vec<String>> {
    let web = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("web:"));
    let commands = web.filter_map(shell::commands).flatten();
    commands.map(|command| command.words).collect()
}

pub fn explain(text: &str, conversion: &Conversion<'_>, report: &mut Report) {
    let text = text.trim_start_matches('\u{feff}');
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let number = index + 1;
        let Some((kind, command)) = trimmed.split_once(':') else {
            report.say(
                number,
                line,
                Verdict::Wrong("it needs `NAME: COMMAND`".to_owned()),
            );
            continue;
        };
        let starts = |became: &Became| {
            matches!(
                became,
                Became::Dropped(_)
                    | Became::Unsupported(_)
                    | Became::Pyserve(_)
                    | Became::Linked(..)
            )
        };
        let is_server = || {
            let found = script::converted(command.trim(), conversion);
            found.is_some_and(|found| starts(&found.became))
        };
        if kind != "web" && (kind == "release" || !is_server()) {
            let note = match kind {
                "release" => "it stays; `before_start` runs such a command at each start",
                _ => "it stays a process of its own, or becomes a [[companion]]",
            };
            report.say(number, line, Verdict::Read(note.to_owned()));
            continue;
        }
        let converted = script::converted(command.trim(), conversion);
        let Some(converted) = converted else {
            report.say(
                number,
                line,
                Verdict::Wrong("a quote is not closed".to_owned()),
            );
            continue;
        };
        report.say(number, line, conversion.verdict(&converted.became));
        if matches!(converted.became, Became::Dropped(_)) && converted.text.is_empty() {
            report.replace(number, &[line], Vec::new());
        }
        if matches!(converted.became, Became::Pyserve(_) | Became::Linked(..)) {
            report.replace(number, &[line], vec![format!("{kind}: {}", converted.text)]);
        }
    }
}
