//! The state of the promotion of a worker to template.

/// Progress of the promotion.
#[derive(Debug, Default)]
pub(super) struct Promotion {
    pub(super) stage: Stage,
    /// Workers of the previous template that were not ready when it exited.
    pub(super) stale: Vec<u32>,
}

/// The stages of the promotion, in order.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    #[default]
    Possible,
    Chosen(u32),
    Asked(u32),
    Willing(u32),
    Done,
    Refused,
}

impl Promotion {
    /// The fork of this worker was requested from the current template.
    pub(super) fn born(&mut self, worker: u32) {
        self.stale.retain(|stale| *stale != worker);
    }
}
