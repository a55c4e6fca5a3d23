//! The new process of an upgrade, once it has a supervisor: gets ready, and takes over.

use std::time::Duration;

use super::predecessor::Inherited;
use super::protocol::{self, FromNew, FromOld, State};
use super::{ALONE, Upgrade, UpgradeEvent, VERSION};
use crate::os::handover::{self, Message};
use crate::supervisor::companions::CompanionHandover;
use crate::supervisor::control::SharedControl;
use crate::supervisor::shutdown::steps::ShutdownEvent;
use crate::supervisor::{AbortOnDrop, Supervisor, maintenance};

impl Upgrade {
    pub(super) fn listen_to_the_old(&mut self) {
        let Some(inherited) = &self.inherited else {
            return;
        };
        let old = inherited.channel();
        let old = old.and_then(|channel| self.listen(&channel, UpgradeEvent::Old));
        let guardian = inherited.guardian.as_ref();
        let guardian = guardian.map(|channel| self.listen(channel, UpgradeEvent::Guardian));
        for reader in std::iter::once(old).chain(guardian) {
            match reader {
                Ok(reader) => self.readers.push(reader),
                Err(error) => tracing::warn!(%error, "cannot read a channel of the upgrade"),
            }
        }
    }

    /// Waits for the end of each companion of the old process.
    fn watch_companions(&mut self, state: &mut State, message: Message) -> Vec<CompanionHandover> {
        let mut ends = message.descriptors.into_iter();
        let mut all = Vec::new();
        for (companion, has_end) in state.companions.drain(..) {
            let end = has_end.then(|| ends.next()).flatten();
            match (companion.pid, end) {
                (Some(pid), Some(end)) => {
                    let events = self.events.clone();
                    let watch = async move {
                        // Where it cannot be awaited, the companion counts as one that works.
                        if handover::ended(end).await.is_ok() {
                            let _supervisor_gone = events.send(UpgradeEvent::CompanionEnded(pid));
                        }
                    };
                    self.readers.push(AbortOnDrop(tokio::spawn(watch)));
                }
                (Some(pid), None) => self.unseen.push(pid),
                (None, _) => {}
            }
            all.push(companion);
        }
        all
    }
}

impl Supervisor {
    /// Applications of the same prefix begin with as many workers as they have in the old process.
    pub(in crate::supervisor) fn resume_sizes(&mut self) {
        let inherited = self.upgrade.inherited.as_ref();
        let sizes = inherited.map(|inherited| inherited.facts.sizes.clone());
        self.set_sizes(&sizes.unwrap_or_default());
    }

    fn set_sizes(&mut self, sizes: &[(String, crate::supervisor::app::SizeState)]) {
        let config = std::sync::Arc::clone(&self.resolved);
        for (index, app) in self.apps.serving_mut().iter_mut().enumerate() {
            let prefix = config.config.place_of(index);
            if let Some((_, size)) = sizes.iter().find(|(place, _)| *place == prefix) {
                app.resume_size(*size);
            }
        }
    }

    /// All workers are ready: the old process is to hand over.
    pub(in crate::supervisor) fn tell_ready(&self) {
        if let Some(Ok(channel)) = self.upgrade.inherited.as_ref().map(Inherited::channel) {
            // Without the old process there is the end of the channel.
            let _gone = protocol::send(&channel, &FromNew::Ready, &[]);
        }
    }

    pub(super) fn of_old(&mut self, message: Option<Message>) {
        let Some(message) = message else {
            return self.old_has_ended();
        };
        match protocol::parse(&message) {
            Ok(FromOld::TakeOver(state)) => self.take_over(*state, message),
            Ok(FromOld::Reload) => self.reload(None),
            Ok(FromOld::Stop) => self.ask_to_stop(),
            Ok(FromOld::Signal(signal)) => self.forwarded_signal(signal),
            Ok(FromOld::RunEnded(run)) => {
                let took = Duration::try_from_secs_f64(run.took).unwrap_or_default();
                self.companions
                    .run_of_predecessor_ended(&run.name, took, run.status);
            }
            Ok(FromOld::Inherit(_)) => {}
            Err(error) => tracing::warn!(%error, "unknown message of the old process"),
        }
    }

    pub(super) fn old_has_ended(&mut self) {
        if self.upgrade.is_waiting() {
            ALONE.clone_into(&mut self.last_error);
            return self.stopping(ShutdownEvent::Now(1));
        }
        tracing::info!("the process before this one has ended");
        self.upgrade.predecessor = None;
        for pid in std::mem::take(&mut self.upgrade.unseen) {
            self.companions.predecessor_ended(Some(pid));
        }
        self.look_after_companions();
    }

    fn take_over(&mut self, mut state: State, message: Message) {
        let Some(mut inherited) = self.upgrade.inherited.take() else {
            return;
        };
        if self.is_stopping() {
            // The old process sees the end of this one.
            self.upgrade.inherited = Some(inherited);
            return;
        }
        let (version, pid) = (&inherited.facts.version, inherited.facts.pid);
        tracing::info!("pyserve {VERSION} takes over from pyserve {version} (pid {pid})");
        inherited.owned.iter().for_each(|ours| ours.set(true));
        if let Some(mode) = state.maintenance.take() {
            maintenance::resume(self.front.maintenance(), mode);
        }
        self.set_sizes(&state.sizes);
        let companions = self.upgrade.watch_companions(&mut state, message);
        self.companions.take_over(companions);
        self.serve_on(inherited.control.take(), true);
        if let Ok(channel) = inherited.channel() {
            let _gone = protocol::send(&channel, &FromNew::Serving, &[]);
            self.upgrade.predecessor = Some(channel);
        }
        self.upgrade.guardian = inherited.guardian;
        self.look_after_companions();
        self.take_events();
    }

    /// Accepts connections and orders.
    pub(in crate::supervisor) fn begin_to_serve(&mut self) {
        self.serve_on(None, false);
    }

    /// Accepts connections and orders, and writes the pidfile: this process is the server.
    fn serve_on(&mut self, control: Option<SharedControl>, is_successor: bool) {
        self.front.open();
        self.upgrade.sockets.control = self.interfaces.open(control, is_successor);
        self.claim_pidfile();
        // The manager learns of this process from the old one.
        self.service.begin();
    }

    /// A signal that the guardian got.
    pub(super) fn forwarded_signal(&mut self, signal: i32) {
        if let Some(successor) = &self.upgrade.successor {
            let _gone = protocol::send(&successor.channel, &FromOld::Signal(signal), &[]);
            return;
        }
        self.signal(signal, true);
    }
}
