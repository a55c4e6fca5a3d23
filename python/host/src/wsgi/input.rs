//! `wsgi.input`: the body of a request, which the front has read completely, except for
//! [`super::body_stream`].
//!
//! PEP 3333, "Input and Error Streams". A body is either in the message or in a file, so a read can
//! neither block nor pass its end: Python's own `io.BytesIO` and `io.BufferedReader` have exactly
//! the required semantics (`read`, `readline` with a size, `readlines` with a hint, iteration,
//! `b""` at the end forever), at the speed of C.

use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::atomic::AtomicU64;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use rustix::fs::SeekFrom;

use super::body_stream::BodyStream;
use crate::ffi;

/// Read-ahead over a body in a file.
const BUFFER: usize = 64 * 1024;

/// Creates the streams.
pub struct Inputs {
    bytes_io: Py<PyAny>,
    buffered_reader: Py<PyAny>,
    open: Py<PyAny>,
}

impl Inputs {
    /// Looks up the Python classes, once per thread.
    ///
    /// # Errors
    /// The exception of importing `io`.
    pub fn new(py: Python<'_>) -> PyResult<Self> {
        let io = py.import("io")?;
        Ok(Self {
            bytes_io: io.getattr("BytesIO")?.unbind(),
            buffered_reader: io.getattr("BufferedReader")?.unbind(),
            open: io.getattr("open")?.unbind(),
        })
    }

    /// A stream over the first `length` bytes of `words`. They are copied once: `BytesIO` shares the
    /// object that it is given, and returns it from `read()`.
    ///
    /// # Errors
    /// `MemoryError`.
    pub fn inline<'py>(
        &self,
        py: Python<'py>,
        words: &[AtomicU64],
        length: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let bytes_io = self.bytes_io.bind(py);
        if length == 0 {
            return bytes_io.call0();
        }
        bytes_io.call1((ffi::bytes_of(py, words, length)?,))
    }

    /// A stream over a body in a file. It owns the descriptor.
    ///
    /// # Errors
    /// `OSError` if the file is not the announced body.
    pub fn file<'py>(
        &self,
        py: Python<'py>,
        file: OwnedFd,
        length: u64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let size = rustix::fs::fstat(&file)
            .map_err(std::io::Error::from)?
            .st_size;
        if u64::try_from(size) != Ok(length) {
            return Err(PyOSError::new_err(
                "the request body is not complete in its file",
            ));
        }
        rustix::fs::seek(&file, SeekFrom::Start(0)).map_err(std::io::Error::from)?;
        let fd = file.into_raw_fd();
        self.open.bind(py).call1((fd, "rb", BUFFER))
    }

    /// A stream over a body that still arrives.
    ///
    /// # Errors
    /// `MemoryError`.
    pub fn stream<'py>(&self, py: Python<'py>, body: BodyStream) -> PyResult<Bound<'py, PyAny>> {
        let raw = Bound::new(py, body)?;
        self.buffered_reader.bind(py).call1((raw, BUFFER))
    }
}
