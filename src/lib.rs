//! pyserve: one binary that serves Django and Flask.
//!
//! See `src/ARCHITECTURE.md` for how the parts fit together. Imports go downwards:
//! `supervisor` -> `front` -> `config`, `observe` -> `os`, `pyserve_wire`.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test may block"))]

mod cli;
mod command;
#[allow(
    clippy::disallowed_methods,
    reason = "settings are read at the start and at a reload, by the supervisor"
)]
mod config;
#[allow(
    clippy::disallowed_methods,
    reason = "a verb that reads files and ends"
)]
mod explain;
mod front;
mod gunicorn_link;
#[allow(
    clippy::disallowed_methods,
    reason = "a verb that reads files and ends"
)]
mod init;
mod manual;
mod observe;
#[allow(
    clippy::disallowed_methods,
    reason = "is where files and sockets are opened; its callers keep blocking calls off the front"
)]
mod os;
#[allow(
    clippy::disallowed_methods,
    reason = "runs before the server, or in its place"
)]
mod prestart;
#[allow(
    clippy::disallowed_methods,
    reason = "verbs that run a command of the project and end"
)]
mod project;
mod reference;
mod report;
mod schema;
#[allow(
    clippy::disallowed_methods,
    reason = "reads small local files; requests do not wait for it"
)]
mod supervisor;
mod tls_start;
#[allow(
    clippy::disallowed_methods,
    reason = "a verb that reads a file and ends"
)]
mod uwsgi_link;
mod verbs;

pub use command::main;

/// The modules that benchmarks and fuzz targets call. Nothing else but [`main`] leaves the crate,
/// so the compiler finds unused code.
#[cfg(feature = "internals")]
pub mod internals {
    pub use crate::config::{Environment, Scheme, StaticLocation, StaticSettings, Trust, foreign};
    pub use crate::front::{
        connection, context, protocol, request, routing, sendfile, static_files, upstream,
    };
}
