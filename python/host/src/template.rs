//! The template: imports the application once, never serves, forks workers.
//!
//! One thread, one loop: it waits for the supervisor's messages and for the ends of its
//! children. It waits for exactly the children that it forked, never for others that the
//! application may have started.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyserve_wire::control::{Boot, FromTemplate, MAX_MESSAGE, Preload, ToTemplate};
use pyserve_wire::scoreboard::Scoreboard;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, waitpid};

use crate::fork::{self, Side};
use crate::import_app::{self, Imported};
use crate::worker::{self, Newborn, Next, Origin};
use crate::{doors, log, orders, package, safety, sockets};

/// Exit status if the supervisor's messages make no sense.
const BAD_CONTROL: i32 = 70;
/// How often to look after children where the kernel has no process descriptors (before
/// Linux 5.3).
const LOOK_AFTER_CHILDREN: Duration = Duration::from_millis(100);

struct Template {
    control: OwnedFd,
    origin: Origin,
    children: Vec<Child>,
    is_frozen: bool,
}

struct Child {
    worker: u32,
    pid: Pid,
    descriptor: Option<OwnedFd>,
}

/// What woke the template.
enum Event {
    /// A message, or the end of them.
    Control,
    /// Some child may have ended.
    Children,
    /// A signal.
    Signal,
}

/// Runs the template on its control socket. Returns only in workers, at their end; one of
/// those may become the template of others before.
///
/// # Errors
/// `SystemExit` with the status that the process ends with.
pub fn run(py: Python<'_>, control: OwnedFd) -> PyResult<()> {
    doors::pass_over_signals();
    // The end of its socket is seen when the import is over; that may be never. (The supervisor
    // starts templates from its main thread, with which it ends.)
    let killed = rustix::process::Signal::KILL;
    let _unsupported = rustix::process::set_parent_process_death_signal(Some(killed));
    if sockets::has_hung_up(&control) {
        return Err(PySystemExit::new_err(BAD_CONTROL));
    }
    let Some((boot, descriptors)) = receive_boot(py, &control) else {
        return Err(PySystemExit::new_err(BAD_CONTROL));
    };
    let Some(origin) = open(boot, descriptors) else {
        return Err(PySystemExit::new_err(BAD_CONTROL));
    };
    let mut template = Template::new(control, origin);
    fork::watch(py)?;
    package::install(py, &template.origin.boot.version)?;
    let started = FromTemplate::Started(import_app::interpreter(py));
    template.send(py, &started);
    let report = template.import(py);
    let has_failed = matches!(report, FromTemplate::ImportFailed { .. });
    template.send(py, &report);
    if has_failed {
        return leave(py, 1).map(|_| ());
    }
    loop {
        let Some(newborn) = template.obey(py)? else {
            return Ok(());
        };
        template = match worker::run(py, newborn)? {
            Next::Exit => return Ok(()),
            Next::Template(origin, control) => Template::new(control, *origin),
        };
    }
}

impl Template {
    fn new(control: OwnedFd, origin: Origin) -> Self {
        let _ = rustix::thread::set_name(c"pyserve-tmpl");
        fork::hold(
            [control.as_raw_fd(), origin.queue.as_raw_fd()]
                .into_iter()
                .chain(log::descriptor()),
        );
        Self {
            control,
            origin,
            children: Vec::new(),
            is_frozen: false,
        }
    }

    fn import(&mut self, py: Python<'_>) -> FromTemplate {
        if let Err(traceback) = import_app::prepare(py, &self.origin.boot) {
            return FromTemplate::ImportFailed { traceback };
        }
        if self.origin.boot.preload == Preload::No {
            return FromTemplate::Clean;
        }
        let before = safety::open_sockets();
        match import_app::import(py, &self.origin.boot) {
            Err(traceback) => FromTemplate::ImportFailed { traceback },
            Ok(Imported { app, loaded }) => {
                self.origin.app = Some(app);
                let reasons = match self.origin.boot.preload {
                    Preload::Auto => safety::reasons_not_to_fork(py, &before),
                    Preload::Yes | Preload::No => Vec::new(),
                };
                if reasons.is_empty() {
                    FromTemplate::Imported(loaded)
                } else {
                    FromTemplate::UnsafeToFork(reasons)
                }
            }
        }
    }

    /// Does as the supervisor says until it has gone. Returns in the workers that it forks.
    fn obey(mut self, py: Python<'_>) -> PyResult<Option<Newborn>> {
        let mut buffer = vec![0; MAX_MESSAGE * 2];
        loop {
            // Signal handlers of the application run here too. One that wants the process
            // to exit gets its way, without what is meant for the end of a worker.
            if let Err(error) = py.check_signals() {
                if error.is_instance_of::<PySystemExit>(py) {
                    return leave(py, 0);
                }
                log::exception(py, 0, "exception in a signal handler", &error);
            }
            let Ok(event) = py.detach(|| self.wait()) else {
                return leave(py, BAD_CONTROL);
            };
            match event {
                Event::Signal => {}
                Event::Children => self.report_the_dead(py),
                Event::Control => {
                    let mut channels = Vec::new();
                    let received =
                        py.detach(|| sockets::receive(&self.control, &mut buffer, &mut channels));
                    let length = match received {
                        Ok(0) => return leave(py, 0),
                        Ok(length) => length,
                        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                        Err(_) => return leave(py, BAD_CONTROL),
                    };
                    let Ok(ToTemplate::Fork { worker }) = ToTemplate::from_bytes(&buffer[..length])
                    else {
                        return leave(py, BAD_CONTROL);
                    };
                    let Some(orders) = channels.pop() else {
                        return leave(py, BAD_CONTROL);
                    };
                    match self.fork(py, worker, channels.len()) {
                        // The parent's copies of the channels close here.
                        Ok(Side::Parent(pid)) => {
                            drop((channels, orders));
                            self.send(py, &FromTemplate::Forked { worker, pid });
                        }
                        Ok(Side::Child) => {
                            let Self {
                                control,
                                origin,
                                children,
                                ..
                            } = self;
                            drop((control, children));
                            if !py.detach(|| orders::may_begin(&orders)) {
                                return leave(py, 0);
                            }
                            return Ok(Some(Newborn {
                                origin,
                                worker,
                                channels,
                                orders,
                            }));
                        }
                        Err(why) => self.send(py, &FromTemplate::ForkFailed { worker, why }),
                    }
                }
            }
        }
    }

    fn fork(&mut self, py: Python<'_>, worker: u32, channels: usize) -> Result<Side, String> {
        let threads = self.origin.boot.threads as usize;
        let last_line = (worker as usize + 1) * threads;
        if channels != threads || last_line > self.origin.scoreboard.threads() {
            return Err(format!(
                "worker {worker} with {channels} channels does not fit {threads} threads per \
                 worker and {} lines",
                self.origin.scoreboard.threads()
            ));
        }
        let raised = |error: PyErr| error.to_string();
        // What stands in a buffer would be written by every worker again.
        flush_streams(py);
        if !self.is_frozen {
            fork::freeze(py).map_err(raised)?;
            self.is_frozen = true;
        }
        let side = fork::fork(py).map_err(raised)?;
        if let Side::Parent(pid) = side {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            self.children.extend(pid.map(|pid| Child {
                worker,
                pid,
                descriptor: pidfd_open(pid, PidfdFlags::empty()).ok(),
            }));
        }
        Ok(side)
    }

    /// Waits for something to do. Detached.
    fn wait(&self) -> rustix::io::Result<Event> {
        let mut sources = vec![PollFd::new(&self.control, PollFlags::IN)];
        for child in &self.children {
            if let Some(descriptor) = &child.descriptor {
                sources.push(PollFd::new(descriptor, PollFlags::IN));
            }
        }
        let must_look = sources.len() <= self.children.len();
        let limit = Timespec::try_from(LOOK_AFTER_CHILDREN).ok();
        let limit = limit.as_ref().filter(|_| must_look);
        Ok(match poll(&mut sources, limit) {
            Err(rustix::io::Errno::INTR) => Event::Signal,
            Err(error) => return Err(error),
            Ok(0) => Event::Children,
            // Deaths first: the supervisor learns them before what it asks for next.
            Ok(_)
                if sources[1..]
                    .iter()
                    .any(|source| !source.revents().is_empty()) =>
            {
                Event::Children
            }
            Ok(_) => Event::Control,
        })
    }

    fn report_the_dead(&mut self, py: Python<'_>) {
        let mut dead = Vec::new();
        self.children.retain(|child| {
            let status = match waitpid(Some(child.pid), WaitOptions::NOHANG) {
                Ok(None) | Err(rustix::io::Errno::INTR) => return true,
                Ok(Some((_, status))) => status.as_raw(),
                // Somebody else waited for it, or the application ignores SIGCHLD: how it
                // ended is lost, that it ended is not.
                Err(_) => 0,
            };
            dead.push(FromTemplate::Exited {
                worker: child.worker,
                pid: child.pid.as_raw_nonzero().get().unsigned_abs(),
                status,
            });
            false
        });
        for message in dead {
            self.send(py, &message);
        }
    }

    fn send(&self, py: Python<'_>, message: &FromTemplate) {
        let bytes = message.to_bytes();
        // If the supervisor has gone, the next receive says so.
        let _ = py.detach(|| sockets::send_message(&self.control, &bytes));
    }
}

fn receive_boot(py: Python<'_>, control: &OwnedFd) -> Option<(Boot, Vec<OwnedFd>)> {
    let mut buffer = vec![0; MAX_MESSAGE * 2];
    let mut descriptors = Vec::new();
    let length = py.detach(|| {
        loop {
            match sockets::receive(control, &mut buffer, &mut descriptors) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                result => return result.ok(),
            }
        }
    })?;
    match ToTemplate::from_bytes(&buffer[..length]) {
        Ok(ToTemplate::Boot(boot)) => Some((boot, descriptors)),
        _ => None,
    }
}

/// Opens queue, scoreboard and log, in this order.
fn open(boot: Boot, descriptors: Vec<OwnedFd>) -> Option<Origin> {
    let [queue, memory, log_socket] = <[OwnedFd; 3]>::try_from(descriptors).ok()?;
    log::open(log_socket);
    sockets::set_waiting(&queue).ok()?;
    let scoreboard = Scoreboard::open(doors::map_words(&memory).ok()?)?;
    Some(Origin {
        boot,
        queue: Arc::new(queue),
        scoreboard,
        app: None,
    })
}

/// Ends the template at once: what the application registered with `atexit` belongs to the
/// workers, which may be still at work.
fn leave(py: Python<'_>, status: i32) -> PyResult<Option<Newborn>> {
    flush_streams(py);
    py.import("os")?.call_method1("_exit", (status,))?;
    Ok(None)
}

fn flush_streams(py: Python<'_>) {
    for stream in ["stdout", "stderr"] {
        // A closed or missing stream has nothing to flush.
        let _ = py
            .import("sys")
            .and_then(|sys| sys.getattr(stream))
            .and_then(|stream| stream.call_method0("flush"));
    }
}
