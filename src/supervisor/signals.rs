//! The signals that the server obeys.

use std::io;
use std::task::Poll;

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals whose default action would end the server, and which are more likely sent by mistake.
const MEANINGLESS: [(&str, Number); 4] = [
    ("SIGUSR2", Number::USR2),
    ("SIGALRM", Number::ALARM),
    ("SIGVTALRM", Number::VTALARM),
    ("SIGPROF", Number::PROF),
];

pub(super) struct Signals {
    pub(super) child: Signal,
    pub(super) terminate: Signal,
    pub(super) interrupt: Signal,
    pub(super) quit: Signal,
    pub(super) hangup: Signal,
    pub(super) more: Signal,
    pub(super) fewer: Signal,
    pub(super) reopen: Signal,
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
            fewer: signal(SignalKind::from_raw(Number::TTOU.as_raw()))?,
            meaningless: Meaningless::new()?,
        })
    }
}

/// The signals that have no meaning for the server.
pub(super) struct Meaningless(Vec<(&'static str, Signal)>);

impl Meaningless {
    fn new() -> io::Result<Self> {
        let signals = MEANINGLESS.into_iter();
        signals
            .map(|(name, number)| Ok((name, signal(SignalKind::from_raw(number.as_raw()))?)))
            .collect::<io::Result<_>>()
            .map(Self)
    }

    /// The name of the next one. Cancel-safe.
    pub(super) async fn recv(&mut self) -> &'static str {
        std::future::poll_fn(|context| {
            let arrived = self
                .0
                .iter_mut()
                .find_map(|(name, signal)| signal.poll_recv(context).is_ready().then_some(*name));
            arrived.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}
