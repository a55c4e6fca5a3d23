//! Threads other than the calling one.
//!
//! Threads of libraries that handle a fork by themselves do not count: OpenBLAS stops its threads
//! before the fork and starts them when they are needed, in parent and child; jemalloc, and the
//! OpenMP of LLVM and Intel, start over in the child. They have the name of the thread that loaded
//! them, so they are recognised by the library of their start routine.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;

use pyo3::prelude::*;

use super::maps::{self, Mapping};
use crate::wsgi::head::type_name;

/// Parts of the file names of those libraries. GNU's libgomp is not among them: a child that uses
/// it after its parent blocks forever.
const FORK_AWARE: [&str; 5] = ["openblas", "jemalloc", "libiomp5", "libomp", "libmkl_"];
/// The name that jemalloc gives its threads, even if it is a part of another library.
const JEMALLOC: &str = "jemalloc_bg_thd";
/// Bytes of a waiting thread's stack that are read. Its end, where glibc keeps the thread's record,
/// is a few KiB away.
const STACK: u64 = 128 << 10;
/// Distance from the thread's id to its start routine in glibc's record of a thread (`struct
/// pthread`): 0x370 bytes on x86-64.
const RECORD: usize = 4096;

/// A thread that a fork would lose.
pub struct Thread {
    /// Its description.
    pub reason: String,
    /// True if `threading` knows it. Another may be about to end, or not idle yet.
    pub is_python: bool,
}

/// Names all threads that a fork would lose.
pub fn look(py: Python<'_>) -> Vec<Thread> {
    let mut found = Vec::new();
    let mut known = BTreeSet::from([rustix::thread::gettid().as_raw_nonzero().get()]);
    for (id, reason) in python_threads(py).unwrap_or_default() {
        if known.insert(id) {
            found.push(Thread {
                reason,
                is_python: true,
            });
        }
    }
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    let ids = tasks.flatten().filter_map(|task| {
        let name = task.file_name();
        name.to_str()?.parse::<i32>().ok()
    });
    let others: Vec<_> = ids.filter(|id| !known.contains(id)).collect();
    if !others.is_empty() {
        let mappings = maps::read();
        found.extend(others.into_iter().filter_map(|id| native(id, &mappings)));
    }
    found
}

/// Native id and description of every other thread that `threading` knows.
fn python_threads(py: Python<'_>) -> PyResult<Vec<(i32, String)>> {
    let mut threads = Vec::new();
    let threading = py.import("threading")?;
    let own: u64 = threading.call_method0("get_ident")?.extract()?;
    for thread in threading.call_method0("enumerate")?.try_iter()? {
        let thread = thread?;
        // Not by its native id: up to CPython 3.12 that is the parent's after a fork.
        if thread.getattr("ident")?.extract().ok() == Some(own) {
            continue;
        }
        let Ok(id) = thread.getattr("native_id").and_then(|id| id.extract()) else {
            continue;
        };
        let name = thread.getattr("name")?.to_string();
        let module = thread.get_type().getattr("__module__")?;
        let class = type_name(&thread);
        threads.push((id, format!("thread {name:?} ({module}.{class})")));
    }
    Ok(threads)
}

/// A thread that Python does not know, unless its library handles a fork.
fn native(id: i32, mappings: &[Mapping]) -> Option<Thread> {
    let name = fs::read_to_string(format!("/proc/self/task/{id}/comm")).ok()?;
    let name = name.trim_end();
    if name == JEMALLOC {
        return None;
    }
    let library = started_in(id, mappings);
    let file = library.as_deref().and_then(|path| path.rsplit('/').next());
    let is_fork_aware =
        file.is_some_and(|file| FORK_AWARE.iter().any(|aware| file.contains(aware)));
    if is_fork_aware {
        return None;
    }
    let of = file.map_or(String::new(), |file| format!(", started by {file}"));
    Some(Thread {
        reason: format!("thread {name:?} (not a Python thread{of})"),
        is_python: false,
    })
}

/// The library that has the start routine of a thread.
///
/// glibc writes the routine's address into its record of the thread, above the thread's stack. The
/// record is found by the thread's id, which it contains too. The thread must be waiting in the
/// kernel: only then the kernel reports its stack pointer.
fn started_in(id: i32, mappings: &[Mapping]) -> Option<String> {
    let call = fs::read_to_string(format!("/proc/self/task/{id}/syscall")).ok()?;
    // Number, arguments, stack pointer, instruction pointer; or `running`.
    let pointer = call.split_ascii_whitespace().rev().nth(1)?;
    let pointer = u64::from_str_radix(pointer.strip_prefix("0x")?, 16).ok()?;
    let stack = maps::find(mappings, pointer)?;
    let length = (stack.addresses.end - pointer).min(STACK);
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    let memory = fs::File::open("/proc/self/mem").ok()?;
    memory.read_exact_at(&mut bytes, pointer).ok()?;

    let is_record = |at: &usize| bytes[*at..].starts_with(&id.to_ne_bytes());
    let records = (0..bytes.len()).step_by(4).filter(is_record);
    records.into_iter().find_map(|at| {
        let words = bytes[at.next_multiple_of(8)..].chunks_exact(8);
        words.take(RECORD / 8).find_map(|word| {
            let address = u64::from_ne_bytes(word.try_into().ok()?);
            let mapping = maps::find(mappings, address)?;
            let is_libc = mapping.path.contains("/libc.so") || mapping.path.contains("/libpthread");
            let is_routine = mapping.is_code && mapping.path.starts_with('/') && !is_libc;
            is_routine.then(|| mapping.path.clone())
        })
    })
}
