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
        let mut missing = Vec::new();
        self.many("types_file", |text| {
            let path = chdir.join(native::path(text));
            match read(&path) {
                Ok(text) => all.extend(types(&text)),
                // uWSGI serves without it.
                Err(error) if is_foreign => {
                    missing.push(format!("cannot read {}: {error}", path.display()));
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
        for problem in missing {
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
    }
}
