//! `wsgi.file_wrapper`: a file-like object as an iterable of blocks.
//!
//! PEP 3333, "Optional Platform-Specific File Handling". Only an instance that is itself
//! the result of the application is read by the host; inside middleware it is an ordinary
//! iterator. Reading goes through the object's own `read`, because a `fileno()` may belong
//! to something else than what it reads (`gzip.GzipFile` gives that of the packed file).

use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;

use crate::doors;

/// Blocks of a real file, whatever the application asked for: fewer calls and sends.
const LARGE_BLOCK: usize = 256 * 1024;

/// What `environ["wsgi.file_wrapper"]` makes.
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
    /// Reads the next block from where the file stands.
    ///
    /// # Errors
    /// What the object's `read` raises.
    pub fn read<'py>(&self, py: Python<'py>, size: usize) -> PyResult<Bound<'py, PyAny>> {
        self.file
            .bind(py)
            .call_method1(pyo3::intern!(py, "read"), (size,))
    }

    /// How much to read at a time: large blocks where reading never waits for a peer.
    pub fn best_block_size(&self, py: Python<'_>) -> usize {
        let is_regular = self
            .file
            .bind(py)
            .call_method0(pyo3::intern!(py, "fileno"))
            .and_then(|fd| fd.extract::<i32>())
            .ok()
            .and_then(|fd| doors::look_at(fd, |fd| rustix::fs::fstat(fd).ok()).flatten())
            .is_some_and(|stat| {
                rustix::fs::FileType::from_raw_mode(stat.st_mode)
                    == rustix::fs::FileType::RegularFile
            });
        if is_regular {
            self.block_size.max(LARGE_BLOCK)
        } else {
            self.block_size
        }
    }
}
