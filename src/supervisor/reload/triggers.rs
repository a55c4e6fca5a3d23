//! Files whose change causes a reload: those of `touch_reload` and `touch_workers_reload`, and with `autoreload`
//! the application's source.
//!
//! They are polled: that works on every file system, in containers and over the network, where
//! notifications do not.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;

use crate::config::Config;

/// Interval of polls of named files.
const NAMED: Duration = Duration::from_secs(1);
/// Interval of polls of source files.
const SOURCE: Duration = Duration::from_millis(400);
/// Most entries of one poll.
const MOST_ENTRIES: usize = 50_000;
/// Directories without source that people edit.
const NOT_SOURCE: &[&str] = &["__pycache__", "node_modules", "site-packages"];

/// A reason for a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A file of `touch_reload`, or of the source.
    Reload,
    /// A file of `touch_workers_reload`.
    Workers,
}

/// The files to poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    files: Vec<PathBuf>,
    of_workers: Vec<PathBuf>,
    trees: Vec<PathBuf>,
    every: Duration,
}

impl Watched {
    /// The files to poll by these settings; `None` if there are none.
    pub fn new(config: &Config) -> Option<Self> {
        let mut watched = Self {
            files: config.reloads.touch.clone(),
            of_workers: config.reloads.touch_workers.clone(),
            trees: Vec::new(),
            every: NAMED,
        };
        if config.reloads.autoreload {
            watched.every = SOURCE;
            watched.trees.clone_from(&config.source_dirs);
            watched.trees.sort();
            watched.trees.dedup();
        }
        if config.dev {
            watched.every = SOURCE;
            watched.files.extend(config.settings_file.clone());
        }
        let is_any = !watched.files.is_empty()
            || !watched.of_workers.is_empty()
            || !watched.trees.is_empty();
        is_any.then_some(watched)
    }

    /// Sends a message at each change.
    pub async fn watch(self, changed: mpsc::UnboundedSender<Change>) {
        let look = |watched: Self| {
            tokio::task::spawn_blocking(move || (watched.look(), watched.look_for_workers()))
        };
        let Ok(mut before) = look(self.clone()).await else {
            return;
        };
        loop {
            tokio::time::sleep(self.every).await;
            let Ok(now) = look(self.clone()).await else {
                return;
            };
            let change = match (now.0 != before.0, now.1 != before.1) {
                (true, _) => Some(Change::Reload),
                (false, true) => Some(Change::Workers),
                (false, false) => None,
            };
            if change.is_some_and(|change| changed.send(change).is_err()) {
                return;
            }
            before = now;
        }
    }

    /// A checksum that differs after a change of a file that is for the workers alone.
    fn look_for_workers(&self) -> u64 {
        let mut state = DefaultHasher::new();
        for file in &self.of_workers {
            std::fs::canonicalize(file).ok().hash(&mut state);
            state_of(file).hash(&mut state);
        }
        state.finish()
    }

    /// A checksum that differs after any other change.
    fn look(&self) -> u64 {
        let mut state = DefaultHasher::new();
        // Includes the targets of links: another release may have the same times and sizes.
        for path in self.files.iter().chain(&self.trees) {
            std::fs::canonicalize(path).ok().hash(&mut state);
        }
        for file in &self.files {
            state_of(file).hash(&mut state);
        }
        let mut left = MOST_ENTRIES;
        for dir in self.files.iter().filter(|file| names_entries(file)) {
            entries_of(dir, &mut left).hash(&mut state);
        }
        let mut open = self.trees.clone();
        // The order in which a directory lists its entries does not matter.
        let mut sum = 0_u64;
        while let Some(dir) = open.pop() {
            let Ok(entries) = std::fs::read_dir(dir) else {
                continue;
            };
            for entry in entries.flatten().take(left) {
                left -= 1;
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if name.starts_with('.') || NOT_SOURCE.contains(&&*name) {
                    continue;
                }
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => open.extend(source_dir(entry.path())),
                    Ok(_) if name.ends_with(".py") => {
                        let mut file = DefaultHasher::new();
                        (entry.path(), state_of(&entry.path())).hash(&mut file);
                        sum = sum.wrapping_add(file.finish());
                    }
                    _ => {}
                }
            }
        }
        sum.hash(&mut state);
        state.finish()
    }
}

/// True for a path with a slash at its end, which stands for the entries of the directory.
fn names_entries(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b"/")
}

/// A checksum of the entries of a directory, in any order; of subdirectories the names alone.
fn entries_of(dir: &Path, left: &mut usize) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut sum = 0_u64;
    for entry in entries.take(*left) {
        *left -= 1;
        let mut state = DefaultHasher::new();
        entry.file_name().hash(&mut state);
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            state_of(&entry.path()).hash(&mut state);
        }
        sum = sum.wrapping_add(state.finish());
    }
    sum
}

/// The directory, unless it is an environment with packages.
fn source_dir(dir: PathBuf) -> Option<PathBuf> {
    (!dir.join("pyvenv.cfg").exists()).then_some(dir)
}

fn state_of(file: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn changes_of_source_and_named_files_are_seen_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let touched = tempfile::tempdir().unwrap();
        fs::create_dir_all(path("pkg")).unwrap();
        fs::create_dir_all(path("venv")).unwrap();
        fs::create_dir_all(touched.path().join("dir/below")).unwrap();
        fs::create_dir_all(touched.path().join("other")).unwrap();
        fs::write(touched.path().join("other/file"), "").unwrap();
        fs::write(path("venv/pyvenv.cfg"), "").unwrap();
        let watched = Watched {
            files: vec![
                touched.path().join("touch-me"),
                touched.path().join("dir/"),
                touched.path().join("other"),
            ],
            of_workers: Vec::new(),
            trees: vec![dir.path().to_owned()],
            every: SOURCE,
        };
        let mut before = watched.look();
        let mut is_seen = |file: PathBuf, text: &str| {
            fs::write(file, text).unwrap();
            let now = watched.look();
            std::mem::replace(&mut before, now) != now
        };
        assert!(is_seen(path("app.py"), "1"));
        assert!(is_seen(path("app.py"), "12"));
        assert!(is_seen(path("pkg/views.py"), "1"));
        assert!(is_seen(touched.path().join("touch-me"), "1"));
        assert!(is_seen(touched.path().join("dir/new"), "1"));
        assert!(is_seen(touched.path().join("dir/new"), "12"));
        assert!(!is_seen(touched.path().join("dir/below/file"), "12"));
        assert!(!is_seen(touched.path().join("other/file"), "12"));
        assert!(!is_seen(path("data.csv"), "1"));
        assert!(!is_seen(path(".hidden.py"), "1"));
        assert!(!is_seen(path("venv/module.py"), "1"));
    }
}
