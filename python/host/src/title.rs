//! The titles of Python processes: `pyserve: worker 3 mysite.wsgi` in `ps`.
//!
//! The kernel shows the memory that held the arguments of the process, so a title is written there,
//! as nginx and the package `setproctitle` do. The environment after it is not touched: a title
//! that is too long is truncated. A title that the application has set stays.
//!
//! The name of the process, which `pgrep`, `pkill` and `killall` match, begins with `pyserve-`:
//! `pkill -HUP pyserve` reaches all processes, of which only the server reacts, and exact matches
//! (`pidof`, `pgrep -x`, `killall`) find the server.

use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyModule, PyTuple};
use rustix::thread::{name as process_name, set_name as set_process_name};

use crate::log;

/// The script that makes `setproctitle` work.
const SOURCE: &str = include_str!("../../pyserve/title.py");

/// The longest name of a process in bytes; prctl(2), PR_SET_NAME.
const LONGEST_NAME: usize = 15;

static TITLE: Mutex<Option<Title>> = Mutex::new(None);

struct Title {
    /// The memory that the kernel shows; empty if unknown.
    memory: &'static [AtomicU8],
    /// Its content when Python started.
    original: Vec<u8>,
    /// The last text written there.
    shown: Vec<u8>,
    /// Name of the process when Python started.
    name: CString,
    /// The application.
    app: String,
    role: String,
    /// Name of the process that lends its arguments to `setproctitle`.
    lender: CString,
}

/// Sets the name of the application. [`show`] sets titles afterwards.
pub fn prepare(py: Python<'_>, app: &str) {
    let memory = crate::ffi::arguments().unwrap_or_default();
    let original: Vec<_> = memory.iter().map(|byte| byte.load(Relaxed)).collect();
    *lock() = Some(Title {
        memory,
        shown: original.clone(),
        original,
        name: process_name().unwrap_or_default(),
        app: app.to_owned(),
        role: String::new(),
        lender: CString::default(),
    });
    if !memory.is_empty()
        && let Err(error) = watch(py)
    {
        log::exception(py, 0, "setproctitle will have no effect", &error);
    }
}

/// Sets the title of the template.
pub fn show_template() {
    show("template", c"pyserve-tmpl");
}

/// Sets the title of a worker.
pub fn show_worker(worker: u32) {
    let mut name = format!("pyserve-w{worker}");
    name.truncate(LONGEST_NAME);
    let name = CString::new(name).unwrap_or_default();
    show(&format!("worker {worker}"), &name);
}

/// Sets the title of a process that the application has forked: `pkill pyserve` does not match it,
/// and it does not count as a worker.
pub fn show_child() {
    // Another thread may have held the lock when the process was forked.
    let Ok(mut title) = TITLE.try_lock() else {
        return;
    };
    if let Some(title) = title.as_mut() {
        let role = format!("child of {}", title.role);
        let name = title.name.clone();
        title.show(&role, &name);
    }
}

fn show(role: &str, name: &CStr) {
    match lock().as_mut() {
        Some(title) => title.show(role, name),
        None => drop(set_process_name(name)),
    }
}

impl Title {
    fn show(&mut self, role: &str, name: &CStr) {
        self.role = role.to_owned();
        if !self.is_ours() {
            return;
        }
        let _unnamed = set_process_name(name);
        self.shown = to_fit(&format!("pyserve: {role} {}", self.app), self.memory.len());
        self.write(&self.shown);
    }

    /// True if the application has not changed the title.
    fn is_ours(&self) -> bool {
        let now = self.memory.iter().map(|byte| byte.load(Relaxed));
        now.eq(self.shown.iter().copied())
    }

    fn write(&self, bytes: &[u8]) {
        for (place, byte) in self.memory.iter().zip(bytes) {
            place.store(*byte, Relaxed);
        }
    }

    /// Restores the content from the start of Python.
    fn lend(&mut self) {
        self.lender = process_name().unwrap_or_default();
        self.write(&self.original);
    }

    fn take_back(&self) {
        let _unnamed = set_process_name(&self.lender);
        self.write(&self.shown);
    }
}

/// The text as `length` bytes of memory.
fn to_fit(text: &str, length: usize) -> Vec<u8> {
    let Some(longest) = length.checked_sub(2) else {
        return vec![0; length];
    };
    let text: String = text
        .chars()
        .map(|char| if char.is_control() { '?' } else { char })
        .collect();
    let mut end = text.len().min(longest);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut bytes = text.as_bytes()[..end].to_vec();
    bytes.resize(length, 0);
    // The kernel (fs/proc/base.c, get_mm_cmdline) takes a last byte that is not zero as a sign of a
    // title, and shows nothing after its end.
    bytes[length - 1] = b'.';
    bytes
}

/// Lets `setproctitle` find the arguments of Python, which it searches once.
fn watch(py: Python<'_>) -> PyResult<()> {
    let module = PyModule::new(py, "<pyserve title>")?;
    let builtins = py.import("builtins")?;
    let code = builtins.call_method1("compile", (SOURCE, "<pyserve>", "exec"))?;
    builtins.call_method1("exec", (code, module.dict()))?;
    let function = |call: fn(&mut Title)| {
        PyCFunction::new_closure(
            py,
            None,
            None,
            move |_: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
                if let Some(title) = lock().as_mut() {
                    call(title);
                }
            },
        )
    };
    let (lend, take_back) = (
        function(Title::lend)?,
        function(|title| Title::take_back(title))?,
    );
    module
        .getattr("watch")?
        .call1((lend, take_back))
        .map(|_| ())
}

/// A panic cannot happen during a change.
fn lock() -> MutexGuard<'static, Option<Title>> {
    TITLE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_fills_its_memory_and_is_cut_between_characters() {
        assert_eq!(to_fit("ab", 6), b"ab\0\0\0.");
        assert_eq!(to_fit("abcdef", 6), b"abcd\0.");
        assert_eq!(to_fit("abcä", 6), b"abc\0\0.");
        assert_eq!(to_fit("a\nb", 6), b"a?b\0\0.");
        assert_eq!(to_fit("abc", 1), b"\0");
        assert_eq!(to_fit("abc", 0), b"");
    }
}
