//! Actions and masks of signals, as far as tokio has no words for them.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::{io, mem, ptr};

/// The numbers of the real-time signals that programs may use.
pub fn real_time() -> std::ops::RangeInclusive<c_int> {
    libc::SIGRTMIN()..=libc::SIGRTMAX()
}

/// Has this process take no notice of a signal. Programs that it executes have the default
/// action, which an ignored signal would deny them.
///
/// # Errors
/// The error of the system call for the signal.
pub fn pass_over(signal: c_int) -> io::Result<()> {
    extern "C" fn take_no_notice(_: c_int) {}
    let handler = take_no_notice as extern "C" fn(c_int) as usize;
    set_action(signal, &action(handler)).map(drop)
}

/// Stops this process as the terminal's suspend character does by default, and returns when it
/// goes on. Without a shell that could continue it (credentials(7), orphaned process groups)
/// the kernel does not stop it.
///
/// # Errors
/// The error of the system call for the signal.
pub fn suspend() -> io::Result<()> {
    let before = set_action(libc::SIGTSTP, &action(libc::SIG_DFL))?;
    // SAFETY: a signal to the calling thread, which by default stops the process before the
    // call returns.
    unsafe { libc::raise(libc::SIGTSTP) };
    set_action(libc::SIGTSTP, &before).map(drop)
}

/// Has the calling thread block no signal, whatever the parent process has blocked: a mask is
/// inherited through `exec` (signal(7)), and a server that blocks SIGTERM cannot be stopped.
pub fn block_none() {
    let mut set = mem::MaybeUninit::uninit();
    // SAFETY: fills in the set that it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: initialised above.
    let set = unsafe { set.assume_init() };
    // SAFETY: an initialised set; the mask before is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &set, ptr::null_mut()) };
}

/// Signals that stay pending until this process asks for the next one, instead of acting on it.
pub struct HeldSignals {
    held: libc::sigset_t,
    /// The mask before.
    before: libc::sigset_t,
}

/// A signal that was pending.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// Its number.
    pub number: c_int,
    /// True if a process sent it; false if the kernel did, as for a key of the terminal, which sends to the whole
    /// foreground group.
    pub is_from_process: bool,
}

impl Received {
    /// True if a child has ended, stopped or continued.
    pub fn is_of_child(self) -> bool {
        self.number == libc::SIGCHLD
    }
}

impl HeldSignals {
    /// Blocks every signal in the calling thread, which is the only one of the process. The kernel still acts on
    /// SIGKILL, SIGSTOP and faults.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn all() -> io::Result<Self> {
        let mut set = mem::MaybeUninit::uninit();
        // SAFETY: fills in the set that it is given.
        unsafe { libc::sigfillset(set.as_mut_ptr()) };
        // SAFETY: initialised above.
        let set = unsafe { set.assume_init() };
        let mut before = mem::MaybeUninit::uninit();
        // SAFETY: an initialised set of our own, and memory for the mask before.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, before.as_mut_ptr()) } {
            0 => Ok(Self {
                held: set,
                // SAFETY: filled in by the call that succeeded.
                before: unsafe { before.assume_init() },
            }),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Starts a program with the mask before.
    ///
    /// # Errors
    /// The error of starting it.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let before = self.before;
        let restore = move || {
            // SAFETY: an initialised set; the mask before is not asked for.
            match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut()) } {
                0 => Ok(()),
                error => Err(io::Error::from_raw_os_error(error)),
            }
        };
        // SAFETY: the closure makes one async-signal-safe call (signal-safety(7)).
        unsafe { command.pre_exec(restore) };
        command.spawn()
    }

    /// Waits for the next signal. Blocks.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn next(&self) -> io::Result<Received> {
        loop {
            let mut info = mem::MaybeUninit::uninit();
            // SAFETY: an initialised set, and memory for the facts about the signal.
            let number = unsafe { libc::sigwaitinfo(&self.held, info.as_mut_ptr()) };
            if number >= 0 {
                // SAFETY: filled in by the call that succeeded.
                let info: libc::siginfo_t = unsafe { info.assume_init() };
                // sigaction(2): codes above 0 are those of the kernel.
                let is_from_process = info.si_code <= 0;
                return Ok(Received {
                    number,
                    is_from_process,
                });
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

/// Sends a signal by its number, also a real-time signal. A process that has ended is no error.
pub fn send(pid: u32, number: c_int) {
    let Ok(pid) = libc::pid_t::try_from(pid) else {
        return;
    };
    // SAFETY: numbers alone; the kernel checks both.
    unsafe { libc::kill(pid, number) };
}

/// Has the calling thread write to its terminal also from the background: the kernel sends
/// SIGTTOU (`stty tostop`) to no thread that blocks it.
pub fn write_from_background() {
    let mut set = mem::MaybeUninit::uninit();
    // SAFETY: fills in the set that it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: initialised above.
    let mut set = unsafe { set.assume_init() };
    // SAFETY: an initialised set of our own.
    unsafe { libc::sigaddset(&mut set, libc::SIGTTOU) };
    // SAFETY: an initialised set; the mask before is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut()) };
}

fn action(handler: usize) -> libc::sigaction {
    // SAFETY: numbers, and a set of signals that is empty when it is zero.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_RESTART;
    action
}

/// Sets an action; the one before.
fn set_action(signal: c_int, action: &libc::sigaction) -> io::Result<libc::sigaction> {
    let mut before = mem::MaybeUninit::uninit();
    // SAFETY: a valid action, and memory for the one before.
    match unsafe { libc::sigaction(signal, action, before.as_mut_ptr()) } {
        // SAFETY: filled in by the call that succeeded.
        0 => Ok(unsafe { before.assume_init() }),
        _ => Err(io::Error::last_os_error()),
    }
}
