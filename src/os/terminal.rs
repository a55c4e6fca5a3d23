//! The terminal that this process runs on, which a worker may have for a debugger.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, IsTerminal};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;

use rustix::process::{Pid, getpgrp};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp};

/// Modes of the terminal before a worker had it.
static MODES: OnceLock<Termios> = OnceLock::new();

/// The process group of this process if it has a terminal with a person in front of it: on
/// standard input. Else 0.
pub fn own_group() -> u32 {
    if !io::stdin().is_terminal() {
        return 0;
    }
    let Some(modes) = open().and_then(|terminal| tcgetattr(terminal).ok()) else {
        return 0;
    };
    let _known = MODES.set(modes);
    number(getpgrp())
}

/// The process group that has the terminal; `None` without a terminal.
pub fn foreground_group() -> Option<u32> {
    MODES.get()?;
    tcgetpgrp(open()?).ok().map(number)
}

/// Makes the terminal ours again if this process group has it, with the modes that it had. For a
/// group that cannot give it back itself.
pub fn take_back(group: u32) {
    let Some(modes) = MODES.get() else { return };
    let Some(terminal) = open() else { return };
    if !tcgetpgrp(&terminal).is_ok_and(|now| number(now) == group) {
        return;
    }
    with_signal_blocked(libc::SIGTTOU, || {
        // Without a terminal there is nothing to restore.
        let _gone = tcsetpgrp(&terminal, getpgrp());
        let _gone = tcsetattr(&terminal, OptionalActions::Now, modes);
    });
}

/// The kernel sends SIGTTOU to a process that changes its terminal from the background, and refuses
/// the change, unless the calling thread has blocked the signal.
fn with_signal_blocked(signal: libc::c_int, change: impl FnOnce()) {
    let mut set = MaybeUninit::uninit();
    let mut before = MaybeUninit::uninit();
    // SAFETY: fills in the set that it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: an initialised set of our own.
    unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    // SAFETY: the first set is initialised, and the call fills in the second.
    let blocked =
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), before.as_mut_ptr()) };
    change();
    if blocked == 0 {
        // SAFETY: filled in by the call that succeeded.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    }
}

fn open() -> Option<File> {
    File::options().read(true).write(true).open("/dev/tty").ok()
}

fn number(group: Pid) -> u32 {
    group.as_raw_nonzero().get().unsigned_abs()
}
