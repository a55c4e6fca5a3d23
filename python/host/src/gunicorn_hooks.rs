//! The hooks of a configuration file of gunicorn, which `gunicorn_hooks.py` runs in each worker.

use pyo3::prelude::*;
use pyo3::types::PyModule;
use pyserve_wire::control::Boot;

/// Runs `post_fork`, and registers the other hooks.
const SOURCE: &str = include_str!("../../pyserve/gunicorn_hooks.py");

/// Runs and registers the hooks of the file, if the settings name one. Before the import of the
/// application, unless the template has imported it.
///
/// # Errors
/// The exception of the file, or of `post_fork`.
pub fn load(py: Python<'_>, boot: &Boot, worker: u32) -> PyResult<()> {
    if boot.gunicorn_hooks.as_os_str().is_empty() {
        return Ok(());
    }
    let module = PyModule::new(py, "pyserve_gunicorn_hooks")?;
    let builtins = py.import("builtins")?;
    let code = builtins.call_method1("compile", (SOURCE, "<pyserve gunicorn_hooks>", "exec"))?;
    builtins.call_method1("exec", (code, module.dict()))?;
    module
        .getattr("load")?
        .call1((boot.gunicorn_hooks.as_os_str(), worker))?;
    Ok(())
}
