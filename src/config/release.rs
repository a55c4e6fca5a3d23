//! The release: the directories that the symbolic links on the way to the application led to when the
//! settings were read.
//!
//! Deployments switch a link such as `/srv/current`, then reload. Until that reload has succeeded, code,
//! static files, companions and every process that is started anew must come from the release before.
//! So all paths that go through such a link are replaced by the directory behind it, once per reload.
//! Other links are left alone: they are followed at each use.

use std::path::{Path, PathBuf};

use super::{AppTarget, Config};

/// Nested links that are looked at; the kernel follows 40.
const DEPTH: usize = 40;

/// Links to directories, and where each led.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Release {
    /// Absolute path of each link, and the physical path of its target.
    links: Vec<(PathBuf, PathBuf)>,
}

impl Release {
    /// The links on the way to these directories, as they lead now.
    pub fn of<'a>(directories: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut release = Self::default();
        for directory in directories {
            release.add(directory, DEPTH);
        }
        release
    }

    fn add(&mut self, directory: &Path, depth: usize) {
        if depth == 0 {
            return;
        }
        let mut at = PathBuf::new();
        let mut names = directory.components();
        while let Some(name) = names.next() {
            at.push(name);
            let Ok(target) = std::fs::read_link(&at) else {
                continue;
            };
            let is_known = self.links.iter().any(|(link, _)| *link == at);
            if let (false, Ok(physical)) = (is_known, std::fs::canonicalize(&at)) {
                self.links.push((at.clone(), physical.clone()));
                // The target may be named through links, too, and so may the rest of the path.
                let target = at.parent().unwrap_or(Path::new("/")).join(target);
                self.add(&target, depth - 1);
                self.add(&physical.join(names.as_path()), depth - 1);
            }
        }
    }

    /// The path without links of this release; the same path where it goes through none.
    pub fn settle(&self, path: &Path) -> PathBuf {
        let mut settled = path.to_owned();
        for _ in 0..DEPTH {
            let links = self.links.iter();
            let longest = links
                .filter(|(link, _)| settled.starts_with(link))
                .max_by_key(|(link, _)| link.as_os_str().len());
            let Some((link, physical)) = longest else {
                break;
            };
            settled = rebase(&settled, link, physical);
        }
        settled
    }

    /// The opposite of [`Release::settle`]: the path by the name that the settings have for it.
    pub fn name(&self, path: &Path) -> PathBuf {
        let found = self
            .links
            .iter()
            .find(|(_, physical)| path.starts_with(physical));
        match found {
            Some((link, physical)) => rebase(path, physical, link),
            None => path.to_owned(),
        }
    }

    /// Each link that leads to another directory than in `before`, in words.
    pub fn moved_since(&self, before: &Self) -> Vec<String> {
        let differs = |link: &Path, physical: &Path| {
            let mut links = before.links.iter();
            links.any(|(other, led_to)| other == link && led_to != physical)
        };
        self.links
            .iter()
            .filter(|(link, physical)| differs(link, physical))
            .map(|(link, physical)| format!("{} leads to {}", link.display(), physical.display()))
            .collect()
    }

    /// Each link that leads elsewhere by now, in words: its name, and the directory that is used.
    /// Looks at the disk.
    pub fn stale(&self) -> Vec<String> {
        let now = |link: &Path| std::fs::canonicalize(link).ok();
        self.links
            .iter()
            .filter(|(link, physical)| now(link).as_ref() != Some(physical))
            .map(|(link, physical)| {
                let (link, physical) = (link.display(), physical.display());
                format!("{link} is still {physical}")
            })
            .collect()
    }

    /// Replaces the links in all paths of `config` that belong to the release: what is read again when a
    /// process starts, and the directories that are served. Sockets and watched files keep their names.
    pub(super) fn settle_config(&self, config: &mut Config) {
        let settle = |path: &mut PathBuf| *path = self.settle(path);
        for app in &mut config.apps {
            settle(&mut app.chdir);
            settle(&mut app.start_dir);
            settle(&mut app.interpreter.path);
            app.pythonpath.iter_mut().for_each(settle);
            if let AppTarget::File(file) = &mut app.app.target {
                settle(file);
            }
        }
        let internal = config.internal_locations.iter_mut();
        for location in config.static_locations.iter_mut().chain(internal) {
            settle(&mut location.dir);
        }
        config.static_files.links.iter_mut().for_each(settle);
    }
}

fn rebase(path: &Path, from: &Path, to: &Path) -> PathBuf {
    match path.strip_prefix(from) {
        // `join("")` would add a slash.
        Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
        Ok(rest) => to.join(rest),
        Err(_) => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A tree in which `current` leads to `data`, which leads to `releases/1`, where `app` leads to `src`.
    fn tree() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for name in ["releases/1/src/static", "releases/2/src/static", "media"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        symlink("releases/1", root.join("data")).unwrap();
        symlink(root.join("data"), root.join("current")).unwrap();
        symlink("src", root.join("releases/1/app")).unwrap();
        symlink("media", root.join("uploads")).unwrap();
        (dir, root)
    }

    #[test]
    fn paths_through_any_link_on_the_way_are_settled_and_others_are_not() {
        let (_dir, root) = tree();
        let release = Release::of([&*root.join("current/app")]);
        for (path, expected) in [
            ("current", "releases/1"),
            ("current/static", "releases/1/static"),
            ("current/app", "releases/1/src"),
            ("current/app/static", "releases/1/src/static"),
            ("data/app/static", "releases/1/src/static"),
            ("releases/1/app/static", "releases/1/src/static"),
            ("current/../x", "releases/1/../x"),
            ("currently/static", "currently/static"),
            ("uploads", "uploads"),
        ] {
            assert_eq!(
                release.settle(&root.join(path)),
                root.join(expected),
                "{path}"
            );
        }
        let settled = root.join("releases/1/static");
        assert_eq!(release.name(&settled), root.join("current/static"));
        assert_eq!(Release::of([&*root.join("media")]), Release::default());
    }

    #[test]
    fn a_switched_link_is_named_and_a_loop_ends() {
        let (_dir, root) = tree();
        let before = Release::of([&*root.join("data")]);
        assert_eq!(before.stale(), Vec::<String>::new());
        std::fs::remove_file(root.join("data")).unwrap();
        symlink("releases/2", root.join("data")).unwrap();
        let name = |name: &str| root.join(name).display().to_string();
        let (link, old, new) = (name("data"), name("releases/1"), name("releases/2"));
        assert_eq!(before.stale(), [format!("{link} is still {old}")]);
        let after = Release::of([&*root.join("data")]);
        assert_eq!(
            after.moved_since(&before),
            [format!("{link} leads to {new}")]
        );
        symlink("loop", root.join("loop")).unwrap();
        assert_eq!(Release::of([&*root.join("loop/x")]), Release::default());
    }
}
