//! The HTTP front: owns listeners, connections, request queue and buffers. Asynchronous;
//! nothing here blocks, and nothing here knows Python.
//!
//! ```text
//! listener -> connection -> request -> static_files
//!                                  \-> upstream
//! ```

pub mod activity;
pub mod admin;
pub mod body;
mod closing;
pub mod connection;
pub mod connections;
pub mod descriptors;
pub mod encoded_body;
pub mod encoder;
pub mod express;
pub mod file_pool;
pub mod file_source;
pub mod flushed;
pub mod found_files;
pub mod framing;
pub mod http2;
pub mod limited_body;
mod lingering;
pub mod listener;
pub mod memory_budget;
pub mod negotiate;
pub mod outbox;
pub mod pace;
pub mod prefix;
pub mod proxy_protocol;
mod reception;
pub mod request;
pub mod site;
pub mod socket;
pub mod spelling;
pub mod static_files;
pub mod stop;
pub mod stream;
pub mod upstream;
