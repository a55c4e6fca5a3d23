//! Messages between the processes of an upgrade: JSON, with descriptors beside it.
//!
//! ```text
//! old -> new   Inherit          with the listening sockets, as the first message
//! new -> old   Started, Ready   or Failed
//! old -> new   TakeOver
//! new -> old   Serving
//! ```
//!
//! The two may be of different versions: fields may be added with a default, and a change that an older
//! version must not misunderstand raises [`PROTOCOL`].

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::{CommandLine, ListenAddress, native};
use crate::front::tls::pair::SharedPair;
use crate::front::tls::tickets::TicketKey;
use crate::os::handover::{Channel, Message};
use crate::supervisor::app::SizeState;
use crate::supervisor::companions::CompanionHandover;
use crate::supervisor::maintenance::MaintenanceState;

/// Version of these messages.
pub const PROTOCOL: u32 = 1;

/// A message of the old process.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromOld {
    /// The state with which the new process starts.
    Inherit(Box<Inheritance>),
    /// Accept connections from now on, with this state.
    TakeOver(Box<State>),
    /// Reload: a signal or a changed file asked for it during the upgrade.
    Reload,
    /// Stop gracefully: a signal or a verb asked for it during the upgrade.
    Stop,
    /// Do what this signal asks for: it came over the guardian's channel during the takeover.
    Signal(i32),
    /// A run of a scheduled companion has ended.
    RunEnded(RunEnded),
}

/// A message of the new process.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromNew {
    /// It runs and has read the first message.
    Started {
        /// Its process id.
        pid: u32,
        /// Its version.
        version: String,
    },
    /// It cannot serve, for this reason.
    Failed(String),
    /// Its workers are ready.
    Ready,
    /// It accepts connections.
    Serving,
}

/// A message of the process that was started first, the guardian.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromGuardian {
    /// It got this signal.
    Signal(i32),
}

/// A message to the guardian.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToGuardian {
    /// This process is the server from now on.
    Main(u32),
    /// The server has ended with this wait status.
    Ended(i32),
}

/// The first message. Its descriptors are those of the sockets, in this order, then two of the pidfile, one
/// of the channel to the guardian, and one of the process that reads keys, where there are these.
#[derive(Debug, Serialize, Deserialize)]
pub struct Inheritance {
    /// [`PROTOCOL`] of the old process.
    pub protocol: u32,
    /// Version of the old process.
    pub version: String,
    /// Process id of the old process.
    pub pid: u32,
    /// The listening sockets.
    pub sockets: Vec<SocketFacts>,
    /// The number of workers of each application, by its prefix.
    pub sizes: Vec<(String, SizeState)>,
    /// Keys of session tickets.
    pub tickets: Vec<TicketKey>,
    /// Certificates, whose files the user of the new process may not be able to read.
    pub certificates: Vec<SharedPair>,
    /// Path of the pidfile, as [`native::text`].
    pub pidfile: Option<String>,
    /// True if there is a guardian.
    pub has_guardian: bool,
    /// True if the guardian is process 1 of its container.
    pub is_init: bool,
    /// True if there is a process that reads keys of root.
    #[serde(default)]
    pub has_key_reader: bool,
    /// The command line of uWSGI that the old process has adopted.
    #[serde(default)]
    pub adopted: Option<CommandLine>,
}

/// State that may change until the takeover. Its descriptors show the ends of companions.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    /// Maintenance mode, if it is on.
    pub maintenance: Option<MaintenanceState>,
    /// The number of workers of each application, by its prefix.
    pub sizes: Vec<(String, SizeState)>,
    /// Companions, each with true if there is a descriptor for it.
    pub companions: Vec<(CompanionHandover, bool)>,
}

/// The end of a scheduled run.
#[derive(Debug, Serialize, Deserialize)]
pub struct RunEnded {
    /// Name of the companion.
    pub name: String,
    /// Duration in seconds.
    pub took: f64,
    /// Wait status.
    pub status: i32,
}

/// A listening socket.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SocketFacts {
    /// Its purpose.
    pub role: Role,
    /// The address for clients.
    pub address: Address,
    /// The address as the settings have it.
    pub asked: Address,
    /// The name of a socket of the service manager.
    pub passed_as: Option<String>,
    /// Device and inode of the file of a Unix socket.
    pub file: Option<(u64, u64)>,
}

/// The purpose of a listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// For clients.
    Main,
    /// For probes and metrics.
    Admin,
    /// For orders.
    Control,
}

/// A [`ListenAddress`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    /// Internet address and port.
    Tcp(SocketAddr),
    /// The same, with TLS.
    Tls(SocketAddr),
    /// A path, as [`native::text`].
    Unix(String),
}

impl From<&ListenAddress> for Address {
    fn from(address: &ListenAddress) -> Self {
        match address {
            ListenAddress::Tcp(at) => Self::Tcp(*at),
            ListenAddress::Tls(at) => Self::Tls(*at),
            ListenAddress::Unix(path) => Self::Unix(native::text(path.as_os_str())),
        }
    }
}

impl From<Address> for ListenAddress {
    fn from(address: Address) -> Self {
        match address {
            Address::Tcp(at) => Self::Tcp(at),
            Address::Tls(at) => Self::Tls(at),
            Address::Unix(path) => Self::Unix(native::path(&path)),
        }
    }
}

/// Sends a message.
///
/// # Errors
/// The error of the channel.
pub fn send(
    channel: &Channel,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    channel.send(&serde_json::to_vec(message)?, descriptors)
}

/// Reads a message.
///
/// # Errors
/// It is not one of this protocol.
pub fn parse<T: DeserializeOwned>(message: &Message) -> io::Result<T> {
    Ok(serde_json::from_slice(&message.bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_their_form() {
        for text in [
            "127.0.0.1:80",
            "https://[::1]:443",
            "unix:/run/a b.sock",
            "0.0.0.0:0",
        ] {
            let address = ListenAddress::parse(text, "/".as_ref()).unwrap();
            let sent = serde_json::to_string(&Address::from(&address)).unwrap();
            let received: Address = serde_json::from_str(&sent).unwrap();
            assert_eq!(ListenAddress::from(received), address);
        }
    }
}
