//! What the outside sees of a running server.
//!
//! - [`logs`]: diagnostics, through `tracing`, to standard error;
//! - [`access_log`]: one line for each request, to standard output.
//!
//! Both are told what happened; neither decides anything.

pub mod access_log;
mod line_writer;
pub mod logs;
mod timestamp;
