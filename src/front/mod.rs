//! The HTTP front: owns listeners, connections, request queue and buffers. Asynchronous:
//! nothing here blocks or depends on Python.
//!
//! ```text
//! listener -> connection -> request -> static_files
//!                                  \-> upstream
//! ```

pub mod accept;
pub mod access;
pub mod acme;
pub mod activity;
pub mod admin;
pub mod body;
pub mod client_limits;
pub mod connection;
pub mod context;
pub mod descriptors;
pub mod error;
pub mod fast_path;
pub mod give_way;
pub mod header_case;
pub mod maintenance;
pub mod protocol;
pub mod request;
pub mod response_rules;
pub mod routing;
pub mod sendfile;
pub mod shutdown;
pub mod site;
pub mod socket;
pub mod static_files;
pub mod tls;
pub mod upstream;
