//! The files and command lines that the arguments of `pyserve explain` name.

use std::path::{Path, PathBuf};

use crate::config::foreign::found::form_of;
use crate::config::foreign::gunicorn::{self, is_gunicorn};
use crate::config::foreign::nginx::is_nginx;
use crate::config::foreign::supervisord::is_supervisord;
use crate::config::foreign::uwsgi::{Form, Sources, is_uwsgi};
use crate::config::native;

/// One configuration to explain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The file or command line, for people.
    pub name: String,
    /// The server that it is for.
    pub server: &'static str,
    /// Its sources.
    pub sources: SubjectSources,
}

/// The sources of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectSources {
    /// Those of a uWSGI.
    Uwsgi(Sources),
    /// The file of a site or of a whole nginx.
    Nginx(String),
    /// The file of a supervisord.
    Supervisord(String),
    /// Those of a gunicorn.
    Gunicorn(gunicorn::Sources),
}

/// Deepest folder that is searched.
const DEEPEST: usize = 6;
/// Most entries of a directory and all below that are looked at.
const MOST_ENTRIES: usize = 20_000;
/// Longest file of a directory that is looked into.
const LONGEST: u64 = 256 << 10;
/// Folders with code of others.
const SKIPPED: &[&str] = &[
    "node_modules",
    "site-packages",
    "__pycache__",
    "dist-packages",
];

/// The subjects that an argument names.
///
/// # Errors
/// The reason, if there is none.
pub fn find(argument: &str, current: &Path) -> Result<Vec<Subject>, String> {
    let path = current.join(native::path(argument));
    if path.is_dir() {
        let mut found = Vec::new();
        search(&path, Path::new(argument), &mut found);
        return match found.is_empty() {
            true => Err(format!(
                "{argument}: no configuration of uWSGI, nginx, gunicorn or supervisord is in there"
            )),
            false => Ok(found),
        };
    }
    if !path.exists() && argument.contains(char::is_whitespace) {
        return command_line(argument).map(|subject| vec![subject]);
    }
    let text = std::fs::read(&path).unwrap_or_default();
    Ok(vec![if argument.ends_with(".py") {
        gunicorn(argument)
    } else if is_supervisord_file(&path, &text) {
        supervisord(argument)
    } else if is_nginx_file(&path, &text) {
        nginx(argument)
    } else {
        uwsgi(argument, form_of(argument))
    }])
}

fn gunicorn(name: &str) -> Subject {
    Subject {
        name: name.to_owned(),
        server: "gunicorn",
        sources: SubjectSources::Gunicorn(gunicorn::Sources {
            file: Some(name.to_owned()),
            ..gunicorn::Sources::default()
        }),
    }
}

fn supervisord(name: &str) -> Subject {
    Subject {
        name: name.to_owned(),
        server: "supervisord",
        sources: SubjectSources::Supervisord(name.to_owned()),
    }
}

/// True for a file of supervisord, by its text.
fn is_supervisord_file(path: &Path, text: &[u8]) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    matches!(ending, None | Some("conf" | "ini")) && is_supervisord(&String::from_utf8_lossy(text))
}

fn nginx(name: &str) -> Subject {
    Subject {
        name: name.to_owned(),
        server: "nginx",
        sources: SubjectSources::Nginx(name.to_owned()),
    }
}

/// True for a file of nginx: by its text, as such files have any name.
fn is_nginx_file(path: &Path, text: &[u8]) -> bool {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let ending = path
        .extension()
        .map(|ending| ending.to_string_lossy().into_owned());
    let is_other = matches!(
        ending.as_deref(),
        Some(
            "ini"
                | "yaml"
                | "yml"
                | "json"
                | "js"
                | "xml"
                | "py"
                | "md"
                | "sh"
                | "html"
                | "rst"
                | "go"
                | "java"
                | "ts"
                | "css"
        )
    );
    let is_main = name.is_some_and(|name| name == "nginx.conf");
    is_main || (!is_other && is_nginx(&String::from_utf8_lossy(text)))
}

fn uwsgi(name: &str, form: Form) -> Subject {
    Subject {
        name: name.to_owned(),
        server: "uWSGI",
        sources: SubjectSources::Uwsgi(Sources {
            files: vec![(name.to_owned(), form)],
            ..Sources::default()
        }),
    }
}

/// `uwsgi --http :8000 --module mysite.wsgi`, with variables before it perhaps.
fn command_line(line: &str) -> Result<Subject, String> {
    let words = words(line).ok_or("a quote of the command line is not closed")?;
    let mut words = words.into_iter();
    let program = words.find(|word| {
        let is_variable = word
            .split('/')
            .next()
            .is_some_and(|start| start.contains('='));
        !is_variable && word != "exec"
    });
    let program = program.unwrap_or_default();
    let base = program.rsplit('/').next().unwrap_or_default();
    if base.starts_with("gunicorn") {
        return Ok(Subject {
            name: "command line".to_owned(),
            server: "gunicorn",
            sources: SubjectSources::Gunicorn(gunicorn::Sources {
                command_line: Some(words.collect()),
                file: None,
            }),
        });
    }
    if !base.starts_with("uwsgi") {
        return Err(format!(
            "{program}: neither a file nor a command line of uWSGI or gunicorn"
        ));
    }
    Ok(Subject {
        name: "command line".to_owned(),
        server: "uWSGI",
        sources: SubjectSources::Uwsgi(Sources {
            command_line: words.collect(),
            ..Sources::default()
        }),
    })
}

/// The words of a line for the shell: quotes and backslashes, and nothing else of it.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        match (quote, char) {
            (None, char) if char.is_whitespace() => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            (Some(open), _) if open == char => quote = None,
            (None | Some('"'), '\\') => match chars.next() {
                // A line that goes on.
                Some('\n') => {}
                next => word.get_or_insert_default().extend(next),
            },
            _ => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word.take());
    quote.is_none().then_some(words)
}

/// Every configuration in a directory and below, by name.
fn search(dir: &Path, shown: &Path, found: &mut Vec<Subject>) {
    let mut open = vec![(dir.to_owned(), shown.to_owned(), 0)];
    let mut left = MOST_ENTRIES;
    let mut files: Vec<(PathBuf, PathBuf)> = Vec::new();
    while let Some((dir, shown, depth)) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries.flatten().take(left) {
            left -= 1;
            let name = entry.file_name();
            let name = Path::new(&name);
            let text = name.to_string_lossy();
            let (path, shown) = (entry.path(), shown.join(name));
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            let is_skipped = text.starts_with('.') || SKIPPED.contains(&&*text);
            if kind.is_dir() && !is_skipped && depth < DEEPEST {
                // A virtual environment holds code of others.
                if !path.join("pyvenv.cfg").exists() {
                    open.push((path, shown, depth + 1));
                }
            } else if path.is_file() {
                files.push((path, shown));
            }
        }
    }
    files.sort();
    for (path, shown) in files {
        let form = Form::of_name(&path.to_string_lossy());
        let is_short = path.metadata().is_ok_and(|found| found.len() <= LONGEST);
        let text = match is_short {
            true => std::fs::read(&path).unwrap_or_default(),
            false => continue,
        };
        let shown = native::text(shown.as_os_str());
        if is_supervisord_file(&path, &text) {
            found.push(supervisord(&shown));
            continue;
        }
        match form {
            Some(form) if is_uwsgi(form, &String::from_utf8_lossy(&text)) => {
                found.push(uwsgi(&shown, form))
            }
            None if is_nginx_file(&path, &text) => found.push(nginx(&shown)),
            None if is_gunicorn(&shown, &String::from_utf8_lossy(&text)) => {
                found.push(gunicorn(&shown));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_split_as_the_shell_splits_it() {
        let check = |line: &str, expected: Option<&[&str]>| {
            let split = words(line);
            let split = split.as_ref().map(|words| {
                let words: Vec<_> = words.iter().map(String::as_str).collect();
                words
            });
            assert_eq!(split.as_deref(), expected, "{line}");
        };
        check("a  b", Some(&["a", "b"]));
        check("a 'b c' \"d \\\" e\"", Some(&["a", "b c", "d \" e"]));
        check("a \\\n b\\ c ''", Some(&["a", "b c", ""]));
        check("a 'b", None);
    }

    #[test]
    fn variables_before_the_program_belong_to_the_shell() {
        let subject = command_line("PORT=1 exec /usr/bin/uwsgi --http :8000").unwrap();
        let SubjectSources::Uwsgi(sources) = subject.sources else {
            panic!("{subject:?}");
        };
        assert_eq!(sources.command_line, ["--http", ":8000"]);
        assert!(command_line("gunzip x").is_err());
    }
}
