//! Decisions about the workers of an application, all pure: how many there are, which are recycled, when memory runs out.

pub mod pressure;
pub mod recycle;
pub mod size;
