//! Control socket and admin listener of a server.

use std::path::PathBuf;

use super::ListenAddress;

/// The control socket of a server: the path of a Unix socket.
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

/// All that a verb needs to find its server.
#[derive(Debug, Clone)]
pub struct ControlTarget {
    /// The control socket.
    pub control: Control,
    /// The admin listener.
    pub admin: Option<ListenAddress>,
    /// The user that it runs as, if the settings name one.
    pub user: Option<u32>,
    /// The directory in which it works.
    pub chdir: PathBuf,
    /// A mistake in the settings file, which may hide where the server is.
    pub mistake: Option<String>,
}
