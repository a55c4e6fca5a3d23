//! Standard output and standard error, written without a buffer of our own.
//!
//! `std`'s handles keep what they could not write and count it as written; `print!` and its
//! kin panic when a write fails. Neither may happen to a server, so nothing else in `src/`
//! writes to these two descriptors (`tests/layout.rs`).
//!
//! Both are always open: the Rust runtime opens `/dev/null` under the numbers of standard
//! descriptors that were closed when the process started.

use std::io::{self, IsTerminal, Write};

use rustix::event::{PollFd, PollFlags, poll};

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standard {
    /// Descriptor 1.
    Output,
    /// Descriptor 2.
    Error,
}

impl Standard {
    /// True if it is a terminal.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Output => io::stdout().is_terminal(),
            Self::Error => io::stderr().is_terminal(),
        }
    }

    /// True if it is a terminal on which colours are wanted: `NO_COLOR` (no-color.org) is unset
    /// or empty, and `TERM` is not `dumb`.
    pub fn has_colours(self) -> bool {
        let is_plain = |name: &str, plain: fn(&str) -> bool| {
            std::env::var_os(name).is_some_and(|value| plain(&value.to_string_lossy()))
        };
        self.is_terminal()
            && !is_plain("NO_COLOR", |value| !value.is_empty())
            && !is_plain("TERM", |value| value == "dumb")
    }

    /// Width of the terminal; none where there is no terminal, or it does not know.
    pub fn columns(self) -> Option<usize> {
        let size = match self {
            Self::Output => rustix::termios::tcgetwinsize(io::stdout()),
            Self::Error => rustix::termios::tcgetwinsize(io::stderr()),
        };
        let columns = usize::from(size.ok()?.ws_col);
        (columns > 0).then_some(columns)
    }

    /// Writes everything, also where another process has made the descriptor non-blocking.
    /// Blocks.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn write_patiently(mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait()?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn wait(self) -> io::Result<()> {
        let (output, error) = (io::stdout(), io::stderr());
        let mut watched = match self {
            Self::Output => [PollFd::new(&output, PollFlags::OUT)],
            Self::Error => [PollFd::new(&error, PollFlags::OUT)],
        };
        match poll(&mut watched, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Write for Standard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match self {
            Self::Output => rustix::io::write(io::stdout(), bytes),
            Self::Error => rustix::io::write(io::stderr(), bytes),
        };
        Ok(written?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
