//! The output of `pyserve explain`, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::image::{Explained, Replacement, is_too_old};
use super::subject::{Kind, Subject};
use crate::config::foreign::secrets::HIDDEN;
use crate::config::foreign::{Reading, equivalent};
use crate::config::layers::Layer;
use crate::config::native;

/// Column at which verdicts begin, unless the line is longer.
const COLUMN: usize = 44;

/// Each line with its verdict, then the settings; `whole` are those of all together.
pub fn text(found: &[(Subject, Explained)], whole: Option<&Layer>) -> String {
    let mut text = too_old(found);
    for (subject, explained) in found {
        let reading = &explained.reading;
        if !text.is_empty() {
            text.push('\n');
        }
        lines(&mut text, subject, reading);
        if matches!(subject.kind, Kind::Image(..)) {
            replaced(&mut text, &explained.replacements);
            continue;
        }
        if whole.is_none() {
            let settings = equivalent::file(&reading.layer, true);
            let _infallible = write!(text, "\n# pyserve.toml of the same meaning\n{settings}");
        }
    }
    if let Some(whole) = whole {
        let settings = equivalent::file(whole, true);
        let _infallible = write!(
            text,
            "\n# pyserve.toml of the same meaning as these files together\n{settings}"
        );
    }
    text
}

/// A Python that pyserve cannot run stands first: everything else waits for it.
fn too_old(found: &[(Subject, Explained)]) -> String {
    let all = found
        .iter()
        .flat_map(|(_, explained)| &explained.reading.lines);
    let old = all.filter(|line| is_too_old(&line.verdict));
    let mut text = String::new();
    for line in old {
        let verdict = line.verdict.detail();
        let _infallible = writeln!(
            text,
            "# FIRST: {}: {verdict}",
            shown(&line.place.to_string())
        );
    }
    text
}

/// Lines before and after, as a patch shows them.
fn replaced(text: &mut String, replacements: &[Replacement]) {
    if replacements.is_empty() {
        return;
    }
    text.push_str("\n# lines to replace\n");
    for replacement in replacements {
        for (sign, lines) in [('-', &replacement.before), ('+', &replacement.after)] {
            let mut number = replacement.line.to_string();
            for line in lines {
                let _infallible = writeln!(text, "{number:>4} {sign} {}", shown(line));
                number.clear();
            }
        }
    }
    let mut after = replacements
        .iter()
        .flat_map(|replacement| &replacement.after);
    if after.any(|line| line.contains(HIDDEN)) {
        let _infallible = writeln!(
            text,
            "# {HIDDEN}: a secret, and perhaps what is behind it; take that from the lines that it replaces"
        );
    }
}

fn lines(text: &mut String, subject: &Subject, reading: &Reading) {
    let _infallible = writeln!(text, "# {} ({})", shown(&subject.name), subject.server());
    let mut source = subject.name.as_str();
    for line in &reading.lines {
        if *line.place.source != *source {
            source = &line.place.source;
            let _infallible = writeln!(text, "# {}", shown(source));
        }
        let number = match line.place.line {
            0 => String::new(),
            number => number.to_string(),
        };
        row(text, &number, &line.text, &line.verdict.to_string());
    }
    for (setting, reason) in &reading.implied {
        row(
            text,
            "",
            &format!("({reason})"),
            &format!("honoured as {setting}"),
        );
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for line in &reading.lines {
        *counts.entry(line.verdict.word()).or_default() += 1;
    }
    let counts = counts.iter();
    let counts: Vec<_> = counts
        .map(|(word, count)| format!("{count} {}", word.replace('_', " ")))
        .collect();
    let _infallible = writeln!(
        text,
        "# {} lines: {}",
        reading.lines.len(),
        counts.join(", ")
    );
}

fn row(text: &mut String, number: &str, line: &str, verdict: &str) {
    let line = shown(line);
    let _infallible = writeln!(text, "{number:>4}  {line:<COLUMN$}  {verdict}");
}

/// Fit for a terminal.
fn shown(text: &str) -> String {
    let text = native::shown(text);
    let fit = |char: char| match char {
        '\t' => ' ',
        char if char.is_control() => '\u{fffd}',
        char => char,
    };
    text.chars().map(fit).collect()
}

/// The same with names for programs.
pub fn json(found: &[(Subject, Explained)], whole: Option<&Layer>) -> String {
    let together = whole.map(|whole| equivalent::file(whole, true));
    let files = found.iter().map(|(subject, explained)| {
        let reading = &explained.reading;
        let replacements = explained
            .replacements
            .iter()
            .map(|one| json!({ "line": one.line, "before": one.before, "after": one.after }));
        let lines = reading.lines.iter().map(|line| {
            json!({
                "file": native::shown(&line.place.source),
                "line": (line.place.line > 0).then_some(line.place.line),
                "text": native::shown(&line.text),
                "verdict": line.verdict.word(),
                "detail": native::shown(line.verdict.detail()),
            })
        });
        let implied = reading.implied.iter();
        let implied =
            implied.map(|(setting, reason)| json!({ "setting": setting, "reason": reason }));
        json!({
            "name": native::shown(&subject.name),
            "server": subject.server(),
            "lines": lines.collect::<Vec<Value>>(),
            "implied": implied.collect::<Vec<Value>>(),
            "replace": replacements.collect::<Vec<Value>>(),
            "pyserve_toml": equivalent::file(&reading.layer, true),
            "pyserve_toml_together": together.as_ref().filter(|_| matches!(subject.kind, Kind::Settings(..))),
            "exit_code": reading.exit_code(),
        })
    });
    let all = Value::Array(files.collect());
    serde_json::to_string_pretty(&all).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn tabs_are_blanks_and_other_control_characters_are_marked() {
        assert_eq!(shown("a\t-w 2\u{1b}[m"), "a -w 2\u{fffd}[m");
    }
}
