//! The events for which the supervisor waits.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use super::control::Command;
use super::reload::Loaded;
use super::shutdown::steps::ShutdownEvent;
use super::signals::{self, Signals};
use super::{Supervisor, sleep_until};
use crate::config::ConfigError;
use crate::front::admin::SupervisorQuery;
use crate::front::upstream::workers::Report;
use crate::observe::log_files;

/// The sources of events.
pub(super) struct Events {
    pub(super) signals: Signals,
    /// Events of the pools.
    pub(super) pool_reports: mpsc::UnboundedReceiver<Report>,
    /// Questions of probes.
    pub(super) questions: mpsc::Receiver<SupervisorQuery>,
    /// The connections of a drain have ended.
    pub(super) drained: mpsc::UnboundedReceiver<()>,
    /// Orders from the control socket.
    pub(super) commands: mpsc::Receiver<Command>,
    /// Settings that were read for a reload.
    pub(super) loaded: mpsc::UnboundedReceiver<Result<Loaded, ConfigError>>,
    /// Changes of watched files.
    pub(super) changes: mpsc::UnboundedReceiver<()>,
}

impl Supervisor {
    /// Waits for the next event, and acts on it.
    pub(super) async fn next_event(&mut self, events: &mut Events) {
        let wake_at = self.wake_at.map(tokio::time::Instant::from_std);
        // Every branch is cancel-safe: channels, signals and sockets keep what is not
        // taken, and the timer is made anew from `wake_at`.
        tokio::select! {
            biased;
            (id, message) = self.template_message() => self.with(id, |app| app.handle_message(message)),
            Some(report) = events.pool_reports.recv() => {
                self.with(report.app, |app| app.handle_worker_event(report.generation, report.event));
            }
            _ = events.signals.child.recv() => self.reap(),
            _ = events.signals.terminate.recv() => self.stop_signal(15),
            _ = events.signals.interrupt.recv() => self.stop_signal(2),
            _ = events.signals.quit.recv() => self.stopping(ShutdownEvent::Now(128 + 3)),
            _ = events.signals.more.recv() => self.resize(1),
            _ = events.signals.fewer.recv() => self.resize(-1),
            _ = events.signals.reopen.recv() => reopen_log_files(),
            name = events.signals.meaningless.recv() => tracing::warn!("ignored {name}: the server does not handle this signal"),
            _ = events.signals.suspend.recv() => signals::suspend::with(&self.groups()),
            _ = events.signals.hangup.recv() => self.reload(None),
            Some(()) = events.changes.recv() => self.reload(None),
            Some(loaded) = events.loaded.recv() => self.loaded(loaded),
            Some(command) = events.commands.recv() => self.obey(command),
            Some(question) = events.questions.recv() => self.answer(question),
            Some(()) = events.drained.recv() => self.stopping(ShutdownEvent::Drained),
            () = sleep_until(wake_at), if wake_at.is_some() => self.timer(),
        }
    }
}

/// Opens the log files again, on its own thread: a hung file system may hold it for ever.
fn reopen_log_files() {
    static RUNS: AtomicBool = AtomicBool::new(false);
    if RUNS.swap(true, Ordering::Relaxed) {
        tracing::warn!("the log files are still being opened from the last signal");
        return;
    }
    let job = || {
        reopen_log_files_here();
        RUNS.store(false, Ordering::Relaxed);
    };
    let thread = std::thread::Builder::new().name("pyserve-files".into());
    if let Err(error) = thread.spawn(job) {
        RUNS.store(false, Ordering::Relaxed);
        tracing::warn!(%error, "cannot open the log files again: the system creates no further thread");
    }
}

fn reopen_log_files_here() {
    let (count, failed) = log_files::reopen();
    for (file, error) in &failed {
        tracing::warn!(file = %file.display(), %error, "cannot open a log file again: the one from before is kept");
    }
    match count {
        0 => {
            tracing::info!("no log files to reopen: logs go to standard output and standard error")
        }
        count => tracing::info!(count = count - failed.len(), "log files opened again"),
    }
}
