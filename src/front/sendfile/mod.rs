//! Files sent by the kernel.

pub mod file_pool;
pub mod file_source;
pub mod queue;
pub mod residency;
