//! Accepting connections: listeners, their drain, and the admin listener.

pub mod admin_connections;
pub mod admin_server;
pub mod drain;
pub mod listener;
pub mod reception;
pub mod spare_descriptor;
