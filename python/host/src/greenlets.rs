//! Support for gevent and eventlet, which run greenlets in the threads of a worker.
//!
//! `monkey.patch_all()` replaces `threading`'s identities, and `threading.Thread` then creates a
//! greenlet of the calling thread. The host therefore asks CPython itself for the thread
//! ([`crate::ffi::thread_ident`]), and starts its threads without `threading` where that is
//! patched. `greenlets.py` interrupts a request that waits in a hub.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pyo3::prelude::*;
use pyo3::sync::{MutexExt, PyOnceLock};
use pyo3::types::{PyCFunction, PyDict, PyModule};

use crate::{ffi, log};

/// Interrupts requests in greenlets.
const SOURCE: &str = include_str!("../../pyserve/greenlets.py");

/// `sys.modules`; it is never replaced.
static MODULES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

/// True if greenlets can exist. Checked for every request.
pub fn are_loaded(py: Python<'_>) -> bool {
    let modules = MODULES.get_or_try_init(py, || -> PyResult<_> {
        let modules = py.import("sys")?.getattr("modules")?;
        Ok(modules.cast_into::<PyDict>()?.unbind())
    });
    let name = pyo3::intern!(py, "greenlet");
    modules.is_ok_and(|modules| modules.bind(py).contains(name).unwrap_or(false))
}

/// Calls a function of `greenlets.py`.
///
/// # Errors
/// The exception of that function.
pub fn call<'py>(
    py: Python<'py>,
    function: &str,
    arguments: impl pyo3::call::PyCallArgs<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let module = MODULE.get_or_try_init(py, || -> PyResult<_> {
        let module = PyModule::new(py, "<pyserve greenlets>")?;
        let builtins = py.import("builtins")?;
        let code = builtins.call_method1("compile", (SOURCE, "<pyserve>", "exec"))?;
        builtins.call_method1("exec", (code, module.dict()))?;
        Ok(module.unbind())
    })?;
    module.bind(py).getattr(function)?.call1(arguments)
}

/// Creates the hub of the calling thread, if `threading` is patched; one thread at a time. gevent
/// imports modules for that, under locks of its own, for which a thread without a hub cannot wait:
/// two threads that do it at once deadlock.
pub fn make_hub(py: Python<'_>) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    if are_loaded(py) {
        // Waits detached. A panic leaves no partial change.
        let _guard = ONE_AT_A_TIME.lock_py_attached(py);
        if let Err(error) = call(py, "enter", ()) {
            log::exception(py, 0, "cannot create the hub of a thread", &error);
        }
    }
}

/// Warns, once, that requests in several threads cannot start processes where gevent has patched
/// `subprocess` or `os`. Workers do not repeat a warning of the template.
pub fn warn_of_processes(py: Python<'_>, threads: u32) {
    static HAS_WARNED: AtomicBool = AtomicBool::new(false);
    if threads < 2 || !are_loaded(py) || HAS_WARNED.load(Relaxed) {
        return;
    }
    let breaks = call(py, "breaks_processes", ()).and_then(|breaks| breaks.is_truthy());
    if breaks.unwrap_or(false) {
        HAS_WARNED.store(true, Relaxed);
        let text = format!(
            "gevent has patched subprocess and os, which with {threads} threads raise \"child watchers are only \
             available on the default loop\" in all threads but one (give --threads 1 and more --workers, or \
             patch_all(subprocess=False, os=False, signal=False))"
        );
        log::warn(py, 0, &text);
    }
}

/// True if `threading` has been patched to create greenlets instead of threads.
///
/// # Errors
/// The exception of `threading`.
pub fn has_patched_threads(py: Python<'_>) -> PyResult<bool> {
    let threading = py.import("threading")?;
    let ident: u64 = threading.call_method0("get_ident")?.extract()?;
    // CPython 3.13 starts threads by another function than earlier versions.
    let mut starters = ["_start_joinable_thread", "_start_new_thread"]
        .into_iter()
        .filter_map(|name| threading.getattr(name).ok());
    Ok(
        ident != ffi::thread_ident()
            || starters.any(|start| !start.is_instance_of::<PyCFunction>()),
    )
}
