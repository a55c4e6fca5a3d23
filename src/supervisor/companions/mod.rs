//! Processes beside the application: a queue's workers, a scheduler, an SSH server.
//!
//! Each runs in a process group of its own. One that ends is started again, after a pause
//! that grows ([`backoff`]); one that is essential ends the server. What they write goes to
//! our log, with their name ([`output`]). At the end they leave in the reverse order of their
//! start, one after the other, when the workers have gone.

mod backoff;
mod output;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;

use crate::config::companions::{Companion, Program};
use crate::config::{AppSettings, Config};
use crate::os::child;
use backoff::Backoff;
use output::Output;

/// All companions of a server.
pub struct Companions {
    list: Vec<Process>,
    surroundings: Surroundings,
    readers: TaskTracker,
}

/// What programs that we start find around them.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Their working directory.
    directory: PathBuf,
    /// Where they find programs, if not where we do.
    path: Option<OsString>,
}

impl Surroundings {
    /// The directory of the site, and the programs of the application's virtual environment
    /// before all others, as if it were activated.
    pub fn of(config: &Config, applications: &[AppSettings]) -> Self {
        let programs = applications.iter().find_map(|app| {
            let programs = app.interpreter.path.parent()?;
            let is_environment = programs.parent()?.join("pyvenv.cfg").is_file();
            is_environment.then(|| programs.to_owned())
        });
        let path = programs.and_then(|programs| {
            let others = std::env::var_os("PATH").unwrap_or_default();
            let others: Vec<_> = std::env::split_paths(&others).collect();
            std::env::join_paths(std::iter::once(programs).chain(others)).ok()
        });
        Self {
            directory: config.chdir.clone(),
            path,
        }
    }
}

/// What the end of a companion means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It will be started again.
    Restart,
    /// The server cannot go on without it.
    Fatal,
}

struct Process {
    settings: Companion,
    state: State,
    backoff: Backoff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running { pid: u32, since: Instant },
    Waiting { until: Instant },
    Gone,
}

impl Companions {
    /// None of them runs yet.
    pub fn new(settings: &[Companion], surroundings: Surroundings) -> Self {
        let process = |settings: &Companion| Process {
            settings: settings.clone(),
            state: State::Waiting {
                until: Instant::now(),
            },
            backoff: Backoff::default(),
        };
        Self {
            list: settings.iter().map(process).collect(),
            surroundings,
            readers: TaskTracker::new(),
        }
    }

    /// Starts those whose time has come. What it says is the time of the next one, if any.
    pub fn start_due(&mut self, now: Instant) -> Option<Instant> {
        let (surroundings, readers) = (&self.surroundings, &self.readers);
        let mut next: Option<Instant> = None;
        for process in &mut self.list {
            if let State::Waiting { until } = process.state {
                if until <= now {
                    process.start(surroundings, readers, now);
                }
                if let State::Waiting { until } = process.state {
                    next = Some(next.map_or(until, |time| time.min(until)));
                }
            }
        }
        next
    }

    /// A process has ended. `None`: it was none of ours.
    pub fn ended(&mut self, pid: u32, status: i32, now: Instant) -> Option<Ended> {
        let process = self
            .list
            .iter_mut()
            .find(|process| process.pid() == Some(pid))?;
        let State::Running { since, .. } = process.state else {
            return None;
        };
        let (companion, reason) = (&*process.settings.name, child::describe_status(status));
        // What it started and left behind goes too, or two of them would run after a restart.
        child::kill_group(pid);
        if process.settings.is_essential {
            process.state = State::Gone;
            tracing::error!(companion, pid, reason, "an essential companion has ended");
            return Some(Ended::Fatal);
        }
        let pause = process.backoff.pause_after(now.duration_since(since));
        process.state = State::Waiting { until: now + pause };
        tracing::warn!(companion, pid, reason, again_in = ?pause, "companion has ended");
        Some(Ended::Restart)
    }

    /// Has them leave, the last one first; each may take as long as its settings say.
    /// `reap` waits for the end of any child.
    pub async fn stop(&mut self, mut reap: impl AsyncFnMut() -> Vec<(u32, i32)>) {
        for index in (0..self.list.len()).rev() {
            let process = &self.list[index];
            let Some(pid) = process.pid() else { continue };
            let companion = &*process.settings.name;
            tracing::info!(companion, pid, "stopping companion");
            child::terminate_group(pid);
            let deadline = tokio::time::Instant::now() + process.settings.stop_timeout;
            while self.list[index].state != State::Gone {
                // Cancel-safe: what was reaped is handed over at once.
                let Ok(ended) = tokio::time::timeout_at(deadline, reap()).await else {
                    let companion = &*self.list[index].settings.name;
                    tracing::warn!(companion, pid, "companion does not stop: killed");
                    break;
                };
                for (pid, _) in ended {
                    self.gone(pid);
                }
            }
            child::kill_group(pid);
            self.list[index].state = State::Gone;
        }
        // What they said last. Somebody they left behind may hold the pipe open.
        self.readers.close();
        let _left_behind = tokio::time::timeout(LAST_WORDS, self.readers.wait()).await;
    }

    /// Ends all of them at once.
    pub fn kill(&mut self) {
        for process in self.list.drain(..).rev() {
            if let Some(pid) = process.pid() {
                child::kill_group(pid);
            }
        }
    }

    fn gone(&mut self, pid: u32) {
        for process in &mut self.list {
            if process.pid() == Some(pid) {
                process.state = State::Gone;
            }
        }
    }
}

impl Process {
    fn pid(&self) -> Option<u32> {
        match self.state {
            State::Running { pid, .. } => Some(pid),
            State::Waiting { .. } | State::Gone => None,
        }
    }

    fn start(&mut self, surroundings: &Surroundings, readers: &TaskTracker, now: Instant) {
        let companion = &*self.settings.name;
        let started = start(&self.settings.program, surroundings);
        match started {
            Ok((pid, output)) => {
                tracing::info!(companion, pid, "companion started");
                readers.spawn(output.log(self.settings.name.clone()));
                self.state = State::Running { pid, since: now };
            }
            Err(error) => {
                let pause = self.backoff.pause_after(Duration::ZERO);
                let program = &self.settings.program;
                tracing::error!(companion, %program, %error, again_in = ?pause, "cannot start companion");
                self.state = State::Waiting { until: now + pause };
            }
        }
    }
}

/// Starts a program with its output in our hands.
///
/// # Errors
/// What the kernel says about the program or the pipe.
pub fn start(program: &Program, surroundings: &Surroundings) -> io::Result<(u32, Output)> {
    let mut command = match program {
        Program::Shell(line) => {
            let mut command = Command::new("/bin/sh");
            command.arg("-c").arg(line);
            command
        }
        Program::Words(words) => {
            let (first, rest) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
            let mut command = Command::new(first);
            command.args(rest);
            command
        }
    };
    let (output, writer) = Output::pipe()?;
    let again = writer.try_clone()?;
    command
        .current_dir(&surroundings.directory)
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(again);
    if let Some(path) = &surroundings.path {
        // Also where `Command` looks for the program itself.
        command.env("PATH", path);
    }
    child::end_with_us(&mut command);
    let pid = child::spawn(&mut command, &[])?;
    Ok((pid, output))
}

/// How long we wait for the end of what companions wrote, once they have gone.
const LAST_WORDS: Duration = Duration::from_millis(200);
