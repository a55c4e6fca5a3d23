//! The `pyserve` module that the application may import, and the hooks that it collects.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyModule};

use crate::log;

const NAME: &str = "pyserve";
const SOURCE: &str = include_str!("../../pyserve/__init__.py");

/// Puts the module into `sys.modules`, ahead of an installed one: its functions must be those of
/// the running server.
///
/// # Errors
/// The exception of executing the module.
pub fn install(py: Python<'_>, version: &str) -> PyResult<()> {
    let module = PyModule::new(py, NAME)?;
    // No loader: there is no file to load it from again.
    let spec = py.import("importlib.machinery")?.getattr("ModuleSpec")?;
    let arguments = PyDict::new(py);
    arguments.set_item("origin", "<pyserve>")?;
    module.setattr("__spec__", spec.call((NAME, py.None()), Some(&arguments))?)?;
    let builtins = py.import("builtins")?;
    let code = builtins.call_method1("compile", (SOURCE, "<pyserve>", "exec"))?;
    builtins.call_method1("exec", (code, module.dict()))?;
    module.setattr("__version__", version)?;
    // Its other modules, such as `pyserve.django_settings`, are those of an installed package.
    let finder = py.import("importlib.machinery")?.getattr("PathFinder")?;
    let installed = finder.call_method1("find_spec", (NAME,))?;
    if !installed.is_none() {
        let directories = installed.getattr("submodule_search_locations")?;
        if !directories.is_none() {
            module.setattr("__path__", directories)?;
        }
    }
    py.import("sys")?.getattr("modules")?.set_item(NAME, module)
}

/// Sets the result of `worker_id()`.
///
/// # Errors
/// If the application damaged the module.
pub fn set_worker(py: Python<'_>, worker: u32) -> PyResult<()> {
    py.import(NAME)?.setattr("_worker_id", worker)
}

/// The class of the exception that interrupts a request after its timeout.
///
/// # Errors
/// If the application damaged the module.
pub fn request_timeout(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import(NAME)?.getattr("RequestTimeout")
}

/// Runs the hooks of `after_fork`, up to the first exception.
///
/// # Errors
/// That exception.
pub fn run_after_fork(py: Python<'_>) -> PyResult<()> {
    for hook in hooks(py, "_after_fork")? {
        hook.call0()?;
    }
    Ok(())
}

/// Runs the hooks of `before_exit`, the last one first. Exceptions are logged.
pub fn run_before_exit(py: Python<'_>) {
    let hooks = match hooks(py, "_before_exit") {
        Ok(hooks) => hooks,
        Err(error) => return log::exception(py, 0, "cannot run the before_exit hooks", &error),
    };
    for hook in hooks.iter().rev() {
        if let Err(error) = hook.call0() {
            log::exception(py, 0, "a before_exit hook raised", &error);
        }
    }
}

fn hooks<'py>(py: Python<'py>, list: &str) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let hooks = py.import(NAME)?.getattr(list)?;
    Ok(hooks.cast::<PyList>()?.iter().collect())
}
