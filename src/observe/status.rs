//! The status of a running server: values that it fills in, and that the verbs and the admin
//! listener show.
//!
//! It holds no secrets: of a request only method, path and ID, never its query, header fields or
//! body; of an error only its first line.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::acme::AcmeStatus;
use super::timestamp::Timestamp;

/// Everything about a server at one moment. Durations are in seconds, sizes in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of pyserve.
    pub version: String,
    /// Process id of the front.
    pub pid: u32,
    /// State of the server.
    pub state: ServerState,
    /// The time at which maintenance mode was turned on (RFC 3339); `None` if it is off.
    #[serde(default)]
    pub maintenance: Option<String>,
    /// Since when it has been running.
    pub uptime: f64,
    /// Addresses of its listeners.
    pub listeners: Vec<String>,
    /// The directory in which it works.
    pub chdir: String,
    /// True if the setting `image` is on.
    #[serde(default)]
    pub image: bool,
    /// Memory of the front: resident set.
    pub memory: u64,
    /// Bytes that clients make the front hold.
    pub memory_used: u64,
    /// The limit on them, `memory_budget`.
    pub memory_budget: u64,
    /// Open descriptors of the front.
    pub open_descriptors: Option<u64>,
    /// Clients' connections.
    pub connections: ConnectionCounts,
    /// Each application with its workers.
    pub applications: Vec<Application>,
    /// Processes beside the applications.
    #[serde(default)]
    pub companions: Vec<CompanionStatus>,
    /// Certificates by ACME.
    #[serde(default)]
    pub acme: Vec<AcmeStatus>,
    /// The last errors, newest last.
    pub last_errors: Vec<LastError>,
}

/// State of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerState {
    /// An application has no worker yet.
    Starting,
    /// It does.
    Serving,
    /// It finishes what it has, and ends.
    Stopping,
}

/// Number of connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionCounts {
    /// Since the start.
    pub accepted: u64,
    /// Now.
    pub open: u64,
    /// Open, with a request inside.
    pub active: u64,
    /// Open, with a head that has begun or is awaited for the first time.
    pub reading: u64,
}

/// One application.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Application {
    /// As the settings name it; with its prefix where several are named alike.
    pub name: String,
    /// The path prefix of its location; empty if it has none any more.
    pub prefix: String,
    /// True if a reload took it away, and it finishes what it has.
    pub leaving: bool,
    /// Number of its current generation, from 1.
    pub generation: u64,
    /// The process that forks, while there is one.
    pub template: Option<TemplateStatus>,
    /// State of the promotion of a worker to template; `None` where no worker may be promoted.
    pub refork: Option<Refork>,
    /// Its requests.
    pub queue: Queue,
    /// The number of its workers.
    pub scaling: Scaling,
    /// Its workers.
    pub workers: Vec<WorkerStatus>,
}

/// The process that forks workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateStatus {
    /// Its process id.
    pub pid: u32,
    /// Resident set.
    pub memory: u64,
    /// True if it was a worker that had warmed up.
    pub was_worker: bool,
}

/// State of the promotion of a worker to template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refork {
    /// After how many requests a worker is asked.
    pub after: u64,
    /// Number of promotions in all generations.
    pub promoted: u64,
    /// Why the last one that did not become it did not.
    pub last_failure: Option<String>,
}

/// The requests of an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Handed to the workers: what they run, and what lies ready for them.
    pub handed_out: usize,
    /// Waiting behind those.
    pub waiting: usize,
    /// Most that may wait.
    pub limit: usize,
    /// Requests so far that have overtaken longer ones.
    pub overtakes: u64,
}

/// The number of workers of an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaling {
    /// Workers that there are to be now.
    pub workers: u32,
    /// Smallest number.
    pub minimum: u32,
    /// Largest number.
    pub maximum: u32,
    /// Why there are as many.
    pub reason: String,
}

/// One worker process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its number in its generation, from 0.
    pub number: u32,
    /// Its generation; see [`Application::generation`].
    pub generation: u64,
    /// Its process id; 0 while it is being forked.
    pub pid: u32,
    /// Its state.
    pub state: WorkerState,
    /// Requests that it has finished.
    pub served: u64,
    /// Resident set, with what it shares with its siblings.
    pub memory: u64,
    /// Its threads.
    pub threads: Vec<ThreadStatus>,
}

/// State of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// It is forked, or imports the application.
    Starting,
    /// It serves.
    Ready,
    /// It finishes what it has, and leaves.
    Leaving,
}

/// One thread of a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThreadStatus {
    /// Its state.
    pub doing: ThreadActivity,
    /// For how long.
    pub since: f64,
    /// The request it works on, if that is still known.
    pub request: Option<RequestStatus>,
}

/// State of a worker thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThreadActivity {
    /// Its process starts.
    Starting,
    /// Waits for a request.
    Idle,
    /// Has received a request, and waits for the interpreter that another thread keeps.
    Received,
    /// Runs a request.
    Busy,
    /// Its response is out; the application's `close()` runs.
    Closing,
}

impl ThreadActivity {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Idle => "idle",
            Self::Received => "received",
            Self::Busy => "busy",
            Self::Closing => "closing",
        }
    }
}

/// A request that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestStatus {
    /// The request ID, as in the log.
    pub id: String,
    /// Its method.
    pub method: String,
    /// Its path without the query, with control characters escaped.
    pub path: String,
}

/// A process beside the applications.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompanionStatus {
    /// Its name in the log.
    pub name: String,
    /// Its process id, while it runs.
    pub pid: Option<u32>,
    /// The times at which it runs; `None`: always.
    pub schedule: Option<String>,
    /// Its next run (RFC 3339).
    pub next_run: Option<String>,
    /// Its last run.
    pub last_run: Option<LastRunStatus>,
}

/// A run of a scheduled companion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastRunStatus {
    /// When it began (RFC 3339).
    pub began: String,
    /// Its duration; `None` while it runs.
    pub took: Option<f64>,
    /// Exit code or signal; `None` while it runs.
    pub result: Option<String>,
}

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// When, in UTC.
    pub time: String,
    /// The error in one line.
    pub what: String,
}

/// Largest number of errors that are remembered.
const REMEMBERED: usize = 10;
/// Most bytes of an error that are remembered.
const LONGEST_ERROR: usize = 500;

static LAST_ERRORS: Mutex<VecDeque<LastError>> = Mutex::new(VecDeque::new());

/// Remembers, for [`Status::last_errors`], what went wrong in the life of the server; see
/// [`in_one_line`]. Errors of single requests belong into the log alone.
pub fn remember_error(what: &str) {
    let what = in_one_line(what);
    let time = Timestamp::from(SystemTime::now()).rfc_3339();
    let mut errors = LAST_ERRORS.lock();
    if errors.len() == REMEMBERED {
        errors.pop_front();
    }
    errors.push_back(LastError { time, what });
}

/// The first line; of a traceback also which exception it was, but not what that said:
/// messages may quote passwords, and the log has them.
fn in_one_line(what: &str) -> String {
    let what = what.trim();
    let first = what.lines().next().unwrap_or_default();
    let mut line: String = first.chars().take(LONGEST_ERROR).collect();
    if line.ends_with("Traceback (most recent call last):") {
        // A sentence of the host may follow the traceback.
        let mut lines = what.lines().rev();
        let last = lines.find(|line| !line.starts_with("pyserve: "));
        let last = last.unwrap_or_default();
        let name = last.split(':').next().unwrap_or_default();
        let is_name = |char: char| char.is_alphanumeric() || "._".contains(char);
        line.truncate(line.len() - "Traceback (most recent call last):".len());
        line.push_str(match name.chars().all(is_name) {
            true => name,
            false => "an exception",
        });
        line.push_str(" (see the log)");
    }
    line
}

/// The last errors passed to [`remember_error`].
pub fn last_errors() -> Vec<LastError> {
    let errors = LAST_ERRORS.lock();
    errors.iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_without_what_an_exception_quotes() {
        let traceback = "reload failed: app: Traceback (most recent call last):\n  File ..\n\
                         psycopg.OperationalError: bad password: hunter2\n";
        for (what, expected) in [
            ("worker 0 died: exit code 3", "worker 0 died: exit code 3"),
            ("two\nlines", "two"),
            (
                traceback,
                "reload failed: app: psycopg.OperationalError (see the log)",
            ),
            (
                &*format!("{traceback}pyserve: imported with /usr/bin/python3"),
                "reload failed: app: psycopg.OperationalError (see the log)",
            ),
            (
                "Traceback (most recent call last):\nhunter2 was wrong",
                "an exception (see the log)",
            ),
            ("", ""),
        ] {
            assert_eq!(in_one_line(what), expected);
        }
    }
}
