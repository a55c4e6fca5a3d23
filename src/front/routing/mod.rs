//! Routing: the location that answers a path.

pub mod counts;
pub mod fixed;
pub mod normal_target;
pub mod origin;
pub mod prefix;
pub mod router;
