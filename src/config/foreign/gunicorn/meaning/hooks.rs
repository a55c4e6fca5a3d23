//! Hooks: those of a worker run, others are named.

use super::Meaning;
use crate::config::foreign::Verdict;
use crate::config::native;

pub(super) fn decide(meaning: &mut Meaning<'_>, file: Option<&str>) {
    // The file may be that of a program in another directory.
    let file = file.map(|file| match file.strip_prefix("file:").unwrap_or(file) {
        module if module.starts_with("python:") => module.to_owned(),
        file => {
            let path = meaning.around.current_dir.join(native::path(file));
            native::text(path.as_os_str())
        }
    });
    for name in ["post_fork", "post_worker_init", "worker_exit"] {
        let Some((at, _)) = meaning.given(name) else {
            continue;
        };
        if let Some(file) = &file {
            meaning.set(at, "gunicorn_hooks", vec![file.clone()]);
        }
    }
    for (name, advice) in [
        (
            "when_ready",
            "no master process runs Python: `post_worker_init` runs in each worker, and probes ask `admin` whether the server is ready",
        ),
        (
            "on_exit",
            "no master process runs Python: `worker_exit` runs in each worker, and a [[companion]] gets SIGTERM when the server stops",
        ),
    ] {
        if let Some((at, _)) = meaning.given(name) {
            meaning.say(at, Verdict::Unsupported(advice.to_owned()));
        }
    }
}
