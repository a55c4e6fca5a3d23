//! `wsgi.errors`: text for the log, under the request of its environ.
//!
//! May be used from any thread and also after its request. Text is buffered up to the end of its
//! line; the lines that one `write` completes are one record, so a traceback stays together.

use std::sync::{Mutex, MutexGuard};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::head::type_name;
use crate::log;

/// An unfinished line is logged when it reaches this length (one log record).
const LONGEST_LINE: usize = pyserve_wire::record::MAX_TEXT;

/// A write-only text stream.
#[pyclass(frozen, name = "errors", module = "pyserve")]
pub struct Errors {
    seq: u64,
    line: Mutex<String>,
}

#[pymethods]
impl Errors {
    /// Writes text; returns its length, as text files do.
    fn write(&self, py: Python<'_>, text: &Bound<'_, PyAny>) -> PyResult<usize> {
        let text = text.cast::<PyString>().map_err(|_| {
            PyTypeError::new_err(format!(
                "wsgi.errors.write() takes a str, not {}",
                type_name(text)
            ))
        })?;
        let complete = {
            let mut line = self.lock();
            line.push_str(&text.to_string_lossy());
            take_lines(&mut line)
        };
        if let Some(complete) = complete {
            log::application(py, self.seq, &complete);
        }
        text.len()
    }

    /// Writes an iterable of text.
    fn writelines(&self, py: Python<'_>, lines: &Bound<'_, PyAny>) -> PyResult<()> {
        for line in lines.try_iter()? {
            self.write(py, &line?)?;
        }
        Ok(())
    }

    /// Logs the unfinished line.
    pub fn flush(&self, py: Python<'_>) {
        let rest = std::mem::take(&mut *self.lock());
        if !rest.is_empty() {
            log::application(py, self.seq, &rest);
        }
    }

    /// For `print` and `logging`, which read it.
    #[getter]
    fn encoding(&self) -> &'static str {
        "utf-8"
    }

    fn writable(&self) -> bool {
        true
    }

    fn isatty(&self) -> bool {
        false
    }
}

impl Errors {
    /// The stream of request `seq`.
    pub fn new(seq: u64) -> Self {
        Self {
            seq,
            line: Mutex::new(String::new()),
        }
    }

    /// Locked for a few string operations only, never while waiting.
    fn lock(&self) -> MutexGuard<'_, String> {
        self.line
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Removes and returns the finished lines, without the last line end.
fn take_lines(line: &mut String) -> Option<String> {
    if let Some(end) = line.rfind('\n') {
        let rest = line.split_off(end + 1);
        let mut complete = std::mem::replace(line, rest);
        complete.pop();
        return Some(complete);
    }
    (line.len() >= LONGEST_LINE).then(|| std::mem::take(line))
}
