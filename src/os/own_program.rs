//! The program file of this process, by the name under which it was started.
//!
//! The kernel's link `/proc/self/exe` leads to the file that runs, which an installation may have moved
//! away since; the name leads to the file that is there now. Links in the name are kept: one such as
//! `uwsgi`, or one that a deployment switches, has a meaning.

use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::search_path;

static NAME: OnceLock<Option<PathBuf>> = OnceLock::new();

/// Finds out the name while it still leads to the file that runs. To be called at the start, before the
/// current directory changes.
pub fn remember() {
    NAME.get_or_init(find);
}

/// The absolute path under which this process was started; `None` if it cannot be found.
pub fn path() -> Option<PathBuf> {
    NAME.get_or_init(find).clone()
}

fn find() -> Option<PathBuf> {
    let running = std::fs::metadata("/proc/self/exe").ok();
    let is_it = |path: &Path| match (&running, std::fs::metadata(path)) {
        (Some(running), Ok(found)) => identity(running) == identity(&found),
        _ => false,
    };
    let called = PathBuf::from(std::env::args_os().next()?);
    let called = match called.components().count() {
        0 => None,
        1 if !called.as_os_str().as_encoded_bytes().contains(&b'/') => {
            let directories = search_path::ours().into_iter();
            let candidates = directories.map(|dir| dir.join(&called));
            candidates
                .filter_map(|path| std::path::absolute(path).ok())
                .find(|path| is_it(path))
        }
        _ => std::path::absolute(&called).ok().filter(|path| is_it(path)),
    };
    // A caller may give any name (`exec -a`).
    called.or_else(|| std::fs::read_link("/proc/self/exe").ok())
}

/// The arguments of this process, with its name first.
pub fn arguments() -> Vec<OsString> {
    std::env::args_os().collect()
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_leads_to_the_program_that_runs() {
        let path = path().unwrap();
        assert!(path.is_absolute());
        let (found, running) = (
            std::fs::metadata(&path).unwrap(),
            std::fs::metadata("/proc/self/exe").unwrap(),
        );
        assert_eq!(identity(&found), identity(&running));
    }
}
