//! The interpreters that this machine has, and virtual environments made with them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use super::{provision, skipped};

/// An interpreter and what it says about itself.
#[derive(Debug, Clone)]
pub struct Interpreter {
    /// The executable.
    pub path: PathBuf,
    /// Major and minor version.
    pub version: (u32, u32),
    /// The whole version, `3.11.2`.
    pub full_version: String,
}

/// Every interpreter found, oldest first.
pub fn all() -> &'static [Interpreter] {
    static ALL: LazyLock<Vec<Interpreter>> = LazyLock::new(find_all);
    &ALL
}

/// The interpreters that pyserve serves.
pub fn supported() -> impl Iterator<Item = &'static Interpreter> {
    all().iter().filter(|python| python.version >= (3, 9))
}

/// The interpreters that pyserve refuses.
pub fn too_old() -> impl Iterator<Item = &'static Interpreter> {
    all().iter().filter(|python| python.version < (3, 9))
}

/// The interpreter of all tests that do not care: the system's, else the newest found.
pub fn default() -> PathBuf {
    let system = Path::new("/usr/bin/python3");
    supported()
        .find(|python| python.path == system)
        .or_else(|| supported().last())
        .expect("the tests need a CPython of version 3.9 or newer")
        .path
        .clone()
}

/// A virtual environment of this interpreter with Django and Flask in it.
///
/// # Errors
/// Why it cannot be had.
pub fn venv(python: &Interpreter) -> Result<PathBuf, String> {
    environment("venv", python)
}

/// An environment of the system's interpreter with gevent, eventlet and python-dotenv.
///
/// # Errors
/// Why it cannot be had.
pub fn libraries() -> Result<PathBuf, String> {
    let python = supported().find(|python| python.path == default());
    environment("libraries", python.ok_or("there is no interpreter")?)
}

/// The same with more in it: `uwsgi` has uWSGI, `peers` has other servers, `libraries` has what
/// applications import.
///
/// # Errors
/// Why it cannot be had.
pub fn environment(set: &str, python: &Interpreter) -> Result<PathBuf, String> {
    let name = format!("{set}-{}", python.full_version);
    provision::directory(&name, |dir| {
        vec![set.into(), python.path.clone().into(), dir.into()]
    })
}

/// Runs a line of Python; what it printed.
pub fn run(python: &Path, line: &str) -> Option<String> {
    let run = Command::new(python).args(["-c", line]).output().ok()?;
    let printed = String::from_utf8(run.stdout).ok()?;
    run.status.success().then(|| printed.trim().to_owned())
}

fn find_all() -> Vec<Interpreter> {
    let mut paths = vec![PathBuf::from("/usr/bin/python3")];
    if let Some(home) = std::env::home_dir() {
        let versions = std::fs::read_dir(home.join(".pyenv/versions"));
        for version in versions.into_iter().flatten().flatten() {
            let bin = version.path().join("bin");
            let names = ["python3", "python2"].map(|name| bin.join(name));
            paths.extend(names.into_iter().find(|path| path.exists()));
        }
    }
    let mut found: Vec<_> = paths.into_iter().filter_map(ask).collect();
    found.extend(newest(&found));
    found.sort_by_key(|python| python.version);
    found
}

/// The newest versions, which the suites of this machine do not have: those of Debian's unstable suite, with its
/// C library.
fn newest(found: &[Interpreter]) -> Vec<Interpreter> {
    let is_there = |version| found.iter().any(|python| python.version == version);
    if NEWEST.into_iter().all(is_there) {
        return Vec::new();
    }
    let names = NEWEST.map(|(major, minor)| format!("{major}.{minor}"));
    let made = provision::directory("pythons-sid", |dir| {
        let mut arguments = vec!["pythons".into(), "sid".into(), dir.into()];
        arguments.extend(names.iter().map(OsString::from));
        arguments
    });
    match made {
        Ok(dir) => {
            let paths = names.iter().map(|name| dir.join(format!("python{name}")));
            let links = paths.filter_map(|path| path.canonicalize().ok());
            let pythons = links.filter_map(ask);
            pythons.filter(|python| !is_there(python.version)).collect()
        }
        Err(because) => {
            skipped(&format!("Python {}", names.join(" and ")), &because);
            Vec::new()
        }
    }
}

/// The versions that Debian's stable suites do not have.
const NEWEST: [(u32, u32); 2] = [(3, 14), (3, 15)];

fn ask(path: PathBuf) -> Option<Interpreter> {
    let line = "import sys; print('%d.%d.%d' % tuple(sys.version_info[:3]))";
    let full_version = run(&path, line)?;
    let mut parts = full_version.split('.').map_while(|part| part.parse().ok());
    let version = (parts.next()?, parts.next()?);
    Some(Interpreter {
        path,
        version,
        full_version,
    })
}
