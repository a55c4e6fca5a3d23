//! What tests need and neither the project nor the machine carries: `provision.sh` makes it,
//! below the target directory, once.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::source;

/// Packages of the system.
///
/// # Errors
/// Why they cannot be had.
pub fn debian(packages: &[&str]) -> Result<(), String> {
    let run = Command::new("/bin/sh")
        .arg(source("tests/provision/provision.sh"))
        .arg("debian")
        .args(packages)
        .output()
        .map_err(|error| error.to_string())?;
    match run.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&run.stderr).trim().to_owned()),
    }
}

/// The directory `name`, with what `provision.sh` makes there when called with `arguments` of
/// that directory.
///
/// # Errors
/// Why it cannot be had.
pub fn directory(
    name: &str,
    arguments: impl FnOnce(&Path) -> Vec<OsString>,
) -> Result<PathBuf, String> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("provision")
        .join(name);
    let run = Command::new("/bin/sh")
        .arg(source("tests/provision/provision.sh"))
        .args(arguments(&dir))
        .output()
        .map_err(|error| error.to_string())?;
    if run.status.success() {
        return Ok(dir);
    }
    let said = String::from_utf8_lossy(&run.stderr);
    Err(format!("provision.sh said: {}", said.trim()))
}
