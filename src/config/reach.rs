//! Checks that the user of the server can access the paths in its settings. Without this check each
//! path would fail later and elsewhere, without the name of the directory that denies access.

use std::path::{Path, PathBuf};

use super::{AppSettings, AppTarget};
use crate::os::access::{AccessDenied, AccessKind, obstacle};

/// The user cannot use what an application needs.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {what} {path}: {obstacle} (change the permissions, or name another path{remedy})", path = path.display())]
pub struct Unreachable {
    what: &'static str,
    path: PathBuf,
    obstacle: AccessDenied,
    remedy: String,
}

/// Looks at interpreter, directories and source of an application.
///
/// # Errors
/// The first of them that a permission keeps from this process.
pub fn check(settings: &AppSettings) -> Result<(), Unreachable> {
    let interpreter = &settings.interpreter;
    let remedy = format!(
        " with --venv or --python; this one is from {}",
        interpreter.origin
    );
    look(
        "the interpreter",
        &interpreter.path,
        AccessKind::Execute,
        remedy,
    )?;
    let remedy = || " with --chdir".to_owned();
    look(
        "the directory",
        &settings.chdir,
        AccessKind::Search,
        remedy(),
    )?;
    for entry in &settings.pythonpath {
        // A file is read as a whole, also for a directory in it (`zipimport`).
        let archive = entry.ancestors().find(|part| part.is_file());
        let (what, path, wanted) = match archive {
            Some(file) => ("the archive", file, AccessKind::Read),
            None => ("the directory", &**entry, AccessKind::Search),
        };
        look(what, path, wanted, " with --pythonpath".to_owned())?;
    }
    let remedy = || " with --app".to_owned();
    match &settings.app.target {
        AppTarget::File(file) => look("the application", file, AccessKind::Read, remedy()),
        AppTarget::Module(name) => {
            let first = name.split('.').next().unwrap_or(name);
            let package = settings.chdir.join(first);
            look("the application", &package, AccessKind::Search, remedy())?;
            let module = settings.chdir.join(format!("{first}.py"));
            look("the application", &module, AccessKind::Read, remedy())
        }
    }
}

fn look(
    what: &'static str,
    path: &Path,
    wanted: AccessKind,
    remedy: String,
) -> Result<(), Unreachable> {
    match obstacle(path, wanted) {
        None => Ok(()),
        Some(obstacle) => Err(Unreachable {
            what,
            path: path.to_owned(),
            obstacle,
            remedy,
        }),
    }
}
