//! The template: imports the application once, never serves, forks workers.
//!
//! One thread, one loop: it waits for the supervisor's messages and for the exit of its children.
//! It waits for exactly the children that it forked, never for others that the application may have
//! started.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyserve_wire::control::{Boot, FromTemplate, MAX_MESSAGE, Preload, ToTemplate};
use pyserve_wire::request_ring::RequestRing;
use pyserve_wire::scoreboard::Scoreboard;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, waitpid};

use crate::fork::{self, Side};
use crate::import_app::{self, Imported};
use crate::inherited::Inherited;
use crate::safety::{self, descriptors, ending, objects, processes};
use crate::worker::{self, AfterServing, ForkedWorker};
use crate::{
    apart, ffi, greenlets, lazy_imports, log, orders, package, sockets, stacks, start_watch, title,
    uwsgi_module,
};

/// Exit status after a malformed message of the supervisor.
const BAD_CONTROL: i32 = 70;
/// Interval at which children are checked if the kernel has no process descriptors (before Linux
/// 5.3).
const LOOK_AFTER_CHILDREN: Duration = Duration::from_millis(100);

struct Template {
    control: OwnedFd,
    origin: Inherited,
    /// The memory of the queue and of the scoreboard, for workers in new interpreters.
    memory: Option<[OwnedFd; 2]>,
    children: Vec<Child>,
    is_frozen: bool,
    /// True if it must not fork, and each worker gets a new interpreter.
    is_apart: bool,
}

struct Child {
    worker: u32,
    pid: Pid,
    descriptor: Option<OwnedFd>,
}

/// The event that woke the template.
enum Event {
    /// A message, or the end of the socket.
    Control,
    /// A child may have exited.
    Children,
    /// A signal.
    Signal,
}

/// Runs the template on its control socket. Returns only in workers, at their exit; one of them may
/// become a template first.
///
/// # Errors
/// `SystemExit` with the exit status of the process.
pub fn run(py: Python<'_>, control: OwnedFd) -> PyResult<()> {
    ffi::pass_over_signals();
    let Some((boot, descriptors)) = receive_boot(py, &control) else {
        return Err(PySystemExit::new_err(BAD_CONTROL));
    };
    let Some((origin, memory)) = open(boot, descriptors) else {
        return Err(PySystemExit::new_err(BAD_CONTROL));
    };
    descriptors::remember_standard();
    title::prepare(py, &origin.boot.name);
    let mut template = Template::new(control, origin, Some(memory));
    if let Some(pipe) = &template.origin.stacks {
        stacks::dump_on_signal(py, pipe);
    }
    fork::watch(py)?;
    package::install(py, &template.origin.boot.version)?;
    uwsgi_module::install(py, &template.origin)?;
    if template.origin.boot.apart {
        let Some(newborn) = template.serve(py)? else {
            return Ok(());
        };
        return live(py, newborn);
    }
    end_with_the_supervisor(&template.control)?;
    let started = FromTemplate::Started(import_app::interpreter(py));
    template.send(py, &started);
    let report = template.import(py);
    // A child that the import forked has returned here: it is not a template.
    if fork::refuse_copy().is_err() {
        return leave(py, 0).map(|_| ());
    }
    let status = match report {
        FromTemplate::ImportFailed { .. } => Some(1),
        FromTemplate::UnsafeToFork(_) => Some(0),
        _ => None,
    };
    if let Some(status) = status {
        template.end_what_was_started(py, &report, status);
        template.send(py, &report);
        return leave(py, status).map(|_| ());
    }
    template.send(py, &report);
    match template.obey(py)? {
        Some(newborn) => live(py, newborn),
        None => Ok(()),
    }
}

/// Ends the template with the supervisor. The end of its socket is read only after the import,
/// which may never finish.
///
/// # Errors
/// `SystemExit` if the supervisor has exited already.
fn end_with_the_supervisor(control: &OwnedFd) -> PyResult<()> {
    // The supervisor starts templates from its main thread, whose end is the signal.
    let killed = rustix::process::Signal::KILL;
    let _unsupported = rustix::process::set_parent_process_death_signal(Some(killed));
    match sockets::has_hung_up(control) {
        true => Err(PySystemExit::new_err(BAD_CONTROL)),
        false => Ok(()),
    }
}

/// The life of a worker, which may become a template, which forks workers, and so on.
fn live(py: Python<'_>, mut newborn: ForkedWorker) -> PyResult<()> {
    loop {
        let template = match worker::run(py, newborn)? {
            AfterServing::Exit => return Ok(()),
            AfterServing::Template(origin, control) => Template::new(control, *origin, None),
        };
        newborn = match template.obey(py)? {
            Some(newborn) => newborn,
            None => return Ok(()),
        };
    }
}

impl Template {
    fn new(control: OwnedFd, origin: Inherited, memory: Option<[OwnedFd; 2]>) -> Self {
        if !origin.boot.apart {
            title::show_template();
        }
        let template = Self {
            control,
            origin,
            memory,
            children: Vec::new(),
            is_frozen: false,
            is_apart: false,
        };
        fork::hold(template.ours());
        template
    }

    /// Descriptors of the host.
    fn ours(&self) -> Vec<RawFd> {
        let memory = self.memory.iter().flatten().map(AsRawFd::as_raw_fd);
        let stacks = self.origin.stacks.iter().map(AsRawFd::as_raw_fd);
        let door = self.origin.door.iter().map(|door| door.as_raw_fd());
        [self.control.as_raw_fd(), self.origin.queue.as_raw_fd()]
            .into_iter()
            .chain(memory)
            .chain(stacks)
            .chain(door)
            .chain(log::descriptor())
            .collect()
    }

    fn import(&mut self, py: Python<'_>) -> FromTemplate {
        if let Err(traceback) = import_app::prepare(py, &self.origin.boot) {
            return FromTemplate::ImportFailed { traceback };
        }
        let preload = self.origin.boot.preload;
        if preload != Preload::Yes {
            // `sitecustomize` and `.pth` files have run.
            let before = self.reasons_not_to_fork(py);
            if preload == Preload::No {
                self.keep_apart(py, &before);
                return FromTemplate::Clean;
            }
            if !before.is_empty() {
                let early =
                    |reason| format!("{reason}, present before the import of the application");
                return FromTemplate::UnsafeToFork(before.into_iter().map(early).collect());
            }
        }
        objects::watch(py);
        // A daemon that the import leaves must be found if the import is refused or fails.
        processes::adopt_orphans(true);
        match import_app::import(py, &self.origin.boot) {
            Err(traceback) => FromTemplate::ImportFailed { traceback },
            Ok(Imported { app, mut loaded }) => {
                self.origin.app = Some(app);
                lazy_imports::load(py);
                greenlets::warn_of_processes(py, self.origin.boot.threads);
                let reasons = self.reasons_not_to_fork(py);
                // A worker that becomes a template is checked again.
                if !self.origin.boot.refork {
                    objects::unwatch(py);
                }
                if preload == Preload::Auto && !reasons.is_empty() {
                    return FromTemplate::UnsafeToFork(reasons);
                }
                processes::adopt_orphans(false);
                loaded.shared = reasons;
                FromTemplate::Imported(loaded)
            }
        }
    }

    fn reasons_not_to_fork(&self, py: Python<'_>) -> Vec<String> {
        let inherited = descriptors::inherited(&self.origin.boot.inherited);
        let mut ours = self.ours();
        ours.push(apart::host());
        safety::reasons_not_to_fork(py, &ours, &inherited, safety::SHORT)
    }

    /// Marks the template as unable to fork, if there are reasons.
    fn keep_apart(&mut self, py: Python<'_>, reasons: &[String]) {
        self.is_apart = !reasons.is_empty();
        if self.is_apart {
            let text = format!(
                "each worker gets an interpreter of its own, because of resources opened before \
                 the application (sitecustomize, a .pth file): {}",
                reasons.join("; ")
            );
            log::warn(py, 0, &text);
        }
    }

    /// Before the process exits: workers that import for themselves must find ports, locks and
    /// directories free. Processes that take too long are killed, and then the report is sent from
    /// here.
    fn end_what_was_started(&self, py: Python<'_>, report: &FromTemplate, status: i32) {
        objects::unwatch(py);
        let Ok(control) = self.control.try_clone() else {
            return;
        };
        let bytes = report.to_bytes();
        ending::end_all(py, move || {
            // If the supervisor has exited, there is nothing to report.
            let _ = sockets::send_message(&control, &bytes);
            ffi::exit_now(status);
        });
    }

    /// Turns this process into one worker, whose messages wait on the control socket.
    fn serve(self, py: Python<'_>) -> PyResult<Option<ForkedWorker>> {
        let mut buffer = vec![0; MAX_MESSAGE * 2];
        let mut channels = Vec::new();
        let received = py.detach(|| sockets::receive(&self.control, &mut buffer, &mut channels));
        let message = ToTemplate::from_bytes(&buffer[..received.unwrap_or(0)]);
        let Ok(ToTemplate::Fork { worker }) = message else {
            return leave(py, BAD_CONTROL);
        };
        start_watch::prepare(ForkedWorker::orders_of(&channels));
        start_watch::begin();
        if let Err(traceback) = import_app::prepare(py, &self.origin.boot) {
            log::error(py, 0, &traceback);
            return leave(py, 1);
        }
        self.be_born(py, worker, channels)
    }

    /// In the process of a worker: waits until the supervisor knows it.
    fn be_born(
        self,
        py: Python<'_>,
        worker: u32,
        descriptors: Vec<OwnedFd>,
    ) -> PyResult<Option<ForkedWorker>> {
        let Self {
            control,
            origin,
            memory,
            children,
            ..
        } = self;
        title::show_worker(worker);
        // Before it waits: the supervisor learns of the template's exit by its control socket.
        drop((control, memory, children));
        let Some(newborn) = ForkedWorker::new(origin, worker, descriptors) else {
            return leave(py, BAD_CONTROL);
        };
        if !py.detach(|| orders::may_begin(&newborn.orders)) {
            return leave(py, 0);
        }
        Ok(Some(newborn))
    }

    /// Carries out the supervisor's messages until the socket closes. Returns in the workers that
    /// it forks.
    fn obey(mut self, py: Python<'_>) -> PyResult<Option<ForkedWorker>> {
        let mut buffer = vec![0; MAX_MESSAGE * 2];
        loop {
            // Signal handlers of the application run here too. One that wants the process to exit
            // succeeds, without the steps of a worker's exit.
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
                    match self.fork(py, worker, &channels) {
                        // The parent's copies of the channels close here.
                        Ok(Side::Parent(pid)) => {
                            drop(channels);
                            self.send(py, &FromTemplate::Forked { worker, pid });
                        }
                        Ok(Side::Child) => return self.be_born(py, worker, channels),
                        Err(why) => self.send(py, &FromTemplate::ForkFailed { worker, why }),
                    }
                }
            }
        }
    }

    fn fork(
        &mut self,
        py: Python<'_>,
        worker: u32,
        descriptors: &[OwnedFd],
    ) -> Result<Side, String> {
        // Behind the channels come the three for the whole worker.
        let count = descriptors.len().saturating_sub(3);
        let threads = self.origin.boot.threads as usize;
        let last_line = (worker as usize + 1) * threads;
        if count != threads
            || last_line
                > self
                    .origin
                    .scoreboard
                    .threads()
                    .min(self.origin.ring.threads())
        {
            return Err(format!(
                "worker {worker} with {count} channels does not fit {threads} threads per \
                 worker and {} lines",
                self.origin.scoreboard.threads()
            ));
        }
        let raised = |error: PyErr| why_not_forked(py, &error);
        // Buffered text would be written by every worker again.
        flush_streams(py);
        let side = match self.is_apart {
            true => self.spawn(py, worker, descriptors).map_err(raised)?,
            false => {
                if !self.is_frozen {
                    fork::freeze(py).map_err(raised)?;
                    // From here on the template only forks, which needs little of the code that
                    // imported the application. Children do not inherit these pages.
                    ffi::unmap_clean_pages();
                    self.is_frozen = true;
                }
                if self.memory.is_none() {
                    start_watch::prepare(Some(&self.control));
                    start_watch::begin();
                }
                start_watch::prepare(ForkedWorker::orders_of(descriptors));
                let side = fork::fork(py);
                start_watch::prepare(None);
                side.map_err(raised)?
            }
        };
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

    fn spawn(&self, py: Python<'_>, worker: u32, descriptors: &[OwnedFd]) -> PyResult<Side> {
        let log =
            log::descriptor().and_then(|fd| ffi::look_at(fd, |fd| fd.try_clone_to_owned().ok()));
        let (Some([ring, scoreboard]), Some(Some(log)), Some(stacks)) =
            (&self.memory, log, &self.origin.stacks)
        else {
            return Err(PySystemExit::new_err(BAD_CONTROL));
        };
        let mut shared = vec![
            self.origin.queue.as_fd(),
            ring.as_fd(),
            scoreboard.as_fd(),
            log.as_fd(),
            stacks.as_fd(),
        ];
        shared.extend(self.origin.door.iter().map(|door| door.as_fd()));
        let theirs = apart::borrow(descriptors);
        apart::spawn(py, &self.origin.boot, &shared, worker, &theirs).map(Side::Parent)
    }

    /// Waits for an event. Detached.
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
            // Exits first: the supervisor learns of them before the results of its next message.
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
                // Other code waited for it, or the application ignores SIGCHLD: the exit status is
                // lost.
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
        // If the supervisor has exited, the next receive reports it.
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
        Ok(ToTemplate::Boot(boot)) => Some((*boot, descriptors)),
        _ => None,
    }
}

/// Opens the socket of the queue, its memory, the scoreboard, the log, the pipe for stacks and the
/// door, if there is one, in this order; the files of both memories stay open.
fn open(boot: Boot, mut descriptors: Vec<OwnedFd>) -> Option<(Inherited, [OwnedFd; 2])> {
    let door = match boot.uwsgi {
        Some(_) => Some(Arc::new(descriptors.pop()?)),
        None => None,
    };
    let descriptors = <[OwnedFd; 5]>::try_from(descriptors).ok()?;
    let [queue, ring_memory, board_memory, log_socket, stacks] = descriptors;
    log::open(log_socket);
    let ring = RequestRing::open(ffi::map_words(&ring_memory).ok()?)?;
    let scoreboard = Scoreboard::open(ffi::map_words(&board_memory).ok()?)?;
    let memory = [ring_memory, board_memory];
    let origin = Inherited {
        boot,
        queue: Arc::new(queue),
        ring,
        scoreboard,
        stacks: Some(stacks),
        door,
        app: None,
    };
    Some((origin, memory))
}

/// Exits the template at once: `atexit` functions of the application belong to the workers, which
/// may still be running.
fn leave(py: Python<'_>, status: i32) -> PyResult<Option<ForkedWorker>> {
    flush_streams(py);
    py.import("os")?.call_method1("_exit", (status,))?;
    Ok(None)
}

/// The error of a fork, with the limits to look at where the system has no room for a process.
fn why_not_forked(py: Python<'_>, error: &PyErr) -> String {
    let number = error.value(py).getattr("errno");
    let number = number.and_then(|number| number.extract::<i32>());
    let no_room = [Errno::AGAIN, Errno::NOMEM].map(Errno::raw_os_error);
    let advice = match number.is_ok_and(|number| no_room.contains(&number)) {
        true => " (check `ulimit -u`, the container's pids.max and its memory limit)",
        false => "",
    };
    format!("{error}{advice}")
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
