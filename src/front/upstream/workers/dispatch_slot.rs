//! The slot of a request among those that are handed out.

/// A slot among the requests that are handed out to a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DispatchSlot {
    /// Number of the generation.
    pub(super) generation: u32,
    /// Index of the entry.
    pub(super) entry: usize,
}
