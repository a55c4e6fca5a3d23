//! Actions and masks of signals, as far as tokio has no words for them.
#![allow(unsafe_code)]

use std::ffi::c_int;
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
