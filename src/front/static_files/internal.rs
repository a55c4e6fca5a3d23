//! Files of internal locations, which only applications can send (`X-Accel-Redirect`).

use super::StaticFiles;
use crate::config::Release;

/// The internal locations.
pub struct InternalFiles {
    /// Their files.
    pub files: StaticFiles,
    /// The release to which they belong.
    pub release: Release,
}
