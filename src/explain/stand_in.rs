//! Files that stand for those of another machine.
//!
//! A file of supervisord names `/srv/shop/deploy/uwsgi.ini`, and what is explained is the directory of the
//! project, with `deploy/uwsgi.ini` in it. An absolute path that is not on this machine stands for the file
//! of the longest end of that path below a directory that is explained.

use std::path::{Component, Path, PathBuf};

use crate::config::native;

/// The directories below which files are looked for: those that are named, those of named files, and the current one.
pub fn roots(arguments: &[String], current: &Path) -> Vec<PathBuf> {
    let mut roots = Vec::new();
    for argument in arguments {
        let path = current.join(native::path(argument));
        if path.is_dir() {
            roots.push(path);
        } else if path.is_file() {
            roots.extend(path.parent().map(Path::to_owned));
        }
    }
    roots.push(current.to_owned());
    roots.dedup();
    roots
}

/// The file that stands for an absolute path of another machine; `None` if the path is there, or nothing stands for it.
pub fn of(path: &Path, roots: &[PathBuf]) -> Option<PathBuf> {
    if !path.is_absolute() || path.exists() {
        return None;
    }
    let parts: Option<Vec<_>> = path
        .components()
        .filter(|part| *part != Component::RootDir)
        .map(|part| matches!(part, Component::Normal(_)).then_some(part))
        .collect();
    let parts = parts?;
    (0..parts.len()).find_map(|first| {
        let end: PathBuf = parts[first..].iter().collect();
        roots
            .iter()
            .map(|root| root.join(&end))
            .find(|file| file.is_file())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_end_of_a_path_is_found_below_a_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        std::fs::create_dir(root.join("deploy")).unwrap();
        for name in ["deploy/uwsgi.ini", "uwsgi.ini"] {
            std::fs::write(root.join(name), "").unwrap();
        }
        let roots = [root.clone()];
        let check = |path: &str, expected: Option<&str>| {
            let found = of(Path::new(path), &roots);
            assert_eq!(found, expected.map(|name| root.join(name)), "{path}");
        };
        check("/srv/shop/deploy/uwsgi.ini", Some("deploy/uwsgi.ini"));
        check("/app/uwsgi.ini", Some("uwsgi.ini"));
        check("/app/other.ini", None);
        check("/app/deploy", None);
        check("/app/../deploy/uwsgi.ini", None);
        check("deploy/uwsgi.ini", None);
        check("/", None);
    }
}
