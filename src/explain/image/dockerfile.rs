//! A Dockerfile: what becomes of each instruction.

mod start;

use self::start::{Start, json};
use super::commands::Conversion;
use super::instructions::{Instruction, instructions, with_arguments};
use super::{Report, base, packages, tiangolo};
use crate::config::foreign::Verdict;
use crate::config::foreign::shell;

/// The line that brings pyserve into an image.
const BINARY: &str = "COPY --from=pyserve /usr/local/bin/pyserve /usr/local/bin/";

/// The words of the commands that the last stage starts.
pub fn commands(text: &str) -> Vec<Vec<String>> {
    let all = instructions(text);
    let stage = all.iter().rposition(|one| one.keyword == "FROM");
    let own = &all[stage.unwrap_or(0)..];
    let last = |keyword: &str| own.iter().rfind(|one| one.keyword == keyword);
    let mut commands = Vec::new();
    let mut whole = Vec::new();
    for instruction in [last("ENTRYPOINT"), last("CMD")].into_iter().flatten() {
        match instruction.exec_form() {
            Some(words) => match shell::script(&words) {
                Some(at) => {
                    let all = shell::commands(&words[at]).unwrap_or_default();
                    commands.extend(all.into_iter().map(|command| command.words));
                }
                None => whole.extend(words),
            },
            None => {
                let all = shell::commands(&instruction.arguments).unwrap_or_default();
                commands.extend(all.into_iter().map(|command| command.words));
            }
        }
    }
    commands.push(whole);
    commands
}

/// True if the last stage is an image of nginx alone.
pub fn is_proxy(text: &str) -> bool {
    let all = instructions(text);
    let from = all.iter().rfind(|one| one.keyword == "FROM");
    from.is_some_and(|from| base::of(&with_arguments(&from.arguments, &all), true).goes_away)
}

pub fn explain(text: &str, conversion: &Conversion<'_>, report: &mut Report) {
    let all = instructions(text);
    let last_stage = all.iter().rposition(|one| one.keyword == "FROM");
    let start = Start::of(&all[last_stage.unwrap_or(0)..], conversion);
    let base = last_stage.map(|index| base::of(&with_arguments(&all[index].arguments, &all), true));
    let is_unneeded = base.is_some_and(|base| base.goes_away);
    for (index, instruction) in all.iter().enumerate() {
        let is_final = last_stage.is_none_or(|stage| index >= stage);
        let (line, lines) = (instruction.line, &instruction.lines);
        let (verdict, after) = match &*instruction.keyword {
            "FROM" => {
                let found = base::of(&with_arguments(&instruction.arguments, &all), is_final);
                let mut after = match found.instead {
                    Some(image) => vec![format!("FROM {image}")],
                    None => lines.iter().map(|line| (*line).to_owned()).collect(),
                };
                if Some(index) == last_stage && !found.goes_away {
                    after.push(BINARY.to_owned());
                    after.extend(start.lines_behind_base());
                    if start.is_inherited {
                        after.extend(tiangolo::lines_behind_base(&instruction.arguments));
                    }
                }
                (found.verdict, Some(after))
            }
            _ if !is_final => (Verdict::Read("a stage of the build stays".to_owned()), None),
            _ if is_unneeded => (of_unneeded(instruction, conversion), None),
            "CMD" | "ENTRYPOINT" => start.verdict(instruction),
            "RUN" => packages::without_servers(instruction),
            "COPY" | "ADD" => copied(instruction, conversion),
            "ENV" if start.is_inherited => tiangolo::of_variables(instruction),
            keyword => (of_others(keyword, &instruction.arguments), None),
        };
        report.say(line, &lines.join("\n"), verdict);
        if let Some(after) = after {
            report.replace(line, lines, after);
        }
    }
    if start.is_inherited {
        let number = text.lines().count();
        let words = tiangolo::command(&all[last_stage.unwrap_or(0)..], conversion);
        let mut note = format!("pyserve {}", words.join(" "));
        if words.iter().any(|word| word == "--before-start") {
            note.push_str(" (what prestart.sh exports does not reach the application)");
        }
        report.say(
            number,
            "(the command of the base image)",
            Verdict::Honoured(note),
        );
        report.replace(number + 1, &[], vec![format!("CMD {}", json(&words))]);
    }
}

/// An instruction of an image that goes away.
fn of_unneeded(instruction: &Instruction<'_>, conversion: &Conversion<'_>) -> Verdict {
    let words = instruction.words();
    let mut flags = words
        .iter()
        .filter_map(|word| conversion.flag_of(word.trim_start_matches("./")));
    match (&*instruction.keyword, flags.next()) {
        ("COPY" | "ADD", Some(flag)) => Verdict::Noted(format!(
            "copy the file into the image of the application, and give it to pyserve with {flag}"
        )),
        _ => Verdict::NoEffect("not needed: pyserve is in the image of the application".to_owned()),
    }
}

fn of_others(keyword: &str, arguments: &str) -> Verdict {
    match keyword {
        "EXPOSE" => {
            let why = "a note for people; the port is that of `bind`, or PORT";
            Verdict::NoEffect(why.to_owned())
        }
        "HEALTHCHECK" if arguments.contains("curl") || arguments.contains("wget") => {
            Verdict::Read("it stays; `pyserve health` needs no curl".to_owned())
        }
        "ENV" if arguments.contains("UWSGI_") => {
            Verdict::Read("pyserve reads it where --ini or UWSGI_INI names a file".to_owned())
        }
        "STOPSIGNAL" if !matches!(arguments.trim_start_matches("SIG"), "TERM" | "15") => {
            Verdict::Unsupported("pyserve stops gracefully at SIGTERM: leave it out".to_owned())
        }
        _ if INSTRUCTIONS.contains(&keyword) => Verdict::Read("it stays".to_owned()),
        _ => Verdict::Wrong("no instruction of a Dockerfile".to_owned()),
    }
}

/// The instructions that a builder knows, beside those that are explained by themselves.
const INSTRUCTIONS: &[&str] = &[
    "ARG",
    "ENV",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// `COPY nginx.conf /etc/nginx/`.
fn copied(
    instruction: &Instruction<'_>,
    conversion: &Conversion<'_>,
) -> (Verdict, Option<Vec<String>>) {
    let words = instruction.words();
    let paths: Vec<_> = words
        .iter()
        .filter(|word| !word.starts_with("--"))
        .collect();
    let sources = &paths[..paths.len().saturating_sub(1)];
    for source in sources {
        let source = source.trim_start_matches("./");
        let base = source.rsplit('/').next().unwrap_or(source);
        if let Some(flag) = conversion.flag_of(source) {
            return (
                Verdict::Read(format!("it stays: pyserve reads the file with {flag}")),
                None,
            );
        }
        if matches!(base, "uwsgi_params" | "mime.types" | "proxy_params") {
            let why = "not needed: pyserve knows them";
            return (Verdict::NoEffect(why.to_owned()), Some(Vec::new()));
        }
        let target = paths.last().map_or("", |target| target.as_str());
        if base == "nginx.conf" || target.contains("/nginx/") {
            let advice = "nginx does not run here: give the file to pyserve with --nginx";
            return (Verdict::Noted(advice.to_owned()), None);
        }
        if base.starts_with("supervisord")
            || target.contains("/supervisor")
            || base.starts_with("supervisor") && base.ends_with(".conf")
        {
            let advice = "pyserve watches its processes itself; other programs of the file are [[companion]] tables";
            return (Verdict::Noted(advice.to_owned()), None);
        }
    }
    (Verdict::Read("it stays".to_owned()), None)
}
