//! The signals that the server handles.

pub mod suspend;

use std::io;
use std::task::Poll;

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::os::signals;

/// Signals whose default action would kill the server, and which are more likely sent by mistake.
/// The real-time signals are added to these.
const MEANINGLESS: [(&str, Number); 7] = [
    ("SIGALRM", Number::ALARM),
    ("SIGVTALRM", Number::VTALARM),
    ("SIGPROF", Number::PROF),
    // Sent for `ulimit -t` each second from the soft limit on; the hard limit sends SIGKILL.
    ("SIGXCPU", Number::XCPU),
    ("SIGIO", Number::IO),
    ("SIGPWR", Number::POWER),
    ("SIGSTKFLT", Number::STKFLT),
];

/// Numbers of the signals that do not stop the server, and that are ignored from before the settings are
/// read until it serves: there is nothing to reload or to upgrade yet.
pub fn ignored_at_start() -> impl Iterator<Item = i32> {
    let obeyed = [
        Number::HUP,
        Number::USR1,
        Number::USR2,
        Number::TTIN,
        Number::TTOU,
    ];
    let meaningless = MEANINGLESS.map(|(_, number)| number);
    let named = obeyed.into_iter().chain(meaningless);
    named.map(Number::as_raw).chain(signals::real_time())
}

/// Ignores [`ignored_at_start`].
///
/// # Errors
/// The error of the system call for a signal.
pub fn survive_start() -> io::Result<()> {
    ignored_at_start().try_for_each(signals::pass_over)
}

/// Ignores the signal for a file that has reached `ulimit -f`. The write fails too.
///
/// # Errors
/// The error of the system call for the signal.
pub fn survive_file_limit() -> io::Result<()> {
    signals::pass_over(Number::XFSZ.as_raw())
}

pub(super) struct Signals {
    pub(super) child: Signal,
    pub(super) terminate: Signal,
    pub(super) interrupt: Signal,
    pub(super) quit: Signal,
    pub(super) hangup: Signal,
    pub(super) more: Signal,
    pub(super) fewer: Signal,
    pub(super) reopen: Signal,
    pub(super) upgrade: Signal,
    pub(super) suspend: Signal,
    pub(super) meaningless: Meaningless,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            child: signal(SignalKind::child())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            more: signal(SignalKind::from_raw(Number::TTIN.as_raw()))?,
            reopen: signal(SignalKind::user_defined1())?,
            upgrade: signal(SignalKind::user_defined2())?,
            fewer: signal(SignalKind::from_raw(Number::TTOU.as_raw()))?,
            suspend: signal(SignalKind::from_raw(Number::TSTP.as_raw()))?,
            meaningless: Meaningless::new()?,
        })
    }
}

/// The signals that have no meaning for the server.
pub(super) struct Meaningless(Vec<(String, Signal)>);

impl Meaningless {
    fn new() -> io::Result<Self> {
        let mut all = Vec::new();
        for (name, number) in MEANINGLESS {
            let number = SignalKind::from_raw(number.as_raw());
            all.push((name.to_owned(), signal(number)?));
        }
        let real_time = signals::real_time();
        for number in real_time.clone() {
            let name = format!("SIGRTMIN+{}", number - real_time.start());
            all.push((name, signal(SignalKind::from_raw(number))?));
        }
        Ok(Self(all))
    }

    /// The name of the next one received. Cancel-safe.
    pub(super) async fn recv(&mut self) -> &str {
        let at = std::future::poll_fn(|context| {
            let mut all = self.0.iter_mut();
            let arrived = all.position(|(_, signal)| signal.poll_recv(context).is_ready());
            arrived.map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        &self.0[at].0
    }
}
