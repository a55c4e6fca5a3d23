//! Calls the application for one request, iterates over its result, and closes it.
//!
//! PEP 3333, "Specification Details". Every exception is caught here: it is logged once with its
//! traceback, and the client gets a 500 or a truncated response.

use pyo3::exceptions::{PyConnectionResetError, PySystemExit, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList, PyString, PyTuple};
use pyserve_wire::control::cut_to_end;
use pyserve_wire::frames::MAX_PAYLOAD;

use super::file_wrapper::FileWrapper;
use super::head::type_name;
use super::response::{BodyEnd, Flow, Response};
use super::start_response::StartResponse;
use crate::reply::COPIED;
use crate::{log, package, uwsgi_module};

/// The consequences of a request for the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Effect {
    /// The application raised `SystemExit`: the worker exits after its other requests.
    pub wants_exit: bool,
    /// The front has exited.
    pub is_cut_off: bool,
}

/// Runs one request to its end, `close()` included. Pending frames of the response are sent with
/// its next flush. `closing` is called before a `close()` runs.
pub fn call(
    app: &Bound<'_, PyAny>,
    environ: Bound<'_, PyDict>,
    start: &Bound<'_, StartResponse>,
    is_dev: bool,
    closing: impl FnOnce(),
) -> Effect {
    let py = app.py();
    let mut effect = Effect::default();
    let (result, outcome) = match app.call1((environ, start)) {
        Ok(result) => {
            let outcome = send(&result, start.get());
            (Some(result), outcome)
        }
        Err(error) => (None, Err(Failure::Raised(error))),
    };
    let Some(mut response) = start.get().take(py) else {
        return effect;
    };
    let seq = response.seq();
    let outcome = outcome.and_then(|()| response.finish().map_err(Failure::Faulty));
    if let Err(failure) = outcome {
        end_badly(py, &mut response, failure, is_dev, &mut effect);
    }
    let close = result
        .as_ref()
        .filter(|result| !is_plain(result))
        .and_then(|result| result.getattr_opt(pyo3::intern!(py, "close")).transpose());
    if close.is_none() {
        start.get().put_back(response);
        return effect;
    }
    effect.is_cut_off |= response.flush(py).is_err();
    start.get().put_back(response);
    closing();
    if let Some(Err(error)) = close.map(|close| close.and_then(|close| close.call0())) {
        effect.wants_exit |= error.is_instance_of::<PySystemExit>(py);
        if !is_request_timeout(&error, py) {
            log::exception(py, seq, "close() of the response raised", &error);
        }
    }
    effect
}

/// The reason why a response ends early.
enum Failure {
    /// The application raised.
    Raised(PyErr),
    /// It violated PEP 3333 in another way.
    Faulty(String),
    /// The response is not wanted any more.
    Stopped(BodyEnd),
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

impl From<BodyEnd> for Failure {
    fn from(stop: BodyEnd) -> Self {
        match stop {
            BodyEnd::NoHead => {
                Self::Faulty("the application returned a body before start_response()".to_owned())
            }
            stop => Self::Stopped(stop),
        }
    }
}

fn end_badly(
    py: Python<'_>,
    response: &mut Response,
    failure: Failure,
    is_dev: bool,
    effect: &mut Effect,
) {
    let seq = response.seq();
    let mut page = String::new();
    match failure {
        Failure::Stopped(stop) => effect.is_cut_off |= stop == BodyEnd::FrontGone,
        // The host's own exception, raised by `write()` because the client has disconnected.
        Failure::Raised(error)
            if error.is_instance_of::<PyConnectionResetError>(py) && response.is_abandoned() => {}
        // The host's own exception; its place is in the log.
        Failure::Raised(error) if is_request_timeout(&error, py) => {
            uwsgi_module::end_interrupted(py);
            page = log::traceback(py, &error);
        }
        Failure::Raised(error) => {
            let wants_exit = error.is_instance_of::<PySystemExit>(py);
            effect.wants_exit |= wants_exit;
            let text = log::traceback(py, &error);
            let doing = if wants_exit {
                "the application raised SystemExit; the worker will be replaced"
            } else {
                "exception in the application"
            };
            log::error(py, seq, &format!("{doing}\n{text}"));
            page = text;
        }
        Failure::Faulty(sentence) => {
            log::error(py, seq, &sentence);
            page = sentence;
        }
    }
    let page = if is_dev { &page[..] } else { "" };
    response.abort(cut_to_end(page, MAX_PAYLOAD));
}

fn is_request_timeout(error: &PyErr, py: Python<'_>) -> bool {
    package::request_timeout(py).is_ok_and(|class| error.is_instance(py, &class))
}

fn send(result: &Bound<'_, PyAny>, start: &StartResponse) -> Result<(), Failure> {
    if let Ok(list) = result.cast_exact::<PyList>() {
        // A copy: other threads of the application could change the list.
        return send_whole(&list.to_tuple(), start);
    }
    if let Ok(tuple) = result.cast_exact::<PyTuple>() {
        return send_whole(tuple, start);
    }
    if let Ok(wrapper) = result.cast_exact::<FileWrapper>() {
        return send_file(wrapper, start);
    }
    refuse_strings(result)?;
    for piece in result
        .try_iter()
        .map_err(|error| not_iterable(result, error))?
    {
        if send_piece(&piece?, start)? == Flow::Enough {
            break;
        }
    }
    Ok(())
}

fn send_whole(pieces: &Bound<'_, PyTuple>, start: &StartResponse) -> Result<(), Failure> {
    let py = pieces.py();
    let with_response = |pieces: &[&[u8]]| {
        let Some(mut response) = start.take(py) else {
            return Ok(());
        };
        let result = response.whole(py, pieces);
        start.put_back(response);
        Ok(result?)
    };
    if pieces.len() == 1 {
        let piece = pieces.get_item(0)?;
        return with_response(&[as_bytes(&piece)?]);
    }
    let pieces: Vec<_> = pieces.iter().collect();
    let slices: Result<Vec<&[u8]>, PyErr> = pieces.iter().map(as_bytes).collect();
    with_response(&slices?)
}

fn send_file(wrapper: &Bound<'_, FileWrapper>, start: &StartResponse) -> Result<(), Failure> {
    let py = wrapper.py();
    let real = wrapper.get().real_file(py);
    // Short ones too, although their bytes would be sent faster: the front adds the validators, and
    // answers conditions and ranges. Files of the kernel (`/proc`) have a length of zero.
    if let Some(file) = real.filter(|file| file.left > 0) {
        let Some(mut response) = start.take(py) else {
            return Ok(());
        };
        let handed_over = response.takes_file().then(|| response.file(py, file));
        start.put_back(response);
        if let Some(result) = handed_over {
            return Ok(result?);
        }
    }
    if let Some(file) = real
        && let Some(mut response) = start.take(py)
    {
        response.announce_length(file.left);
        start.put_back(response);
    }
    let block_size = match real {
        Some(file) => wrapper
            .get()
            .block_size()
            .max(COPIED.min(file.left as usize)),
        None => wrapper.get().block_size(),
    };
    loop {
        let block = wrapper.get().read(py, block_size)?;
        let is_empty = as_bytes(&block)?.is_empty();
        if is_empty || send_piece(&block, start)? == Flow::Enough {
            return Ok(());
        }
    }
}

fn send_piece(piece: &Bound<'_, PyAny>, start: &StartResponse) -> Result<Flow, Failure> {
    let bytes = as_bytes(piece)?;
    let Some(mut response) = start.take(piece.py()) else {
        return Ok(Flow::Enough);
    };
    let result = response.piece(piece.py(), bytes);
    start.put_back(response);
    Ok(result?)
}

fn as_bytes<'a>(piece: &'a Bound<'_, PyAny>) -> PyResult<&'a [u8]> {
    piece
        .cast::<PyBytes>()
        .map(PyBytesMethods::as_bytes)
        .map_err(|_| {
            PyTypeError::new_err(format!(
                "the body of a response must be bytes, but the application gave {}",
                type_name(piece)
            ))
        })
}

/// A string is iterable, but never intended: its items are characters or numbers.
fn refuse_strings(result: &Bound<'_, PyAny>) -> PyResult<()> {
    if result.is_instance_of::<PyBytes>()
        || result.is_instance_of::<PyString>()
        || result.is_instance_of::<PyByteArray>()
    {
        return Err(PyTypeError::new_err(format!(
            "the application returned {} where WSGI requires an iterable of bytes; \
             return [body] instead",
            type_name(result)
        )));
    }
    Ok(())
}

fn not_iterable(result: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    if error.is_instance_of::<PyTypeError>(result.py())
        && !result.hasattr("__iter__").unwrap_or(true)
    {
        return PyTypeError::new_err(format!(
            "the application returned {} where WSGI requires an iterable of bytes",
            type_name(result)
        ));
    }
    error
}

/// Lists and tuples have no `close()`.
fn is_plain(result: &Bound<'_, PyAny>) -> bool {
    result.is_exact_instance_of::<PyList>() || result.is_exact_instance_of::<PyTuple>()
}
