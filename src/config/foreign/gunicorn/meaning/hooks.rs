//! Hooks: those of a worker run in each worker, those of the master in a companion; the table names the others.

use super::Meaning;
use crate::config::companions::COMPANION_SETTINGS;
use crate::config::foreign::Verdict;
use crate::config::foreign::drafting::table;
use crate::config::foreign::gunicorn::HOOKS_VERB;
use crate::config::native;

/// The name of the companion.
const NAME: &str = "gunicorn-hooks";

pub(super) fn decide(meaning: &mut Meaning<'_>, file: Option<&str>, python: &str) {
    let directory = native::text(meaning.around.current_dir.as_os_str());
    // The file may be that of a program in another directory.
    let Some(file) = file.map(|file| match file.strip_prefix("file:").unwrap_or(file) {
        module if module.starts_with("python:") => module.to_owned(),
        file => {
            let path = meaning.around.current_dir.join(native::path(file));
            // Without `.` components, which a name below a searched directory has.
            native::text(
                path.components()
                    .collect::<std::path::PathBuf>()
                    .as_os_str(),
            )
        }
    }) else {
        return;
    };
    for name in ["post_fork", "post_worker_init", "worker_exit"] {
        if let Some((at, _)) = meaning.given(name) {
            meaning.set(at, "gunicorn_hooks", vec![file.clone()]);
        }
    }
    let mut has_companion = false;
    for name in ["when_ready", "on_exit"] {
        let Some((at, _)) = meaning.given(name) else {
            continue;
        };
        if !has_companion {
            companion(meaning, at, [python, &file, &directory]);
            has_companion = true;
        }
        let text = format!("[[companion]] {NAME:?}, which runs it beside the server");
        meaning.say(at, Verdict::Honoured(text));
    }
}

/// The process that stands for gunicorn's master.
fn companion(meaning: &mut Meaning<'_>, at: usize, arguments: [&str; 3]) {
    let executable = std::env::current_exe().ok();
    let program = executable.map_or("pyserve".to_owned(), |path| native::text(path.as_os_str()));
    let mut command = vec![program, HOOKS_VERB.to_owned()];
    command.extend(arguments.map(str::to_owned));
    let given = [
        ("name", vec![NAME.to_owned()]),
        ("command", command),
        // It stands for a process that lives as long as the server.
        ("restart_on_reload", vec!["no".to_owned()]),
    ];
    let item = &meaning.items[at];
    let known = &mut COMPANION_SETTINGS.iter();
    let made = table(&item.place, &item.text, known, &given);
    meaning.draft.layer.companions.push(made);
}
