//! Starting, signalling and reaping processes.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use pyserve_wire::control::STACKS_SIGNAL;

use super::memory::restore_huge_pages;
use super::process::restore_descriptor_limit;
use super::scheduling::restore_policy;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, kill_process_group,
    set_parent_process_death_signal, wait, waitid, waitpid,
};

/// Starts `command` in a process group of its own; the child inherits `descriptors` under
/// their numbers here. Nobody waits for it but [`reap`].
///
/// # Errors
/// The error of the system call for starting the program.
pub fn spawn(command: &mut Command, descriptors: &[BorrowedFd<'_>]) -> io::Result<u32> {
    command.process_group(0);
    spawn_in_our_group(command, descriptors)
}

/// The same in the process group of this process.
///
/// # Errors
/// The error of the system call for starting the program.
pub fn spawn_in_our_group(
    command: &mut Command,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<u32> {
    let numbers: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let keep_open = move || {
        for number in &numbers {
            // SAFETY: the caller holds these descriptors open until `spawn` returns, and
            // the child has a copy of each.
            let fd = unsafe { BorrowedFd::borrow_raw(*number) };
            fcntl_setfd(fd, FdFlags::empty())?;
        }
        restore_policy();
        restore_huge_pages();
        restore_descriptor_limit()
    };
    // SAFETY: between fork and exec the closure only calls fcntl, sched_setscheduler, prctl
    // and setrlimit, which are async-signal-safe, and allocates nothing.
    unsafe { command.pre_exec(keep_open) };
    Ok(command.spawn()?.id())
}

/// Has the kernel send `signal` to the child of `command` when this process has exited, for
/// whatever reason.
pub fn end_with_us(command: &mut Command, signal: Signal) {
    let ask = move || Ok(set_parent_process_death_signal(Some(signal))?);
    // SAFETY: between fork and exec the closure makes one system call.
    unsafe { command.pre_exec(ask) };
}

/// Reaps one ended child, any of them; `None` if none has ended.
pub fn reap() -> Option<(u32, i32)> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                return Some((pid.as_raw_nonzero().get() as u32, status.as_raw()));
            }
            Err(rustix::io::Errno::INTR) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

/// True if `pid` is a child of this process, which may have ended without having been reaped.
pub fn is_ours(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(pid), look).is_ok()
}

/// Reaps until no child is left, or until `limit` has passed: children that were killed
/// need a moment. Returns what was reaped. Blocks.
pub fn reap_the_killed(limit: Duration) -> Vec<(u32, i32)> {
    let deadline = Instant::now() + limit;
    let mut reaped = Vec::new();
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                reaped.push((pid.as_raw_nonzero().get() as u32, status.as_raw()));
            }
            Err(rustix::io::Errno::INTR) => {}
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
            Ok(None) | Err(_) => return reaped,
        }
    }
}

/// Makes this process the parent of every descendant whose own parent ends, so that a
/// worker outlives its template in our care and no zombie is left.
///
/// # Errors
/// The error of the system call.
pub fn become_subreaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(
        rustix::process::getpid(),
    ))?)
}

/// The raw wait status of a process that SIGKILL ended.
pub const KILLED: i32 = 9;

/// Kills a process at once; one that has gone already is no error.
pub fn kill(pid: u32) {
    let _gone = signal(pid, Signal::KILL);
}

/// Stops a process until a SIGCONT or a SIGKILL; one that has gone already is no error.
pub fn stop(pid: u32) {
    let _gone = signal(pid, Signal::STOP);
}

/// Suspends a process, as Ctrl-Z does; one that has gone already is no error.
pub fn suspend(pid: u32) {
    let _gone = signal(pid, Signal::TSTP);
}

/// Has a process go on that was suspended; one that has gone already is no error.
pub fn go_on(pid: u32) {
    let _gone = signal(pid, Signal::CONT);
}

/// Sends the signal by which a server reloads.
///
/// # Errors
/// The error of the system call.
pub fn hang_up(pid: u32) -> io::Result<()> {
    signal(pid, Signal::HUP)
}

/// Sends the signal by which a server stops gracefully.
///
/// # Errors
/// The error of the system call.
pub fn stop_gracefully(pid: u32) -> io::Result<()> {
    signal(pid, Signal::TERM)
}

fn signal(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    Ok(kill_process(
        pid.ok_or(io::ErrorKind::InvalidInput)?,
        signal,
    )?)
}

/// A signal that asks a process to end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StopSignal {
    #[default]
    Term,
    Hup,
    Int,
    Quit,
    Kill,
    Usr1,
    Usr2,
}

impl StopSignal {
    /// All of them, with their names as kill(1) takes them.
    pub const ALL: [(&'static str, Self); 7] = [
        ("TERM", Self::Term),
        ("HUP", Self::Hup),
        ("INT", Self::Int),
        ("QUIT", Self::Quit),
        ("KILL", Self::Kill),
        ("USR1", Self::Usr1),
        ("USR2", Self::Usr2),
    ];

    /// The name of the signal with this number in decimal digits; `None` for another.
    pub fn name_of(number: &str) -> Option<&'static str> {
        let number: i32 = number.parse().ok()?;
        let mut all = Self::ALL.iter();
        all.find(|(_, signal)| signal.number().as_raw() == number)
            .map(|(name, _)| *name)
    }

    fn number(self) -> Signal {
        match self {
            Self::Term => Signal::TERM,
            Self::Hup => Signal::HUP,
            Self::Int => Signal::INT,
            Self::Quit => Signal::QUIT,
            Self::Kill => Signal::KILL,
            Self::Usr1 => Signal::USR1,
            Self::Usr2 => Signal::USR2,
        }
    }
}

/// Asks a process to end by this signal; one that has gone already is no error.
pub fn ask_to_stop(pid: u32, by: StopSignal) {
    let _gone = signal(pid, by.number());
}

/// Has everything in a process group stop until [`continue_group`], whatever its handlers.
pub fn stop_group(leader: u32) {
    signal_group(leader, Signal::STOP);
}

/// Has everything in a process group go on.
pub fn continue_group(leader: u32) {
    signal_group(leader, Signal::CONT);
}

/// Has a process write its Python stacks, see [`STACKS_SIGNAL`]; one that has gone already is no error.
pub fn ask_for_stacks(pid: u32) {
    // SAFETY: a real-time signal that libc keeps for programs, not one of those it uses itself.
    let stacks = unsafe { Signal::from_raw_unchecked(STACKS_SIGNAL) };
    let _gone = signal(pid, stacks);
}

/// Kills everything that is left in a process group.
pub fn kill_group(leader: u32) {
    signal_group(leader, Signal::KILL);
}

/// Reaps a child that was killed, unless it has been reaped. Blocks until it is gone.
pub fn reap_killed(pid: u32) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return;
    };
    while let Err(rustix::io::Errno::INTR) = waitpid(Some(pid), WaitOptions::empty()) {}
}

fn signal_group(leader: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(leader).ok().and_then(Pid::from_raw) {
        let _gone = kill_process_group(pid, signal);
    }
}

/// A raw wait status in words: `exit code 3`, `signal 9 (SIGKILL)`.
pub fn describe_status(status: i32) -> String {
    // The layout of wait statuses is the same on every Linux architecture.
    let signal = status & 0x7f;
    if signal == 0 {
        return format!("exit code {}", (status >> 8) & 0xff);
    }
    let name = match signal {
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL: killed from outside, or out of memory)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        _ => "",
    };
    format!("signal {signal}{name}")
}

/// A raw wait status in one of four words, for a label: `left`, `exit_code`, `killed` or
/// `crashed`.
pub fn kind_of_end(status: i32) -> &'static str {
    match (status & 0x7f, exit_code(status)) {
        (0, Some(0)) => "left",
        (0, _) => "exit_code",
        // SIGINT, SIGKILL, SIGTERM: from outside.
        (2 | 9 | 15, _) => "killed",
        _ => "crashed",
    }
}

/// True if the process died of a signal with which people and service managers control a server:
/// SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2 or SIGTERM.
pub fn was_commanded(status: i32) -> bool {
    matches!(status & 0x7f, 1 | 2 | 3 | 10 | 12 | 15)
}

/// The exit code in a raw wait status, if the process exited by itself.
pub fn exit_code(status: i32) -> Option<i32> {
    (status & 0x7f == 0).then_some((status >> 8) & 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_in_words() {
        assert_eq!(describe_status(3 << 8), "exit code 3");
        assert_eq!(describe_status(11), "signal 11 (SIGSEGV)");
        assert_eq!(exit_code(4 << 8), Some(4));
        assert_eq!(exit_code(9), None);
        assert!(
            was_commanded(1) && was_commanded(15) && !was_commanded(9) && !was_commanded(1 << 8)
        );
        let kinds = [0, 3 << 8, 9, 11 | 0x80].map(kind_of_end);
        assert_eq!(kinds, ["left", "exit_code", "killed", "crashed"]);
    }
}
