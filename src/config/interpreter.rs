//! Chooses the Python interpreter that runs the application.
//!
//! Candidates are listed in order of preference, each with the reason for it, and the first
//! executable file is taken. Nothing is executed here, and no link is followed: `venv/bin/python`
//! is a link to the system's interpreter, and finds its environment only under its own name.
//!
//! A `python3` beside pyserve comes first where that is an environment into which pyserve was
//! installed, unless nothing else was (pipx, `uv tool`); in `/usr/bin` or `/usr/local/bin` it says nothing about the application, and comes
//! after the environments that do.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::native;
use crate::os::search_path;

/// The interpreter that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    /// The executable, links not followed.
    pub path: PathBuf,
    /// Why this one, `VIRTUAL_ENV`.
    pub origin: String,
    /// Virtual environments that would have been preferred, and why they cannot be used.
    pub passed_over: Vec<String>,
}

/// The places to look at, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PythonChoice {
    candidates: Vec<Interpreter>,
    remedy: String,
}

/// Places in which an interpreter is looked for when the settings name none.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// The directory of the application.
    pub chdir: &'a Path,
    /// The executable of pyserve.
    pub executable: Option<&'a Path>,
    /// `VIRTUAL_ENV`.
    pub virtual_env: Option<&'a OsStr>,
    /// `PATH`.
    pub path: Option<&'a OsStr>,
}

impl PythonChoice {
    /// The interpreter named by `origin`: a path relative to `places.chdir`, or a bare name
    /// to look up on the path.
    pub fn python(name: &str, origin: &str, places: &Places<'_>) -> Self {
        let paths = if name.contains('/') {
            vec![places.chdir.join(native::path(name))]
        } else {
            on_path(name, places.path).collect()
        };
        let mut candidates = from(paths, origin);
        if candidates.is_empty() {
            candidates = from([native::path(name)], origin);
        }
        Self {
            candidates,
            remedy: "give the path of an executable interpreter, as in /usr/bin/python3".to_owned(),
        }
    }

    /// The interpreter of the environment named by `origin`.
    pub fn venv(dir: &str, origin: &str, places: &Places<'_>) -> Self {
        let dir = places.chdir.join(native::path(dir));
        Self {
            candidates: from(in_environment(&dir), origin),
            remedy: "give the directory of an environment, made with `python3 -m venv DIR`"
                .to_owned(),
        }
    }

    /// The interpreters that surroundings suggest.
    pub fn automatic(places: &Places<'_>) -> Self {
        let beside = places.executable.and_then(Path::parent);
        let installed_into = beside.is_some_and(|bin| {
            bin.parent().is_some_and(|prefix| {
                prefix.join("pyvenv.cfg").is_file() || prefix.join("conda-meta").is_dir()
            })
        });
        // A tool's own environment (pipx, uv) says nothing about the application.
        let is_tool = installed_into && beside.and_then(Path::parent).is_some_and(has_only_pyserve);
        let installed_into = installed_into && !is_tool;
        let beside_pyserve = || from(beside.map(|bin| bin.join("python3")), "beside pyserve");
        let mut candidates = Vec::new();
        if installed_into {
            candidates.extend(beside_pyserve());
        }
        if let Some(dir) = places.virtual_env {
            candidates.extend(from(in_environment(&places.chdir.join(dir)), ACTIVE));
        }
        candidates.extend(from(in_environment(&places.chdir.join(BESIDE)), BESIDE));
        if !installed_into {
            candidates.extend(beside_pyserve());
        }
        for name in ["python3", "python"] {
            candidates.extend(from(on_path(name, places.path), "PATH"));
        }
        Self {
            candidates,
            remedy: "install python3, or name one with --python or --venv".to_owned(),
        }
    }

    /// Looks at the places now, and takes the first executable.
    ///
    /// # Errors
    /// [`ConfigError::NoPython`] with every place if there is none.
    pub fn find(&self) -> Result<Interpreter, ConfigError> {
        self.candidates
            .iter()
            .find(|candidate| is_executable(&candidate.path))
            .map(|found| Interpreter {
                passed_over: self.unusable_environments(),
                ..found.clone()
            })
            .ok_or_else(|| ConfigError::NoPython {
                looked_at: self
                    .candidates
                    .iter()
                    .map(|place| match why_unusable(&place.path) {
                        Some(why) => format!("{} ({}: {why})", place.path.display(), place.origin),
                        None => format!("{} ({})", place.path.display(), place.origin),
                    })
                    .collect::<Vec<_>>()
                    .join(", "),
                remedy: self.remedy.clone(),
            })
    }
}

impl PythonChoice {
    /// Environments that are preferred to the one that [`PythonChoice::find`] takes, and whose interpreter
    /// cannot be executed: warnings, because the packages in them will be missing.
    fn unusable_environments(&self) -> Vec<String> {
        let better = self
            .candidates
            .iter()
            .take_while(|candidate| !is_executable(&candidate.path));
        let mut seen = Vec::new();
        better
            .filter(|candidate| [ACTIVE, BESIDE].contains(&&*candidate.origin))
            .filter_map(|candidate| {
                let (path, origin) = (&candidate.path, &candidate.origin);
                let environment = path.parent()?.parent()?;
                let is_made = environment.join("pyvenv.cfg").is_file();
                let why = match why_unusable(path) {
                    Some(why) => why,
                    // One of the two names is enough, and no environment was promised without a sign.
                    None if origin == ACTIVE || is_made => "is not there".to_owned(),
                    None => return None,
                };
                if seen.contains(&environment) {
                    return None;
                }
                seen.push(environment);
                Some(format!(
                    "the virtual environment {} ({origin}) is not used: {} {why} (make it again with `python3 -m venv`, or name another interpreter with --venv or --python)",
                    environment.display(),
                    path.display(),
                ))
            })
            .collect()
    }
}

/// Why a path that is there, if only as a link, is no interpreter.
fn why_unusable(path: &Path) -> Option<String> {
    std::fs::symlink_metadata(path).ok()?;
    if is_executable(path) {
        return None;
    }
    if path.is_dir() {
        return Some("is a directory".to_owned());
    }
    if path.exists() {
        return Some("is not executable".to_owned());
    }
    let target = std::fs::read_link(path).ok()?;
    Some(format!(
        "is a link to {}, which is not there",
        target.display()
    ))
}

/// Origin of the interpreter of an environment that was activated.
const ACTIVE: &str = "VIRTUAL_ENV";
/// Origin of the interpreter of the environment beside the application.
const BESIDE: &str = ".venv";

fn from(paths: impl IntoIterator<Item = PathBuf>, origin: &str) -> Vec<Interpreter> {
    paths
        .into_iter()
        .map(|path| Interpreter {
            path: path.components().collect(),
            origin: origin.to_owned(),
            passed_over: Vec::new(),
        })
        .collect()
}

/// Distributions that say nothing about the purpose of an environment: pyserve itself, and installers.
const OF_EVERY_TOOL: [&str; 5] = [
    "pyserve_wsgi",
    "pip",
    // Debian 11 puts it into each environment.
    "pkg_resources",
    "setuptools",
    "wheel",
];

/// True for an environment in which pyserve is installed and no application can be.
fn has_only_pyserve(environment: &Path) -> bool {
    let versions = std::fs::read_dir(environment.join("lib"));
    let packages = versions
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|version| std::fs::read_dir(version.path().join("site-packages")).ok());
    let names: Vec<_> = packages
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let name = name.to_str()?;
            // The older form, and that of projects under development.
            let of_old_tools = [".egg-info", ".egg-link"];
            let ending = of_old_tools
                .iter()
                .find_map(|ending| name.strip_suffix(ending));
            let name = ending.or_else(|| name.strip_suffix(".dist-info"))?;
            let name = name.split('-').next().unwrap_or(name);
            Some(name.to_owned())
        })
        .collect();
    let is_here = names.iter().any(|name| name == OF_EVERY_TOOL[0]);
    is_here && names.iter().all(|name| OF_EVERY_TOOL.contains(&&**name))
}

/// conda makes both `bin/python` and `bin/python3`.
fn in_environment(dir: &Path) -> [PathBuf; 2] {
    [dir.join("bin/python"), dir.join("bin/python3")]
}

/// Relative entries are left out: what they mean depends on where one stands.
fn on_path(name: &str, path: Option<&OsStr>) -> impl Iterator<Item = PathBuf> {
    let name = native::path(name);
    search_path::directories(path)
        .into_iter()
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(&name))
        .collect::<Vec<_>>()
        .into_iter()
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use tempfile::TempDir;

    /// A directory with these files, each executable.
    fn machine(files: &[&str]) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        dir
    }

    fn found(root: &Path, choose: impl FnOnce(&Places<'_>) -> PythonChoice) -> String {
        let at = |name: &str| root.join(name);
        let (chdir, executable, virtual_env) = (at("project"), at("opt/bin/pyserve"), at("active"));
        let path = std::env::join_paths([at("usr/local/bin"), at("usr/bin")]).unwrap();
        let choice = choose(&Places {
            chdir: &chdir,
            executable: Some(&executable),
            virtual_env: Some(virtual_env.as_os_str()),
            path: Some(&path),
        });
        let shown = match choice.find() {
            Ok(python) => format!("{} ({})", python.path.display(), python.origin),
            Err(error) => error.to_string(),
        };
        shown.replace(&format!("{}/", root.display()), "")
    }

    #[test]
    fn the_first_place_with_an_interpreter_wins() {
        let check = |files: &[&str], expected: &str| {
            let root = machine(files);
            assert_eq!(
                found(root.path(), PythonChoice::automatic),
                expected,
                "{files:?}"
            );
        };
        let mut files = vec![
            "usr/bin/python",
            "usr/bin/python3",
            "opt/bin/python3",
            "project/.venv/bin/python",
            "active/bin/python",
        ];
        check(
            &[&files[..], &["opt/pyvenv.cfg"]].concat(),
            "opt/bin/python3 (beside pyserve)",
        );
        for expected in [
            "active/bin/python (VIRTUAL_ENV)",
            "project/.venv/bin/python (.venv)",
            "opt/bin/python3 (beside pyserve)",
            "usr/bin/python3 (PATH)",
            "usr/bin/python (PATH)",
        ] {
            check(&files, expected);
            files.pop();
        }
    }

    #[test]
    fn the_environment_of_a_tool_gives_way_to_that_of_the_application() {
        let packages = "opt/lib/python3.11/site-packages";
        let mut files = vec![
            "opt/pyvenv.cfg".to_owned(),
            "opt/bin/python3".to_owned(),
            format!("{packages}/pyserve_wsgi-0.1.0.dist-info/METADATA"),
            format!("{packages}/pip-26.0.dist-info/METADATA"),
        ];
        let check = |files: &[String], expected: &str| {
            let root = machine(&files.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(
                found(root.path(), PythonChoice::automatic),
                expected,
                "{files:?}"
            );
        };
        files.push("usr/bin/python3".to_owned());
        check(&files, "opt/bin/python3 (beside pyserve)");
        files.push("project/.venv/bin/python".to_owned());
        check(&files, "project/.venv/bin/python (.venv)");
        files.push("active/bin/python".to_owned());
        check(&files, "active/bin/python (VIRTUAL_ENV)");
        for of_an_application in [
            "Flask-3.1.0.dist-info/METADATA",
            "Flask-1.0-py3.9.egg-info/PKG-INFO",
            "shop.egg-link",
        ] {
            let added = format!("{packages}/{of_an_application}");
            check(
                &[&files[..], &[added]].concat(),
                "opt/bin/python3 (beside pyserve)",
            );
        }
    }

    #[test]
    fn a_missing_interpreter_is_an_error_that_names_every_place() {
        let root = machine(&[]);
        assert_eq!(
            found(root.path(), PythonChoice::automatic),
            "no usable Python: looked at active/bin/python (VIRTUAL_ENV), active/bin/python3 (VIRTUAL_ENV), \
             project/.venv/bin/python (.venv), project/.venv/bin/python3 (.venv), opt/bin/python3 (beside pyserve), \
             usr/local/bin/python3 (PATH), usr/bin/python3 (PATH), usr/local/bin/python (PATH), usr/bin/python (PATH) \
             (install python3, or name one with --python or --venv)"
        );
    }

    #[test]
    fn a_named_interpreter_is_the_only_candidate() {
        let root = machine(&[
            "usr/bin/python3.12",
            "usr/bin/python3",
            "project/env/bin/python",
        ]);
        let python = |name: &str| {
            found(root.path(), |places| {
                PythonChoice::python(name, "--python", places)
            })
        };
        let venv = |name: &str| {
            found(root.path(), |places| {
                PythonChoice::venv(name, "--venv", places)
            })
        };
        assert_eq!(python("python3.12"), "usr/bin/python3.12 (--python)");
        assert_eq!(
            python("env/bin/python"),
            "project/env/bin/python (--python)"
        );
        assert!(
            python("python3.8")
                .starts_with("no usable Python: looked at usr/local/bin/python3.8 (--python)")
        );
        assert_eq!(venv("env"), "project/env/bin/python (--venv)");
        assert!(
            venv("gone")
                .starts_with("no usable Python: looked at project/gone/bin/python (--venv)")
        );
    }

    #[test]
    fn links_are_not_followed_and_files_must_be_executable() {
        let root = machine(&["usr/bin/python3.12", "project/env/bin/python3"]);
        let bin = root.path().join("project/env/bin");
        std::fs::set_permissions(bin.join("python3"), PermissionsExt::from_mode(0o000)).unwrap();
        let venv = |name: &str| {
            found(root.path(), |places| {
                PythonChoice::venv(name, "--venv", places)
            })
        };
        assert!(venv("env").starts_with("no usable Python"));
        symlink(root.path().join("usr/bin/python3.12"), bin.join("python")).unwrap();
        assert_eq!(venv("env"), "project/env/bin/python (--venv)");
    }
}
