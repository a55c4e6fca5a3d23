//! What a program that we started writes, line by line into our log, under its name.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe::Receiver;

use crate::os::sockets;

/// Our end of a program's output.
pub struct Output(Receiver);

impl Output {
    /// A pipe, with the end to write to.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn pipe() -> io::Result<(Self, OwnedFd)> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        sockets::set_nonblocking(reader.as_fd())?;
        Ok((Self(Receiver::from_owned_fd(reader)?), writer))
    }

    /// Logs what comes until the last writer has gone.
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

/// Longer lines are cut into several, so that nobody fills our memory with one.
const LONGEST_LINE: u64 = 16 << 10;
