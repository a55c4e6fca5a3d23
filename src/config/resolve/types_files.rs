//! Files with media types, in the form of `/etc/mime.types`: a type, then the ends of names that have it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::Resolver;
use super::static_files::file_type;
use crate::config::error::{ConfigError, invalid};
use crate::config::native;

/// Longest file: that of Debian has 80 KiB.
const LONGEST: u64 = 1 << 20;

impl Resolver<'_> {
    /// Ends of names with their types. The first of several types of one end counts, as in uWSGI.
    pub(super) fn types_files(
        &mut self,
        chdir: &Path,
    ) -> Result<Vec<(String, String)>, ConfigError> {
        let is_foreign = self.is_foreign("types_file");
        let mut all = Vec::new();
        let mut warnings = Vec::new();
        self.many("types_file", |text| {
            let path = chdir.join(native::path(text));
            match read(&path) {
                Ok(text) => {
                    let found = types(&text);
                    warnings.extend(
                        not_understood(&text, &found)
                            .map(|problem| format!("{}: {problem}", path.display())),
                    );
                    all.extend(found);
                }
                // uWSGI serves without it.
                Err(error) if is_foreign => {
                    warnings.push(format!("cannot read {}: {error}", path.display()));
                }
                Err(error) => {
                    let problem = format!("cannot read {}: {error}", path.display());
                    return Err(invalid(problem, "give a file, as in `/etc/mime.types`"));
                }
            }
            Ok(())
        })?;
        let origin = self
            .entry("types_file")
            .map(|entry| entry.origin.to_string());
        for problem in warnings {
            let origin = origin.as_deref().unwrap_or_default();
            self.warnings.push(format!("{origin}: {problem}"));
        }
        Ok(all)
    }
}

fn read(path: &Path) -> io::Result<String> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(LONGEST + 1)
        .read_to_end(&mut bytes)?;
    match bytes.len() as u64 > LONGEST {
        true => Err(io::Error::other("longer than 1 MiB")),
        false => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

/// The pairs of a text. Comments, and what is no media type, are left out.
fn types(text: &str) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let lines = text.lines();
    for line in lines.filter(|line| line.starts_with(|c: char| c.is_ascii_alphanumeric())) {
        let mut words = line
            .split([' ', '\t', '\r'])
            .filter(|word| !word.is_empty());
        let media_type = words.next().unwrap_or_default();
        let ends = words.filter_map(|end| file_type(&format!("{end}={media_type}")).ok());
        all.extend(ends);
    }
    all
}

/// The problem of a text that is in another form, `None` for one of this form, or without any types.
fn not_understood(text: &str, found: &[(String, String)]) -> Option<String> {
    let lines = text.lines().map(str::trim);
    let mut given = lines
        .enumerate()
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let is_nginx = |(_, line): &(usize, &str)| {
        let rest = line.strip_prefix("types");
        line.ends_with(';') || rest.is_some_and(|rest| rest.trim_start().starts_with('{'))
    };
    if let Some((at, _)) = given.clone().find(is_nginx) {
        return Some(format!(
            "line {} is in the form of nginx; types are given as in `text/plain txt log`, without `types {{ }}` and `;`",
            at + 1
        ));
    }
    let (at, _) = given.next().filter(|_| found.is_empty())?;
    Some(format!(
        "line {} is no type with ends of names, and no other line is (give them as in `text/plain txt log`)",
        at + 1
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_a_type_and_the_ends_of_its_names() {
        let text = "# comment\ntext/x-own\t own  OWN2\r\n image/png png\n\
                    application/octet-stream\nnothing x\nmodel/x-a c\n";
        let pair = |end: &str, kind: &str| (end.to_owned(), kind.to_owned());
        assert_eq!(
            types(text),
            [
                pair("own", "text/x-own"),
                pair("own2", "text/x-own"),
                pair("c", "model/x-a")
            ]
        );
        assert_eq!(not_understood(text, &types(text)), None);
    }

    #[test]
    fn other_forms_are_named() {
        let problem = |text: &str| not_understood(text, &types(text)).unwrap_or_default();
        for text in ["", "# only\n\n", "text/plain txt\ngarbage\n"] {
            assert_eq!(problem(text), "", "{text}");
        }
        for (text, expected) in [
            (
                "types {\n  text/x-a foo;\n}\n",
                "line 1 is in the form of nginx",
            ),
            ("types{ text/x-a foo; }\n", "line 1 is in the form of nginx"),
            ("# a\ntext/x-a foo;\n", "line 2 is in the form of nginx"),
            ("<html> foo\n", "line 1 is no type"),
            ("application/octet-stream\n", "line 1 is no type"),
        ] {
            assert!(
                problem(text).contains(expected),
                "{text}: {}",
                problem(text)
            );
        }
    }
}
