//! What the outside sees of a running server.
//!
//! - [`logs`]: diagnostics, through `tracing`, to [`diagnostics`], which is standard error;
//! - [`access_log`]: one line for each request, to standard output;
//! - [`metrics`]: what is counted meanwhile, in [`counters`];
//! - [`upstreams`]: the same of servers behind us;
//! - [`throttle`]: keeps a flood of equal lines out of the log; [`refusals`]: and one of
//!   malformed requests out of both logs;
//! - [`status`]: what a running server says about itself when it is asked.
//!
//! All are told what happened; none decides anything.

pub mod access_log;
pub mod codes;
pub mod counters;
pub mod diagnostics;
mod line_writer;
pub mod logs;
pub mod metrics;
pub mod refusals;
pub mod status;
pub mod throttle;
pub mod timestamp;
pub mod upstreams;
