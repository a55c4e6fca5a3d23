//! A link of the name `uwsgi` to the binary: it takes uWSGI's command line.
//!
//! The options are read with the settings ([`crate::config::foreign`]). This file answers those that
//! start no server: `--version`, `--help`, and `--reload FILE` and `--stop FILE`, which send signals to the
//! server with that pidfile.

use std::process::ExitCode;

use crate::observe::diagnostics::say;
use crate::os::child;
use crate::verbs::print;

const HELP: &str = "\
This is pyserve, called as uwsgi: it takes the command line of uWSGI, and serves HTTP itself.

  uwsgi --ini uwsgi.ini
  uwsgi --http :8000 --module mysite.wsgi --master -p 4
  uwsgi --reload site.pid        reload the server of this pidfile
  uwsgi --stop site.pid          stop it gracefully

`pyserve explain \"uwsgi ...\"` shows the meaning of each option, `pyserve help` the manual.";

/// Answers an option that starts no server; `None` if there is none.
pub fn answer(words: &[String]) -> Option<ExitCode> {
    for (at, word) in words.iter().enumerate() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word.as_str(), words.get(at + 1).map(String::as_str)),
        };
        let text = match name {
            "--version" => format!("pyserve {} as uwsgi", env!("CARGO_PKG_VERSION")),
            "--help" | "--usage" | "-h" => HELP.to_owned(),
            "--reload" | "--stop" => return Some(signal(name, value.unwrap_or_default())),
            _ => continue,
        };
        return Some(match print(&text) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        });
    }
    None
}

fn signal(option: &str, file: &str) -> ExitCode {
    let sent = std::fs::read_to_string(file)
        .map_err(|error| error.to_string())
        .and_then(|text| {
            let pid = text.trim().parse::<u32>();
            pid.map_err(|_| "it holds no process id".to_owned())
        })
        .and_then(|pid| {
            let sent = match option {
                "--reload" => child::hang_up(pid),
                _ => child::stop_gracefully(pid),
            };
            sent.map_err(|error| format!("process {pid}: {error}"))
        });
    match sent {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            say(&format!("uwsgi: {option} {file}: {problem}"));
            ExitCode::FAILURE
        }
    }
}
