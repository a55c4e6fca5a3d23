//! Where a running server is watched and steered from.

use std::path::PathBuf;

use super::ListenAddress;

/// Where a server takes orders: the path of a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// Nowhere.
    Off,
    /// At this path; absolute.
    At(PathBuf),
    /// Under a name of its own, in the first of the usual directories that takes it.
    Usual {
        /// `$XDG_RUNTIME_DIR`.
        runtime_dir: Option<PathBuf>,
        /// The directory for temporary files.
        temp_dir: PathBuf,
    },
}

/// What a verb needs to find the server that it is for.
#[derive(Debug, Clone)]
pub struct Reach {
    /// Where the server takes orders.
    pub control: Control,
    /// Where it answers probes.
    pub admin: Option<ListenAddress>,
    /// The directory in which it works.
    pub chdir: PathBuf,
    /// A mistake in the settings file, which may hide where the server is.
    pub mistake: Option<String>,
}
