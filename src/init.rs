//! `pyserve init`: a commented `pyserve.toml`, a `Dockerfile` and a `.dockerignore` for a directory.
//!
//! 1. [`project`] reads the directory: application, packages, version of Python, files. Nothing is imported.
//! 2. [`settings_file`] and [`dockerfile`] write the texts.
//! 3. This file prints or stores them. A file that exists is never changed.

mod dockerfile;
mod packages;
mod project;
mod python;
mod settings_file;
mod source;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::project::Project;
use crate::config::foreign::equivalent;
use crate::config::layers::Layer;
use crate::explain;
use crate::observe::diagnostics::say;
use crate::verbs::print;

/// The arguments of `pyserve init`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The directory.
    pub directory: PathBuf,
    /// Settings of the command line, which the file contains.
    pub flags: Layer,
    /// Print the files, and write none.
    pub dry_run: bool,
}

/// The directory has no application.
const NOTHING_FOUND: u8 = 78;

/// A file to write.
struct NewFile {
    name: &'static str,
    text: String,
    /// Permissions, less the umask.
    mode: u32,
}

/// Writes or prints the files; 1 if none is new, 78 if there is no application.
pub fn run(request: &Request) -> ExitCode {
    let servers = explain::servers_in(&request.directory);
    let project = match project::look(&request.directory, &request.flags, servers) {
        Ok(project) => project,
        Err(problem) => {
            say(&format!("pyserve: {problem}"));
            return ExitCode::from(NOTHING_FOUND);
        }
    };
    let files = [
        NewFile {
            name: "pyserve.toml",
            text: settings_file::text(&project, &request.flags),
            mode: match equivalent::has_secrets(&request.flags) {
                true => 0o600,
                false => 0o644,
            },
        },
        NewFile {
            name: "Dockerfile",
            text: dockerfile::text(&project),
            mode: 0o644,
        },
        NewFile {
            name: ".dockerignore",
            text: dockerfile::IGNORED.to_owned(),
            mode: 0o644,
        },
    ];
    let outcome = match request.dry_run {
        true => Ok(files.iter().map(shown).collect::<Vec<_>>().join("\n")),
        false => store(&request.directory, &files, &project),
    };
    let printed = outcome.and_then(|text| {
        print(text.trim_end()).map_err(|error| format!("cannot write standard output: {error}"))
    });
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            say(&format!("pyserve: {problem}"));
            ExitCode::FAILURE
        }
    }
}

fn shown(file: &NewFile) -> String {
    format!("==> {} <==\n{}", file.name, file.text)
}

/// Writes the files that are not there; the report of it.
fn store(directory: &Path, files: &[NewFile], project: &Project) -> Result<String, String> {
    let mut report = vec![format!("found: {}", project.found)];
    let mut written = 0;
    for file in files {
        match create(&directory.join(file.name), file) {
            Ok(()) => {
                written += 1;
                report.push(format!("wrote {}", file.name));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                report.push(format!("kept {}, which exists", file.name));
            }
            Err(error) => return Err(format!("cannot write {}: {error}", file.name)),
        }
    }
    if written == 0 {
        return Err(
            "all files exist, and none is overwritten (`pyserve init --dry-run` prints new ones)"
                .to_owned(),
        );
    }
    report.extend(project.notes());
    report.push("next: `pyserve check`".to_owned());
    Ok(report.join("\n"))
}

/// Creates a file; it is removed again if not all of it can be written.
fn create(path: &Path, new: &NewFile) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(new.mode);
    let mut file = options.open(path)?;
    file.write_all(new.text.as_bytes()).inspect_err(|_| {
        let _may_stay = std::fs::remove_file(path);
    })
}
