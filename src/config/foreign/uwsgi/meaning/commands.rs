//! Programs that uWSGI runs before the application and beside it.

use super::Meaning;
use super::companions::{companion, quoted};
use crate::config::foreign::uwsgi::magic;
use crate::config::foreign::{Verdict, equivalent, origin};
use crate::config::settings;

/// The phases of a start, in order.
const PHASES: &[&[&str]] = &[
    &["hook-asap"],
    &["exec-asap"],
    &["exec-pre-jail"],
    &["exec-post-jail"],
    &["exec-in-jail"],
    &["exec-as-root"],
    &["hook-as-user"],
    &["exec-as-user"],
    &["hook-pre-app"],
    &["exec-pre-app"],
];

pub(super) fn decide(meaning: &mut Meaning<'_>) {
    before_start(meaning);
    let mut names = Vec::new();
    let daemons = [
        "attach-daemon",
        "attach-daemon2",
        "smart-attach-daemon",
        "smart-attach-daemon2",
    ];
    for at in meaning.all(&daemons) {
        match daemon(meaning, at) {
            Ok(command) if is_nginx(&command) => {
                let advice = "pyserve is the front server itself: give nginx's file with `--nginx`";
                meaning.say(at, Verdict::Unsupported(advice.to_owned()));
            }
            Ok(command) => companion(meaning, at, &command, &[], &mut names),
            Err(verdict) => meaning.say(at, verdict),
        }
    }
    for at in meaning.all(&["hook-master-start"]) {
        let verdict = match meaning.value(at).trim() {
            "unix_signal:15 gracefully_kill_them_all" => {
                Verdict::AlreadySo("SIGTERM stops the server gracefully".to_owned())
            }
            _ => Verdict::Unsupported("run it by `before_start`, or as a [[companion]]".to_owned()),
        };
        meaning.say(at, verdict);
    }
    super::schedules::decide(meaning, &mut names);
    for at in 0..meaning.items.len() {
        variables_of_files(meaning, at);
    }
}

/// Says which `%x` of a command in a file are uWSGI's, where they look like the program's own.
fn variables_of_files(meaning: &mut Meaning<'_>, at: usize) {
    let item = &meaning.items[at];
    let is_command = ["exec-", "hook-", "attach-daemon", "smart-attach-daemon"];
    let is_command =
        is_command.iter().any(|start| item.key.starts_with(start)) || item.key.contains("cron");
    // Those of a command line and of the environment stay as they are.
    if !is_command || item.place.line == 0 {
        return;
    }
    let found = magic::meant_for_program(&item.text);
    let Some(Verdict::Honoured(text)) = &mut meaning.verdicts[at] else {
        return;
    };
    if found.is_empty() {
        return;
    }
    let meanings: Vec<_> = found
        .iter()
        .map(|(name, meaning)| format!("%{name} is {meaning}"))
        .collect();
    let written: Vec<_> = found.iter().map(|(name, _)| format!("%%{name}")).collect();
    text.push_str(&format!(
        " (in a file of uWSGI {}: write {} for the program)",
        meanings.join(", "),
        written.join(", ")
    ));
}

/// All commands of the start as one line for the shell, which ends at the first that fails.
fn before_start(meaning: &mut Meaning<'_>) {
    let mut commands = Vec::new();
    for phase in PHASES {
        for at in meaning.all(phase) {
            let value = meaning.value(at).to_owned();
            let command = match phase[0].starts_with("hook-") {
                true => value.strip_prefix("exec:").map(str::to_owned),
                false => Some(value),
            };
            match command.filter(|command| !command.trim().is_empty()) {
                Some(command) => commands.push((at, command)),
                None => {
                    let advice = "run it by `before_start`".to_owned();
                    meaning.say(at, Verdict::Unsupported(advice));
                }
            }
        }
    }
    let Some(setting) = settings::named("before_start") else {
        return;
    };
    let Some((first, _)) = commands.first() else {
        return;
    };
    let line = match &commands[..] {
        [(_, command)] => command.clone(),
        several => {
            let grouped = several.iter().map(|(_, command)| format!("({command})"));
            grouped.collect::<Vec<_>>().join(" && ")
        }
    };
    let item = &meaning.items[*first];
    let origin = origin(&item.place, &item.text);
    meaning.draft.layer.insert(setting, vec![line], origin);
    for (at, command) in commands {
        let text = equivalent::assignment(setting, &[command]);
        let runs_as_root = ["exec-asap", "hook-asap", "exec-as-root", "exec-pre-jail"]
            .contains(&&*meaning.items[at].key);
        let drops = meaning.draft.layer.entry("uid").is_some();
        let note = match runs_as_root && drops {
            true => " (as the user of `uid`, not as root)",
            false => "",
        };
        meaning.say(at, Verdict::Honoured(format!("{text}{note}")));
    }
}

/// The command of a daemon that stays in the foreground.
fn daemon(meaning: &Meaning<'_>, at: usize) -> Result<String, Verdict> {
    let value = meaning.value(at).trim();
    let wrong = |why: &str| Err(Verdict::Wrong(why.to_owned()));
    let advice = "start it in the foreground, with a [[companion]]";
    match &*meaning.items[at].key {
        "attach-daemon" if value.is_empty() => wrong("no command"),
        "attach-daemon" => Ok(value.to_owned()),
        "smart-attach-daemon" => match value.split_once(' ') {
            Some((_, command)) => Ok(command.trim().to_owned()),
            None => wrong("it needs `PIDFILE COMMAND`"),
        },
        "smart-attach-daemon2" => Err(Verdict::Unsupported(advice.to_owned())),
        _ => keyed_daemon(value),
    }
}

/// True for a command that starts nginx, which would look for the sockets of uWSGI.
fn is_nginx(command: &str) -> bool {
    let words = command.split_whitespace();
    let mut programs = words.skip_while(|word| matches!(*word, "exec" | "sudo" | "env"));
    let program = programs.next().unwrap_or_default();
    program.rsplit('/').next() == Some("nginx")
}

/// `cmd=...,chdir=...` of `attach-daemon2`.
fn keyed_daemon(value: &str) -> Result<String, Verdict> {
    let (mut command, mut dir) = (None, None);
    for pair in value.split(',') {
        match pair.split_once('=') {
            Some(("cmd" | "command" | "exec", text)) => command = Some(text),
            Some(("chdir", text)) => dir = Some(text),
            // A pid file, and the pace of restarts, are pyserve's own business.
            Some(("pidfile" | "freq" | "max_throttle" | "touch" | "stdin" | "control", _)) => {}
            Some(("stopsignal" | "stop_signal", "15")) => {}
            _ => {
                let advice = format!("write a [[companion]]: there is no counterpart of {pair:?}");
                return Err(Verdict::Unsupported(advice));
            }
        }
    }
    match (command, dir) {
        (Some(command), Some(dir)) => Ok(format!("cd {} && exec {command}", quoted(dir))),
        (Some(command), None) => Ok(command.to_owned()),
        (None, _) => Err(Verdict::Wrong("it needs `cmd=COMMAND`".to_owned())),
    }
}
