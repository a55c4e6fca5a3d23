//! Where programs are looked for by their name.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Instead of `PATH` where it is not set or empty, as in a shell: execvp(3) has only the last two.
const DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";

/// The directories of this value of `PATH`, in their order.
pub fn directories(path: Option<&OsStr>) -> Vec<PathBuf> {
    let given = path.filter(|path| !path.is_empty());
    std::env::split_paths(given.unwrap_or(OsStr::new(DEFAULT))).collect()
}

/// The directories of our own `PATH`.
pub fn ours() -> Vec<PathBuf> {
    directories(std::env::var_os("PATH").as_deref())
}

/// Our own `PATH` with the programs of a virtual environment first, as if it were activated; `None` if `python` is
/// not in one.
pub fn activated(python: &Path) -> Option<OsString> {
    let programs = python.parent()?;
    let is_environment = programs.parent()?.join("pyvenv.cfg").is_file();
    let all = std::iter::once(programs.to_owned()).chain(ours());
    is_environment
        .then(|| std::env::join_paths(all).ok())
        .flatten()
}

#[test]
fn without_a_value_programs_are_where_a_shell_finds_them() {
    let usual = ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from);
    assert_eq!(directories(None), usual);
    assert_eq!(directories(Some(OsStr::new(""))), usual);
    let given = directories(Some(OsStr::new("/a:b")));
    assert_eq!(given, ["/a", "b"].map(PathBuf::from));
}

#[test]
fn an_environment_s_programs_come_first() {
    let dir = tempfile::tempdir().unwrap();
    let python = dir.path().join("bin/python");
    assert_eq!(activated(&python), None);
    std::fs::write(dir.path().join("pyvenv.cfg"), "").unwrap();
    let path = activated(&python).unwrap();
    let all = directories(Some(&path));
    assert_eq!(all[0], dir.path().join("bin"));
    assert!(all.len() > 1);
}
