//! The files and command lines that the arguments of `pyserve explain` name.

use std::path::{Path, PathBuf};

use super::image;
use super::readers::{self, Source};
use super::subject::{Kind, Subject};
use crate::config::foreign::shell;
use crate::config::native;

/// Deepest folder that is searched.
const DEEPEST: usize = 6;
/// Most entries of a directory and all below that are looked at.
const MOST_ENTRIES: usize = 20_000;
/// Longest file of a directory that is looked into.
const LONGEST: u64 = 256 << 10;
/// Longest file of an image that is read where an argument names it.
const LONGEST_NAMED: u64 = 4 << 20;
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
                "{argument}: nothing to explain is in there: no file of uWSGI, nginx, gunicorn or supervisord, Dockerfile, Procfile, entry script or Compose file"
            )),
            false => Ok(found),
        };
    }
    if !path.exists() && argument.contains(char::is_whitespace) {
        return command_line(argument).map(|subject| vec![subject]);
    }
    let found = path.metadata();
    let is_short = found.is_ok_and(|found| found.is_file() && found.len() <= LONGEST_NAMED);
    let text = match is_short {
        true => std::fs::read(&path).map_err(|error| error.to_string()),
        false => Err(format!("no file of at most {LONGEST_NAMED} bytes")),
    };
    let kind = match &text {
        Ok(text) => kind_of(argument, &String::from_utf8_lossy(text)),
        Err(_) => kind_of(argument, ""),
    };
    if let (Some(Kind::Image(..)), Err(problem)) = (&kind, &text) {
        return Err(format!("{argument}: {problem}"));
    }
    Ok(vec![Subject {
        name: argument.to_owned(),
        kind: kind.unwrap_or_else(|| {
            let text = text.as_deref().unwrap_or_default();
            Kind::Settings(
                readers::otherwise(argument, &String::from_utf8_lossy(text)),
                Source::File(argument.to_owned()),
            )
        }),
    }])
}

/// The reader of a file of this name and text, if there is one.
fn kind_of(name: &str, text: &str) -> Option<Kind> {
    // A Dockerfile or script may have the text of another file in it.
    if image::is_named_so(name) || text.starts_with("#!") {
        let file = image::kind_of(name, text);
        return file.map(|file| Kind::Image(file, text.to_owned()));
    }
    if let Some(reader) = readers::of_file(name, text) {
        return Some(Kind::Settings(reader, Source::File(name.to_owned())));
    }
    let file = image::kind_of(name, text)?;
    Some(Kind::Image(file, text.to_owned()))
}

/// `uwsgi --http :8000 --module mysite.wsgi`, with variables before it perhaps.
fn command_line(line: &str) -> Result<Subject, String> {
    let words = shell::words(line).ok_or("a quote of the command line is not closed")?;
    let at = shell::program(&words);
    let program = words.get(at).map(String::as_str).unwrap_or_default();
    let reader = readers::of_program(program).ok_or_else(|| {
        let known = readers::READERS
            .iter()
            .filter_map(|reader| reader.programs.first());
        let known: Vec<_> = known.copied().collect();
        format!(
            "{program}: neither a file nor a command line that is read ({})",
            known.join(", ")
        )
    })?;
    Ok(Subject {
        name: "command line".to_owned(),
        kind: Kind::Settings(reader, Source::Words(words[at + 1..].to_vec())),
    })
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
        let is_short = path.metadata().is_ok_and(|found| found.len() <= LONGEST);
        let text = match is_short {
            true => std::fs::read(&path).unwrap_or_default(),
            false => continue,
        };
        let name = native::text(shown.as_os_str());
        if let Some(kind) = kind_of(&name, &String::from_utf8_lossy(&text)) {
            found.push(Subject { name, kind });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_before_the_program_belong_to_the_shell() {
        let subject = command_line("PORT=1 exec /usr/bin/uwsgi --http :8000").unwrap();
        let Kind::Settings(reader, Source::Words(words)) = subject.kind else {
            panic!("{subject:?}");
        };
        assert_eq!(reader.server, "uWSGI");
        assert_eq!(words, ["--http", ":8000"]);
        assert!(command_line("gunzip x").is_err());
    }
}
