//! Static files that applications turned out to have, once they were imported.
//!
//! They are found while the server runs, so they can be exchanged; a request keeps those that it
//! started with.

use parking_lot::RwLock;
use std::sync::Arc;

use super::StaticFiles;

/// Directories in order of precedence, each with the index of its application.
pub type Directories = Vec<(usize, Arc<StaticFiles>)>;

/// The current directories.
#[derive(Debug, Default)]
pub struct FoundFiles(RwLock<Arc<Directories>>);

impl FoundFiles {
    /// Sets the directories of application number `app`.
    pub fn set(&self, app: usize, files: Vec<StaticFiles>) {
        let mut place = self.0.write();
        let others = place.iter().filter(|(owner, _)| *owner != app).cloned();
        let mut all: Vec<_> = others.collect();
        all.extend(files.into_iter().map(|files| (app, Arc::new(files))));
        // Stable: an application's own order is kept.
        all.sort_by_key(|(owner, _)| *owner);
        *place = Arc::new(all);
    }

    /// The current directories.
    pub fn current(&self) -> Arc<Directories> {
        Arc::clone(&self.0.read())
    }
}
