//! Everything that shows a running server to the outside.
//!
//! - [`logs`]: diagnostics, through `tracing`, to [`diagnostics`], which is standard error or a file of [`log_files`];
//! - [`access_log`]: one line for each request, to standard output or such a file;
//! - [`metrics`]: the counters of the process, made of [`counters`];
//! - [`upstreams`]: the counters of upstream servers;
//! - [`throttle`]: limits equal log lines; [`refusals`] does so for malformed requests, in both
//!   logs;
//! - [`status`]: the values that `pyserve status` and the admin listener show.
//!
//! These modules record; they decide nothing.

pub mod access_log;
pub mod acme;
pub mod codes;
pub mod counters;
pub mod diagnostics;
pub mod handled_by;
mod line_writer;
pub mod log_files;
pub mod logs;
pub mod metrics;
pub mod refusals;
pub mod status;
pub mod throttle;
pub mod timestamp;
pub mod tls;
pub mod upstreams;
