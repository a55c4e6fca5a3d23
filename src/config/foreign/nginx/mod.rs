//! nginx's configuration: a site, or a whole `nginx.conf` with its includes.
//!
//! 1. [`lexer`] and [`tree`] give all directives with their places, by nginx's own rules; `templates`
//!    fills what `envsubst` would.
//! 2. [`meaning`] gives each a verdict, and makes the layer of settings.

mod directives;
mod glob;
mod lexer;
mod meaning;
mod templates;
mod tree;

use std::io;
use std::path::{Path, PathBuf};

use super::{Reading, Surroundings};
use crate::config::native;

pub use meaning::{Given, size};

/// True if a text is a configuration of nginx: it has a `server` or `http` block.
pub fn is_nginx(text: &str) -> bool {
    let text = text.trim_start_matches('\u{feff}');
    let mut words = text
        .split(|c: char| c.is_whitespace() || c == '{')
        .filter(|word| !word.is_empty());
    let has_block = |name: &str| {
        text.lines().any(|line| {
            let rest = line.trim().strip_prefix(name);
            rest.is_some_and(|rest| rest.trim_start().starts_with('{') || rest.is_empty())
        })
    };
    (has_block("server") || has_block("http"))
        && words.any(|word| {
            matches!(
                word,
                "location" | "listen" | "server_name" | "include" | "proxy_pass"
            )
        })
}

/// True if a text is a part of a file of nginx: its first line is a directive, or a `location`.
pub fn is_part_of_nginx(text: &str) -> bool {
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let is_end = |line: &str| line.ends_with([';', '{', '}']) || line.contains("; #");
    lines.next().is_some_and(|line| {
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let is_known = directives::names().any(|known| known == name);
        is_known && is_end(line) && !rest.trim_start().starts_with(['=', ':'])
    })
}

/// Reads the file `name`, and says what becomes of it.
pub fn read(name: &str, around: &Surroundings<'_>, given: &Given<'_>) -> Reading {
    let path = around.current_dir.join(native::path(name));
    let read = |path: &Path| -> io::Result<Vec<u8>> {
        match (around.files.kind)(path) {
            None => Err(io::ErrorKind::NotFound.into()),
            Some(kind) if !kind.is_file => Err(io::Error::other("not a file")),
            Some(_) => (around.files.read)(path, LONGEST).map_err(io::Error::other),
        }
    };
    let disk = tree::Disk {
        read: &read,
        list: &list,
    };
    let mut tree = tree::read(name, &path, &disk);
    let has_app = given.app || given.found_app.is_some();
    let mut stand_ins = templates::StandIns::of(&tree, given.variable, has_app);
    stand_ins.fill(&mut tree, given.variable);
    let mut reading = meaning::of(&tree, given);
    stand_ins.put_back(&mut reading);
    reading
}

/// Longest file.
const LONGEST: usize = 1 << 20;

fn list(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| PathBuf::from(entry.file_name()))
        .collect()
}

#[cfg(test)]
mod tests;
