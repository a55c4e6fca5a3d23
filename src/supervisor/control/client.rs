//! The command line's end of the control socket: finds the server and sends it an order. Blocks.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::place;
use super::protocol::{ControlReply, Order};
use crate::config::{Control, ControlTarget};
use crate::observe::status::Status;
use crate::os::trusted_path;

/// Longest time for a response that needs no work of the server.
pub const AT_HAND: Duration = Duration::from_secs(10);
/// Longest response: stacks of a few hundred threads, status of a few thousand workers.
const LONGEST_ANSWER: usize = 64 << 20;

/// The reason why an order did not reach a server.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// The settings turn the control socket off.
    #[error("the control socket is off (--control)")]
    Off,
    /// No server listens.
    #[error(
        "no server runs here: nothing listens {looked_at} (start it, or give the path of its socket with --control)"
    )]
    Nobody {
        /// The paths that were tried.
        looked_at: String,
    },
    /// More than one server listens.
    #[error("several servers run (choose one with --control):\n{list}")]
    Several {
        /// One line for each server.
        list: String,
    },
    /// The server does not answer.
    #[error("the server at {} does not answer: {error}", path.display())]
    Broken {
        /// Path of its socket.
        path: PathBuf,
        /// The error of the connection.
        error: io::Error,
    },
}

/// A connection to the selected server.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

impl Client {
    /// Finds the server: the one at the path in the settings; else the only one that listens in the
    /// usual directories; else the only one of them whose `chdir` is this directory.
    ///
    /// # Errors
    /// [`Unreachable`], with the remedy.
    pub fn find(reach: &ControlTarget) -> Result<Self, Unreachable> {
        if reach.control == Control::Off {
            return Err(Unreachable::Off);
        }
        if let Control::At(path) = &reach.control {
            let trusted = |peer, path: &Path| {
                reach.user == Some(peer) || is_chosen_by_root(path).unwrap_or(false)
            };
            return Self::connect(path, trusted).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Unreachable::Nobody {
                    looked_at: looked_at(&reach.control, &[]),
                },
                _ => Unreachable::Broken {
                    path: path.clone(),
                    error,
                },
            });
        }
        let candidates = place::existing(&reach.control);
        let mut found: Vec<_> = candidates
            .iter()
            .flat_map(|path| Self::connect(path, is_owner))
            .collect();
        if found.len() > 1 {
            let statuses: Vec<_> = found.iter().map(|client| status_of(&client.path)).collect();
            let chosen = only_one_in(&reach.chdir, &statuses);
            let chosen = chosen.ok_or_else(|| Unreachable::Several {
                list: list(&found, &statuses),
            })?;
            return Ok(found.swap_remove(chosen));
        }
        found.pop().ok_or_else(|| Unreachable::Nobody {
            looked_at: looked_at(&reach.control, &candidates),
        })
    }

    /// `may_be`: root accepts the server of this user.
    fn connect(path: &Path, may_be: impl Fn(u32, &Path) -> bool) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        check_peer(&stream, path, may_be)?;
        stream.set_write_timeout(Some(AT_HAND))?;
        Ok(Self {
            stream: BufReader::new(stream),
            path: path.to_owned(),
        })
    }

    /// Sends an order. `within` limits the time for the whole response. `None`: it takes as long as
    /// it takes, while the server answers others.
    ///
    /// # Errors
    /// [`Unreachable::Broken`].
    pub fn ask(
        &mut self,
        order: &Order,
        within: Option<Duration>,
    ) -> Result<ControlReply, Unreachable> {
        let answer = self.try_ask(order, within);
        answer.map_err(|error| Unreachable::Broken {
            path: self.path.clone(),
            error,
        })
    }

    fn try_ask(&mut self, order: &Order, within: Option<Duration>) -> io::Result<ControlReply> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)?;
        let line = match within {
            Some(within) => {
                let mut deadline = Deadline::after(within);
                self.read_line(&mut deadline, |_| Err(late(within)))?
            }
            None => {
                let path = self.path.clone();
                self.read_line(&mut Deadline::after(AT_HAND), |deadline| {
                    *deadline = Deadline::after(AT_HAND);
                    check_alive(&path)
                })?
            }
        };
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.last() != Some(&b'\n') {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the response is truncated",
            ));
        }
        let mut answer = serde_json::from_slice(&line)?;
        escape(&mut answer);
        Ok(serde_json::from_value(answer)?)
    }

    /// Reads to the end of a line or of the stream. `passed` is called when the deadline has
    /// passed, however many bytes have arrived, and may set another.
    fn read_line(
        &mut self,
        deadline: &mut Deadline,
        mut passed: impl FnMut(&mut Deadline) -> io::Result<()>,
    ) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            let Some(left) = deadline.left() else {
                passed(deadline)?;
                continue;
            };
            self.stream.get_ref().set_read_timeout(Some(left))?;
            let received = match self.stream.fill_buf() {
                Ok(received) => received,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::Interrupted => continue,
                    _ => return Err(error),
                },
            };
            let end = received.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(received.len(), |at| at + 1);
            line.extend_from_slice(&received[..taken]);
            self.stream.consume(taken);
            if taken == 0 || end.is_some() || line.len() >= LONGEST_ANSWER {
                return Ok(line);
            }
        }
    }

    /// Waits until the server has closed the connection, which it does at its exit.
    ///
    /// # Errors
    /// [`Unreachable::Broken`] if the server hangs.
    pub fn wait_for_the_end(&mut self) -> Result<(), Unreachable> {
        let path = self.path.clone();
        let alive = |deadline: &mut Deadline| {
            *deadline = Deadline::after(AT_HAND);
            match check_alive(&path) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(error),
                // It has closed its socket, or refuses orders: it is on its way out.
                _ => Ok(()),
            }
        };
        match self.read_line(&mut Deadline::after(AT_HAND), alive) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Unreachable::Broken {
                path: self.path.clone(),
                error,
            }),
            // A killed server resets the connection, which is the end too.
            _ => Ok(()),
        }
    }
}

/// A time until which a response has to be there.
struct Deadline(Instant);

impl Deadline {
    fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// The time until it; `None` if it has passed.
    fn left(&self) -> Option<Duration> {
        let left = self.0.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

fn late(within: Duration) -> io::Error {
    let text = format!(
        "no complete response within {} s",
        within.as_secs_f32().round()
    );
    io::Error::new(io::ErrorKind::TimedOut, text)
}

/// Checks over another connection that the server takes orders. Any response will do.
///
/// # Errors
/// `TimedOut` if it does not respond.
fn check_alive(path: &Path) -> io::Result<()> {
    // The user of the server has been checked.
    let mut client = Client::connect(path, |_, _| true)?;
    client.try_ask(&Order::Health, Some(AT_HAND)).map(drop)
}

/// True if the socket belongs to this user.
fn is_owner(user: u32, path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.uid() == user)
}

/// True if root alone can put a socket at this path.
fn is_chosen_by_root(path: &Path) -> io::Result<bool> {
    let directory = trusted_path::parent(path);
    let meta = std::fs::metadata(directory)?;
    let is_root_s = meta.uid() == 0 && meta.mode() & 0o022 == 0;
    Ok(is_root_s && !trusted_path::is_placed_by_others(directory)?)
}

/// Checks that the server belongs to this user, to root, or, for root, to a user that `may_be` its
/// own: the responses of another user's server cannot be trusted.
fn check_peer(
    stream: &UnixStream,
    path: &Path,
    may_be: impl Fn(u32, &Path) -> bool,
) -> io::Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?.uid;
    let own = rustix::process::geteuid();
    if peer == own || peer.is_root() || own.is_root() && may_be(peer.as_raw(), path) {
        return Ok(());
    }
    let text = format!(
        "it belongs to user {peer}, not to the user of the settings (run this as user {peer}, or set uid)",
        peer = peer.as_raw()
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

/// Replaces control characters in all texts, except line ends and tabs, because the response is
/// printed on a terminal.
fn escape(answer: &mut serde_json::Value) {
    use serde_json::Value;
    match answer {
        Value::String(text) => {
            let is_harmful = |char: char| char.is_control() && !matches!(char, '\n' | '\t');
            if text.contains(is_harmful) {
                *text = text
                    .chars()
                    .map(|char| if is_harmful(char) { '\u{FFFD}' } else { char })
                    .collect();
            }
        }
        Value::Array(values) => values.iter_mut().for_each(escape),
        Value::Object(values) => values.values_mut().for_each(escape),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The status of the server at this path, over a separate connection.
fn status_of(path: &Path) -> Option<Status> {
    let mut client = Client::connect(path, is_owner).ok()?;
    client.ask(&Order::Status, Some(AT_HAND)).ok()?.status
}

fn only_one_in(chdir: &Path, statuses: &[Option<Status>]) -> Option<usize> {
    // As the status has it, which is text.
    let chdir = chdir.display().to_string();
    let is_here = |status: &Status| status.chdir == chdir;
    let mut here = statuses
        .iter()
        .enumerate()
        .filter(|(_, status)| status.as_ref().is_some_and(is_here));
    let (first, _) = here.next()?;
    here.next().is_none().then_some(first)
}

fn list(found: &[Client], statuses: &[Option<Status>]) -> String {
    let lines = found.iter().zip(statuses).map(|(client, status)| {
        let path = client.path.display();
        match status {
            None => format!("  {path}"),
            Some(status) => {
                let listeners = status.listeners.join(", ");
                format!("  {path}  {} on {listeners}", status.chdir)
            }
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn looked_at(control: &Control, candidates: &[PathBuf]) -> String {
    let shown = |paths: &[PathBuf]| {
        let paths: Vec<_> = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        paths.join(", ")
    };
    match control {
        Control::At(path) => format!("at {}", path.display()),
        _ if candidates.is_empty() => format!("in {}", shown(&place::usual(control))),
        _ => format!("at {}", shown(candidates)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// The client's result for a server that sends this response.
    fn asked(answer: Vec<u8>) -> Result<ControlReply, Unreachable> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // Until the client has read enough.
            while stream.write_all(&answer).is_ok() && !answer.ends_with(b"\n") {}
        });
        let mut client = Client::connect(&path, is_owner).unwrap();
        let reply = client.ask(&Order::Status, Some(AT_HAND));
        drop(client);
        server.join().unwrap();
        reply
    }

    #[test]
    fn a_truncated_or_endless_response_is_an_error() {
        let error = asked(vec![b'x'; 1 << 20]).unwrap_err().to_string();
        assert!(error.contains("truncated"), "{error}");
    }

    #[test]
    fn a_response_that_never_ends_is_late_however_it_drips() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(b" ").is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let mut client = Client::connect(&path, is_owner).unwrap();
        let reply = client.ask(&Order::Status, Some(Duration::from_millis(300)));
        let error = reply.unwrap_err().to_string();
        assert!(error.contains("no complete response within"), "{error}");
        drop(client);
        server.join().unwrap();
    }

    #[test]
    fn control_characters_in_a_response_are_replaced() {
        let mut value = serde_json::json!({
            "words": "a\u{1b}[2J\r\n\tb\u{9b}1m\u{7f}",
            "more": [["\u{0}"], 7, null],
        });
        escape(&mut value);
        let expected = serde_json::json!({
            "words": "a\u{FFFD}[2J\u{FFFD}\n\tb\u{FFFD}1m\u{FFFD}",
            "more": [["\u{FFFD}"], 7, null],
        });
        assert_eq!(value, expected);
    }
}
