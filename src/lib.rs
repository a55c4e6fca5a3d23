//! pyserve: one binary that serves Django and Flask.
//!
//! See `src/ARCHITECTURE.md` for how the parts fit together. Imports go downwards:
//! `supervisor` -> `front` -> `config`, `observe` -> `os`, `pyserve_wire`.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test may block"))]

pub mod cli;
#[allow(
    clippy::disallowed_methods,
    reason = "settings are read at the start and at a reload, by the supervisor"
)]
pub mod config;
pub mod front;
pub mod manual;
pub mod observe;
#[allow(
    clippy::disallowed_methods,
    reason = "is where files and sockets are opened; its callers keep blocking calls off the front"
)]
pub mod os;
pub mod reference;
pub mod report;
#[allow(
    clippy::disallowed_methods,
    reason = "reads small local files; requests do not wait for it"
)]
pub mod supervisor;
pub mod verbs;
