//! `pyserve explain`: files of other servers, line by line, and the `pyserve.toml` of the same meaning.
//!
//! 1. [`subjects`] finds what the arguments name: files, all files of a directory, a command line.
//! 2. [`crate::config::foreign`] reads each.
//! 3. [`render`] prints it for people or as JSON, without secrets.

mod render;
mod subjects;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;

use crate::config::foreign::{self, Reading, equivalent};
use crate::config::layers::Layer;
use crate::config::{HostFacts, environment};
use crate::observe::diagnostics::say;
use crate::verbs::print;

use self::subjects::{Subject, SubjectSources};

/// The arguments of `pyserve explain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Files, directories and command lines.
    pub subjects: Vec<String>,
    /// Settings of the command line, of which `python` and `venv` choose the interpreter that evaluates files.
    pub flags: Layer,
    /// Print JSON.
    pub json: bool,
    /// Write `pyserve.toml` into the current directory.
    pub write: bool,
}

/// Something cannot be read, or there is nothing to explain.
const UNREADABLE: u8 = 2;
/// The file that `--write` makes.
const WRITTEN: &str = "pyserve.toml";

/// Explains everything that the arguments name; the exit code is that of the worst line.
pub fn run(request: &Request) -> ExitCode {
    let host = HostFacts::of_this_process();
    let files = foreign::Files::OF_THIS_MACHINE;
    let around = foreign::Surroundings::of(&host, &files).with_root_rights();
    let (variables, _) = environment::layer(&host.environment);
    let layers = [request.flags.clone(), variables];
    let mut code = 0;
    let mut found: Vec<(Subject, Reading)> = Vec::new();
    for argument in &request.subjects {
        match subjects::find(argument, &host.current_dir) {
            Ok(subjects) => found.extend(subjects.into_iter().map(|subject| {
                let reading = match &subject.sources {
                    SubjectSources::Uwsgi(sources) => foreign::uwsgi::read(sources, &around),
                    SubjectSources::Gunicorn(sources) => {
                        foreign::found::read_gunicorn(sources, &layers, &host, &around)
                    }
                    SubjectSources::Supervisord(name) => {
                        foreign::found::read_supervisord(name, &layers, &host, &around)
                    }
                    // It depends on the others.
                    SubjectSources::Nginx(_) => Reading::default(),
                };
                (subject, reading)
            })),
            Err(problem) => {
                say(&format!("pyserve: {problem}"));
                code = UNREADABLE;
            }
        }
    }
    read_nginx(&mut found, &around);
    let worst = found.iter().map(|(_, reading)| reading.exit_code()).max();
    code = code.max(worst.unwrap_or_default());
    let text = match request.json {
        true => render::json(&found),
        false => render::text(&found),
    };
    if let Err(error) = print(text.trim_end()) {
        say(&format!("pyserve: {error}"));
        return ExitCode::FAILURE;
    }
    if request.write
        && let Err(problem) = write(&found)
    {
        say(&format!("pyserve: {problem}"));
        return ExitCode::from(code.max(1));
    }
    ExitCode::from(code)
}

/// Reads the files of nginx, in front of the applications that the other files name.
fn read_nginx(found: &mut [(Subject, Reading)], around: &foreign::Surroundings<'_>) {
    let applications: Vec<Layer> = found
        .iter()
        .map(|(_, reading)| reading.layer.clone())
        .collect();
    for (subject, reading) in found {
        if let SubjectSources::Nginx(name) = &subject.sources {
            *reading = foreign::found::explain_nginx(name, &applications, around);
        }
    }
}

/// Writes the settings of the one subject, with its secrets, which only the owner may read.
fn write(found: &[(Subject, Reading)]) -> Result<(), String> {
    let [(subject, reading)] = found else {
        return Err(format!(
            "{WRITTEN} is not written: it has the settings of one server, and {} were found (name one file)",
            found.len()
        ));
    };
    if reading.exit_code() == UNREADABLE {
        return Err(format!(
            "{WRITTEN} is not written: {} has lines that cannot be read",
            subject.name
        ));
    }
    let mode = match equivalent::has_secrets(&reading.layer) {
        true => 0o600,
        false => 0o644,
    };
    let mut options = OpenOptions::new();
    let opened = options
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(WRITTEN);
    let text = equivalent::file(&reading.layer, false);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            format!("{WRITTEN} is not written: there is one already (remove it first)")
        }
        _ => format!("cannot write {WRITTEN}: {error}"),
    })
}
