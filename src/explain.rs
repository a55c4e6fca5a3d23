//! `pyserve explain`: files of other servers, line by line, and the `pyserve.toml` of the same meaning.
//!
//! 1. [`subjects`] finds what the arguments name: files, all files of a directory, a command line.
//! 2. [`readers`] reads settings of servers, [`image`] the files by which an image starts.
//! 3. [`whole`] puts the settings of a proxy and of the application behind it together.
//! 4. [`render`] prints it for people or as JSON, without secrets.

mod image;
mod readers;
mod render;
mod stand_in;
mod subject;
mod subjects;
mod whole;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use crate::config::foreign::{self, Line, Place, Verdict, equivalent};
use crate::config::layers::Layer;
use crate::config::{HostFacts, environment, native};
use crate::observe::diagnostics::say;
use crate::verbs::print;

use self::image::Explained;
use self::readers::Context;
use self::subject::{Kind, Subject};

/// The arguments of `pyserve explain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Files, directories and command lines.
    pub subjects: Vec<String>,
    /// Settings of the command line, of which `python` and `venv` choose the interpreter that evaluates files, and `app`
    /// is the application behind a site.
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
    let (subjects, mut code) = subjects_of(request, &host);
    let roots = stand_in::roots(&request.subjects, &host.current_dir);
    let placements = image::placements(&subjects, &host.current_dir);
    let stand_in = |path: &Path| {
        let copied = image::stand_in(path, &placements, &host.current_dir);
        copied.or_else(|| stand_in::of(path, &roots))
    };
    let read = |path: &Path, most: usize| {
        let found = stand_in(path);
        (foreign::Files::OF_THIS_MACHINE.read)(found.as_deref().unwrap_or(path), most)
    };
    let kind = |path: &Path| {
        let found = stand_in(path);
        (foreign::Files::OF_THIS_MACHINE.kind)(found.as_deref().unwrap_or(path))
    };
    let files = foreign::Files {
        read: &read,
        kind: &kind,
        stand_in: &stand_in,
        ..foreign::Files::OF_THIS_MACHINE
    };
    let (variables, _) = environment::layer(&host.environment);
    let context = Context {
        around: foreign::Surroundings::of(&host, &files).for_explanation(),
        host: &host,
        chosen: &[request.flags.clone(), variables],
    };
    let found = whole::without_parts(explained(subjects, &context), &context);
    let whole = whole::of(&found);
    let worst = found.iter().map(|(_, found)| found.reading.exit_code());
    code = code.max(worst.max().unwrap_or_default());
    let text = match request.json {
        true => render::json(&found, whole.as_ref()),
        false => render::text(&found, whole.as_ref()),
    };
    if let Err(error) = print(text.trim_end()) {
        say(&format!("pyserve: {error}"));
        return ExitCode::FAILURE;
    }
    if request.write {
        match write(&found, whole.as_ref()) {
            Ok(()) => {
                let path = host.current_dir.join(WRITTEN);
                say(&format!(
                    "pyserve: wrote {}",
                    native::shown(&native::text(path.as_os_str()))
                ));
            }
            Err(problem) => {
                say(&format!("pyserve: {problem}"));
                return ExitCode::from(code.max(1));
            }
        }
    }
    ExitCode::from(code)
}

/// Everything that the arguments name, and the exit code so far.
fn subjects_of(request: &Request, host: &HostFacts) -> (Vec<Subject>, u8) {
    let mut code = 0;
    let mut subjects = Vec::new();
    for argument in &request.subjects {
        match subjects::find(argument, &host.current_dir) {
            Ok(found) => subjects.extend(found),
            Err(problem) => {
                say(&format!("pyserve: {problem}"));
                code = UNREADABLE;
            }
        }
    }
    (subjects, code)
}

/// The files of servers in a directory, by their names below it, with the names of these servers.
pub fn servers_in(directory: &Path) -> Vec<(String, &'static str)> {
    let found = subjects::find(".", directory).unwrap_or_default();
    let settings = found
        .into_iter()
        .filter(|subject| matches!(subject.kind, Kind::Settings(..)));
    settings
        .map(|subject| {
            let server = subject.server();
            let name = subject.name.strip_prefix("./").unwrap_or(&subject.name);
            (name.to_owned(), server)
        })
        .collect()
}

/// Reads everything: settings in the order of their readers, then the files of images.
fn explained(subjects: Vec<Subject>, context: &Context<'_>) -> Vec<(Subject, Explained)> {
    let mut all: Vec<Explained> = subjects.iter().map(|_| Explained::default()).collect();
    let mut layers: Vec<Layer> = Vec::new();
    let mut order: Vec<usize> = (0..subjects.len()).collect();
    order.sort_by_key(|index| match &subjects[*index].kind {
        Kind::Settings(reader, _) => (0, readers::rank(reader)),
        Kind::Image(..) => (1, 0),
    });
    // Before proxies are read, the commands of images count as well.
    for subject in &subjects {
        layers.extend(image::layers(subject, &subjects, context));
    }
    for index in order {
        let subject = &subjects[index];
        match &subject.kind {
            Kind::Settings(reader, source) => {
                let mut reading = (reader.read)(source, &layers, context);
                if matches!(source, readers::Source::File(_)) {
                    image::home::bring(&subject.name, &mut reading, &subjects, context);
                }
                layers.push(reading.layer.clone());
                all[index].reading = reading;
            }
            Kind::Image(file, text) => {
                let beside = (&subjects[..], &all[..]);
                all[index] = image::explain(*file, &subject.name, text, beside, context);
            }
        }
    }
    let mut all: Vec<_> = subjects.into_iter().zip(all).collect();
    let is_served = layers.iter().any(serves);
    for (subject, explained) in all.iter_mut().filter(|_| !is_served) {
        nothing_to_serve(subject, explained);
    }
    all
}

/// True if the settings name something that answers requests.
fn serves(layer: &Layer) -> bool {
    let names = ["app", "upstream", "uwsgi"];
    !layer.locations.is_empty() || names.iter().any(|name| layer.entry(name).is_some())
}

/// Adds a line to a file whose programs are all companions: with these settings alone, no start succeeds.
fn nothing_to_serve(subject: &Subject, explained: &mut Explained) {
    if explained.reading.layer.companions.is_empty() || !whole::is_supervisord(subject) {
        return;
    }
    let why = "no program of the file starts uWSGI, gunicorn or nginx, so there is nothing to serve: name the application with `app`, or forward to a companion, with [[location]] prefix = \"/\", upstream = \"http://127.0.0.1:PORT\"";
    explained.reading.lines.push(Line {
        place: Place {
            source: subject.name.as_str().into(),
            line: 0,
        },
        text: "(all programs)".to_owned(),
        verdict: Verdict::Unsupported(why.to_owned()),
    });
}

/// Writes the settings of the one subject, or of a proxy and the application behind it, with their
/// secrets, which only the owner may read.
fn write(found: &[(Subject, Explained)], whole: Option<&Layer>) -> Result<(), String> {
    let settings = found
        .iter()
        .filter(|(subject, _)| matches!(subject.kind, Kind::Settings(..)));
    let settings: Vec<_> = settings.collect();
    let layer = match (&settings[..], whole) {
        (_, Some(whole)) => whole,
        ([(_, explained)], None) => &explained.reading.layer,
        _ => {
            return Err(format!(
                "{WRITTEN} is not written: it has the settings of one site, and files of {} servers were found (name the files of one site)",
                settings.len()
            ));
        }
    };
    let unreadable = settings
        .iter()
        .find(|(_, explained)| explained.reading.exit_code() == UNREADABLE);
    if let Some((subject, _)) = unreadable {
        return Err(format!(
            "{WRITTEN} is not written: {} has lines that cannot be read",
            subject.name
        ));
    }
    let mode = match equivalent::has_secrets(layer) {
        true => 0o600,
        false => 0o644,
    };
    let mut options = OpenOptions::new();
    let opened = options
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(WRITTEN);
    let text = equivalent::file(layer, false);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            format!("{WRITTEN} is not written: there is one already (remove it first)")
        }
        _ => format!("cannot write {WRITTEN}: {error}"),
    })
}
