//! The static files that the application turned out to have, once it was imported.
//!
//! They come while the server runs, so they can be exchanged; a request keeps those that it
//! found when it came.

use std::sync::{Arc, PoisonError, RwLock};

use super::static_files::StaticFiles;

/// Directories in the order in which they are asked.
#[derive(Debug, Default)]
pub struct FoundFiles(RwLock<Arc<Vec<StaticFiles>>>);

impl FoundFiles {
    /// From now on it is these.
    pub fn set(&self, files: Vec<StaticFiles>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(files);
    }

    /// Those of this moment.
    pub fn current(&self) -> Arc<Vec<StaticFiles>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}
