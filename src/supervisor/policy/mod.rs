//! Policies for the workers of an application, all pure: their number, which are recycled, when
//! memory runs out.

pub mod pressure;
pub mod recycle;
pub mod size;
