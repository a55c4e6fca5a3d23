//! Loads lazy imports before the fork: the host's side of `python/pyserve/lazy_imports.py`.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::log;

const SOURCE: &str = include_str!("../../pyserve/lazy_imports.py");
/// The first version with lazy imports (PEP 810).
const FIRST: (u8, u8) = (3, 15);

/// Loads the lazy imports of the application. Those that raise stay lazy, and are named in the log.
pub fn load(py: Python<'_>) {
    let version = py.version_info();
    if (version.major, version.minor) < FIRST {
        return;
    }
    match load_all(py) {
        Ok(failed) if failed.is_empty() => {}
        Ok(failed) => {
            let text = format!(
                "lazy imports that raise stay lazy, and raise again where they are used: {}",
                failed.join(", ")
            );
            log::warn(py, 0, &text);
        }
        Err(error) => log::exception(py, 0, "cannot load lazy imports", &error),
    }
}

fn load_all(py: Python<'_>) -> PyResult<Vec<String>> {
    let names = PyDict::new(py);
    names.set_item("__name__", "<pyserve lazy imports>")?;
    let builtins = py.import("builtins")?;
    let arguments = (SOURCE, "<pyserve lazy imports>", "exec");
    let code = builtins.call_method1("compile", arguments)?;
    builtins.call_method1("exec", (code, &names))?;
    names.as_any().get_item("load")?.call0()?.extract()
}
