//! The modules `uwsgi` and `uwsgidecorators` for applications that were written for uWSGI
//! (`uwsgi_module = true`).
//!
//! The modules are Python. What they need of the host is here: facts, the scoreboard, and the variables
//! for the access log. Their cache and locks are in the supervisor (`supervisor/uwsgi_service`); the
//! door to it is a descriptor that every process of the application inherits.

use std::cell::RefCell;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCFunction, PyDict, PyModule, PyTuple};
use pyserve_wire::scoreboard::{Activity, Scoreboard};

use crate::inherited::Inherited;
use crate::log;

const NAME: &str = "uwsgi";
const SOURCE: &str = include_str!("../../pyserve/uwsgi_module.py");
const DECORATORS: &str = include_str!("../../pyserve/uwsgi_decorators.py");

/// Most variables of a request.
const MOST_VARS: usize = 64;
/// Longest value of one in bytes.
const LONGEST_VALUE: usize = 4096;
/// Longest name of one in bytes.
const LONGEST_NAME: usize = 255;

/// True if the modules are there.
static IS_INSTALLED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The variables that the request of this thread has set for the access log.
    static LOG_VARS: RefCell<Vec<(Vec<u8>, Vec<u8>)>> = const { RefCell::new(Vec::new()) };
}

/// Puts the modules into `sys.modules`, if the settings ask for them.
///
/// # Errors
/// The exception of executing them.
pub fn install(py: Python<'_>, origin: &Inherited) -> PyResult<()> {
    let (Some(known), Some(door)) = (&origin.boot.uwsgi, &origin.door) else {
        return Ok(());
    };
    let facts = PyDict::new(py);
    let options: Vec<_> = known.options.iter().collect();
    let options = options.into_iter().map(|(name, value)| {
        let value = value.as_ref().map(|value| PyBytes::new(py, value));
        (name, value)
    });
    facts.set_item("options", options.collect::<Vec<_>>())?;
    facts.set_item("master", known.master)?;
    facts.set_item("is_reload", known.is_reload)?;
    facts.set_item("processes", origin.boot.workers)?;
    facts.set_item("threads", origin.boot.threads)?;
    facts.set_item("mount", &origin.boot.mount)?;
    facts.set_item("door", door.as_raw_fd())?;
    facts.set_item("lines", lines(py, origin.scoreboard, origin.boot.threads)?)?;
    facts.set_item("set_log_var", pyo3::wrap_pyfunction!(set_log_var, py)?)?;
    facts.set_item("get_log_var", pyo3::wrap_pyfunction!(get_log_var, py)?)?;
    let module = execute(py, NAME, SOURCE, Some(&facts))?;
    IS_INSTALLED.store(true, Ordering::Relaxed);
    execute(py, "uwsgidecorators", DECORATORS, None)?;
    let pyserve = py.import("pyserve")?;
    pyserve.call_method1("after_fork", (module.getattr("_run_post_fork")?,))?;
    pyserve.call_method1("before_exit", (module.getattr("_run_atexit")?,))?;
    Ok(())
}

/// Makes this process worker number `worker` for the module.
///
/// # Errors
/// If the application damaged the module.
pub fn set_worker(py: Python<'_>, origin: &Inherited, worker: u32) -> PyResult<()> {
    if origin.boot.uwsgi.is_none() {
        return Ok(());
    }
    let module = py.import(NAME)?;
    module.call_method1("_become_worker", (worker,)).map(drop)
}

/// Releases the locks of a request that has exceeded its time: its worker lives on.
pub fn end_interrupted(py: Python<'_>) {
    if !IS_INSTALLED.load(Ordering::Relaxed) {
        return;
    }
    let module = py.import(NAME);
    if let Err(error) = module.and_then(|module| module.call_method0("_end_request")) {
        log::exception(py, 0, "cannot release the locks of a request", &error);
    }
}

/// Forgets the variables of the request before.
pub fn begin_request() {
    LOG_VARS.with_borrow_mut(|vars| vars.clear());
}

/// Calls `with` with each variable of the request.
pub fn each_log_var(mut with: impl FnMut(&[u8], &[u8])) {
    LOG_VARS.with_borrow(|vars| vars.iter().for_each(|(name, value)| with(name, value)));
}

fn execute<'py>(
    py: Python<'py>,
    name: &str,
    source: &str,
    facts: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyModule>> {
    let module = PyModule::new(py, name)?;
    let spec = py.import("importlib.machinery")?.getattr("ModuleSpec")?;
    let arguments = PyDict::new(py);
    let file = format!("<pyserve {name}>");
    arguments.set_item("origin", &file)?;
    module.setattr("__spec__", spec.call((name, py.None()), Some(&arguments))?)?;
    if let Some(facts) = facts {
        module.setattr("_facts", facts)?;
    }
    let modules = py.import("sys")?.getattr("modules")?;
    modules.set_item(name, &module)?;
    let builtins = py.import("builtins")?;
    let code = builtins.call_method1("compile", (source, &file, "exec"))?;
    builtins.call_method1("exec", (code, module.dict()))?;
    Ok(module)
}

/// A function that returns number, process id, requests and activity of each thread of every worker.
fn lines<'py>(
    py: Python<'py>,
    board: Scoreboard<'static>,
    threads: u32,
) -> PyResult<Bound<'py, PyCFunction>> {
    let threads = threads.max(1) as usize;
    let function = move |_: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
        let lines = (0..board.threads()).map(|index| (index, board.line(index)));
        let alive = lines.filter(|(_, line)| line.activity != Activity::Absent);
        alive
            .map(|(index, line)| {
                let is_busy = matches!(line.activity, Activity::Busy | Activity::Closing);
                (index / threads, line.pid, line.served, is_busy)
            })
            .collect::<Vec<_>>()
    };
    PyCFunction::new_closure(py, Some(c"lines"), None, function)
}

#[pyfunction]
fn set_log_var(name: &[u8], value: &[u8]) -> PyResult<()> {
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Err(PyValueError::new_err("the name has 1 to 255 bytes"));
    }
    let value = &value[..value.len().min(LONGEST_VALUE)];
    LOG_VARS.with_borrow_mut(|vars| {
        let known = vars.iter().position(|(known, _)| known == name);
        match known {
            Some(index) => vars[index].1 = value.to_vec(),
            None if vars.len() >= MOST_VARS => {
                return Err(PyValueError::new_err("too many variables for one request"));
            }
            None => vars.push((name.to_vec(), value.to_vec())),
        }
        Ok(())
    })
}

#[pyfunction]
fn get_log_var<'py>(py: Python<'py>, name: &[u8]) -> Option<Bound<'py, PyBytes>> {
    LOG_VARS.with_borrow(|vars| {
        let found = vars.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| PyBytes::new(py, value))
    })
}
