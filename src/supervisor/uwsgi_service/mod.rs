//! The state that workers share by `import uwsgi`: cache and locks, and orders to the server.
//!
//! ```text
//! worker thread --socketpair()--> its end over the door --> the thread here
//! ```
//!
//! The supervisor has one thread for it, which starts with the first application that asks for the
//! module. Every process of an application inherits the *door*, a datagram socket. A worker
//! thread makes a socket pair and sends one end through the door; from then on each message is one
//! operation ([`protocol`]) with one answer. There is no name in the file system, so only these processes
//! can connect.
//!
//! Shared memory would be faster, but every worker could damage it, and one killed between two
//! writes would. Here a worker can fill the cache and hold locks, and nothing else: the kernel
//! reports its end, which releases its locks; a worker that does not read its answers is disconnected;
//! connections, names, keys, values and memory are limited. The thread never waits for a worker.

mod cache;
mod locks;
mod protocol;

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{SocketType, sockopt};

use self::cache::Caches;
use self::locks::Locks;
use self::protocol::{Answer, LONGEST, Operation, Request};
use crate::os::{child, process, sockets};

/// Most connections: one for each thread of a worker that has used the module. An eighth of the
/// descriptors is the limit as well, as the others are for clients.
const MOST_CONNECTIONS: u64 = 4096;
/// Most connections of one process.
const MOST_OF_A_PROCESS: usize = 512;
/// Most connections that are accepted between two looks at those that exist.
const AT_ONCE: usize = 64;
/// Time between two warnings of the same kind.
const PAUSE: Duration = Duration::from_secs(60);

static SERVICE: OnceLock<Service> = OnceLock::new();

struct Service {
    door: OwnedFd,
}

/// Bytes of all caches; a reload may change it.
static CACHE_LIMIT: AtomicU64 = AtomicU64::new(0);

/// The door for processes of an application; the first call starts the thread. `cache_limit`: bytes of
/// all caches.
///
/// # Errors
/// The error of the system call for the socket or the thread.
pub fn door(cache_limit: u64) -> io::Result<BorrowedFd<'static>> {
    CACHE_LIMIT.store(cache_limit, Ordering::Relaxed);
    if let Some(service) = SERVICE.get() {
        return Ok(service.door.as_fd());
    }
    // Applications start one after the other, on one thread.
    let (ours, theirs) = sockets::pair(SocketType::DGRAM)?;
    std::thread::Builder::new()
        .name("uwsgi-module".to_owned())
        .spawn(move || Served::new(ours).run())?;
    let service = SERVICE.get_or_init(|| Service { door: theirs });
    Ok(service.door.as_fd())
}

/// All that the thread has.
struct Served {
    door: OwnedFd,
    connections: HashMap<u64, Connection>,
    most: usize,
    /// Number of the next connection.
    next: u64,
    caches: Caches,
    locks: Locks,
    buffer: Vec<u8>,
    warned: Option<Instant>,
}

/// The connection of a thread.
struct Connection {
    socket: OwnedFd,
    /// The process that made it.
    pid: i32,
}

impl Served {
    fn new(door: OwnedFd) -> Self {
        let limit = process::descriptor_limit().unwrap_or(u64::MAX) / 8;
        Self {
            door,
            connections: HashMap::new(),
            most: limit.clamp(16, MOST_CONNECTIONS) as usize,
            next: 0,
            caches: Caches::default(),
            locks: Locks::default(),
            buffer: vec![0; LONGEST + 1],
            warned: None,
        }
    }

    /// Serves as long as the process lives.
    fn run(mut self) {
        loop {
            let (has_new, ready) = match self.wait() {
                Ok(ready) => ready,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "the uwsgi module has no cache and no locks any more");
                    return;
                }
            };
            for number in ready {
                if !self.serve(number) {
                    self.connections.remove(&number);
                    let granted = self.locks.leave(number);
                    self.grant(granted);
                }
            }
            if has_new {
                self.accept();
            }
        }
    }

    /// Waits for messages; true if one is at the door.
    fn wait(&self) -> rustix::io::Result<(bool, Vec<u64>)> {
        let numbers: Vec<_> = self.connections.keys().copied().collect();
        let mut sources = vec![PollFd::new(&self.door, PollFlags::IN)];
        sources.extend(
            numbers
                .iter()
                .map(|number| PollFd::new(&self.connections[number].socket, PollFlags::IN)),
        );
        poll(&mut sources, None)?;
        let is_ready = |source: &PollFd<'_>| !source.revents().is_empty();
        let ready = numbers.iter().zip(&sources[1..]);
        let ready = ready.filter(|(_, source)| is_ready(source));
        Ok((
            is_ready(&sources[0]),
            ready.map(|(number, _)| *number).collect(),
        ))
    }

    /// Takes the sockets that lie at the door. One that is of another kind, or that finds no room, is
    /// closed, which its sender reads as the end.
    fn accept(&mut self) {
        let mut byte = [0];
        for _ in 0..AT_ONCE {
            let mut descriptors = Vec::new();
            let received =
                sockets::receive_with_descriptors(&self.door, &mut byte, &mut descriptors);
            if received.is_err() {
                return;
            }
            for socket in descriptors {
                let is_ours = sockopt::socket_type(&socket) == Ok(SocketType::SEQPACKET);
                let pid = sockopt::socket_peercred(&socket);
                let pid = pid.map_or(0, |peer| peer.pid.as_raw_nonzero().get());
                let of_process = self.connections.values().filter(|other| other.pid == pid);
                if !is_ours
                    || self.connections.len() >= self.most
                    || of_process.count() >= MOST_OF_A_PROCESS
                {
                    self.warn("a connection of `import uwsgi` was refused");
                    continue;
                }
                self.connections
                    .insert(self.next, Connection { socket, pid });
                self.next += 1;
            }
        }
    }

    /// Handles the next message of a connection; `false`: the connection ends.
    fn serve(&mut self, number: u64) -> bool {
        let Some(connection) = self.connections.get(&number) else {
            return true;
        };
        let length = match sockets::receive(&connection.socket, &mut self.buffer) {
            Ok(0) => return false,
            Ok(length) => length,
            Err(error) => {
                let is_nothing = matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                );
                return is_nothing;
            }
        };
        let bytes = std::mem::take(&mut self.buffer);
        let answer = match Request::read(&bytes[..length]) {
            Some(request) => self.obey(number, &request),
            None => Some(Answer::Error("a message that this version does not know")),
        };
        self.buffer = bytes;
        match answer {
            Some(answer) => self.send(number, &answer),
            None => true,
        }
    }

    /// The answer; `None`: it comes later.
    fn obey(&mut self, number: u64, request: &Request<'_>) -> Option<Answer> {
        Some(match request.operation {
            Operation::Lock => return self.locks.take(number, request.number),
            Operation::Unlock => {
                let granted = self.locks.give_back(number, request.number);
                self.grant(granted);
                Answer::Yes(Vec::new())
            }
            Operation::IsLocked => match self.locks.is_locked(request.number) {
                true => Answer::Yes(Vec::new()),
                false => Answer::No,
            },
            Operation::Reload => signal(child::hang_up(std::process::id())),
            Operation::Stop => signal(child::stop_gracefully(std::process::id())),
            _ => {
                let limit = CACHE_LIMIT.load(Ordering::Relaxed);
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                let answer = self.caches.apply(request, limit, Instant::now());
                if self.caches.took_full_notice() {
                    self.warn("the cache of `import uwsgi` is full (uwsgi_cache)");
                }
                answer
            }
        })
    }

    /// Answers those who have got their lock now.
    fn grant(&mut self, granted: Vec<u64>) {
        let mut granted = granted;
        while let Some(number) = granted.pop() {
            if !self.send(number, &Answer::Yes(Vec::new())) {
                self.connections.remove(&number);
                granted.extend(self.locks.leave(number));
            }
        }
    }

    /// Sends without waiting; `false`: the peer does not read, or is gone.
    fn send(&self, number: u64, answer: &Answer) -> bool {
        let Some(connection) = self.connections.get(&number) else {
            return false;
        };
        let bytes = answer.to_bytes();
        sockets::send(connection.socket.as_fd(), &[IoSlice::new(&bytes)], &[]).is_ok()
    }

    fn warn(&mut self, text: &str) {
        let now = Instant::now();
        if self.warned.is_none_or(|last| now - last >= PAUSE) {
            self.warned = Some(now);
            tracing::warn!("{text}");
        }
    }
}

fn signal(sent: io::Result<()>) -> Answer {
    match sent {
        Ok(()) => Answer::Yes(Vec::new()),
        Err(_) => Answer::Error("the server cannot be signalled"),
    }
}
