//! Collects the Python stacks of all workers from the workers themselves.
//!
//! Each worker gets a socket of its own for the reply, so a slow or silent one delays no other, and
//! its bytes cannot be mistaken for a response.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use pyserve_wire::orders::{self, ToWorker};
use rustix::net::SocketType;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use super::Pool;
use crate::front::context::RequestLabel;
use crate::os::sockets;

/// Longest reply that is read; a worker has some tens of threads with some KB each.
const LONGEST_ANSWER: u64 = 4 << 20;

/// The threads of one worker.
#[derive(Debug)]
pub struct WorkerStacks {
    /// Its generation.
    pub generation: u32,
    /// Its number in that generation.
    pub number: u32,
    /// Its process id, from the scoreboard.
    pub pid: u32,
    /// The stacks, or the reason why there are none.
    pub threads: io::Result<Vec<ThreadStack>>,
}

/// One Python thread.
#[derive(Debug)]
pub struct ThreadStack {
    /// Its name in Python. Empty: the text covers all threads of the process, because a thread
    /// holds the GIL.
    pub name: String,
    /// The request that it runs.
    pub request: Option<Arc<RequestLabel>>,
    /// The stack as printed by Python.
    pub text: String,
}

impl Pool {
    /// Asks all serving workers, each of which may take `patience` to acquire its GIL, and as long
    /// again to reply.
    pub async fn stacks(&self, patience: Duration) -> Vec<WorkerStacks> {
        let asked = self.ask_for_stacks(patience);
        // All have been asked, so the waits run side by side.
        let deadline = tokio::time::Instant::now() + 2 * patience + Duration::from_secs(1);
        let mut stacks = Vec::with_capacity(asked.len());
        for (mut worker, answer) in asked {
            worker.threads = match answer {
                Ok(answer) => match tokio::time::timeout_at(deadline, read(answer)).await {
                    Ok(Ok(block)) => Ok(self.named(&block)),
                    Ok(Err(error)) => Err(error),
                    Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
                },
                Err(error) => Err(error),
            };
            stacks.push(worker);
        }
        stacks
    }

    fn ask_for_stacks(&self, patience: Duration) -> Vec<(WorkerStacks, io::Result<OwnedFd>)> {
        let mut state = self.0.lock();
        let mut asked = Vec::new();
        for roster in &mut state.rosters {
            let crew = &roster.crew;
            for (number, worker) in &roster.workers {
                if !worker.ready {
                    continue;
                }
                let first_thread = *number as usize * crew.size.threads as usize;
                let stacks = WorkerStacks {
                    generation: crew.number,
                    number: *number,
                    pid: crew.scoreboard().line(first_thread).pid,
                    threads: Ok(Vec::new()),
                };
                let patience_ms = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
                let order = ToWorker::Stacks { patience_ms };
                let answer = sockets::pair(SocketType::STREAM).and_then(|(ours, theirs)| {
                    worker.order(order, &[theirs.as_fd()])?;
                    Ok(ours)
                });
                asked.push((stacks, answer));
            }
        }
        drop(state);
        asked.sort_by_key(|(worker, _)| (worker.generation, worker.number));
        asked
    }

    fn named(&self, block: &[u8]) -> Vec<ThreadStack> {
        orders::read_stacks(block)
            .into_iter()
            .map(|stack| ThreadStack {
                name: stack.name,
                request: self.identity(stack.seq),
                text: stack.text,
            })
            .collect()
    }
}

async fn read(answer: OwnedFd) -> io::Result<Vec<u8>> {
    let answer = std::os::unix::net::UnixStream::from(answer);
    answer.set_nonblocking(true)?;
    let mut block = Vec::new();
    let answer = UnixStream::from_std(answer)?;
    answer.take(LONGEST_ANSWER).read_to_end(&mut block).await?;
    if block.is_empty() {
        // No thread without a stack is left: the worker exited.
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(block)
}
