//! The readers of other servers' files and command lines: one row for each server.
//!
//! A row says by which names and texts a file is recognised, and which programs take a command line
//! of that server. Readers are asked in the order of the table, and a reader gets what those before it have
//! found: what a proxy's file means depends on the application behind it.

use std::ops::Deref;

use crate::config::HostFacts;
use crate::config::foreign::found::{
    explain_nginx, form_of, passes_to_application, read_gunicorn, read_supervisord,
};
use crate::config::foreign::gunicorn::{self, is_gunicorn};
use crate::config::foreign::nginx::{is_nginx, is_part_of_nginx};
use crate::config::foreign::supervisord::is_supervisord;
use crate::config::foreign::uwsgi::{self, Form, Sources, is_uwsgi};
use crate::config::foreign::{Reading, Surroundings};
use crate::config::layers::Layer;
use crate::config::settings;

/// The place of settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file, as it was named; a section may stand behind it.
    File(String),
    /// The words of a command line, without the program.
    Words(Vec<String>),
}

/// A server whose files and command lines are read.
#[derive(Debug)]
pub struct Reader {
    /// Its name for people.
    pub server: &'static str,
    /// The flag of pyserve that names its file.
    pub flag: &'static str,
    /// True for a file of this name, below any directory, with this text.
    pub is_its_file: fn(&str, &str) -> bool,
    /// Names of its program.
    pub programs: &'static [&'static str],
    /// The files that a command line names, and the words without them.
    pub files_of: fn(&[String]) -> FilesAndRest,
    /// Reads a source, beside the layers of others.
    pub read: fn(&Source, &[Layer], &Context<'_>) -> Reading,
}

/// Files that a command line names, and its other words.
pub type FilesAndRest = (Vec<String>, Vec<String>);

/// The input of readers besides the sources.
pub struct Context<'a> {
    /// The machine and the files of the settings.
    pub around: Surroundings<'a>,
    /// The machine.
    pub host: &'a HostFacts,
    /// Settings of the command line and the environment: they choose the interpreter that evaluates files of gunicorn, and
    /// the application that a file of nginx means.
    pub chosen: &'a [Layer],
}

impl<'a> Deref for Context<'a> {
    type Target = Surroundings<'a>;

    fn deref(&self) -> &Surroundings<'a> {
        &self.around
    }
}

/// All of them, in the order in which they are asked.
pub static READERS: &[Reader] = &[SUPERVISORD, UWSGI, GUNICORN, NGINX];

const SUPERVISORD: Reader = Reader {
    server: "supervisord",
    flag: "--supervisord",
    is_its_file: |name, text| {
        let base = name.rsplit('/').next().unwrap_or(name);
        let ending = base.rsplit_once('.').map_or("conf", |(_, ending)| ending);
        matches!(ending, "conf" | "ini") && is_supervisord(text)
    },
    // Its command line only names the file.
    programs: &[],
    files_of: |words| (Vec::new(), words.to_vec()),
    read: |source, _, context| match source {
        Source::File(name) => read_supervisord(name, context.chosen, context.host, context),
        Source::Words(_) => Reading::default(),
    },
};

const UWSGI: Reader = Reader {
    server: "uWSGI",
    flag: "--ini",
    is_its_file: |name, text| Form::of_name(name).is_some_and(|form| is_uwsgi(form, text)),
    programs: &["uwsgi", "uwsgi-core", "uwsgi_python3"],
    files_of: uwsgi_files,
    read: |source, _, around| uwsgi::read(&uwsgi_sources(source), around),
};

const GUNICORN: Reader = Reader {
    server: "gunicorn",
    flag: "--gunicorn",
    is_its_file: is_gunicorn,
    programs: &["gunicorn", "gunicorn3"],
    files_of: gunicorn_files,
    read: |source, _, context| {
        let sources = match source {
            Source::File(name) => gunicorn::Sources {
                file: Some(name.clone()),
                ..gunicorn::Sources::default()
            },
            Source::Words(words) => gunicorn::Sources {
                command_line: Some(words.clone()),
                file: None,
            },
        };
        let chosen: Vec<_> = context.chosen.iter().collect();
        read_gunicorn(&sources, &chosen, context.host, context)
    },
};

const NGINX: Reader = Reader {
    server: "nginx",
    flag: "--nginx",
    is_its_file: is_nginx_file,
    // Its command line says nothing about requests.
    programs: &[],
    files_of: |words| (Vec::new(), words.to_vec()),
    read: |source, beside, around| match source {
        Source::File(name) => {
            let layers: Vec<_> = around.chosen.iter().chain(beside).collect();
            with_app(explain_nginx(name, &layers, around), around.chosen)
        }
        Source::Words(_) => Reading::default(),
    },
};

/// Adds the application of the command line or the environment to a site that passes requests to it.
fn with_app(mut reading: Reading, chosen: &[Layer]) -> Reading {
    let given = chosen.iter().find_map(|layer| layer.entry("app"));
    if let (Some(entry), Some(setting)) = (given, settings::named("app"))
        && passes_to_application(&reading.layer)
    {
        let (values, origin) = (entry.values.clone(), entry.origin.clone());
        reading.layer.insert(setting, values, origin);
    }
    reading
}

/// The reader of a file, by its name and its text.
pub fn of_file(name: &str, text: &str) -> Option<&'static Reader> {
    READERS
        .iter()
        .find(|reader| (reader.is_its_file)(name, text))
}

/// The reader of a program's command line.
pub fn of_program(program: &str) -> Option<&'static Reader> {
    let base = program.rsplit('/').next().unwrap_or(program);
    READERS
        .iter()
        .find(|reader| reader.programs.contains(&base))
}

/// The reader of a file that none recognises: its lines say why it is none.
pub fn otherwise(name: &str, text: &str) -> &'static Reader {
    let is_block = |line: &str| line.starts_with("location ") && line.contains('{');
    let is_part = || text.lines().any(is_block) || is_part_of_nginx(text);
    match name.ends_with(".py") {
        true => &GUNICORN,
        // A part of a file of nginx.
        false if is_part() => &NGINX,
        false => &UWSGI,
    }
}

/// The place of a reader in the table.
pub fn rank(reader: &Reader) -> usize {
    let mut all = READERS.iter();
    all.position(|other| other.server == reader.server)
        .unwrap_or_default()
}

fn uwsgi_sources(source: &Source) -> Sources {
    match source {
        Source::File(name) => Sources {
            files: vec![(name.clone(), form_of(name))],
            ..Sources::default()
        },
        Source::Words(words) => Sources {
            command_line: words.clone(),
            ..Sources::default()
        },
    }
}

/// Options of uWSGI that name a file with options.
const UWSGI_FILES: &[&str] = &[
    "--ini", "--yaml", "--yml", "--json", "--xml", "-x", "-y", "-j",
];

fn uwsgi_files(words: &[String]) -> FilesAndRest {
    let (mut files, mut rest) = (Vec::new(), Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        if UWSGI_FILES.contains(&name) {
            files.extend(value.or_else(|| words.next().cloned()));
        } else if !word.starts_with('-') && Form::of_name(word).is_some() {
            files.push(word.clone());
        } else {
            rest.push(word.clone());
            // The value of an option may look like a file.
            let takes_value = name.strip_prefix("--").is_some_and(|name| {
                let option = uwsgi::options::named(name);
                option.is_some_and(|option| option.argument == uwsgi::options::Argument::Required)
            });
            if takes_value && value.is_none() {
                rest.extend(words.next().cloned());
            }
        }
    }
    (files, rest)
}

fn gunicorn_files(words: &[String]) -> FilesAndRest {
    let (mut files, mut rest) = (Vec::new(), Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.split_once('=') {
            Some(("--config", value)) => files.push(value.to_owned()),
            _ if matches!(word.as_str(), "-c" | "--config") => files.extend(words.next().cloned()),
            _ => rest.push(word.clone()),
        }
    }
    (files, rest)
}

/// Endings of files that are none of nginx, whatever their text shows.
const NOT_NGINX: &[&str] = &[
    "ini", "yaml", "yml", "json", "js", "xml", "py", "md", "sh", "html", "rst", "go", "java", "ts",
    "css",
];

/// By its text, as files of nginx have any name.
fn is_nginx_file(name: &str, text: &str) -> bool {
    let base = name.rsplit('/').next().unwrap_or(name);
    let ending = base.rsplit_once('.').map_or("", |(_, ending)| ending);
    base == "nginx.conf" || (!NOT_NGINX.contains(&ending) && is_nginx(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_command_line_are_found_among_its_options() {
        let check = |line: &str, files: &[&str], rest: &str| {
            let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
            let (found, left) = uwsgi_files(&words);
            assert_eq!(
                (&found[..], &*left.join(" ")),
                (
                    &files
                        .iter()
                        .map(|file| (*file).to_owned())
                        .collect::<Vec<_>>()[..],
                    rest
                )
            );
        };
        check("--ini a.ini -p 4", &["a.ini"], "-p 4");
        check("--ini=a.ini:prod --http :80", &["a.ini:prod"], "--http :80");
        check("/etc/uwsgi.ini --master", &["/etc/uwsgi.ini"], "--master");
        check("--yaml a.yml b.json", &["a.yml", "b.json"], "");
        check("--env FILE=a.ini -w site", &[], "--env FILE=a.ini -w site");
        check("--touch-reload a.ini", &[], "--touch-reload a.ini");
    }
}
