//! The static files that applications turned out to have, once they were imported.
//!
//! They come while the server runs, so they can be exchanged; a request keeps those that it
//! found when it came.

use std::sync::{Arc, PoisonError, RwLock};

use super::StaticFiles;

/// Directories in the order in which they are asked, each with the number of its application.
pub type Directories = Vec<(usize, Arc<StaticFiles>)>;

/// Those of this moment.
#[derive(Debug, Default)]
pub struct FoundFiles(RwLock<Arc<Directories>>);

impl FoundFiles {
    /// From now on application number `app` has these.
    pub fn set(&self, app: usize, files: Vec<StaticFiles>) {
        let mut place = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let others = place.iter().filter(|(owner, _)| *owner != app).cloned();
        let mut all: Vec<_> = others.collect();
        all.extend(files.into_iter().map(|files| (app, Arc::new(files))));
        // Stable: an application's own order is its word.
        all.sort_by_key(|(owner, _)| *owner);
        *place = Arc::new(all);
    }

    /// Those of this moment.
    pub fn current(&self) -> Arc<Directories> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}
