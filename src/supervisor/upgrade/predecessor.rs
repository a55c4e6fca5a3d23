//! The new process of an upgrade: what it takes from the old one, and when.
//!
//! 1. At the start, before the settings are read, [`Inherited::take`] reads the first message.
//! 2. The addresses of the settings get the sockets of the old process; others are bound.
//! 3. When the workers are ready, the old process gets a message, and sends its state: the takeover
//!    (`take_over`). Until then this process accepts nothing, starts no companion, and writes no pidfile.
//! 4. If the old process ends before that, so does this one.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::protocol::{self, FromNew, FromOld, Inheritance, PROTOCOL, Role, SocketFacts};
use crate::config::{ListenAddress, native};
use crate::front::accept::listener::{Listener, SharedSocket};
use crate::os::handover::{self, Channel};
use crate::os::key_files;
use crate::os::key_reader::KeyReader;
use crate::os::pidfile::PidFile;
use crate::os::unix_listener::Ownership;
use crate::supervisor::control::SharedControl;

/// Longest wait for the first message, which is sent before this process is started.
const FIRST: Duration = Duration::from_secs(10);

/// All that this process has from the one whose place it takes.
#[derive(Debug)]
pub struct Inherited {
    channel: Channel,
    pub(super) facts: Inheritance,
    sockets: Vec<(SocketFacts, OwnedFd)>,
    /// To be set when this process takes over.
    pub(super) owned: Vec<Ownership>,
    pub(super) control: Option<SharedControl>,
    /// The descriptors of directory and file.
    pidfile: Option<(PathBuf, [OwnedFd; 2])>,
    pub(super) guardian: Option<Channel>,
}

/// Reports to the old process why this one cannot serve.
#[derive(Debug)]
pub struct FailureReport(Channel);

impl FailureReport {
    /// Sends the reason; too late, it is ignored.
    pub fn send(&self, why: &str) {
        let _gone = protocol::send(&self.0, &FromNew::Failed(why.trim().to_owned()), &[]);
    }
}

impl Inherited {
    /// Takes the channel and the first message; `None` for a process that is no upgrade. To be called once,
    /// by the only thread.
    ///
    /// # Errors
    /// A text, if there is a channel and nothing usable comes over it.
    pub fn take() -> Result<Option<Self>, String> {
        let Some(channel) = Channel::inherited()? else {
            return Ok(None);
        };
        match Self::over(&channel) {
            Ok(make) => Ok(Some(make(channel))),
            Err(error) => {
                let why = format!("pyserve {VERSION} cannot take over: {error}");
                FailureReport(channel).send(&why);
                Err(why)
            }
        }
    }

    fn over(channel: &Channel) -> io::Result<impl FnOnce(Channel) -> Self + use<>> {
        let started = FromNew::Started {
            pid: std::process::id(),
            version: VERSION.to_owned(),
        };
        protocol::send(channel, &started, &[])?;
        let message = channel.receive_within(FIRST)?;
        let message = message.ok_or(io::ErrorKind::UnexpectedEof)?;
        let FromOld::Inherit(facts) = protocol::parse(&message)? else {
            return Err(io::Error::other("the first message is another one"));
        };
        if facts.protocol > PROTOCOL {
            let text = format!(
                "pyserve {} hands over in a way that this version does not know (stop it and start this one)",
                facts.version
            );
            return Err(io::Error::other(text));
        }
        let mut descriptors = message.descriptors.into_iter();
        let mut next = move || {
            let missing = || io::Error::other("a descriptor is missing");
            descriptors.next().ok_or_else(missing)
        };
        let mut sockets = Vec::new();
        for socket in &facts.sockets {
            sockets.push((socket.clone(), next()?));
        }
        let pidfile = match &facts.pidfile {
            Some(path) => Some((native::path(path), [next()?, next()?])),
            None => None,
        };
        let guardian = match facts.has_guardian {
            true => Some(Channel::from_descriptor(next()?)),
            false => None,
        };
        // Before the settings are read: it may be needed to look at their paths.
        if facts.has_key_reader {
            key_files::use_reader(KeyReader::joined(next()?)?);
        }
        if facts.is_init {
            handover::stand_for_init();
        }
        Ok(move |channel| {
            let mut inherited = Self {
                channel,
                facts: *facts,
                sockets,
                owned: Vec::new(),
                control: None,
                pidfile,
                guardian,
            };
            inherited.take_control();
            inherited
        })
    }

    /// A way to report a failure before there is a supervisor.
    pub fn failure_report(&self) -> Option<FailureReport> {
        self.channel.try_clone().ok().map(FailureReport)
    }

    /// Keys of session tickets, and certificates.
    pub fn secrets(&self) -> &Inheritance {
        &self.facts
    }

    /// Another end of the channel.
    pub(super) fn channel(&self) -> io::Result<Channel> {
        self.channel.try_clone()
    }

    fn take_control(&mut self) {
        let found = self
            .sockets
            .iter()
            .position(|(facts, _)| facts.role == Role::Control);
        let Some(found) = found else { return };
        let (facts, socket) = self.sockets.remove(found);
        if let (ListenAddress::Unix(path), Some(file)) = (facts.address.into(), facts.file) {
            self.control = Some(SharedControl {
                socket,
                path,
                file,
                ours: self.ownership(),
            });
        }
    }

    fn ownership(&mut self) -> Ownership {
        let ours = Ownership::new(false);
        self.owned.push(ours.clone());
        ours
    }

    /// The sockets of the service manager, which take the place of the addresses of the settings.
    pub fn passed(&mut self, role: MainOrAdmin) -> Vec<Listener> {
        let role = role.into();
        let (passed, others): (Vec<_>, _) = std::mem::take(&mut self.sockets)
            .into_iter()
            .partition(|(facts, _)| facts.role == role && facts.passed_as.is_some());
        self.sockets = others;
        let listener = |(facts, socket): (SocketFacts, OwnedFd)| {
            let asked = facts.asked.clone().into();
            Listener::taken_over(self.shared(facts, socket), asked)
        };
        passed.into_iter().map(listener).collect()
    }

    /// The socket at an address of the settings, if the old process has one there.
    pub fn listener(&mut self, role: MainOrAdmin, asked: &ListenAddress) -> Option<Listener> {
        let role = role.into();
        let found = self.sockets.iter().position(|(facts, _)| {
            facts.role == role
                && facts.passed_as.is_none()
                && is_same_place(&facts.asked.clone().into(), asked)
        })?;
        let (facts, socket) = self.sockets.remove(found);
        let shared = self.shared(facts, socket);
        Some(Listener::taken_over(shared, asked.clone()))
    }

    fn shared(&mut self, facts: SocketFacts, socket: OwnedFd) -> SharedSocket {
        SharedSocket {
            socket,
            address: facts.address.into(),
            asked: facts.asked.into(),
            passed_as: facts.passed_as,
            file: facts.file,
            ours: self.ownership(),
        }
    }

    /// The file for the process id at this path, to be written at the takeover.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn pidfile(&mut self, path: &Path) -> io::Result<PidFile> {
        match self.pidfile.take() {
            Some((before, [directory, file])) if before == path => {
                PidFile::of(path, directory, file)
            }
            _ => Ok(PidFile::later(path)),
        }
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The purpose of an address of the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MainOrAdmin {
    /// `bind`.
    Main,
    /// `admin`.
    Admin,
}

impl From<MainOrAdmin> for Role {
    fn from(role: MainOrAdmin) -> Self {
        match role {
            MainOrAdmin::Main => Self::Main,
            MainOrAdmin::Admin => Self::Admin,
        }
    }
}

/// True for the same place, with TLS or without.
fn is_same_place(one: &ListenAddress, other: &ListenAddress) -> bool {
    use ListenAddress::{Tcp, Tls, Unix};
    match (one, other) {
        (Tcp(one) | Tls(one), Tcp(other) | Tls(other)) => one == other,
        (Unix(one), Unix(other)) => one == other,
        _ => false,
    }
}
