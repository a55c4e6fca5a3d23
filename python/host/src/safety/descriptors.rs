//! Finds open descriptors that two processes cannot use at the same time.
//!
//! A fork does not copy the open file behind a descriptor. Offsets of files, bytes in pipes and
//! connections, events of an epoll instance and locks would be shared by all workers.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::OnceLock;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, Stat, fcntl_getfl, fstat};
use rustix::io::{FdFlags, fcntl_getfd, pread};
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketAddrAny, SocketType, getpeername, getsockname};

use super::maps::Mapping;
use super::objects::Objects;
use crate::ffi;

/// Major and minor numbers of devices that processes may share: null, zero, full, random,
/// urandom, and the terminal of the process and of the machine.
const STATELESS: [(u32, u32); 7] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1)];
/// Sockets of SSSD, whose client in the C library opens a new one after a fork.
const SSSD: &str = "/var/lib/sss/pipes/";

/// The kernel's names of standard input, output and error at the start of the process. A copy of
/// one of them, which some libraries make, is equally safe.
static STANDARD: OnceLock<Vec<String>> = OnceLock::new();

/// Remembers the files of standard input, output and error.
pub fn remember_standard() {
    let name = |fd: i32| fs::read_link(format!("/proc/self/fd/{fd}")).ok();
    let names = (0..3).filter_map(name);
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let _ = STANDARD.set(names.collect());
}

/// The descriptors of this process with the kernel's name of each, except the first three.
pub fn open() -> BTreeMap<RawFd, String> {
    // Without /proc nothing is found, and nothing is reported.
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten();
    let named = entries.flatten().filter_map(|entry| {
        let fd = entry.file_name().to_str()?.parse().ok()?;
        let target = fs::read_link(entry.path()).ok()?;
        Some((fd, target.to_string_lossy().into_owned()))
    });
    named.filter(|(fd, _)| *fd > 2).collect()
}

/// The descriptors of this list, with which pyserve was started, that are still open and that an
/// `exec` has passed on.
pub fn inherited(listed: &[u32]) -> BTreeMap<RawFd, String> {
    let passed_on = |fd: BorrowedFd<'_>| fcntl_getfd(fd).ok();
    let is_passed_on = |fd: &RawFd| {
        let flags = ffi::look_at(*fd, passed_on).flatten();
        listed
            .iter()
            .any(|number| i64::from(*number) == i64::from(*fd))
            && flags.is_some_and(|flags| !flags.contains(FdFlags::CLOEXEC))
    };
    let mut open = open();
    open.retain(|fd, _| is_passed_on(fd));
    open
}

/// Facts known before the descriptors are checked.
pub struct Descriptors<'a> {
    /// Descriptors of pyserve.
    pub ours: &'a [RawFd],
    /// Descriptors that do not count.
    pub inherited: &'a BTreeMap<RawFd, String>,
    /// The objects behind some of them.
    pub objects: &'a Objects,
    /// The memory map of this process.
    pub mappings: &'a [Mapping],
}

/// The ways in which a file is used beside its descriptor.
struct Uses {
    /// It is mapped into memory.
    is_mapped: bool,
    /// Only its mapping is used, for which this descriptor was duplicated.
    is_only_mapped: bool,
    /// It is a log file.
    is_log: bool,
}

impl Descriptors<'_> {
    /// Names the descriptors that are not fork-safe.
    pub fn reasons(&self) -> Vec<String> {
        let all = open();
        let mut open = all.clone();
        open.retain(|fd, name| {
            !self.ours.contains(fd)
                && self.inherited.get(fd) != Some(name)
                && !STANDARD.get().is_some_and(|names| names.contains(name))
                && !self.objects.named_fds.contains(fd)
                && !self.objects.safe_fds.contains(fd)
        });
        if open.is_empty() {
            return Vec::new();
        }
        let of = |(fd, name): (&RawFd, &String)| {
            let uses = || Uses {
                is_mapped: self.mappings_of(name) > 0,
                is_only_mapped: self.is_of_mapping(*fd, name, &all),
                is_log: self.objects.appended_fds.contains(fd),
            };
            let describe = |open: BorrowedFd<'_>| self.describe(*fd, open, name, uses);
            // The descriptor through which the list itself was read is closed by now.
            let what = ffi::look_at(*fd, describe).flatten()?;
            Some(format!("{what} (descriptor {fd})"))
        };
        open.iter().filter_map(of).collect()
    }

    fn describe(
        &self,
        number: RawFd,
        fd: BorrowedFd<'_>,
        name: &str,
        uses: impl FnOnce() -> Uses,
    ) -> Option<String> {
        let stat = fstat(fd).ok()?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Socket => socket(fd),
            FileType::Fifo if is_over(fd) => None,
            FileType::Fifo if name.starts_with('/') => Some(format!("named pipe {name}")),
            FileType::Fifo => Some("pipe".to_owned()),
            FileType::Directory | FileType::Symlink => lock(number, name),
            FileType::CharacterDevice | FileType::BlockDevice => device(name, &stat),
            // Epoll instances, eventfds, timerfds, process descriptors and the like.
            _ if name.starts_with("anon_inode:") => Some(anonymous(name)),
            _ if name.starts_with("pidfd:") => Some("process descriptor".to_owned()),
            // A namespace: it has no state.
            _ if !name.starts_with('/') => None,
            _ => file(fd, name, &uses()).or_else(|| lock(number, name)),
        }
    }

    /// True if only the mappings of a file use its descriptors: `mmap` keeps a copy for itself. Then
    /// no file object has this one, and there are no more of them than mappings.
    fn is_of_mapping(&self, fd: RawFd, name: &str, all: &BTreeMap<RawFd, String>) -> bool {
        let is_owned = |fd: &RawFd| self.objects.owned_fds.contains(fd);
        let unowned = all.iter().filter(|(fd, of)| *of == name && !is_owned(fd));
        !is_owned(&fd) && unowned.count() <= self.mappings_of(name)
    }

    /// Mappings of a file. A library that was loaded needs no descriptor.
    fn mappings_of(&self, name: &str) -> usize {
        let of_file = || self.mappings.iter().filter(|mapping| mapping.path == name);
        match of_file().any(|mapping| mapping.is_code) {
            true => 0,
            false => of_file().count(),
        }
    }
}

/// LMDB's file, whose library may not be used after a fork (lmdb.h, "Restrictions/caveats"): its
/// first page has this number behind a header of 16 bytes.
fn is_lmdb(fd: BorrowedFd<'_>) -> bool {
    let mut number = [0; 4];
    let is_read = pread(fd, &mut number, 16) == Ok(4);
    is_read && u32::from_ne_bytes(number) == 0xBEEF_C0DE
}

/// A regular file, unless each process appends to it or only its mapping is used.
fn file(fd: BorrowedFd<'_>, name: &str, uses: &Uses) -> Option<String> {
    let Uses {
        is_mapped,
        is_only_mapped,
        is_log,
    } = *uses;
    let flags = fcntl_getfl(fd).ok()?;
    if flags.contains(OFlags::PATH) {
        return None;
    }
    let appends = flags.contains(OFlags::APPEND);
    let is_memory = name.starts_with("/dev/shm/") || name.contains("/pym-") || is_memfd(name);
    let (way, is_fine) = match (flags & OFlags::RWMODE, appends) {
        (OFlags::WRONLY, true) => ("appending", true),
        (OFlags::WRONLY, false) => ("writing", is_log),
        (OFlags::RDWR, true) => ("reading and appending", is_mapped),
        (OFlags::RDWR, false) => ("reading and writing", is_mapped && is_memory),
        _ => ("reading", is_only_mapped && !is_lmdb(fd)),
    };
    (!is_fine).then(|| format!("{name} opened for {way}"))
}

fn is_memfd(name: &str) -> bool {
    name.starts_with("/memfd:")
}

/// An empty pipe whose other end is closed: every read returns end of file.
fn is_over(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let at_once = Timespec::default();
    let is_known = poll(&mut fds, Some(&at_once)).is_ok();
    let state = fds[0].revents();
    let is_closed = state.intersects(PollFlags::HUP | PollFlags::ERR);
    is_known && is_closed && !state.contains(PollFlags::IN)
}

/// A lock: `flock` would be held by all processes, one of `fcntl` by none of the workers.
fn lock(fd: RawFd, name: &str) -> Option<String> {
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    let is_locked = about.lines().any(|line| line.starts_with("lock:"));
    is_locked.then(|| format!("lock on {name}"))
}

fn device(name: &str, stat: &Stat) -> Option<String> {
    let number = (
        rustix::fs::major(stat.st_rdev),
        rustix::fs::minor(stat.st_rdev),
    );
    let is_stateless = STATELESS.contains(&number);
    (!is_stateless).then(|| format!("device {name}"))
}

/// `anon_inode:[eventpoll]` and `anon_inode:inotify`, in the words of the manual pages.
fn anonymous(name: &str) -> String {
    let kind = name.trim_start_matches("anon_inode:");
    match kind.trim_matches(['[', ']']) {
        "eventpoll" => "epoll instance".to_owned(),
        "pidfd" => "process descriptor".to_owned(),
        "io_uring" => "io_uring instance".to_owned(),
        kind => kind.to_owned(),
    }
}

/// A socket, unless it only sends datagrams: a Unix socket without an address cannot receive a
/// reply.
fn socket(fd: BorrowedFd<'_>) -> Option<String> {
    let family = socket_domain(fd).ok()?;
    let kind = socket_type(fd).ok()?;
    let own = getsockname(fd).map(|own| text_of(&own)).unwrap_or_default();
    let peer = getpeername(fd).ok().flatten();
    let has_peer = peer.is_some();
    let peer = peer.map(|peer| text_of(&peer)).unwrap_or_default();
    if family == AddressFamily::NETLINK {
        return Some("netlink socket".to_owned());
    }
    if kind == SocketType::DGRAM && family == AddressFamily::UNIX && own.is_empty() {
        return None;
    }
    if peer.starts_with(SSSD) {
        return None;
    }
    if socket_acceptconn(fd).unwrap_or(false) {
        return Some(format!("socket listening on {own}"));
    }
    let name = match kind {
        SocketType::DGRAM if family == AddressFamily::UNIX => "datagram socket",
        SocketType::DGRAM => "UDP socket",
        SocketType::RAW => "raw socket",
        _ => "socket",
    };
    Some(match (&*own, &*peer) {
        ("", "") if has_peer => format!("end of a {name} pair"),
        ("", "") => format!("{name} without a connection"),
        ("", peer) => format!("{name} -> {peer}"),
        (own, "") => format!("{name} {own}"),
        (own, peer) => format!("{name} {own} -> {peer}"),
    })
}

/// `127.0.0.1:5432`, `[::1]:80`, a path, `@name` for an abstract one, or empty.
fn text_of(address: &SocketAddrAny) -> String {
    if let Ok(address) = std::net::SocketAddr::try_from(address.clone()) {
        let is_unset = address.port() == 0 && address.ip().is_unspecified();
        return if is_unset {
            String::new()
        } else {
            address.to_string()
        };
    }
    match rustix::net::SocketAddrUnix::try_from(address.clone()) {
        Ok(unix) => match (unix.path(), unix.abstract_name()) {
            (Some(path), _) => path.to_string_lossy().into_owned(),
            (None, Some(name)) if !name.is_empty() => {
                format!("@{}", String::from_utf8_lossy(name))
            }
            (None, _) => String::new(),
        },
        Err(_) => String::new(),
    }
}
