//! Routing: the location that answers a path.

pub mod fixed;
pub mod host;
pub mod normal_target;
pub mod prefix;
pub mod router;
