//! The error of a chunked request body that exceeds its limit. It travels through hyper.

/// The size of a chunk makes the body longer than its limit in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the size of a chunk makes the request body longer than {0} bytes")]
pub struct TooLong(pub u64);

impl TooLong {
    /// Finds it in the error chain of hyper's error for a body.
    pub fn found_in(error: &hyper::Error) -> Option<Self> {
        let source = std::error::Error::source(error)?;
        let cause = source.downcast_ref::<std::io::Error>()?.get_ref()?;
        cause.downcast_ref().copied()
    }
}
