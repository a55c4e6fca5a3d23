//! PEP 3333: one request in, one call of the application, one response out.
//!
//! 1. [`environ`] builds the dictionary, with [`input`] and [`errors`] in it.
//! 2. [`call`] calls the application with [`start_response`], iterates over its result, and closes
//!    it.
//! 3. [`response`] tracks status, headers and length, and decides which bytes may be sent;
//!    [`crate::reply`] sends them.

pub mod body_stream;
pub mod call;
pub mod environ;
pub mod errors;
pub mod file_wrapper;
pub mod head;
pub mod input;
pub mod response;
pub mod start_response;
