//! The stacks of the threads of this worker, as text.
//!
//! Usually Python reports them. If a thread holds the interpreter, `faulthandler` does without it:
//! its signal handler writes all stacks to a memory file of the host.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use pyserve_wire::orders::ThreadStack;
use rustix::fs::{MemfdFlags, SeekFrom};

use crate::ffi;
use crate::stage::ThreadStage;

/// Longest text that is read back from `faulthandler`.
const LONGEST_DUMP: usize = 64 * 1024;

/// The stack of the request that a thread runs, the most recent call last. `None`: Python has no
/// such thread.
///
/// # Errors
/// The exception of `traceback`.
pub fn of_request(py: Python<'_>, stage: &ThreadStage) -> PyResult<Option<String>> {
    if let Some(root) = stage.suspended_root(py) {
        return text(&root.getattr("gr_frame")?).map(Some);
    }
    let frames = py.import("sys")?.call_method0("_current_frames")?;
    let frame = frames.cast::<PyDict>()?.get_item(stage.ident())?;
    frame.map(|frame| text(&frame)).transpose()
}

/// All threads that Python knows: those of the host, in order, then the application's. Threads of
/// the kernel, even if `threading` has been patched to list greenlets.
///
/// # Errors
/// The exception of `threading` or `traceback`.
pub fn of_all_threads(py: Python<'_>, stages: &[ThreadStage]) -> PyResult<Vec<ThreadStack>> {
    let frames = py.import("sys")?.call_method0("_current_frames")?;
    let names = names(py)?;
    let mut stacks = Vec::new();
    for (ident, frame) in frames.cast::<PyDict>()?.iter() {
        let ident: u64 = ident.extract()?;
        let number = stages.iter().position(|stage| stage.ident() == ident);
        let known = names.iter().find(|(known, _)| *known == ident);
        let name = match (known, number) {
            (Some((_, name)), _) => name.clone(),
            (None, Some(0)) => "MainThread".to_owned(),
            (None, Some(number)) => format!("pyserve-{number}"),
            (None, None) => format!("{ident:#x}"),
        };
        let stage = number.and_then(|number| stages.get(number));
        let request = stage.map(|stage| of_request(py, stage)).transpose()?;
        let stack = ThreadStack {
            name,
            seq: stage.map_or(0, ThreadStage::seq),
            text: match request.flatten() {
                Some(text) => text,
                None => text(&frame)?,
            },
        };
        stacks.push((number.unwrap_or(usize::MAX), stack));
    }
    // A thread that the host started itself has no frame while it waits for a request.
    for (number, _) in stages.iter().enumerate() {
        if !stacks.iter().any(|(known, _)| *known == number) {
            let idle = ThreadStack {
                name: format!("pyserve-{number}"),
                text: "waiting for a request".to_owned(),
                ..ThreadStack::default()
            };
            stacks.push((number, idle));
        }
    }
    stacks.sort_by_key(|(number, _)| *number);
    Ok(stacks.into_iter().map(|(_, stack)| stack).collect())
}

/// Identity and name of every thread that `threading` knows.
fn names(py: Python<'_>) -> PyResult<Vec<(u64, String)>> {
    let threads = py.import("threading")?.call_method0("enumerate")?;
    let mut names = Vec::new();
    for thread in threads.try_iter()? {
        let thread = thread?;
        let ident = thread.getattr("ident")?.extract().unwrap_or(0);
        let name = thread.getattr("name")?.str()?;
        names.push((ident, name.to_string_lossy().into_owned()));
    }
    Ok(names)
}

fn text(frame: &Bound<'_, PyAny>) -> PyResult<String> {
    let py = frame.py();
    let lines = py
        .import("traceback")?
        .call_method1("format_stack", (frame,))?;
    let joined = PyString::new(py, "").call_method1("join", (lines,))?;
    let joined = joined.cast::<PyString>()?.to_string_lossy().into_owned();
    Ok(joined.trim_end().to_owned())
}

/// Makes `faulthandler` write all stacks of this process to the supervisor's pipe on its signal:
/// the import may hang, and may hold the interpreter meanwhile. Forked workers inherit this for
/// their own imports and hooks.
///
/// Without `faulthandler` there are no stacks, and the signal does nothing.
pub fn dump_on_signal(py: Python<'_>, pipe: &OwnedFd) {
    let _nothing_told = register(py, pipe.as_raw_fd());
}

/// Undoes [`dump_on_signal`].
pub fn stop_dumping(py: Python<'_>) {
    let _not_registered = py
        .import("faulthandler")
        .and_then(|module| module.call_method1("unregister", (ffi::signals().1,)));
}

fn register(py: Python<'_>, fd: RawFd) -> PyResult<()> {
    let settings = PyDict::new(py);
    settings.set_item("file", fd)?;
    settings.set_item("all_threads", true)?;
    settings.set_item("chain", false)?;
    py.import("faulthandler")?
        .call_method("register", (ffi::signals().1,), Some(&settings))
        .map(drop)
}

/// A registered `faulthandler`.
pub struct Fallback {
    file: OwnedFd,
}

impl Fallback {
    /// Registers the signal. `None` where memory files are forbidden or `faulthandler` does not
    /// work: then there are no stacks of a worker while a thread holds its interpreter.
    pub fn prepare(py: Python<'_>) -> Option<Self> {
        let file = rustix::fs::memfd_create("pyserve-stacks", MemfdFlags::CLOEXEC).ok()?;
        register(py, file.as_raw_fd()).ok()?;
        Some(Self { file })
    }

    /// The descriptor, which forked children must close.
    pub fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// All stacks, the most recent call first. Needs no interpreter; the signal is handled in the
    /// calling thread before this continues.
    pub fn dump(&self) -> String {
        let emptied = rustix::fs::ftruncate(&self.file, 0)
            .and_then(|()| rustix::fs::seek(&self.file, SeekFrom::Start(0)));
        if emptied.is_err() {
            return String::new();
        }
        ffi::signal_thread(ffi::thread_number(), ffi::signals().1);
        let mut buffer = vec![0; LONGEST_DUMP];
        let read = rustix::io::pread(&self.file, &mut buffer, 0).unwrap_or(0);
        buffer.truncate(read);
        String::from_utf8_lossy(&buffer).trim_end().to_owned()
    }
}
