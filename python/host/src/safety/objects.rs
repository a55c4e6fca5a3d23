//! Checks the application's objects: the host's side of `python/pyserve/remembered.py`,
//! `removers.py`, `at_exit.py` and `left_behind.py`.

use std::collections::BTreeSet;
use std::os::fd::RawFd;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// Executed in this order, in one namespace.
const SOURCES: [&str; 4] = [
    include_str!("../../../pyserve/remembered.py"),
    include_str!("../../../pyserve/removers.py"),
    include_str!("../../../pyserve/at_exit.py"),
    include_str!("../../../pyserve/left_behind.py"),
];

/// The result of the check.
#[derive(Default)]
pub struct Objects {
    /// Objects that are not fork-safe.
    pub reasons: Vec<String>,
    /// Descriptors that the reasons name.
    pub named_fds: BTreeSet<RawFd>,
    /// Processes that the reasons name.
    pub named_pids: BTreeSet<u32>,
    /// Descriptors that processes may share.
    pub safe_fds: BTreeSet<RawFd>,
    /// Processes that are no reason.
    pub safe_pids: BTreeSet<u32>,
    /// Descriptors of log files, which are only appended to in any mode.
    pub appended_fds: BTreeSet<RawFd>,
    /// Descriptors of Python file objects, which may move the offset.
    pub owned_fds: BTreeSet<RawFd>,
}

type Row = (
    Vec<String>,
    Vec<RawFd>,
    Vec<u32>,
    Vec<RawFd>,
    Vec<u32>,
    Vec<RawFd>,
    Vec<RawFd>,
);

/// Checks all objects of the interpreter.
///
/// # Errors
/// The exception of the script.
pub fn look(py: Python<'_>) -> PyResult<Objects> {
    let row: Row = module(py)?.call_method0("look")?.extract()?;
    let (reasons, named_fds, named_pids, safe_fds, safe_pids, appended_fds, owned_fds) = row;
    Ok(Objects {
        reasons,
        named_fds: named_fds.into_iter().collect(),
        named_pids: named_pids.into_iter().collect(),
        safe_fds: safe_fds.into_iter().collect(),
        safe_pids: safe_pids.into_iter().collect(),
        appended_fds: appended_fds.into_iter().collect(),
        owned_fds: owned_fds.into_iter().collect(),
    })
}

/// Records exit functions, and random generators without a chosen seed, from now on.
pub fn watch(py: Python<'_>) {
    call(py, "watch");
}

/// The end of [`watch`].
pub fn unwatch(py: Python<'_>) {
    call(py, "unwatch");
}

/// In a new worker: makes random generators differ from those of other workers.
pub fn reseed(py: Python<'_>) {
    call(py, "reseed");
}

/// Stops pools, temporary directories and the like as the exit of the interpreter would.
pub fn end(py: Python<'_>) {
    call(py, "end");
}

fn call(py: Python<'_>, name: &str) {
    if let Err(error) = module(py).and_then(|module| module.call_method0(name)) {
        crate::log::exception(
            py,
            0,
            "pyserve's search for resources that are not fork-safe raised",
            &error,
        );
    }
}

fn module(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = MODULE.get_or_try_init(py, || -> PyResult<_> {
        let module = PyModule::new(py, "<pyserve>")?;
        let builtins = py.import("builtins")?;
        for source in SOURCES {
            let code = builtins.call_method1("compile", (source, "<pyserve>", "exec"))?;
            builtins.call_method1("exec", (code, module.dict()))?;
        }
        Ok(module.unbind())
    })?;
    Ok(module.bind(py))
}
