//! The control socket, over which a running server takes orders of its user and of root.
//!
//! A Unix socket of mode 0600 in a directory of mode 0700; the kernel's peer credentials
//! (`SO_PEERCRED`) are checked too. No listener leads here. Orders become [`Command`]s in the
//! supervisor's loop, which carries them out. [`protocol`] defines the messages, [`place`] the
//! paths, [`client`] is the other end, [`fifo`] the way of uWSGI to give orders; [`probe`] asks the admin listener instead.

pub mod client;
pub mod fifo;
pub mod place;
pub mod prepared;
pub mod probe;
pub mod protocol;
mod stacks;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::starting::Starting;
use crate::config::{CommandLine, Control, native};
use crate::front::accept::admin_server::Stages;
use crate::front::accept::spare_descriptor::SpareDescriptor;
use crate::front::admin::SupervisorQuery;
use crate::front::upstream::workers::Pool;
use crate::observe::codes;
use crate::os::unix_listener::{self, Ownership, RemoveOnDrop, Resolve, SocketFile};
use fifo::FifoCommand;
use prepared::PreparedOrder;
use protocol::{ControlReply, LONGEST_ORDER, Order};

/// Clients at a time; more wait in the backlog. People and probes are few.
const CLIENTS: usize = 16;
/// Longest time for a client to send its line, or to read the response.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest time for a worker to acquire the interpreter; then it reports its stacks without.
const STACKS: Duration = Duration::from_secs(2);

/// An order for the supervisor, with the channel for its response.
pub enum Command {
    /// Answer a question.
    Answer(SupervisorQuery),
    /// Reload code and settings, as SIGHUP does; with a command line of uWSGI to adopt, perhaps.
    Reload(Option<CommandLine>, super::reload::ReloadReply),
    /// List the applications and their pools.
    Pools(oneshot::Sender<Vec<Asked>>),
    /// Set the number of workers.
    Scale(u32, oneshot::Sender<Result<(), String>>),
    /// Turn maintenance mode on or off, or report it.
    Maintenance(PreparedOrder, oneshot::Sender<Result<String, String>>),
    /// Start this program, or the same one again, and hand over to it, as SIGUSR2 does.
    Upgrade(Option<PathBuf>, UpgradeReply),
    /// Stop gracefully, as SIGTERM does.
    Stop,
    /// Obey a command of the FIFO.
    Fifo(FifoCommand),
}

/// Receives the outcome of an upgrade, in words.
pub type UpgradeReply = oneshot::Sender<Result<String, String>>;

/// An application whose stacks are requested.
pub struct Asked {
    /// Its name.
    pub name: String,
    /// Its pool.
    pub pool: Pool,
    /// Its processes that are still starting.
    pub starting: Vec<Starting>,
}

/// The server's end of the control socket. Dropping it closes and removes the socket.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    file: Option<RemoveOnDrop>,
    ours: Ownership,
}

/// A control socket that one server hands over to another.
#[derive(Debug)]
pub struct SharedControl {
    /// Another descriptor of the socket.
    pub socket: OwnedFd,
    /// Its path.
    pub path: PathBuf,
    /// Device and inode of its file.
    pub file: (u64, u64),
    /// The owner, as this process sees it.
    pub ours: Ownership,
}

impl ControlSocket {
    /// Takes the socket of another server over, if it is where the settings want one.
    pub fn taken_over(control: &Control, shared: SharedControl) -> Option<Self> {
        let is_wanted = match control {
            Control::Off => false,
            Control::At(path) => *path == shared.path,
            usual @ Control::Usual { .. } => {
                let directory = shared.path.parent();
                place::usual(usual)
                    .iter()
                    .any(|usual| Some(&**usual) == directory)
            }
        };
        if !is_wanted {
            return None;
        }
        let listener = std::os::unix::net::UnixListener::from(shared.socket);
        let file = SocketFile::of(&shared.path, shared.file).ok();
        Some(Self {
            listener: UnixListener::from_std(listener).ok()?,
            file: file.map(|file| RemoveOnDrop::new(file, shared.ours.clone())),
            path: shared.path,
            ours: shared.ours,
        })
    }

    /// The state for a process that takes the socket over.
    ///
    /// # Errors
    /// The error of the system call for another descriptor.
    pub fn share(&self) -> io::Result<SharedControl> {
        Ok(SharedControl {
            socket: self.listener.as_fd().try_clone_to_owned()?,
            path: self.path.clone(),
            file: self
                .file
                .as_ref()
                .map(RemoveOnDrop::identity)
                .unwrap_or_default(),
            ours: self.ours.clone(),
        })
    }

    /// Opens the socket at the path of the settings. `None` if it is off, or if no directory is
    /// usable, which causes a warning: a server on a read-only root file system starts without it.
    pub fn open(control: &Control) -> Option<Self> {
        let mut refusals = Vec::new();
        for candidate in place::candidates(control) {
            let bound = candidate.and_then(|path| {
                bind(&path).map_err(|error| format!("{}: {error}", path.display()))
            });
            match bound {
                Ok(socket) => return Some(socket),
                Err(refusal) => refusals.push(refusal),
            }
        }
        if !refusals.is_empty() {
            tracing::warn!(
                code = codes::NO_CONTROL_SOCKET,
                reasons = refusals.join("; "),
                "no control socket: verbs such as status and health cannot reach this server (give a writable path with --control, or --control off)"
            );
        }
        None
    }

    /// Accepts orders until the end, or until another process takes the socket over.
    pub async fn serve(self, commands: mpsc::Sender<Command>, stages: Stages, tasks: TaskTracker) {
        let places = Arc::new(Semaphore::new(CLIENTS));
        let spare = SpareDescriptor::default();
        loop {
            let next = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, self.listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                // Cancel-safe: dropped only when no more orders are accepted.
                next = next => next,
                // Both are cancel-safe: tokens that stay cancelled.
                () = stages.released.cancelled() => return,
                () = stages.ended.cancelled() => return,
            };
            match accepted {
                Ok((mut stream, _unnamed)) => {
                    let (commands, ended) = (commands.clone(), stages.ended.clone());
                    let reserve = Arc::clone(&spare.reserve);
                    tasks.spawn(async move {
                        let _place = place;
                        if let Err(error) = answer(&mut stream, &commands, &ended).await {
                            tracing::debug!(%error, "a client of the control socket disconnected");
                        }
                        if let Ok(stream) = stream.into_std() {
                            reserve.refill_from(stream.into());
                        }
                    });
                }
                Err(error) => {
                    let place = format!("the control socket {}", self.path.display());
                    spare.get_past(&self.listener, &error, &place).await;
                }
            }
        }
    }
}

fn bind(path: &Path) -> io::Result<ControlSocket> {
    // Mode 0600 from the moment of its creation.
    let bound = unix_listener::bind(path, Some(0o600), Resolve::Path)?;
    let listener = bound.listener;
    listener.set_nonblocking(true)?;
    let ours = Ownership::new(true);
    Ok(ControlSocket {
        listener: UnixListener::from_std(listener)?,
        path: path.to_owned(),
        file: Some(RemoveOnDrop::new(bound.file, ours.clone())),
        ours,
    })
}

async fn answer(
    stream: &mut UnixStream,
    commands: &mpsc::Sender<Command>,
    ended: &CancellationToken,
) -> io::Result<()> {
    // The mode excludes other users; this check holds even if the mode is changed.
    let peer = stream.peer_cred()?.uid();
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    let mut limited = (&mut stream).take(LONGEST_ORDER as u64);
    let read = limited.read_until(b'\n', &mut line);
    let in_time = tokio::time::timeout(PATIENCE, read).await;
    // A client that only tests the connection sends nothing.
    if in_time.map_err(|_| io::ErrorKind::TimedOut)?? == 0 {
        return Ok(());
    }
    if peer != 0 && peer != rustix::process::geteuid().as_raw() {
        tracing::warn!(uid = peer, "refused an order of another user");
        let refused = ControlReply::refused("only the server's user and root may give orders");
        return write(&mut stream, &refused).await;
    }
    let order: Order = match serde_json::from_slice(&line) {
        Ok(order) => order,
        Err(error) => {
            let version = env!("CARGO_PKG_VERSION");
            let text = format!("pyserve {version} does not support this order: {error}");
            return write(&mut stream, &ControlReply::refused(text)).await;
        }
    };
    let reply = tokio::select! {
        biased;
        // Cancel-safe: no one awaits the result that is dropped here.
        reply = obey(&order, commands) => reply,
        // Cancel-safe: the token stays cancelled.
        () = ended.cancelled() => None,
    };
    let reply = reply.unwrap_or_else(|| ControlReply::refused("the server is stopping"));
    write(&mut stream, &reply).await?;
    if order == Order::Stop && reply.done {
        // The client learns of the server's exit by the end of the connection.
        ended.cancelled().await;
    }
    Ok(())
}

/// `None`: the supervisor has stopped.
async fn obey(order: &Order, commands: &mpsc::Sender<Command>) -> Option<ControlReply> {
    match order {
        Order::Status => {
            let status = ask(commands, |reply| {
                Command::Answer(SupervisorQuery::Status(reply))
            })
            .await?;
            Some(ControlReply {
                status: Some(status),
                ..ControlReply::done("")
            })
        }
        Order::Health => Some(
            match ask(commands, |reply| {
                Command::Answer(SupervisorQuery::Ready(reply))
            })
            .await?
            {
                Ok(()) => ControlReply::done("ready"),
                Err(why) => ControlReply::refused(why),
            },
        ),
        Order::Reload => reload(commands, None).await,
        Order::Adopt(line) => reload(commands, Some(line.clone())).await,
        Order::Scale { workers } => {
            let scale = |reply| Command::Scale(*workers, reply);
            Some(match ask(commands, scale).await? {
                Ok(()) => ControlReply::done(format!("{workers} workers from now on")),
                Err(why) => ControlReply::refused(why),
            })
        }
        Order::Maintenance(order) => {
            let order = match prepared::prepare(order).await {
                Ok(order) => order,
                Err(why) => return Some(ControlReply::refused(why)),
            };
            let switch = |reply| Command::Maintenance(order, reply);
            Some(match ask(commands, switch).await? {
                Ok(text) => ControlReply::done(text),
                Err(why) => ControlReply::refused(why),
            })
        }
        Order::Stacks => {
            let pools = ask(commands, Command::Pools).await?;
            Some(ControlReply::done(stacks::of(&pools, STACKS).await))
        }
        Order::Upgrade { to } => {
            let to = to.as_deref().map(native::path);
            let upgrade = |reply| Command::Upgrade(to, reply);
            Some(match ask(commands, upgrade).await? {
                Ok(text) => ControlReply::done(text),
                Err(why) => ControlReply::refused(why),
            })
        }
        Order::Stop => {
            commands.send(Command::Stop).await.ok()?;
            Some(ControlReply::done("stopping"))
        }
    }
}

async fn reload(
    commands: &mpsc::Sender<Command>,
    adopts: Option<CommandLine>,
) -> Option<ControlReply> {
    Some(
        match ask(commands, |reply| Command::Reload(adopts, reply)).await? {
            Ok(reloaded) => ControlReply::done(reloaded.to_string()),
            Err(why) => ControlReply::refused(why),
        },
    )
}

async fn ask<T>(
    commands: &mpsc::Sender<Command>,
    command: impl FnOnce(oneshot::Sender<T>) -> Command,
) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    commands.send(command(sender)).await.ok()?;
    receiver.await.ok()
}

async fn write(stream: &mut BufReader<&mut UnixStream>, reply: &ControlReply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    tokio::time::timeout(PATIENCE, stream.write_all(&line))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)?
}
