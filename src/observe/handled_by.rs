//! The components that make responses, as logs and metrics name them.

use serde::Serialize;

/// The component that made a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HandledBy {
    /// A file.
    Static,
    /// The application.
    App,
    /// A server behind us.
    Upstream,
    /// The front itself: errors, redirects.
    #[default]
    Front,
}

impl HandledBy {
    /// Every variant.
    pub const ALL: [Self; 4] = [Self::Static, Self::App, Self::Upstream, Self::Front];

    /// As logs and metrics write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::App => "app",
            Self::Upstream => "upstream",
            Self::Front => "front",
        }
    }
}
