//! A link of the name `uwsgi` to the binary: it takes uWSGI's command line.
//!
//! The options are read with the settings ([`crate::config::foreign`]). This file answers those that
//! start no server: `--version`, `--help`, and `--reload FILE` and `--stop FILE`, which send signals to the
//! server with that pidfile.
//!
//! In an image a command line may find the server of the image at its address. There uWSGI took over the
//! socket behind nginx; here the server reloads by the command line ([`crate::config::adopted`]), if all of
//! this is so: both have the setting `image`, the control socket gives access to the server, which is so for
//! its user and for root, and an address of the command line is one of the server, so that a second one could
//! not start.

use std::path::Path;
use std::process::ExitCode;

use crate::config::layers::Layer;
use crate::config::{self, CommandLine, ConfigError, HostFacts, ListenAddress, native};
use crate::observe::diagnostics::say;
use crate::observe::status::Status;
use crate::os::{child, handover};
use crate::supervisor::control::client::{AT_HAND, Client};
use crate::supervisor::control::protocol::Order;
use crate::verbs::print;

const HELP: &str = "\
This is pyserve, called as uwsgi: it takes the command line of uWSGI, and serves HTTP itself.

  uwsgi --ini uwsgi.ini
  uwsgi --http :8000 --module mysite.wsgi --master -p 4
  uwsgi --reload site.pid        reload the server of this pidfile
  uwsgi --stop site.pid          stop it gracefully

Beside the server of an image, at the same address, it hands the command line over: that server reloads by it.
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

/// Hands the command line over to the server of the image, if one has the address; `None` if this process is to
/// serve.
///
/// # Errors
/// [`ConfigError`] for a command line that cannot be used.
pub fn hand_over(words: &[String], host: &HostFacts) -> Result<Option<ExitCode>, ConfigError> {
    let is_beside = !handover::is_init() && !handover::is_successor();
    if !is_beside || !config::is_image(host)? {
        return Ok(None);
    }
    let Ok(reach) = config::load_reach(Layer::default(), host) else {
        return Ok(None);
    };
    let reply = Client::find(&reach).and_then(|mut it| it.ask(&Order::Status, Some(AT_HAND)));
    let status = reply.ok().and_then(|reply| reply.status);
    let Some(status) = status.filter(|status| status.image) else {
        return Ok(None);
    };
    let resolved = config::load(Layer::default(), host)?;
    let mut wanted = resolved.config.bind.iter();
    let Some(taken) = wanted.find_map(|address| taken(address, &status)) else {
        return Ok(None);
    };
    for warning in &resolved.config.warnings {
        say(&format!("uwsgi: {warning}"));
    }
    let pid = status.pid;
    say(&format!(
        "uwsgi: pyserve (pid {pid}) serves at {taken}: it reloads by this command line"
    ));
    let order = Order::Adopt(CommandLine {
        words: words.to_vec(),
        directory: native::text(host.current_dir.as_os_str()),
    });
    let mut client = match Client::find(&reach) {
        Ok(client) => client,
        Err(error) => return Ok(Some(failed(&error.to_string()))),
    };
    // The import of an application may take any time.
    Ok(Some(match client.ask(&order, None) {
        Ok(reply) if reply.done => {
            let text = format!("{}\nit serves on when this command has ended", reply.text);
            match print(&text) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        Ok(reply) => failed(reply.text.trim_end()),
        Err(error) => failed(&error.to_string()),
    }))
}

fn failed(why: &str) -> ExitCode {
    say(&format!("uwsgi: {why}"));
    ExitCode::FAILURE
}

/// The listener of a server at which nothing else can listen at this address.
fn taken(address: &ListenAddress, status: &Status) -> Option<String> {
    let is_it = |listener: &&String| {
        let plain = listener.strip_prefix("http://").unwrap_or(listener);
        let known = ListenAddress::parse(plain, Path::new("/"));
        known.is_ok_and(|known| known.conflicts_with(address))
    };
    status.listeners.iter().find(is_it).cloned()
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
