//! The rest of the first process of a server after an upgrade, where its parent watches it: a container
//! runtime that started it as process 1, supervisord, a shell.
//!
//! It forwards signals to the server, and ends as the server does, with its exit code. Each upgrade after
//! the first changes which process the server is; the guardian stays, and its end stops the server.

use std::time::Duration;

use rustix::process::Signal as Number;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Successor;
use super::protocol::{self, FromGuardian, ToGuardian};
use crate::os::handover::{Channel, Message};
use crate::os::{child, memory, process};
use crate::supervisor::signals::{Signals, suspend};

/// Waits for the end of the server, and returns the exit code of this process. `None`: this process is no
/// guardian.
pub(in crate::supervisor) async fn guard(successor: Successor, signals: Signals) -> Option<u8> {
    let channel = successor.guarded?;
    if let Some(status) = successor.status {
        return Some(exit_code(status));
    }
    memory::unmap_clean_pages();
    let guardian = Guardian {
        main: successor.pid,
        channel,
    };
    Some(guardian.wait(signals).await)
}

struct Guardian {
    /// The server.
    main: u32,
    /// The channel to it.
    channel: AsyncFd<Channel>,
}

impl Guardian {
    async fn wait(mut self, mut signals: Signals) -> u8 {
        let mut is_open = true;
        loop {
            // Both are cancel-safe: signals and the channel keep what is not received.
            let signal = tokio::select! {
                message = self.channel.async_io(Interest::READABLE, Channel::receive), if is_open => {
                    match message {
                        Ok(Some(message)) => {
                            if let Some(status) = self.take(&message) {
                                return exit_code(status);
                            }
                        }
                        // The end of the server follows.
                        Ok(None) | Err(_) => is_open = false,
                    }
                    continue;
                }
                signal = signals.next() => signal,
            };
            match signal {
                Number::CHILD => {
                    if let Some(status) = self.reap() {
                        return exit_code(status);
                    }
                }
                Number::TSTP => suspend_with(Some(self.main), &[]).await,
                signal => {
                    let signal = FromGuardian::Signal(signal.as_raw());
                    let _gone = protocol::send(self.channel.get_ref(), &signal, &[]);
                }
            }
        }
    }

    /// Reaps all children; returns the wait status of the server if it has ended.
    fn reap(&mut self) -> Option<i32> {
        let ended: Vec<_> = std::iter::from_fn(child::reap).collect();
        // A message that another process is the server came before the end of this one.
        while let Ok(Some(message)) = self.channel.get_ref().receive() {
            if let Some(status) = self.take(&message) {
                return Some(status);
            }
        }
        let main = ended.iter().find(|(pid, _)| *pid == self.main);
        main.map(|(_, status)| *status)
    }

    /// Takes a message; returns the wait status of a server that has ended.
    fn take(&mut self, message: &Message) -> Option<i32> {
        match protocol::parse(message) {
            Ok(ToGuardian::Main(pid)) => self.main = pid,
            Ok(ToGuardian::Ended(status)) => return Some(status),
            Err(error) => tracing::debug!(%error, "unknown message to the guardian"),
        }
        None
    }
}

/// Suspends this process with these process groups, and another process of the server. Ctrl-Z reaches both
/// processes, `kill -TSTP` this one alone.
pub(in crate::supervisor) async fn suspend_with(other: Option<u32>, groups: &[u32]) {
    if let Some(other) = other {
        let by_itself = async {
            while !process::is_stopped(other) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        // A second signal would stop it again once it is continued.
        if tokio::time::timeout(MOMENT, by_itself).await.is_err() {
            child::suspend(other);
        }
    }
    suspend::with(groups);
    if let Some(other) = other {
        child::go_on(other);
    }
}

/// Time in which a process that has got SIGTSTP as well stops, on a loaded machine.
const MOMENT: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The exit code of a process that ends as the one with this wait status.
fn exit_code(status: i32) -> u8 {
    let code = child::exit_code(status).unwrap_or(128 + (status & 0x7f));
    u8::try_from(code).unwrap_or(u8::MAX)
}

impl Signals {
    /// The next signal that has an effect on the server, and those of children. Cancel-safe.
    async fn next(&mut self) -> Number {
        // Every branch is cancel-safe.
        tokio::select! {
            _ = self.child.recv() => Number::CHILD,
            _ = self.suspend.recv() => Number::TSTP,
            _ = self.terminate.recv() => Number::TERM,
            _ = self.interrupt.recv() => Number::INT,
            _ = self.quit.recv() => Number::QUIT,
            _ = self.hangup.recv() => Number::HUP,
            _ = self.more.recv() => Number::TTIN,
            _ = self.fewer.recv() => Number::TTOU,
            _ = self.reopen.recv() => Number::USR1,
            _ = self.upgrade.recv() => Number::USR2,
        }
    }
}
