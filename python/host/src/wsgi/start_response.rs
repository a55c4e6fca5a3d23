//! The `start_response` that an application gets, and the `write` that it returns.
//!
//! PEP 3333, "The start_response() Callable" and "The write() Callable". The response in progress
//! is stored in here while the request runs. A thread that sends takes it out first, so that no
//! lock is held over an operation that may wait.

use std::sync::Mutex;
use std::time::Duration;

use pyo3::exceptions::{PyAssertionError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::head::{ResponseHead, type_name};
use super::response::{BodyEnd, Response};

/// Interval at which a second thread checks that the first one has finished sending.
const RETRY: Duration = Duration::from_millis(1);

/// The callable that the application gets.
#[pyclass(frozen, name = "start_response", module = "pyserve")]
pub struct StartResponse {
    state: Mutex<State>,
}

enum State {
    Here(Box<Response>),
    /// A thread is sending.
    Away,
    /// The request is over.
    Over,
}

#[pymethods]
impl StartResponse {
    #[pyo3(signature = (status, response_headers, exc_info=None, /))]
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        status: &Bound<'py, PyAny>,
        response_headers: &Bound<'py, PyAny>,
        exc_info: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let mut response = this.take(py).ok_or_else(over)?;
        let result = start(&mut response, status, response_headers, exc_info);
        this.put_back(response);
        result?;
        slf.getattr(pyo3::intern!(py, "write"))
    }

    /// Sends bytes of the body at once, ahead of those of the iterable.
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let data = data.cast::<PyBytes>().map_err(|_| {
            PyTypeError::new_err(format!("write() takes bytes, not {}", type_name(data)))
        })?;
        let mut response = self.take(py).ok_or_else(over)?;
        let result = response.piece(py, data.as_bytes());
        let was_cut = response.was_cut();
        self.put_back(response);
        match result {
            // PEP 3333, "Handling the Content-Length Header".
            Ok(_) if was_cut => Err(PyValueError::new_err(
                "write() past the Content-Length of the response",
            )),
            Ok(_) => Ok(()),
            Err(stop) => Err(stop.into()),
        }
    }
}

impl StartResponse {
    /// Creates the callable for the request that `response` answers.
    pub fn new(response: Box<Response>) -> Self {
        Self {
            state: Mutex::new(State::Here(response)),
        }
    }

    /// Takes the response out; `None` after the end of the request. Waits, detached, while another
    /// thread of the application sends.
    pub fn take(&self, py: Python<'_>) -> Option<Box<Response>> {
        loop {
            {
                let mut state = self.lock();
                match std::mem::replace(&mut *state, State::Away) {
                    State::Here(response) => return Some(response),
                    State::Over => {
                        *state = State::Over;
                        return None;
                    }
                    State::Away => {}
                }
            }
            py.detach(|| std::thread::sleep(RETRY));
        }
    }

    /// Puts the response back.
    pub fn put_back(&self, response: Box<Response>) {
        *self.lock() = State::Here(response);
    }

    /// Takes the response out for good.
    pub fn finish(&self, py: Python<'_>) -> Option<Box<Response>> {
        let response = self.take(py);
        *self.lock() = State::Over;
        response
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Every critical section is a move; it cannot panic in the middle.
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn start(
    response: &mut Response,
    status: &Bound<'_, PyAny>,
    headers: &Bound<'_, PyAny>,
    exc_info: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    match exc_info.filter(|info| !info.is_none() && info.is_truthy().unwrap_or(true)) {
        Some(exc_info) if response.is_head_out() => return Err(raise_again(exc_info)?),
        Some(_) => {}
        None if response.has_head() => {
            return Err(PyAssertionError::new_err(
                "start_response() was called a second time without exc_info",
            ));
        }
        None => {}
    }
    response.set_head(ResponseHead::read(status, headers, response.seq())?);
    Ok(())
}

/// The exception of `exc_info` with its traceback.
fn raise_again(exc_info: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let parts = exc_info
        .cast::<PyTuple>()
        .ok()
        .filter(|parts| parts.len() == 3)
        .ok_or_else(|| PyTypeError::new_err("exc_info must be the tuple of sys.exc_info()"))?;
    let value = parts.get_item(1)?;
    let value = value.call_method1("with_traceback", (parts.get_item(2)?,))?;
    Ok(PyErr::from_value(value))
}

fn over() -> PyErr {
    PyRuntimeError::new_err("the request is over")
}

impl From<BodyEnd> for PyErr {
    fn from(stop: BodyEnd) -> Self {
        match stop {
            BodyEnd::ClientGone | BodyEnd::FrontGone => {
                pyo3::exceptions::PyConnectionResetError::new_err("the client has disconnected")
            }
            BodyEnd::NoHead => PyAssertionError::new_err("write() before start_response()"),
        }
    }
}
