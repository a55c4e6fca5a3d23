//! Reads the stacks of processes that import the application.
//!
//! Such a process may hang in C code while it holds the interpreter. So it gets a signal whose
//! handler (`faulthandler`) writes all stacks to a pipe, without the interpreter. The text is not
//! trusted: [`stack`] parses it.

pub mod stack;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::Mutex;

use crate::os::child;

/// Longest text that is read: a full pipe. `faulthandler` writes 100 frames for each of at most 100
/// threads.
const LONGEST: usize = 64 * 1024;
/// Longest time for the first line of a process.
const FIRST: Duration = Duration::from_secs(2);
/// The pipe counts as empty after this time without data.
const STALE: Duration = Duration::from_millis(20);
/// A process that writes nothing for this time has finished.
const QUIET: Duration = Duration::from_millis(100);

/// The read end of the pipe to which a template, and the workers that it forks, write their stacks.
#[derive(Debug)]
pub struct StackPipe(Mutex<Receiver>);

impl StackPipe {
    /// A pipe, and the write end for the template. A write to a full pipe fails instead of
    /// blocking.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn new() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok((Self(Mutex::new(Receiver::from_owned_fd(ours)?)), theirs))
    }

    /// The stacks of a process that handles the signal, the most recent call first; empty if it
    /// writes nothing.
    pub async fn ask(&self, pid: u32) -> String {
        let mut pipe = self.0.lock().await;
        // Data of a process that answered too late.
        let _stale = read(&mut pipe, STALE, STALE).await;
        child::ask_for_stacks(pid);
        let text = read(&mut pipe, FIRST, QUIET).await;
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// Reads until no more data arrives.
async fn read(pipe: &mut Receiver, first: Duration, quiet: Duration) -> Vec<u8> {
    let mut text = vec![0; LONGEST];
    let mut length = 0;
    while length < LONGEST {
        let patience = if length == 0 { first } else { quiet };
        match pipe.try_read(&mut text[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // The failed read has cleared the readiness.
                if tokio::time::timeout(patience, pipe.readable())
                    .await
                    .is_err()
                {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    text.truncate(length);
    text
}

/// A process that is starting.
#[derive(Debug, Clone)]
pub struct Starting {
    /// Its generation.
    pub generation: u32,
    /// Its number, if it is a worker.
    pub worker: Option<u32>,
    /// Its process id.
    pub pid: u32,
    /// True if it runs the host as what it is to be: a worker begins after the hooks of the fork.
    pub has_begun: bool,
    /// Its pipe for stacks; `None` while it does not handle the signal yet.
    pub pipe: Option<Arc<StackPipe>>,
}

impl Starting {
    /// Its stacks, the most recent call first; empty if it does not answer.
    pub async fn stacks(&self) -> String {
        match &self.pipe {
            Some(pipe) => pipe.ask(self.pid).await,
            None => String::new(),
        }
    }
}
