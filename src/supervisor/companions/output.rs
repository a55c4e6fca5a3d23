//! Logs the output of a program that we started, line by line, under its name.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe::Receiver;

use crate::os::sockets;

/// The read end of a program's output.
pub struct Output(Receiver);

impl Output {
    /// A pipe; returns both ends.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn pipe() -> io::Result<(Self, OwnedFd)> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        sockets::set_nonblocking(reader.as_fd())?;
        Ok((Self(Receiver::from_owned_fd(reader)?), writer))
    }

    /// Logs lines until the last writer has closed the pipe.
    pub async fn log(self, companion: String) {
        let mut reader = BufReader::new(self.0);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut reader)
                .take(LONGEST_LINE)
                .read_until(b'\n', &mut line)
                .await;
            match read {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let text = String::from_utf8_lossy(line.trim_ascii_end());
            if !text.is_empty() {
                tracing::info!(companion, "{text}");
            }
        }
    }
}

/// Longer lines are split, so that one cannot exhaust our memory.
const LONGEST_LINE: u64 = 16 << 10;
