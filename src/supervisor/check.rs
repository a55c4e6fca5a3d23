//! `pyserve check`: imports the application in a template, and serves nothing.

use std::io;

use pyserve_wire::control::{FromTemplate, Preload};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::Outcome;
use super::app::App;
use super::generation::Python;
use super::startup::StartupFacts;
use crate::config::AppSettings;
use crate::os::child;

/// Imports the application; reports the facts found, or the error.
///
/// # Errors
/// The error of the system call for starting the interpreter.
pub async fn check(settings: AppSettings) -> io::Result<(StartupFacts, Outcome)> {
    let (reports, _unused) = mpsc::unbounded_channel();
    let mut ended = signal(SignalKind::child())?;
    let mut app = App::new(0, settings, reports)?;
    app.start_template(0, Preload::Yes)?;
    let python = app.first().ok_or(io::ErrorKind::NotFound)?;
    let answer = answer(python).await;
    let outcome = |code, last_error| Outcome { code, last_error };
    let outcome = match answer {
        Some(FromTemplate::Imported(mut loaded)) => {
            if python.settings.preload == Preload::Auto {
                python.facts.unsafe_to_fork = std::mem::take(&mut loaded.shared);
            }
            python.facts.loaded = Some(loaded);
            outcome(0, String::new())
        }
        Some(FromTemplate::ImportFailed { traceback }) => {
            outcome(4, python.why_not_imported(&traceback))
        }
        _ => {
            ended.recv().await;
            let status = child::reap().map_or(0, |(_, status)| status);
            if python.is_unusable(status) {
                outcome(78, python.why_unusable(status))
            } else {
                let how = child::describe_status(status);
                let text =
                    format!("the interpreter ended while it imported the application: {how}");
                outcome(4, text)
            }
        }
    };
    let facts = python.facts.clone();
    app.drain_log();
    app.kill_all();
    Ok((facts, outcome))
}

/// The template's first message about the application; `None` if it exited without one.
async fn answer(python: &mut Python) -> Option<FromTemplate> {
    loop {
        match python.template.as_ref()?.receive().await? {
            FromTemplate::Started(interpreter) => python.facts.interpreter = Some(interpreter),
            message => return Some(message),
        }
    }
}
