//! A request body that is read while it arrives: the raw stream below an `io.BufferedReader`, which
//! provides the methods of PEP 3333.
//!
//! A truncated body raises `OSError`, now and at every further read, so that the received part is
//! never taken for the whole. The front decides how slow a client may be.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::exceptions::{PyConnectionResetError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PySlice};
use pyserve_wire::pieces::{Next, read_head};
use rustix::io::Errno;

use crate::sockets;

/// Interval at which a waiting thread checks that its client is still connected.
const LOOK: Duration = Duration::from_millis(500);
/// Block size of a read of the whole body.
const BLOCK: usize = 64 << 10;
/// Longest reason that is read.
const LONGEST_REASON: usize = 1024;

/// The raw stream.
#[pyclass(frozen, name = "body_stream", module = "pyserve")]
pub struct BodyStream {
    is_abandoned: Box<dyn Fn() -> bool + Send + Sync>,
    /// Locked only for a moment, never while waiting.
    state: Mutex<State>,
}

struct State {
    /// `None` once it is closed.
    socket: Option<Arc<OwnedFd>>,
    /// Bytes left of the piece that is being read.
    left: u32,
    over: Option<Over>,
}

#[derive(Clone)]
enum Over {
    /// The body is complete.
    Whole,
    /// The body is truncated, for this reason.
    Broken(String),
}

impl BodyStream {
    /// Reads from `socket`; `is_abandoned` returns true if the front no longer waits for the
    /// response.
    pub fn new(socket: OwnedFd, is_abandoned: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self {
            is_abandoned: Box::new(is_abandoned),
            state: Mutex::new(State {
                socket: Some(Arc::new(socket)),
                left: 0,
                over: None,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None`: the body has ended.
    fn open_socket(&self) -> PyResult<Option<Arc<OwnedFd>>> {
        let state = self.lock();
        match (&state.over, &state.socket) {
            (Some(Over::Whole), _) => Ok(None),
            (Some(Over::Broken(why)), _) => Err(PyConnectionResetError::new_err(why.clone())),
            (None, None) => Err(PyValueError::new_err("the stream is closed")),
            (None, Some(socket)) => Ok(Some(Arc::clone(socket))),
        }
    }

    fn broke_off(&self, why: String) -> PyErr {
        self.lock().over = Some(Over::Broken(why.clone()));
        PyConnectionResetError::new_err(why)
    }

    /// Reads at least one byte into `room`; 0 at the end of the body. Detached. The buffered
    /// reader lets one thread in at a time.
    fn read(&self, socket: &OwnedFd, room: &mut [u8]) -> Result<usize, String> {
        let mut left = self.lock().left;
        if left == 0 {
            let mut head = [0; 4];
            self.receive_all(socket, &mut head)?;
            left = match read_head(head) {
                Next::Piece(length) => length,
                Next::End => {
                    self.lock().over = Some(Over::Whole);
                    return Ok(0);
                }
                Next::Broken => return Err(self.reason(socket)),
            };
        }
        let most = room.len().min(left as usize);
        let read = self.receive(socket, &mut room[..most])?;
        self.lock().left = left - read as u32;
        Ok(read)
    }

    fn reason(&self, socket: &OwnedFd) -> String {
        let mut text = vec![0; LONGEST_REASON];
        let mut filled = 0;
        while let Ok(read) = self.receive(socket, &mut text[filled..]) {
            filled += read;
            if filled == text.len() {
                break;
            }
        }
        String::from_utf8_lossy(&text[..filled]).into_owned()
    }

    fn receive_all(&self, socket: &OwnedFd, mut room: &mut [u8]) -> Result<(), String> {
        while !room.is_empty() {
            let read = self.receive(socket, room)?;
            room = &mut room[read..];
        }
        Ok(())
    }

    /// Receives at least one byte.
    fn receive(&self, socket: &OwnedFd, room: &mut [u8]) -> Result<usize, String> {
        loop {
            match sockets::wait_readable(socket, LOOK) {
                Ok(true) => {}
                Ok(false) if (self.is_abandoned)() => {
                    return Err("the client has disconnected".to_owned());
                }
                Ok(false) => continue,
                Err(error) => return Err(error.to_string()),
            }
            match rustix::io::read(socket, &mut *room) {
                Ok(0) => return Err("the request body is truncated".to_owned()),
                Ok(read) => return Ok(read),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(io::Error::from(error).to_string()),
            }
        }
    }
}

#[pymethods]
impl BodyStream {
    /// Fills `buffer` with the available bytes, at least one; 0 at the end.
    fn readinto(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let Some(socket) = self.open_socket()? else {
            return Ok(0);
        };
        let mut bytes = vec![0; buffer.len()?];
        let read = py.detach(|| self.read(&socket, &mut bytes));
        let read = read.map_err(|why| self.broke_off(why))?;
        let place = PySlice::new(py, 0, read as isize, 1);
        buffer.set_item(place, PyBytes::new(py, &bytes[..read]))?;
        Ok(read)
    }

    /// All bytes up to the end.
    fn readall<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let Some(socket) = self.open_socket()? else {
            return Ok(PyBytes::new(py, b""));
        };
        let all = py.detach(|| {
            let mut all = Vec::new();
            loop {
                let filled = all.len();
                all.resize(filled + BLOCK, 0);
                let read = self.read(&socket, &mut all[filled..])?;
                all.truncate(filled + read);
                if read == 0 {
                    return Ok(all);
                }
            }
        });
        let all = all.map_err(|why: String| self.broke_off(why))?;
        Ok(PyBytes::new(py, &all))
    }

    /// The rest of the body is not needed: the front stops reading it from the client.
    fn close(&self) {
        let socket = self.lock().socket.take();
        drop(socket);
    }

    #[getter]
    fn closed(&self) -> bool {
        self.lock().socket.is_none()
    }

    fn readable(&self) -> bool {
        true
    }

    fn writable(&self) -> bool {
        false
    }

    fn seekable(&self) -> bool {
        false
    }

    fn flush(&self) {}

    fn tell(&self) -> PyResult<u64> {
        Err(PyRuntimeError::new_err("a request body is not seekable"))
    }
}
