//! The resources that a worker inherits from its template.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use pyo3::prelude::*;
use pyserve_wire::control::Boot;
use pyserve_wire::request_ring::RequestRing;
use pyserve_wire::scoreboard::Scoreboard;

/// All resources that a worker inherits from its template.
pub struct Inherited {
    /// The settings.
    pub boot: Boot,
    /// The socket beside the request queue.
    pub queue: Arc<OwnedFd>,
    /// The request queue.
    pub ring: RequestRing<'static>,
    /// The scoreboard of the pool.
    pub scoreboard: Scoreboard<'static>,
    /// The pipe for stacks of starting processes; `None` in a worker that has started.
    pub stacks: Option<OwnedFd>,
    /// The door of the service behind `import uwsgi`, if the application may import it.
    pub door: Option<Arc<OwnedFd>>,
    /// The application, if the template imported it.
    pub app: Option<Py<PyAny>>,
}
