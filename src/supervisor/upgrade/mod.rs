//! Upgrades: a new process, perhaps of another binary, takes the place of this one, and no request is lost.
//!
//! ```text
//! SIGUSR2, verb    old process                              new process
//!       |---------> start, listening sockets ------------->  settings, applications (predecessor)
//!                   accepts                     <- Ready -   all workers are ready
//!                   state (successor) --- TakeOver ------->  accepts, control socket, pidfile, companions
//!                   drains, companions end      <- Serving-
//!                   ends, or stays as guardian
//! ```
//!
//! [`steps`] decides, [`protocol`] has the messages. Before `Serving` a failure ends the new process and
//! changes nothing. [`guardian`] is what is left of the first process where its parent watches it.

pub mod guardian;
pub mod predecessor;
pub mod protocol;
mod steps;
mod successor;
mod takeover;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use self::protocol::{FromGuardian, FromNew, FromOld, RunEnded, ToGuardian};
use self::steps::{Action, Phase, UpgradeStep};
pub use self::successor::Sockets;
use self::successor::{Attempt, program};
use super::control::UpgradeReply;
use super::shutdown::StopAsked;
use super::shutdown::steps::ShutdownEvent;
use super::{AbortOnDrop, Outcome, Supervisor};
use crate::observe::codes;
use crate::observe::status::remember_error;
use crate::os::handover::{Channel, Message};
use crate::os::{child, descriptors};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Time between SIGTERM and SIGKILL for a new process that is given up.
const TO_END: Duration = Duration::from_secs(2);

/// A message over one of the channels; `None` at its end.
#[derive(Debug)]
pub enum UpgradeEvent {
    /// Of the new process with this id.
    New(u32, Option<Message>),
    /// Of the old process whose place this one takes.
    Old(Option<Message>),
    /// Of the guardian.
    Guardian(Option<Message>),
    /// A companion of the old process has ended; its process id.
    CompanionEnded(u32),
}

/// The upgrade of this process, and the one by which it came.
pub struct Upgrade {
    phase: Phase,
    attempt: Option<Attempt>,
    reply: Option<UpgradeReply>,
    /// Processes that were given up, and the time of SIGKILL for each.
    given_up: Vec<(u32, Instant)>,
    /// Readers of the channels to the old process and to the guardian.
    readers: Vec<AbortOnDrop>,
    /// A reload was asked for meanwhile.
    reload_asked: bool,
    pub(super) sockets: Sockets,
    /// The process that has taken over.
    pub(super) successor: Option<Successor>,
    /// The rest of the old process; `None` for a process that was simply started.
    inherited: Option<predecessor::Inherited>,
    /// The channel to the old process after the takeover.
    pub(super) predecessor: Option<Channel>,
    /// Companions of the old process whose end shows at no descriptor.
    unseen: Vec<u32>,
    /// The channel to the guardian above this process.
    guardian: Option<Channel>,
    events: mpsc::UnboundedSender<UpgradeEvent>,
}

/// The process that has taken over.
pub(super) struct Successor {
    pub(super) pid: u32,
    pub(super) name: String,
    channel: Channel,
    /// The channel to all servers after this process, if it is their guardian.
    pub(super) guarded: Option<AsyncFd<Channel>>,
    /// Its wait status, once it has ended.
    pub(super) status: Option<i32>,
    since: Instant,
}

/// Waits until the old process of this one has ended, and returns the outcome of that. Cancel-safe: no other
/// message comes before the workers are ready, except those of the guardian.
pub(super) async fn alone(events: &mut mpsc::UnboundedReceiver<UpgradeEvent>) -> Outcome {
    loop {
        match events.recv().await {
            Some(UpgradeEvent::Old(None) | UpgradeEvent::Guardian(None)) => break,
            Some(_) => {}
            None => return std::future::pending().await,
        }
    }
    Outcome {
        code: 1,
        last_error: ALONE.to_owned(),
    }
}

/// The last text of a new process whose old process has ended.
const ALONE: &str =
    "pyserve: the process that started this upgrade has ended: nothing to take over";

impl Successor {
    pub(super) fn log_the_end_of_this_process(&self) {
        let (own, took) = (std::process::id(), self.since.elapsed().as_secs_f64());
        let stays = match (&self.guarded, self.status) {
            (Some(_), None) => ", and stays as the parent of the server: it forwards signals",
            _ => "",
        };
        tracing::info!(
            server = self.pid,
            "upgrade: the old process (pid {own}) has finished its requests and companions after {took:.2} s{stays}"
        );
    }
}

impl Upgrade {
    /// No upgrade is under way; `inherited` is that by which this process came.
    pub(super) fn new(
        inherited: Option<predecessor::Inherited>,
        sockets: Sockets,
        events: mpsc::UnboundedSender<UpgradeEvent>,
    ) -> Self {
        let mut upgrade = Self {
            phase: Phase::default(),
            attempt: None,
            reply: None,
            given_up: Vec::new(),
            readers: Vec::new(),
            reload_asked: false,
            sockets,
            successor: None,
            inherited,
            predecessor: None,
            unseen: Vec::new(),
            guardian: None,
            events,
        };
        upgrade.listen_to_the_old();
        upgrade
    }

    /// The listening sockets are for no other process.
    pub(super) fn close_sockets(&mut self) {
        self.sockets = Sockets::default();
    }

    /// True if this process still waits for its turn.
    pub(super) fn is_waiting(&self) -> bool {
        self.inherited.is_some()
    }

    /// The other process of the server, which is suspended and continued with this one: the new one that gets
    /// ready, or that has taken over below this one as its guardian.
    pub(super) fn other(&self) -> Option<u32> {
        let attempt = self.attempt.as_ref().map(|attempt| attempt.pid);
        let successor = self.successor.as_ref();
        let guarded = successor.filter(|one| one.guarded.is_some() && one.status.is_none());
        attempt.or(guarded.map(|successor| successor.pid))
    }

    /// True if another process has taken over.
    pub(super) fn is_over(&self) -> bool {
        self.successor.is_some()
    }

    /// True while a new process gets ready or takes over.
    pub(super) fn is_under_way(&self) -> bool {
        self.phase.is_under_way()
    }

    /// Passes the messages of a channel on as events, until its end or until this is dropped.
    fn listen(
        &self,
        channel: &Channel,
        wrap: impl Fn(Option<Message>) -> UpgradeEvent + Send + 'static,
    ) -> io::Result<AbortOnDrop> {
        let channel = channel.try_clone()?.registered()?;
        let events = self.events.clone();
        let read = async move {
            loop {
                let received = channel.async_io(Interest::READABLE, Channel::receive).await;
                let message = received
                    .inspect_err(
                        |error| tracing::warn!(%error, "cannot read the channel of an upgrade"),
                    )
                    .unwrap_or_default();
                let is_end = message.is_none();
                if events.send(wrap(message)).is_err() || is_end {
                    return;
                }
            }
        };
        Ok(AbortOnDrop(tokio::spawn(read)))
    }
}

impl Supervisor {
    /// Starts the upgrade: by SIGUSR2, or by the verb, which gets the outcome.
    pub(super) fn upgrade(&mut self, to: Option<PathBuf>, reply: Option<UpgradeReply>) {
        let started = match self.refusal() {
            Some(why) => Err(format!("no upgrade: {why}")),
            None => self.begin_upgrade(to),
        };
        match started {
            Ok(attempt) => {
                tracing::info!(
                    program = %attempt.program.display(),
                    pid = attempt.pid,
                    "upgrade: started the new process; pyserve {VERSION} (pid {}) serves until it is ready",
                    std::process::id()
                );
                self.upgrade.reply = reply;
                self.upgrade.attempt = Some(attempt);
                let limit = self.resolved.config.upgrade_timeout;
                self.step(UpgradeStep::Started(limit));
            }
            Err(why) => {
                tracing::error!(code = codes::UPGRADE_FAILED, "{why}");
                if let Some(reply) = reply {
                    let _gone = reply.send(Err(why));
                }
            }
        }
    }

    /// The reason why no upgrade can begin now.
    fn refusal(&self) -> Option<String> {
        if let Some(successor) = &self.upgrade.successor {
            return Some(format!("{} has taken over already", successor.name));
        }
        if self.is_stopping() {
            return Some("the server is stopping".to_owned());
        }
        if let Some(attempt) = self.upgrade.attempt.as_ref() {
            return Some(format!("another one is under way, to {}", attempt.name()));
        }
        if self.upgrade.is_waiting() {
            return Some("this process has not taken over yet".to_owned());
        }
        if !self.is_announced {
            return Some("the server is not ready yet".to_owned());
        }
        self.reloads
            .is_under_way()
            .then(|| "a reload is under way".to_owned())
    }

    fn begin_upgrade(&mut self, to: Option<PathBuf>) -> Result<Attempt, String> {
        let program = program(to).map_err(|why| format!("no upgrade: {why}"))?;
        let shown = program.display().to_string();
        let started = self.start_successor(program).and_then(|mut attempt| {
            let pid = attempt.pid;
            let of_new = move |message| UpgradeEvent::New(pid, message);
            let reader = self.upgrade.listen(&attempt.channel, of_new);
            attempt.reader = Some(reader.inspect_err(|_| child::kill(pid))?);
            Ok(attempt)
        });
        started.map_err(|error| {
            let error = descriptors::explain(&error);
            format!("no upgrade: cannot start {shown}: {error} (nothing has changed)")
        })
    }

    /// Takes a message over one of the channels.
    pub(super) fn upgrade_event(&mut self, event: UpgradeEvent) {
        match event {
            UpgradeEvent::New(pid, message) => self.of_new(pid, message),
            UpgradeEvent::Old(message) => self.of_old(message),
            // The guardian is the old process, and the end of its other channel may show later.
            UpgradeEvent::Guardian(None) if self.upgrade.is_waiting() => self.old_has_ended(),
            UpgradeEvent::Guardian(None) => {
                tracing::warn!("the process that started the server has ended: stopping");
                self.ask_to_stop();
            }
            UpgradeEvent::Guardian(Some(message)) => match protocol::parse(&message) {
                Ok(FromGuardian::Signal(signal)) => self.forwarded_signal(signal),
                Err(error) => tracing::debug!(%error, "unknown message of the guardian"),
            },
            UpgradeEvent::CompanionEnded(pid) => {
                self.companions.predecessor_ended(Some(pid));
                self.look_after_companions();
            }
        }
    }

    fn of_new(&mut self, pid: u32, message: Option<Message>) {
        let Some(attempt) = &mut self.upgrade.attempt else {
            return;
        };
        if attempt.pid != pid {
            return;
        }
        // Its end is reported by the kernel, with the exit code.
        let Some(message) = message else { return };
        match protocol::parse(&message) {
            Ok(FromNew::Started { pid, version }) if pid == attempt.pid => {
                attempt.version = Some(version);
                tracing::info!(pid, "upgrade: {} starts its applications", attempt.name());
            }
            Ok(FromNew::Started { pid: other, .. }) => {
                let why = format!(
                    "process {other} answers instead of {pid}: the program must become the server (in a shell script: exec pyserve \"$@\")"
                );
                self.step(UpgradeStep::Failed(why));
            }
            Ok(FromNew::Failed(why)) => self.step(UpgradeStep::Failed(why)),
            Ok(FromNew::Ready) => {
                tracing::info!("upgrade: {} is ready and takes over", attempt.name());
                self.step(UpgradeStep::Ready);
            }
            Ok(FromNew::Serving) => self.step(UpgradeStep::Serves),
            Err(error) => {
                let why =
                    format!("it sent a message that pyserve {VERSION} does not know: {error}");
                self.step(UpgradeStep::Failed(why));
            }
        }
    }

    /// The next message for this process as the guardian of the next ones. Cancel-safe.
    pub(super) async fn guarded_message(&self) -> Message {
        let successor = self.upgrade.successor.as_ref();
        let Some(guarded) = successor.and_then(|successor| successor.guarded.as_ref()) else {
            return std::future::pending().await;
        };
        match guarded.async_io(Interest::READABLE, Channel::receive).await {
            Ok(Some(message)) => message,
            // Its end is that of the server.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Takes a message for this process as the guardian.
    pub(super) fn guarded(&mut self, message: &Message) {
        let Some(successor) = &mut self.upgrade.successor else {
            return;
        };
        match protocol::parse(message) {
            Ok(ToGuardian::Main(pid)) => successor.pid = pid,
            Ok(ToGuardian::Ended(status)) => {
                successor.status = Some(status);
                self.hurry();
            }
            Err(error) => tracing::debug!(%error, "unknown message to the guardian"),
        }
    }

    /// Handles the exit of a child. `true`: it was the new process.
    pub(super) fn upgrade_ended(&mut self, pid: u32, status: i32) -> bool {
        let is_it = |upgrade: &Upgrade| upgrade.attempt.as_ref().is_some_and(|one| one.pid == pid);
        if is_it(&self.upgrade) {
            // It may have said why, or that it serves.
            self.read_last_words(pid);
        }
        if is_it(&self.upgrade) {
            let status = child::describe_status(status);
            self.step(UpgradeStep::Failed(format!(
                "it ended before it was ready: {status} (its own log lines have the reason)"
            )));
        }
        if let Some(at) = self.upgrade.given_up.iter().position(|one| one.0 == pid) {
            // It is reaped.
            self.upgrade.given_up.remove(at);
            return true;
        }
        let Some(successor) = &mut self.upgrade.successor else {
            return false;
        };
        if successor.pid != pid {
            return false;
        }
        successor.status = Some(status);
        let status_text = child::describe_status(status);
        tracing::info!(pid, "the process that took over has ended: {status_text}");
        if let Some(guardian) = &self.upgrade.guardian {
            let _gone = protocol::send(guardian, &ToGuardian::Ended(status), &[]);
        }
        self.hurry();
        true
    }

    /// Takes the messages that the new process sent before it ended.
    fn read_last_words(&mut self, pid: u32) {
        while let Some(attempt) = self.upgrade.attempt.as_ref().filter(|one| one.pid == pid) {
            match attempt.channel.receive() {
                Ok(Some(message)) => self.of_new(pid, Some(message)),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// The time of a timer has come.
    pub(super) fn upgrade_timer(&mut self) {
        self.step(UpgradeStep::Timer);
        let now = Instant::now();
        for (pid, at) in self.upgrade.given_up.clone() {
            match at <= now {
                true => child::kill(pid),
                false => self.wake_at(at),
            }
        }
    }

    /// A graceful stop was asked for. `true`: it is to begin now.
    pub(super) fn stop_may_begin(&mut self) -> bool {
        if let Some(successor) = &self.upgrade.successor {
            let _gone = protocol::send(&successor.channel, &FromOld::Stop, &[]);
            return false;
        }
        if !self.upgrade.is_under_way() {
            return true;
        }
        self.step(UpgradeStep::StopAsked);
        false
    }

    /// This process ends at once, and a new one that has not taken over, too.
    pub(super) fn abandon_upgrade(&mut self) {
        if let Some(attempt) = self.upgrade.attempt.take() {
            child::kill(attempt.pid);
        }
        for (pid, _) in &self.upgrade.given_up {
            child::kill(*pid);
        }
    }

    fn step(&mut self, event: UpgradeStep) {
        for action in self.upgrade.phase.decide(event, Instant::now()) {
            match action {
                Action::SendState => self.begin_takeover(),
                Action::HandOver => self.hand_over(),
                Action::StopSuccessor => {
                    if let Some(successor) = &self.upgrade.successor {
                        let _gone = protocol::send(&successor.channel, &FromOld::Stop, &[]);
                    }
                }
                Action::GiveUp(why) => self.give_upgrade_up(&why),
                Action::Stop => self.ask_to_stop(),
                Action::WakeAt(time) => self.wake_at(time),
            }
        }
    }

    fn begin_takeover(&mut self) {
        let Some(mut attempt) = self.upgrade.attempt.take() else {
            return;
        };
        attempt.takes_over = true;
        // From now on the new process starts them.
        self.companions.pause();
        let sent = self.send_state(&attempt.channel);
        self.upgrade.attempt = Some(attempt);
        if let Err(error) = sent {
            let error = descriptors::explain(&error);
            self.step(UpgradeStep::Failed(format!("cannot hand over: {error}")));
        }
    }

    fn give_upgrade_up(&mut self, why: &str) {
        let Some(attempt) = self.upgrade.attempt.take() else {
            return;
        };
        let name = attempt.name();
        // The end of the channel ends a process that understands it; others get signals. One that takes over
        // believes that the sockets are its own: it must not close them.
        let pid = attempt.pid;
        match attempt.takes_over {
            true => child::kill(pid),
            false => drop(child::stop_gracefully(pid)),
        }
        drop(attempt);
        let kill_at = Instant::now() + TO_END;
        self.upgrade.given_up.push((pid, kill_at));
        self.wake_at(kill_at);
        // The new process may have written its own id.
        self.claim_pidfile();
        self.companions.go_on();
        self.look_after_companions();
        tracing::error!(
            code = codes::UPGRADE_FAILED,
            "upgrade to {name} failed, pyserve {VERSION} (pid {}) keeps serving: {why}",
            std::process::id()
        );
        remember_error(&format!("upgrade failed: {why}"));
        if let Some(reply) = self.upgrade.reply.take() {
            let text = format!("the upgrade to {name} failed, nothing has changed: {why}");
            let _gone = reply.send(Err(text));
        }
        if std::mem::take(&mut self.upgrade.reload_asked) && !self.is_stopping() {
            self.reload(None);
        }
    }

    fn hand_over(&mut self) {
        let Some(attempt) = self.upgrade.attempt.take() else {
            return;
        };
        let name = attempt.name();
        let own = std::process::id();
        let sockets = std::mem::take(&mut self.upgrade.sockets);
        sockets.owners().for_each(|ours| ours.set(false));
        self.interfaces.release();
        if let Some(guardian) = &self.upgrade.guardian {
            let _gone = protocol::send(guardian, &ToGuardian::Main(attempt.pid), &[]);
        }
        // What arrives meanwhile is for the new process.
        self.upgrade.readers.clear();
        let text = format!("upgraded from pyserve {VERSION} (pid {own}) to {name}");
        if attempt.guarded.is_none() {
            self.service.hand_over(attempt.pid, &text);
        }
        if std::mem::take(&mut self.upgrade.reload_asked) {
            let _gone = protocol::send(&attempt.channel, &FromOld::Reload, &[]);
        }
        let guarded = attempt.guarded.and_then(|guarded| {
            guarded
                .registered()
                .inspect_err(|error| tracing::warn!(%error, "cannot follow the next servers"))
                .ok()
        });
        let took = attempt.began.elapsed().as_secs_f64();
        tracing::info!("{text} in {took:.2} s: finishing in-flight requests here");
        self.upgrade.successor = Some(Successor {
            pid: attempt.pid,
            name,
            channel: attempt.channel,
            guarded,
            status: None,
            since: Instant::now(),
        });
        if let Some(reply) = self.upgrade.reply.take() {
            let _gone = reply.send(Ok(format!("{text} in {took:.2} s")));
        }
        self.companions.leave_to_successor(Instant::now());
        self.look_after_companions();
        self.stop_asked = Some(StopAsked::now());
        self.front.stop.asked.cancel();
        self.stopping(ShutdownEvent::HandedOver);
    }

    /// Reports the ends of scheduled runs to the new process.
    pub(super) fn pass_on_runs(&mut self) {
        let Some(successor) = &self.upgrade.successor else {
            return;
        };
        for (name, took, status) in self.companions.take_finished_runs() {
            let ended = FromOld::RunEnded(RunEnded {
                name,
                took: took.as_secs_f64(),
                status,
            });
            let _gone = protocol::send(&successor.channel, &ended, &[]);
        }
    }

    /// An order that changes the state of the server is refused while that is handed over.
    ///
    /// # Errors
    /// The reason.
    pub(super) fn unless_handing_over(&self) -> Result<(), String> {
        let is_handing_over = matches!(self.upgrade.phase, Phase::TakingOver { .. });
        match is_handing_over || self.upgrade.is_over() {
            true => Err("an upgrade takes over at this moment: try again".to_owned()),
            false => Ok(()),
        }
    }

    /// True while this process, which has handed over, waits for companions.
    pub(super) fn waits_for_companions(&self) -> bool {
        let is_drained = self.code == Some(0) && !self.is_hurried;
        self.upgrade.is_over() && is_drained && self.companions.are_left()
    }

    /// The service ends: what is left here ends within the usual time.
    pub(super) fn hurry(&mut self) {
        self.is_hurried = true;
        self.stop_asked = Some(StopAsked::now());
    }

    /// A signal for the server, which another process is by now. `true`: it was dealt with.
    pub(super) fn pass_on(&mut self, signal: i32, name: &str) -> bool {
        let Some(successor) = &self.upgrade.successor else {
            return false;
        };
        match &successor.guarded {
            Some(guarded) => {
                let signal = FromGuardian::Signal(signal);
                let _gone = protocol::send(guarded.get_ref(), &signal, &[]);
            }
            None => {
                tracing::warn!("ignored {name}: {} is the server by now", successor.name);
            }
        }
        true
    }

    /// A signal or a changed file asks for a reload while an upgrade is under way: it follows.
    pub(super) fn reload_after_upgrade(&mut self) {
        if !std::mem::replace(&mut self.upgrade.reload_asked, true) {
            tracing::info!("an upgrade is under way: the reload follows it");
        }
    }
}
