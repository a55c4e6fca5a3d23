//! `breakpoint()` in the application, see `python/pyserve/breakpoints.py`.
//!
//! While the prompt waits for a command, the thread's line of the scoreboard says so, and the
//! front's deadlines stand still.

use std::sync::Mutex;
use std::sync::PoisonError;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use pyserve_wire::control::Boot;
use pyserve_wire::scoreboard::{Activity, Scoreboard};

use crate::reply::now_ns;
use crate::{ffi, fork};

const SOURCE: &str = include_str!("../../pyserve/breakpoints.py");
const FILE: &str = "<pyserve breakpoints>";

/// The names of the Python file.
static NAMES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();

/// Has `breakpoint()` prompt on the terminal, or raise what says why it cannot.
///
/// # Errors
/// The exception of the Python file.
pub fn install(py: Python<'_>, boot: &Boot) -> PyResult<()> {
    let names = PyDict::new(py);
    names.set_item("__name__", FILE)?;
    let builtins = py.import("builtins")?;
    let code = builtins.call_method1("compile", (SOURCE, FILE, "exec"))?;
    builtins.call_method1("exec", (code, &names))?;
    let pass_over = function(py, |_| ffi::pass_over_terminal_signals())?;
    let is_alone = boot.workers == 1 && boot.threads == 1;
    names.as_any().get_item("install")?.call1((
        boot.dev,
        is_alone,
        boot.terminal_group,
        pass_over,
    ))?;
    let _installed_before = NAMES.set(py, names.unbind());
    Ok(())
}

/// From now on the scoreboard line of the main thread says when the prompt waits.
///
/// # Errors
/// `MemoryError`.
pub fn show_waiting(py: Python<'_>, board: Scoreboard<'static>, line: usize) -> PyResult<()> {
    let Some(names) = NAMES.get(py) else {
        return Ok(());
    };
    let before = Mutex::new(None);
    let waiting = function(py, move |is_waiting| {
        if fork::is_foreign() {
            return;
        }
        let now = board.line(line);
        let mut before = before.lock().unwrap_or_else(PoisonError::into_inner);
        match (is_waiting, now.activity) {
            (true, Activity::Busy | Activity::Closing) => {
                *before = Some(now.activity);
                board.record(line, Activity::Debugging, now.seq, now_ns());
            }
            (false, Activity::Debugging) => {
                let activity = before.take().unwrap_or(Activity::Busy);
                board.record(line, activity, now.seq, now_ns());
            }
            _ => {}
        }
    })?;
    let settings = names.bind(py).as_any().get_item("Settings")?;
    settings.setattr("waiting", waiting)
}

/// The session, if there is one, ends with the request or the import: the next one would begin in
/// the middle of it. No Python code runs here, because pdb would stop in that.
///
/// # Errors
/// The exception of `sys`.
pub fn end_session(py: Python<'_>) -> PyResult<()> {
    let debugger = match NAMES.get(py) {
        Some(names) => names.bind(py).get_item("debugger")?,
        None => None,
    };
    let Some(debugger) = debugger.filter(|debugger| !debugger.is_none()) else {
        return Ok(());
    };
    let sys = py.import("sys")?;
    let trace = sys.call_method0("gettrace")?;
    // Others trace as well: coverage, for example.
    let owner = trace.getattr_opt("__self__")?;
    if owner.is_some_and(|owner| owner.is(&debugger)) {
        sys.call_method1("settrace", (py.None(),))?;
    }
    Ok(())
}

/// A function of Python with at most one argument, a bool.
fn function(
    py: Python<'_>,
    run: impl Fn(bool) + Send + Sync + 'static,
) -> PyResult<Bound<'_, PyCFunction>> {
    let call = move |arguments: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
        let first = arguments.get_item(0).and_then(|first| first.is_truthy());
        run(first.unwrap_or(false));
    };
    PyCFunction::new_closure(py, Some(c"pyserve_breakpoint"), None, call)
}
