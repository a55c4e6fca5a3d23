//! The events for which the supervisor waits.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal as Number;
use tokio::sync::mpsc;

use super::control::Command;
use super::reload::Loaded;
use super::reload::triggers::Change;
use super::shutdown::steps::ShutdownEvent;
use super::signals::Signals;
use super::startup::detached;
use super::upgrade::{UpgradeEvent, guardian};
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
    pub(super) changes: mpsc::UnboundedReceiver<Change>,
    /// Messages of the other processes of an upgrade.
    pub(super) upgrades: mpsc::UnboundedReceiver<UpgradeEvent>,
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
            // What the process of an upgrade has said comes before its end.
            Some(event) = events.upgrades.recv() => self.upgrade_event(event),
            _ = events.signals.child.recv() => self.reap(),
            _ = events.signals.terminate.recv() => self.signal(Number::TERM.as_raw(), false),
            _ = events.signals.interrupt.recv() => self.signal(Number::INT.as_raw(), false),
            _ = events.signals.quit.recv() => self.signal(Number::QUIT.as_raw(), false),
            _ = events.signals.more.recv() => self.signal(Number::TTIN.as_raw(), false),
            _ = events.signals.fewer.recv() => self.signal(Number::TTOU.as_raw(), false),
            _ = events.signals.reopen.recv() => self.signal(Number::USR1.as_raw(), false),
            _ = events.signals.upgrade.recv() => self.signal(Number::USR2.as_raw(), false),
            _ = events.signals.hangup.recv() => self.signal(Number::HUP.as_raw(), false),
            name = events.signals.meaningless.recv() => tracing::warn!("ignored {name}: the server does not handle this signal"),
            _ = events.signals.suspend.recv() => guardian::suspend_with(self.upgrade.other(), &self.groups()).await,
            Some(change) = events.changes.recv() => match change {
                Change::Reload => self.reload(None),
                Change::Workers => self.reload_in_place(None),
            },
            message = self.guarded_message() => self.guarded(&message),
            Some(loaded) = events.loaded.recv() => self.loaded(loaded),
            Some(command) = events.commands.recv() => self.obey(command),
            Some(question) = events.questions.recv() => self.answer(question),
            Some(()) = events.drained.recv() => self.stopping(ShutdownEvent::Drained),
            () = sleep_until(wake_at), if wake_at.is_some() => self.timer(),
        }
    }
}

impl Supervisor {
    /// Does what a signal asks for; `is_forwarded`: it came from the guardian, which may have got the same
    /// one that this process got.
    pub(super) fn signal(&mut self, signal: i32, is_forwarded: bool) {
        let is = |other: Number| signal == other.as_raw();
        let (name, ends) = match signal {
            _ if is(Number::TERM) => ("SIGTERM", true),
            _ if is(Number::INT) => ("SIGINT", true),
            _ if is(Number::QUIT) => ("SIGQUIT", true),
            _ if is(Number::HUP) => ("SIGHUP", false),
            _ if is(Number::TTIN) => ("SIGTTIN", false),
            _ if is(Number::TTOU) => ("SIGTTOU", false),
            _ if is(Number::USR1) => ("SIGUSR1", false),
            _ if is(Number::USR2) => ("SIGUSR2", false),
            _ => return,
        };
        // A signal that ends the server ends what is left of this process, too.
        if self.upgrade.is_over() {
            self.pass_on(signal, name);
            if !ends {
                return;
            }
        }
        let code = u8::try_from(signal).unwrap_or_default();
        match name {
            "SIGTERM" | "SIGINT" => self.stop_signal(code, is_forwarded),
            "SIGQUIT" => self.stopping(ShutdownEvent::Now(128 + code)),
            "SIGHUP" => self.reload(None),
            "SIGTTIN" => self.resize(1),
            "SIGTTOU" => self.resize(-1),
            "SIGUSR1" => reopen_log_files(),
            _ => self.upgrade(None, None),
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
    if let Err(error) = detached::spawn(job) {
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
