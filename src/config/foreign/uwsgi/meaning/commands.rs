//! Programs that uWSGI runs before the application and beside it.

use std::path::{Path, PathBuf};

use super::Meaning;
use super::companions::{PATH_OF_VENV, companion, quoted};
use crate::config::foreign::uwsgi::magic;
use crate::config::foreign::{Verdict, equivalent, origin};
use crate::config::{native, settings};
use crate::os::child::StopSignal;

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
            Ok(command) => {
                let signal = stop_signal(meaning.value(at));
                let is_smart = is_smart(&meaning.items[at].key, meaning.value(at));
                let mut settings = Vec::new();
                settings.extend(is_smart.then(|| ("restart_on_reload", "no".to_owned())));
                settings.extend(signal.map(|name| ("stop_signal", name.to_owned())));
                companion(meaning, at, &command, &settings, &mut names);
                if is_smart {
                    meaning.note(at, "it ends with the server, where uWSGI leaves it running");
                }
            }
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
    outside_jails(meaning);
    let mut commands = Vec::new();
    for phase in PHASES {
        for at in meaning.all(phase) {
            let value = meaning.value(at).to_owned();
            let command = match phase[0].starts_with("hook-") {
                true => value.strip_prefix("exec:").map(str::to_owned),
                false => Some(value),
            };
            match command.filter(|command| !command.trim().is_empty()) {
                Some(command) => commands.push((at, in_directory(meaning, at, command))),
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
        let mut notes = differences(meaning, &meaning.items[at].key);
        let has_venv = meaning.draft.layer.entry("venv").is_some();
        if has_venv && names_python(&command) {
            notes.push(PATH_OF_VENV);
        }
        let text = equivalent::assignment(setting, &[command]);
        let text = match notes.is_empty() {
            true => text,
            false => format!("{text} ({})", notes.join("; ")),
        };
        meaning.say(at, Verdict::Honoured(text));
    }
}

/// True for a command with a program of Python that has no directory in its name.
fn names_python(command: &str) -> bool {
    let programs = [
        "python",
        "pip",
        "flask",
        "django-admin",
        "alembic",
        "celery",
    ];
    let mut words = command.split(|c: char| c.is_whitespace() || "\"'();&|".contains(c));
    words.any(|word| programs.iter().any(|program| word.starts_with(program)))
}

/// The differences between a command of uWSGI and `before_start`, which runs once.
fn differences(meaning: &Meaning<'_>, key: &str) -> Vec<&'static str> {
    let mut notes = Vec::new();
    let runs_as_root = [
        "exec-asap",
        "hook-asap",
        "exec-as-root",
        "exec-pre-jail",
        "exec-in-jail",
    ];
    if runs_as_root.contains(&key) && meaning.draft.layer.entry("uid").is_some() {
        notes.push("as the user of `uid`, not as root");
    }
    let lazy = meaning.draft.layer.entry("preload").is_some();
    match key {
        "exec-pre-jail" => {}
        "exec-pre-app" | "hook-pre-app" if lazy => {
            notes.push("once, where uWSGI runs it for each worker");
        }
        "exec-as-root" | "exec-as-user" | "hook-as-user" => {
            notes.push(
                "once, where uWSGI runs it in several of its processes, and again at each reload",
            );
        }
        _ => notes.push("once, where uWSGI runs it again at each reload"),
    }
    notes
}

/// The command in the directory in which uWSGI runs it: but for those before the application, that of the start,
/// since it follows `chdir` later.
fn in_directory(meaning: &Meaning<'_>, at: usize, command: String) -> String {
    let is_behind_chdir = matches!(&*meaning.items[at].key, "exec-pre-app" | "hook-pre-app");
    let start = meaning.around.current_dir;
    let chdir = meaning.draft.layer.entry("chdir");
    let chdir = chdir.and_then(|entry| entry.values.first());
    match chdir {
        Some(dir)
            if !is_behind_chdir
                && names_relative_path(&command)
                && !same_directory(&start.join(dir), start) =>
        {
            format!(
                "cd {} && {command}",
                quoted(&native::text(start.as_os_str()))
            )
        }
        _ => command,
    }
}

/// False for a command whose words are options and absolute paths alone, `mkdir -p /run/site`.
fn names_relative_path(command: &str) -> bool {
    let mut words = command.split_whitespace();
    let program = words.next().unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or(program);
    let is_option = |word: &&str| word.starts_with('-');
    // A user, or a mode, stands before the paths of these.
    let others = usize::from(["chown", "chmod", "chgrp"].contains(&name));
    let mut operands = words.filter(|word| !is_option(word)).skip(others);
    program.contains('/') && !program.starts_with('/')
        || operands.any(|word| !word.starts_with('/'))
        || command.contains(['$', '`', ';', '&', '|', '<', '>', '(', '"', '\''])
}

fn same_directory(one: &Path, other: &Path) -> bool {
    let plain = |path: &Path| path.components().collect::<PathBuf>();
    plain(one) == plain(other)
}

/// `exec-post-jail` where there is no jail.
fn outside_jails(meaning: &mut Meaning<'_>) {
    let jails = ["jail", "jail2", "ns", "ns-net", "linux-ns", "linux-ns-net"];
    if meaning.items.iter().any(|item| jails.contains(&&*item.key)) {
        return;
    }
    for at in meaning.all(&["exec-post-jail"]) {
        meaning.no_effect(at, "uWSGI runs it in a jail or a namespace alone");
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

/// True for a daemon with a pid file, which uWSGI leaves alone at a reload and at its end.
fn is_smart(key: &str, value: &str) -> bool {
    let has_pidfile = || value.split(',').any(|pair| pair.starts_with("pidfile="));
    key == "smart-attach-daemon" || key == "attach-daemon2" && has_pidfile()
}

/// The signal of `attach-daemon2` that ends the daemon, if it is another than SIGTERM.
fn stop_signal(value: &str) -> Option<&'static str> {
    let mut pairs = value.split(',').filter_map(|pair| pair.split_once('='));
    let given = pairs.find(|(key, _)| matches!(*key, "stopsignal" | "stop_signal"));
    let name = given.and_then(|(_, number)| StopSignal::name_of(number));
    name.filter(|name| *name != "TERM")
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
            Some(("stopsignal" | "stop_signal", number))
                if StopSignal::name_of(number).is_some() => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_absolute_paths_need_no_directory() {
        for (command, expected) in [
            ("true", false),
            ("mkdir -p /run/site", false),
            ("/bin/chown -R www-data:www-data /run/site", false),
            ("./start.sh", true),
            ("bin/start", true),
            ("python manage.py migrate", true),
            ("mkdir -p run", true),
            ("sh -c 'mkdir run'", true),
        ] {
            assert_eq!(names_relative_path(command), expected, "{command}");
        }
    }
}
