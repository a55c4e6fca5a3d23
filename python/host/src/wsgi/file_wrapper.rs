//! `wsgi.file_wrapper`: a file-like object as an iterable of blocks.
//!
//! PEP 3333, "Optional Platform-Specific File Handling". Only an instance that is itself the result
//! of the application is treated specially; inside middleware it is an ordinary iterator.
//!
//! A file on disk is handed to the front as a descriptor. A `fileno()` does not prove that the
//! object reads exactly that file (`gzip.GzipFile` gives that of the compressed one), so the class
//! of its `read` method is checked: that of one of Python's own file objects, with nothing in
//! between, or the object's `read` is used.

use std::os::fd::RawFd;

use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;

use crate::ffi;

/// The object that `environ["wsgi.file_wrapper"]` creates.
#[pyclass(frozen, name = "FileWrapper", module = "pyserve")]
pub struct FileWrapper {
    file: Py<PyAny>,
    block_size: usize,
}

#[pymethods]
impl FileWrapper {
    #[new]
    #[pyo3(signature = (filelike, blksize=8192, /))]
    fn new(filelike: Py<PyAny>, blksize: usize) -> Self {
        Self {
            file: filelike,
            block_size: blksize.max(1),
        }
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let block = self.read(py, self.block_size)?;
        if block.is_truthy()? {
            Ok(block)
        } else {
            Err(PyStopIteration::new_err(()))
        }
    }

    /// Closes the file, if it can be closed.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        match self.file.bind(py).getattr_opt(pyo3::intern!(py, "close"))? {
            Some(close) => close.call0().map(|_| ()),
            None => Ok(()),
        }
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.file)
    }
}

impl FileWrapper {
    /// Reads the next block from the current position.
    ///
    /// # Errors
    /// The exception of the object's `read`.
    pub fn read<'py>(&self, py: Python<'py>, size: usize) -> PyResult<Bound<'py, PyAny>> {
        self.file
            .bind(py)
            .call_method1(pyo3::intern!(py, "read"), (size,))
    }

    /// The file on disk that the object reads, if it reads nothing else.
    pub fn real_file(&self, py: Python<'_>) -> Option<RealFile> {
        let read = self.file.bind(py).getattr(pyo3::intern!(py, "read")).ok()?;
        // `tempfile` wraps the methods of its files in functions.
        let read = match read.getattr_opt(pyo3::intern!(py, "__wrapped__")).ok()? {
            Some(method) => method,
            None => read,
        };
        let owner = read.getattr(pyo3::intern!(py, "__self__")).ok()?;
        let io = py.import(pyo3::intern!(py, "io")).ok()?;
        let is_plain = ["BufferedReader", "BufferedRandom", "FileIO"]
            .iter()
            .any(|name| {
                io.getattr(*name)
                    .is_ok_and(|class| owner.get_type().is(&class))
            });
        if !is_plain {
            return None;
        }
        let fd: RawFd = owner
            .call_method0(pyo3::intern!(py, "fileno"))
            .and_then(|fd| fd.extract())
            .ok()?;
        let stat = ffi::look_at(fd, |fd| rustix::fs::fstat(fd).ok()).flatten()?;
        let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
        if kind != rustix::fs::FileType::RegularFile {
            return None;
        }
        let position: u64 = owner
            .call_method0(pyo3::intern!(py, "tell"))
            .and_then(|position| position.extract())
            .ok()?;
        let size = u64::try_from(stat.st_size).ok()?;
        Some(RealFile {
            fd,
            position,
            left: size.saturating_sub(position),
        })
    }

    /// Block size for reads of the object.
    pub fn block_size(&self) -> usize {
        self.block_size
    }
}

/// The unread part of a file on disk.
#[derive(Debug, Clone, Copy)]
pub struct RealFile {
    /// Its descriptor, which belongs to the application.
    pub fd: RawFd,
    /// The current position.
    pub position: u64,
    /// Bytes from there to its end.
    pub left: u64,
}
