//! Asks processes that import the application where they are.
//!
//! Such a process may hang with the interpreter in hand, in C code. So it is asked by a signal,
//! whose handler (`faulthandler`) writes all stacks to a pipe, without the interpreter. The text
//! is not trusted: [`stack`] reads it.

pub mod stack;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::Mutex;

use crate::os::child;

/// Longest text that is read: a full pipe. `faulthandler` writes 100 frames for each of 100 threads at most.
const LONGEST: usize = 64 * 1024;
/// How long a process may take for its first line.
const FIRST: Duration = Duration::from_secs(2);
/// The pipe is known to be empty after so long.
const STALE: Duration = Duration::from_millis(20);
/// A process that writes nothing for so long has written all of it.
const QUIET: Duration = Duration::from_millis(100);

/// Our end of the pipe to which a template, and the workers that it forks, write their stacks.
#[derive(Debug)]
pub struct StackPipe(Mutex<Receiver>);

impl StackPipe {
    /// A pipe, and the end for the template. A write to a full one fails instead of waiting.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok((Self(Mutex::new(Receiver::from_owned_fd(ours)?)), theirs))
    }

    /// The stacks of a process that handles the signal, the most recent call first; empty if it
    /// writes nothing.
    pub async fn ask(&self, pid: u32) -> String {
        let mut pipe = self.0.lock().await;
        // Left by one that answered too late.
        let _stale = read(&mut pipe, STALE, STALE).await;
        child::ask_for_stacks(pid);
        let text = read(&mut pipe, FIRST, QUIET).await;
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// Reads until nothing more comes.
async fn read(pipe: &mut Receiver, first: Duration, quiet: Duration) -> Vec<u8> {
    let mut text = vec![0; LONGEST];
    let mut length = 0;
    while length < LONGEST {
        let patience = if length == 0 { first } else { quiet };
        match pipe.try_read(&mut text[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Readiness was taken back by the attempt to read.
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

/// A process on its way to serve.
#[derive(Debug, Clone)]
pub struct Starting {
    /// Its generation.
    pub generation: u32,
    /// Its number, if it is a worker.
    pub worker: Option<u32>,
    /// Its process id.
    pub pid: u32,
    /// Where it answers; none while it does not handle the signal yet.
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
