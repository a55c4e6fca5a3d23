//! Request heads of HTTP/1 and HTTP/2: read, checked, normalised or refused before hyper sees them.

pub mod forwarded;
pub mod framing;
pub mod http2;
pub mod limits;
pub mod plain;
pub mod refused;
