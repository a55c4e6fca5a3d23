//! Running out of descriptors (EMFILE, ENFILE): reports it, and keeps one spare descriptor.

use parking_lot::{Mutex, MutexGuard};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{DupFlags, Errno, dup3};

use super::clock;

/// True if an error says that this process, or the machine, has no descriptor left.
pub fn are_exhausted(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}

/// The first number that is not for clients.
static KEPT: AtomicU64 = AtomicU64::new(u64::MAX);
/// The time at which [`for_client`] refused one last; 0 if it never has.
static LACKED_NS: AtomicU64 = AtomicU64::new(0);

/// Keeps the numbers from `first` on from what is opened for clients, for workers and a reload.
/// A new descriptor has the lowest number that is free (open(2)), so one from `first` on means that
/// all below are in use.
pub fn keep_from(first: u64) {
    KEPT.store(first, Ordering::Relaxed);
}

/// A descriptor that was opened for a client.
///
/// # Errors
/// `EMFILE` if it has one of the numbers that are kept; it is closed.
pub fn for_client<T: AsFd>(opened: T) -> io::Result<T> {
    match is_for_client(&opened) {
        true => Ok(opened),
        false => {
            LACKED_NS.store(clock::monotonic_ns(), Ordering::Relaxed);
            Err(Errno::MFILE.into())
        }
    }
}

/// True if [`for_client`] would accept it.
pub fn is_for_client(opened: impl AsFd) -> bool {
    let number = u64::try_from(opened.as_fd().as_raw_fd()).unwrap_or_default();
    number < KEPT.load(Ordering::Relaxed)
}

/// True if half of the numbers for clients were in use when this descriptor was made.
pub fn were_scarce_for(opened: impl AsFd) -> bool {
    let number = u64::try_from(opened.as_fd().as_raw_fd()).unwrap_or_default();
    number >= KEPT.load(Ordering::Relaxed) / 2
}

/// True if [`for_client`] has refused one within the last second: none should be kept for later.
pub fn lacked_lately() -> bool {
    const LATELY_NS: u64 = 1_000_000_000;
    let at = LACKED_NS.load(Ordering::Relaxed);
    at > 0 && clock::monotonic_ns().saturating_sub(at) < LATELY_NS
}

/// Checks that the next descriptor may be for a client, where opening it would be seen outside.
///
/// # Errors
/// `EMFILE` as by [`for_client`], or if there is none at all.
pub fn room_for_client() -> io::Result<()> {
    for_client(eventfd(0, EventfdFlags::CLOEXEC)?).map(drop)
}

/// Checks that some descriptors are free: tokio panics where it gets none for its signals.
///
/// # Errors
/// The error of the system call that got none.
pub fn room_for_runtime() -> io::Result<()> {
    // Those of its event queue and its signals, and one for each of their copies.
    const NEEDED: usize = 8;
    let opened = (0..NEEDED).map(|_| eventfd(0, EventfdFlags::CLOEXEC));
    opened.collect::<Result<Vec<_>, _>>()?;
    Ok(())
}

/// An error in words, with what to do where a limit of the process or the machine is reached.
pub fn explain(error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => format!("{error}: raise this process's limit (ulimit -n)"),
        Some(Errno::NFILE) => format!("{error}: raise the machine's limit (sysctl fs.file-max)"),
        // A memory file counts as a file for this limit (setrlimit(2), RLIMIT_FSIZE).
        Some(Errno::FBIG) => {
            format!("{error}: raise this process's limit of file sizes (ulimit -f)")
        }
        // clone(2): no further process or thread.
        Some(Errno::AGAIN) => {
            format!("{error}: check `ulimit -u` and the container's pids.max")
        }
        _ => error.to_string(),
    }
}

/// Descriptors beyond the first three that this process was started with and passes on to its
/// children: sockets of systemd, a make's job server. Ours are all close-on-exec.
pub fn inherited() -> &'static [u32] {
    static INHERITED: LazyLock<Vec<u32>> = LazyLock::new(|| {
        let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten();
        let numbers = entries.flatten().filter_map(|entry| {
            let number: u32 = entry.file_name().to_str()?.parse().ok()?;
            let about = format!("/proc/self/fdinfo/{number}");
            let about = std::fs::read_to_string(about).ok()?;
            let flags = about.lines().find_map(|line| line.strip_prefix("flags:"))?;
            let flags = u32::from_str_radix(flags.trim(), 8).ok()?;
            let is_passed_on = flags & rustix::fs::OFlags::CLOEXEC.bits() == 0;
            (number > 2 && is_passed_on).then_some(number)
        });
        numbers.collect()
    });
    &INHERITED
}

/// A spare descriptor. It is given up when no other is left, so that one more connection can be
/// accepted: control socket and admin listener must stay reachable.
#[derive(Debug)]
pub struct Reserve {
    kept: Mutex<Option<OwnedFd>>,
    /// The descriptor that is duplicated to fill the reserve again.
    source: Option<OwnedFd>,
}

impl Default for Reserve {
    fn default() -> Self {
        Self {
            kept: Mutex::new(nothing()),
            source: nothing(),
        }
    }
}

impl Reserve {
    /// Gives the spare descriptor up after an accept failed with `error`, if a connection waits at
    /// `listener` (the kernel reports the error even where none does). `true`: accept may be tried
    /// again at once; call [`Reserve::refill_from`] or [`Reserve::refill`] when the connection has
    /// ended.
    pub fn helps(&self, listener: impl AsFd, error: &io::Error) -> bool {
        are_exhausted(error) && has_visitors(&listener) && self.lock().take().is_some()
    }

    /// Closes `connection` and keeps its descriptor, if there is none yet, in one step: of one
    /// that was closed first, another listener would make a connection of its own.
    pub fn refill_from(&self, mut connection: OwnedFd) {
        let mut kept = self.lock();
        if let (None, Some(source)) = (&*kept, &self.source)
            && dup3(source, &mut connection, DupFlags::CLOEXEC).is_ok()
        {
            *kept = Some(connection);
        }
    }

    /// Takes a descriptor, if there is none yet and one can be had.
    pub fn refill(&self) {
        let mut kept = self.lock();
        if kept.is_none() {
            *kept = nothing();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        self.kept.lock()
    }
}

/// True if a connection waits to be accepted.
pub fn has_visitors(listener: &impl AsFd) -> bool {
    let mut asked = [PollFd::new(listener, PollFlags::IN)];
    poll(&mut asked, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// A descriptor of nothing, if there is one to be had.
fn nothing() -> Option<OwnedFd> {
    eventfd(0, EventfdFlags::CLOEXEC).ok()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_reserve_helps_once_until_it_is_refilled_and_only_against_exhaustion() {
        let reserve = Reserve::default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let full = io::Error::from(Errno::MFILE);
        assert!(!reserve.helps(&listener, &full), "nobody waits");
        let _visitor = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(!reserve.helps(&listener, &io::Error::from(Errno::CONNABORTED)));
        assert!(reserve.helps(&listener, &full));
        assert!(!reserve.helps(&listener, &full));
        reserve.refill();
        assert!(reserve.helps(&listener, &full));
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let number = ours.as_raw_fd();
        reserve.refill_from(ours.into());
        let kept = reserve.lock().as_ref().map(AsRawFd::as_raw_fd);
        assert_eq!(kept, Some(number), "the same descriptor");
        let mut byte = [0];
        let end = std::io::Read::read(&mut &theirs, &mut byte);
        assert_eq!(end.unwrap(), 0, "the connection is over");
    }
}
