//! The verbs' end of the control socket: finds the server, gives it an order. Blocks.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::place;
use super::protocol::{Order, Reply};
use crate::config::{Control, Reach};
use crate::observe::status::Status;

/// How long a server may take for an answer that it has at hand.
pub const AT_HAND: Duration = Duration::from_secs(10);

/// Why an order did not reach a server.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// The settings say that there is no control socket.
    #[error("the control socket is off (--control)")]
    Off,
    /// Nobody listens.
    #[error(
        "no server runs here: nobody answers {looked_at} (start it, or say with --control where its socket is)"
    )]
    Nobody {
        /// Where that was looked for.
        looked_at: String,
    },
    /// More than one server would do.
    #[error("several servers run (choose one with --control):\n{list}")]
    Several {
        /// One line for each.
        list: String,
    },
    /// The server is there, and does not answer.
    #[error("the server at {} does not answer: {error}", path.display())]
    Broken {
        /// Its socket.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
}

/// A connection to the server that is meant.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

impl Client {
    /// Finds the server: the one at the path that the settings name; else the only one that
    /// listens in the usual places; else the only one of them that works in this directory.
    ///
    /// # Errors
    /// [`Unreachable`], with what to do about it.
    pub fn find(reach: &Reach) -> Result<Self, Unreachable> {
        if reach.control == Control::Off {
            return Err(Unreachable::Off);
        }
        let candidates = place::existing(&reach.control);
        let mut found: Vec<_> = candidates
            .iter()
            .flat_map(|path| Self::connect(path))
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

    fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_write_timeout(Some(AT_HAND))?;
        Ok(Self {
            stream: BufReader::new(stream),
            path: path.to_owned(),
        })
    }

    /// Gives an order. `within`: how long the answer may take; `None`: as long as it takes.
    ///
    /// # Errors
    /// [`Unreachable::Broken`].
    pub fn ask(&mut self, order: &Order, within: Option<Duration>) -> Result<Reply, Unreachable> {
        let answer = self.try_ask(order, within);
        answer.map_err(|error| Unreachable::Broken {
            path: self.path.clone(),
            error,
        })
    }

    fn try_ask(&mut self, order: &Order, within: Option<Duration>) -> io::Result<Reply> {
        self.stream.get_ref().set_read_timeout(within)?;
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)?;
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// Waits until the server has closed the connection, which it does when it ends.
    pub fn wait_for_the_end(&mut self) {
        let mut rest = Vec::new();
        // A server that is killed resets the connection: that is its end as well.
        let _ended = self.stream.get_ref().set_read_timeout(None);
        let _ended = self.stream.read_to_end(&mut rest);
    }
}

/// What the server at this path says, on a connection of its own.
fn status_of(path: &Path) -> Option<Status> {
    let mut client = Client::connect(path).ok()?;
    client.ask(&Order::Status, Some(AT_HAND)).ok()?.status
}

fn only_one_in(chdir: &Path, statuses: &[Option<Status>]) -> Option<usize> {
    let is_here = |status: &Status| Path::new(&status.chdir) == chdir;
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
