//! The old process of an upgrade: starts the new one, and gives it sockets and state.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::protocol::{self, Address, FromOld, Inheritance, PROTOCOL, Role, SocketFacts, State};
use crate::config::foreign::found;
use crate::config::{HostFacts, ListenAddress, native};
use crate::front::accept::listener::{Listener, SharedSocket};
use crate::os::handover::{Channel, MOST_DESCRIPTORS};
use crate::os::pidfile::PidFile;
use crate::os::service_manager::Notifications;
use crate::os::unix_listener::Ownership;
use crate::os::{handover, key_files, own_program};
use crate::supervisor::app::SizeState;
use crate::supervisor::control::SharedControl;
use crate::supervisor::{AbortOnDrop, Supervisor};

/// The listening sockets of this process, for the next one.
#[derive(Debug, Default)]
pub struct Sockets {
    pub(super) listeners: Vec<(Role, SharedSocket)>,
    pub(super) control: Option<SharedControl>,
}

impl Sockets {
    /// Other descriptors of these listeners.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn of(listeners: &[Listener], admin: Option<&Listener>) -> io::Result<Self> {
        let main = listeners.iter().map(|listener| (Role::Main, listener));
        let all = main.chain(admin.map(|listener| (Role::Admin, listener)));
        let shared: io::Result<_> = all
            .map(|(role, listener)| Ok((role, listener.share()?)))
            .collect();
        Ok(Self {
            listeners: shared?,
            control: None,
        })
    }

    /// Facts and descriptors for the new process.
    fn shared(&self) -> impl Iterator<Item = (SocketFacts, BorrowedFd<'_>)> {
        let listeners = self.listeners.iter().map(|(role, shared)| {
            let facts = SocketFacts {
                role: *role,
                address: Address::from(&shared.address),
                asked: Address::from(&shared.asked),
                passed_as: shared.passed_as.clone(),
                file: shared.file,
            };
            (facts, shared.socket.as_fd())
        });
        let control = self.control.iter().map(|shared| {
            let address = Address::from(&ListenAddress::Unix(shared.path.clone()));
            let facts = SocketFacts {
                role: Role::Control,
                asked: address.clone(),
                address,
                passed_as: None,
                file: Some(shared.file),
            };
            (facts, shared.socket.as_fd())
        });
        listeners.chain(control)
    }

    /// The owners of all sockets that the new process has got.
    pub(super) fn owners(&self) -> impl Iterator<Item = &Ownership> {
        let listeners = self.listeners.iter().map(|(_, shared)| &shared.ours);
        listeners.chain(self.control.iter().map(|shared| &shared.ours))
    }
}

/// A new process that was started.
pub struct Attempt {
    /// Its program.
    pub program: PathBuf,
    /// Its process id.
    pub pid: u32,
    /// Its version, once it is known.
    pub version: Option<String>,
    /// The time of its start.
    pub began: Instant,
    /// The channel to it.
    pub channel: Channel,
    /// The end of the guardian's channel that stays here, if this process is to be the guardian.
    pub guarded: Option<Channel>,
    /// It has got the state of this process, and may serve already.
    pub takes_over: bool,
    pub(super) reader: Option<AbortOnDrop>,
}

impl Attempt {
    /// `pyserve 1.2.3 (pid 7)`.
    pub fn name(&self) -> String {
        match &self.version {
            Some(version) => format!("pyserve {version} (pid {})", self.pid),
            None => format!("{} (pid {})", self.program.display(), self.pid),
        }
    }
}

/// The program to start: this one, or the one that was asked for.
///
/// # Errors
/// A text, if the file of this process is not known.
pub fn program(to: Option<PathBuf>) -> Result<PathBuf, String> {
    to.or_else(own_program::path)
        .ok_or_else(|| "the path of this program is unknown (give it with --to)".to_owned())
}

impl Supervisor {
    /// Starts the new process with what it needs to bind and to get ready.
    ///
    /// # Errors
    /// The error of the system call for the channel or for starting the program, or its format.
    pub(super) fn start_successor(&self, program: PathBuf) -> io::Result<Attempt> {
        check_format(&program)?;
        let (ours, theirs) = Channel::pair()?;
        let notifications = self.service.notifications();
        let above = self.upgrade.guardian.as_ref();
        let below = match above.is_none() && self.stays_as_guardian() {
            true => Some(Channel::pair()?),
            false => None,
        };
        let guardian = above.or(below.as_ref().map(|(_, theirs)| theirs));
        self.send_inheritance(&ours, guardian)?;
        let mut command = command(&program, notifications);
        let pid = theirs.start(&mut command)?;
        Ok(Attempt {
            program,
            pid,
            version: None,
            began: Instant::now(),
            channel: ours,
            guarded: below.map(|(ours, _)| ours),
            takes_over: false,
            reader: None,
        })
    }

    /// True if this process is to stay as the parent of the new one: what has started it watches this
    /// process, and takes its end for that of the server. Only systemd accepts another one.
    fn stays_as_guardian(&self) -> bool {
        !self.service.notifications().are_wanted() || std::process::id() == 1
    }

    fn send_inheritance(&self, channel: &Channel, guardian: Option<&Channel>) -> io::Result<()> {
        let upgrade = &self.upgrade;
        let (sockets, mut descriptors): (Vec<_>, Vec<_>) = upgrade.sockets.shared().unzip();
        let pidfile = self.pidfile.as_ref().and_then(PidFile::share);
        descriptors.extend(pidfile.iter().flat_map(|(_, descriptors)| descriptors));
        descriptors.extend(guardian.map(AsFd::as_fd));
        // This process is not root any more, and so the new one cannot start such a process.
        let key_reader = key_files::join_reader();
        descriptors.extend(key_reader.iter().map(AsFd::as_fd));
        if descriptors.len() > MOST_DESCRIPTORS {
            let text = format!("{} listening sockets are too many", sockets.len());
            return Err(io::Error::other(text));
        }
        let (tickets, certificates) = self.front.secrets();
        let facts = Inheritance {
            protocol: PROTOCOL,
            version: super::VERSION.to_owned(),
            pid: std::process::id(),
            sockets,
            sizes: self.sizes(),
            tickets,
            certificates,
            pidfile: pidfile.map(|(path, _)| native::text(path.as_os_str())),
            has_guardian: guardian.is_some(),
            is_init: handover::is_init(),
            has_key_reader: key_reader.is_some(),
            adopted: self.reloads.adopted(),
        };
        protocol::send(channel, &FromOld::Inherit(Box::new(facts)), &descriptors)
    }

    /// Sends the state that may have changed until now.
    ///
    /// # Errors
    /// The error of the channel.
    pub(super) fn send_state(&self, channel: &Channel) -> io::Result<()> {
        let companions = self.companions.to_hand_over().into_iter();
        let mut ends: Vec<OwnedFd> = Vec::new();
        let companions = companions.map(|one| {
            let end = one.pid.and_then(handover::end_of);
            let has_end = end.is_some() && ends.len() < MOST_DESCRIPTORS;
            ends.extend(end.filter(|_| has_end));
            (one, has_end)
        });
        let state = State {
            companions: companions.collect(),
            maintenance: crate::supervisor::maintenance::state(self.front.maintenance()),
            sizes: self.sizes(),
        };
        let ends: Vec<_> = ends.iter().map(AsFd::as_fd).collect();
        protocol::send(channel, &FromOld::TakeOver(Box::new(state)), &ends)
    }

    fn sizes(&self) -> Vec<(String, SizeState)> {
        let apps = self.apps.serving().iter().enumerate();
        let config = &self.resolved.config;
        apps.map(|(index, app)| (config.place_of(index), app.size_to_hand_over()))
            .collect()
    }
}

/// Rejects a file that the kernel does not execute: the C library lets a shell read such a file as a script
/// (`execvp`, POSIX), also a program of another machine. The start itself says why a file is not executable.
fn check_format(program: &Path) -> io::Result<()> {
    let mut head = Vec::new();
    let facts = std::fs::metadata(program);
    let is_executable = facts.is_ok_and(|facts| facts.is_file() && facts.mode() & 0o111 != 0);
    let opened = is_executable.then(|| File::open(program).ok()).flatten();
    let Some(file) = opened else {
        return Ok(());
    };
    file.take(20).read_to_end(&mut head)?;
    if head.starts_with(b"#!") {
        return Ok(());
    }
    if !head.starts_with(b"\x7fELF") {
        let text = "it is neither a program (ELF) nor a script that begins with `#!`";
        return Err(io::Error::other(text));
    }
    // gabi, "ELF Header": e_machine.
    let machine = head.get(18..20);
    match MACHINE.is_none_or(|ours| machine == Some(&ours.to_le_bytes())) {
        true => Ok(()),
        false => Err(io::Error::other("it is a program for another machine")),
    }
}

/// The `e_machine` of programs of this machine, which is little-endian.
const MACHINE: Option<u16> = match () {
    () if cfg!(target_arch = "x86_64") => Some(62),
    () if cfg!(target_arch = "aarch64") => Some(183),
    () => None,
};

/// The command line, environment and directory of this process.
fn command(program: &Path, notifications: &Notifications) -> Command {
    let mut command = Command::new(program);
    let mut words = own_program::arguments().into_iter();
    let name = words.next();
    // By these names a program takes another command line.
    let is_called = |name| found::called_as(name).is_some();
    if let Some(name) = name.filter(|_| is_called("uwsgi") || is_called("gunicorn")) {
        std::os::unix::process::CommandExt::arg0(&mut command, name);
    }
    command.args(words);
    let variables = notifications.variables().iter();
    command.envs(variables.map(|(name, value)| (name, value)));
    // By the name that the shell gave it: a link in it may lead to another release by now.
    let start = HostFacts::of_this_process().current_dir;
    if start.is_dir() {
        command.current_dir(start);
    }
    command
}
