//! The verbs that talk to a running server: what they ask, print, and exit with.
//!
//! They read only the settings that say where the server is ([`ControlTarget`]), so they work
//! where its application is missing. Exit codes: 0 done; 1 the server would not, or is not
//! ready; 69 (sysexits.h, unavailable) there is no server to talk to, except for `health`,
//! which says 1 to that, as Docker wants it.

use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use crate::config::ControlTarget;
use crate::observe::acme::{AcmeState, AcmeStatus};
use crate::observe::codes;
use crate::observe::diagnostics::say;
use crate::observe::status::{
    Application, CompanionStatus, LastRunStatus, Status, ThreadActivity, ThreadStatus, WorkerState,
    WorkerStatus,
};
use crate::os::standard::Standard;
use crate::supervisor::control::client::{AT_HAND, Client, Unreachable};
use crate::supervisor::control::probe;
use crate::supervisor::control::protocol::{ControlReply, MaintenanceOrder, Order};

/// A verb that talks to a running server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlCommand {
    /// Show how it is.
    Status {
        /// As JSON.
        json: bool,
    },
    /// Say whether it takes requests.
    Health,
    /// Have it bring code and settings up anew.
    Reload,
    /// Have it run so many workers.
    Scale(u32),
    /// Show where the Python threads of its workers are.
    Stacks,
    /// Turn maintenance mode on or off, or show it.
    Maintenance(MaintenanceOrder),
    /// Have a new binary take its place.
    Upgrade {
        /// The absolute path of the binary, as [`crate::config::native::text`]; `None`: that of the
        /// running one.
        to: Option<String>,
    },
    /// End it.
    Stop,
}

/// What an unreachable server is to the shell.
const UNAVAILABLE: u8 = 69;
/// How long a probe waits: below the 30 s after which Docker gives up.
const PROBE: Duration = Duration::from_secs(5);

/// Runs the verb, prints what there is to print.
pub fn run(verb: ControlCommand, reach: &ControlTarget) -> ExitCode {
    match carry_out(&verb, reach) {
        Ok(reply) => {
            if reply.done {
                let Err(error) = print(reply.text.trim_end()) else {
                    return ExitCode::SUCCESS;
                };
                say(&format!("pyserve: {error}"));
                return match verb {
                    // The text is all that they are for.
                    ControlCommand::Status { .. } | ControlCommand::Stacks => ExitCode::FAILURE,
                    // The deed is done, the probe has its answer.
                    ControlCommand::Health
                    | ControlCommand::Reload
                    | ControlCommand::Scale(_)
                    | ControlCommand::Maintenance(_)
                    | ControlCommand::Upgrade { .. }
                    | ControlCommand::Stop => ExitCode::SUCCESS,
                };
            }
            say(&format!("pyserve: {}", reply.text.trim_end()));
            ExitCode::FAILURE
        }
        Err(error) => {
            let text = format!("pyserve: {error}");
            say(&codes::with_code(&text, Some(codes::NO_SERVER)));
            if let Some(mistake) = &reach.mistake {
                say(&format!(
                    "pyserve: where it is may stand in a file with a mistake: {mistake}"
                ));
            }
            match verb {
                ControlCommand::Health => ExitCode::FAILURE,
                _ => ExitCode::from(UNAVAILABLE),
            }
        }
    }
}

/// Prints a line. That a reader such as `head` has seen enough is no failure.
///
/// # Errors
/// The error of the system call, such as that the disk is full.
pub fn print(line: &str) -> io::Result<()> {
    let written = Standard::Output.write_patiently(format!("{line}\n").as_bytes());
    written.or_else(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(io::Error::new(
            error.kind(),
            format!("standard output: {error}"),
        )),
    })
}

fn carry_out(verb: &ControlCommand, reach: &ControlTarget) -> Result<ControlReply, Unreachable> {
    let found = Client::find(reach);
    if let (ControlCommand::Health, Err(_), Some(admin)) = (verb, &found, &reach.admin) {
        return Ok(probe::ready(admin, PROBE));
    }
    let mut client = found?;
    match verb {
        &ControlCommand::Status { json } => {
            let reply = client.ask(&Order::Status, Some(AT_HAND))?;
            let Some(status) = &reply.status else {
                return Ok(reply);
            };
            let text = match json {
                true => serde_json::to_string_pretty(status).unwrap_or_default(),
                false => table(status),
            };
            Ok(ControlReply::done(text))
        }
        ControlCommand::Health => client.ask(&Order::Health, Some(PROBE)),
        // Importing an application takes as long as it takes.
        ControlCommand::Reload => client.ask(&Order::Reload, None),
        &ControlCommand::Scale(workers) => client.ask(&Order::Scale { workers }, Some(AT_HAND)),
        ControlCommand::Maintenance(order) => {
            client.ask(&Order::Maintenance(order.clone()), Some(AT_HAND))
        }
        ControlCommand::Stacks => client.ask(&Order::Stacks, None),
        // The server limits the time itself.
        ControlCommand::Upgrade { to } => client.ask(&Order::Upgrade { to: to.clone() }, None),
        ControlCommand::Stop => {
            let reply = client.ask(&Order::Stop, Some(AT_HAND))?;
            if reply.done {
                client.wait_for_the_end()?;
                return Ok(ControlReply::done("stopped"));
            }
            Ok(reply)
        }
    }
}

/// The status for people.
fn table(status: &Status) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_table(&mut text, status);
    text
}

fn write_table(out: &mut String, status: &Status) -> std::fmt::Result {
    let state = format!("{:?}", status.state).to_lowercase();
    writeln!(
        out,
        "pyserve {} (pid {}) {state} for {}, {} on {}",
        status.version,
        status.pid,
        span(status.uptime),
        size(status.memory),
        status.listeners.join(", ")
    )?;
    writeln!(
        out,
        "memory of clients {} of {}",
        size(status.memory_used),
        size(status.memory_budget)
    )?;
    if let Some(since) = &status.maintenance {
        writeln!(out, "in maintenance since {since}: requests get 503")?;
    }
    let connections = &status.connections;
    writeln!(
        out,
        "connections {} open, {} active, {} reading, {} accepted",
        connections.open, connections.active, connections.reading, connections.accepted
    )?;
    for application in &status.applications {
        write_application(out, application)?;
    }
    if !status.companions.is_empty() {
        writeln!(out, "\ncompanions")?;
        for companion in &status.companions {
            write_companion(out, companion)?;
        }
    }
    if !status.acme.is_empty() {
        writeln!(out, "\ncertificates by ACME")?;
        for certificate in &status.acme {
            writeln!(out, "  {}", acme_line(certificate))?;
        }
    }
    if !status.last_errors.is_empty() {
        writeln!(out, "\nlast errors")?;
        for error in &status.last_errors {
            writeln!(out, "  {}  {}", error.time, error.what)?;
        }
    }
    Ok(())
}

/// `example.org  valid until 2026-12-01T00:00:00.000Z, renewal 2026-11-20T00:00:00.000Z`.
pub fn acme_line(certificate: &AcmeStatus) -> String {
    let AcmeStatus { name, state, .. } = certificate;
    let mut line = format!("{name}  {}", state.as_str());
    // Writing to a String cannot fail.
    let _ = match &certificate.expires {
        Some(expires) if *state == AcmeState::Expired => write!(line, " since {expires}"),
        Some(expires) => write!(line, " until {expires}"),
        None => Ok(()),
    };
    let is_renewal = certificate.failures == 0 && *state == AcmeState::Valid;
    let _ = match &certificate.next_attempt {
        Some(next) if is_renewal => write!(line, ", renewal {next}"),
        Some(next) => write!(line, ", next attempt {next}"),
        None => Ok(()),
    };
    if let Some(error) = &certificate.last_error {
        let _ = write!(
            line,
            ", {} failures, the last: {error}",
            certificate.failures
        );
    }
    line
}

fn write_companion(out: &mut String, companion: &CompanionStatus) -> std::fmt::Result {
    let name = &companion.name;
    match (companion.pid, &companion.schedule) {
        (Some(pid), _) => write!(out, "  {name}  pid {pid}")?,
        (None, None) => write!(out, "  {name}  not running")?,
        (None, Some(_)) => write!(out, "  {name}")?,
    }
    if let Some(schedule) = &companion.schedule {
        write!(out, "  {schedule}")?;
    }
    if let Some(next) = &companion.next_run {
        write!(out, "  next run {next}")?;
    }
    match &companion.last_run {
        None if companion.schedule.is_some() => write!(out, ", no run so far")?,
        None => {}
        Some(LastRunStatus {
            began,
            took,
            result,
        }) => match (took, result) {
            (Some(took), Some(result)) => {
                write!(out, ", last run {began}: {result} after {}", span(*took))?;
            }
            _ if companion.pid.is_some() => write!(out, ", running since {began}")?,
            _ => write!(out, ", last run {began}: not started")?,
        },
    }
    writeln!(out)
}

fn write_application(out: &mut String, application: &Application) -> std::fmt::Result {
    let queue = &application.queue;
    let template = application.template.map_or_else(
        || "no template".to_owned(),
        |template| {
            let was = if template.was_worker {
                " (was a worker)"
            } else {
                ""
            };
            format!(
                "template {}{was} with {}",
                template.pid,
                size(template.memory)
            )
        },
    );
    let place = match (&*application.prefix, application.leaving) {
        (_, true) => ", which was taken away".to_owned(),
        ("/", false) => String::new(),
        (prefix, false) => format!(" at {prefix}"),
    };
    writeln!(
        out,
        "\n{}{place}  generation {}, {template}, {} handed out, {} of {} waiting",
        application.name, application.generation, queue.handed_out, queue.waiting, queue.limit
    )?;
    if let Some(refork) = &application.refork {
        let failure = refork.last_failure.as_ref();
        let failure = failure.map_or(String::new(), |why| {
            format!("; the last that did not: {why}")
        });
        writeln!(
            out,
            "  after {} requests a worker becomes the template: {} so far{failure}",
            refork.after, refork.promoted
        )?;
    }
    let scaling = &application.scaling;
    writeln!(
        out,
        "  {} of {} to {} workers: {}",
        scaling.workers, scaling.minimum, scaling.maximum, scaling.reason
    )?;
    writeln!(
        out,
        "  {:>6} {:>8} {:>10} {:<8} {:>10} {:>9}  does",
        "worker", "pid", "generation", "state", "served", "memory"
    )?;
    for worker in &application.workers {
        let state = match worker.state {
            WorkerState::Starting => "starting",
            WorkerState::Ready => "ready",
            WorkerState::Leaving => "leaving",
        };
        writeln!(
            out,
            "  {:>6} {:>8} {:>10} {state:<8} {:>10} {:>9}  {}",
            worker.number,
            worker.pid,
            worker.generation,
            worker.served,
            size(worker.memory),
            doings(worker)
        )?;
    }
    Ok(())
}

/// What the threads do: the idle ones counted, the others one by one.
fn doings(worker: &WorkerStatus) -> String {
    let is_idle = |thread: &&ThreadStatus| thread.doing == ThreadActivity::Idle;
    let idle = worker.threads.iter().filter(is_idle).count();
    let mut all: Vec<_> = worker
        .threads
        .iter()
        .filter(|thread| !is_idle(thread))
        .map(doing)
        .collect();
    match idle {
        0 => {}
        1 if worker.threads.len() == 1 => all.push("idle".to_owned()),
        idle => all.push(format!("{idle} idle")),
    }
    all.join("; ")
}

fn doing(thread: &ThreadStatus) -> String {
    let (doing, since) = (thread.doing.as_str(), span(thread.since));
    match &thread.request {
        Some(request) => {
            let (method, path, id) = (&request.method, &request.path, &request.id);
            format!("{doing} {since} {method} {path} [{id}]")
        }
        None => doing.to_owned(),
    }
}

/// `0.3 s`, `12 s`, `3 min`, `5.2 h`, `9.1 d`.
fn span(seconds: f64) -> String {
    match seconds {
        _ if seconds < 10.0 => format!("{seconds:.1} s"),
        _ if seconds < 120.0 => format!("{seconds:.0} s"),
        _ if seconds < 7200.0 => format!("{:.0} min", seconds / 60.0),
        _ if seconds < 172_800.0 => format!("{:.1} h", seconds / 3600.0),
        _ => format!("{:.1} d", seconds / 86_400.0),
    }
}

/// `12.3 MiB`.
fn size(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::status::{
        ConnectionCounts, Queue, Refork, RequestStatus, Scaling, ServerState, TemplateStatus,
    };

    fn refork() -> Refork {
        Refork {
            after: 500,
            promoted: 2,
            last_failure: Some("a thread".into()),
        }
    }

    fn companions() -> Vec<CompanionStatus> {
        vec![
            CompanionStatus {
                name: "worker".into(),
                pid: Some(12),
                schedule: None,
                next_run: None,
                last_run: None,
            },
            CompanionStatus {
                name: "backup".into(),
                pid: None,
                schedule: Some("\"0 3 * * *\" (Europe/Berlin)".into()),
                next_run: Some("2026-11-29T03:00:00+01:00".into()),
                last_run: Some(LastRunStatus {
                    began: "2026-11-28T03:00:00+01:00".into(),
                    took: Some(0.2),
                    result: Some("exit code 1".into()),
                }),
            },
        ]
    }

    fn application(worker: WorkerStatus) -> Application {
        Application {
            name: "app:app".into(),
            prefix: "/shop".into(),
            leaving: false,
            generation: 2,
            template: Some(TemplateStatus {
                pid: 7,
                memory: 2 << 20,
                was_worker: true,
            }),
            refork: Some(refork()),
            queue: Queue {
                handed_out: 1,
                waiting: 0,
                overtakes: 0,
                limit: 9,
            },
            scaling: Scaling {
                workers: 4,
                minimum: 2,
                maximum: 32,
                reason: "requests waited 50 ms".into(),
            },
            workers: vec![worker],
        }
    }

    #[test]
    fn a_table_tells_what_each_worker_does() {
        let busy = ThreadStatus {
            doing: ThreadActivity::Busy,
            since: 0.25,
            request: Some(RequestStatus {
                id: "abc".into(),
                method: "GET".into(),
                path: "/slow".into(),
            }),
        };
        let idle = ThreadStatus {
            doing: ThreadActivity::Idle,
            since: 9.0,
            request: None,
        };
        let worker = |threads| WorkerStatus {
            number: 0,
            generation: 2,
            pid: 12,
            state: WorkerState::Ready,
            served: 3,
            memory: 1 << 20,
            threads,
        };
        assert_eq!(doings(&worker(vec![idle.clone()])), "idle");
        let all = vec![busy, idle.clone(), idle];
        let status = Status {
            version: "1".into(),
            pid: 1,
            state: ServerState::Serving,
            maintenance: Some("2026-11-28T03:00:00Z".into()),
            uptime: 200.0,
            listeners: vec!["http://127.0.0.1:80".into()],
            chdir: "/srv".into(),
            image: false,
            memory: 3 << 20,
            memory_used: 1 << 20,
            memory_budget: 256 << 20,
            open_descriptors: None,
            connections: ConnectionCounts::default(),
            applications: vec![application(worker(all))],
            companions: companions(),
            acme: vec![AcmeStatus {
                name: "example.org".into(),
                state: AcmeState::Valid,
                expires: Some("2026-12-31T00:00:00.000Z".into()),
                next_attempt: Some("2026-12-01T00:00:00.000Z".into()),
                next_attempt_at: Some(1_796_083_200),
                failures: 2,
                last_error: Some("no answer".into()),
            }],
            last_errors: Vec::new(),
        };
        let text = table(&status);
        for part in [
            "serving for 3 min, 3.0 MiB on http://127.0.0.1:80",
            "app:app at /shop  generation 2, template 7 (was a worker) with 2.0 MiB",
            "4 of 2 to 32 workers: requests waited 50 ms",
            "after 500 requests a worker becomes the template: 2 so far; the last that did not: a thread",
            "busy 0.2 s GET /slow [abc]; 2 idle",
            "worker  pid 12\n",
            "example.org  valid until 2026-12-31T00:00:00.000Z, next attempt 2026-12-01T00:00:00.000Z, 2 failures, the last: no answer\n",
            "in maintenance since 2026-11-28T03:00:00Z",
            "backup  \"0 3 * * *\" (Europe/Berlin)  next run 2026-11-29T03:00:00+01:00, last run 2026-11-28T03:00:00+01:00: exit code 1 after 0.2 s",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
