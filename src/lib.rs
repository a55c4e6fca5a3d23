//! pyserve: one binary that serves Django and Flask.
//!
//! See `src/ARCHITECTURE.md` for how the parts fit together. Imports go downwards:
//! `supervisor` -> `front` -> `config`, `observe` -> `os`, `pyserve_wire`.

pub mod cli;
pub mod config;
pub mod front;
pub mod manual;
pub mod observe;
pub mod os;
pub mod reference;
pub mod report;
pub mod supervisor;
pub mod verbs;
