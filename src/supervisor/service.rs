//! Tells the service manager the state of the server (`Type=notify-reload` of systemd.service(5)).

use std::time::{Duration, Instant};

use super::Supervisor;
use crate::os::service_manager::{Notification, Notifications};

/// Notifications, and the time of the next sign of life.
pub(super) struct Service {
    notifications: Notifications,
    alive_at: Option<Instant>,
    /// False until this process is the main process of the service.
    is_main: bool,
}

impl Service {
    pub(super) fn new(notifications: Notifications) -> Self {
        let alive_at = notifications.sign_of_life_every().map(|_| Instant::now());
        Self {
            notifications,
            alive_at,
            is_main: false,
        }
    }

    /// The protocol, for the process that takes this one's place.
    pub(super) fn notifications(&self) -> &Notifications {
        &self.notifications
    }

    /// This process is the main process from now on.
    pub(super) fn begin(&mut self) {
        self.is_main = true;
    }

    /// This process is no longer the main process; `pid` is.
    pub(super) fn hand_over(&mut self, pid: u32, text: &str) {
        let main = [Notification::MainProcess(pid), Notification::Status(text)];
        self.send(&main);
        self.is_main = false;
    }

    fn send(&self, all: &[Notification<'_>]) {
        if self.is_main {
            self.notifications.send(all);
        }
    }

    /// Sends a sign of life if it is due. Returns the time of the next one.
    fn look(&mut self, now: Instant) -> Option<Instant> {
        let every = self.notifications.sign_of_life_every()?;
        let mut at = self.alive_at?;
        if at <= now {
            self.send(&[Notification::Alive]);
            at = now + every;
            self.alive_at = Some(at);
        }
        Some(at)
    }
}

impl Supervisor {
    /// The service manager ends a server whose supervisor gives no sign of life.
    pub(super) fn give_sign_of_life(&mut self) {
        if let Some(at) = self.service.look(Instant::now()) {
            self.wake_at(at);
        }
    }

    /// All workers are ready for the first time.
    pub(super) fn notify_ready(&self, took: Duration) {
        let workers: u32 = self.apps.serving().iter().map(|app| app.size()).sum();
        let text = format!("ready in {:.2} s, {workers} workers", took.as_secs_f64());
        let ready = [Notification::Ready, Notification::Status(&text)];
        self.service.send(&ready);
    }

    pub(super) fn notify_reloading(&self) {
        if self.is_announced {
            self.service.send(&[Notification::Reloading]);
        }
    }

    /// A reload has ended, perhaps without success: then the old code goes on, ready as before.
    pub(super) fn notify_reloaded(&self, text: &str) {
        if self.is_announced {
            let ready = [Notification::Ready, Notification::Status(text)];
            self.service.send(&ready);
        }
    }

    pub(super) fn notify_stopping(&self) {
        let text = "stopping: finishing in-flight requests";
        let stopping = [Notification::Stopping, Notification::Status(text)];
        self.service.send(&stopping);
    }
}
