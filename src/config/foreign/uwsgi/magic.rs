//! uWSGI's magic variables: `%d`, `%n`, `%k` and the others, replaced in a file before it is read.

use std::path::Path;
use std::time::UNIX_EPOCH;

use crate::config::foreign::Surroundings;
use crate::config::native;

/// The meaning of each character behind a `%`.
#[derive(Debug, Clone)]
pub struct Magic {
    table: Vec<String>,
    /// True once the variables in capitals have their values, those of the first file.
    is_first_file_known: bool,
}

impl Magic {
    /// The variables that no file sets.
    pub fn new(around: &Surroundings<'_>) -> Self {
        let mut magic = Self {
            table: vec![String::new(); 128],
            is_first_file_known: false,
        };
        magic.set('%', "%");
        magic.set('(', "%(");
        magic.set('[', "\u{1b}");
        magic.set('v', &native::text(around.current_dir.as_os_str()));
        magic.set('h', &around.hostname);
        magic.set('k', &around.cpus.to_string());
        magic.set('V', VERSION);
        magic.set('u', &around.user.0.to_string());
        magic.set('U', &around.user.1);
        magic.set('g', &around.group.0.to_string());
        magic.set('G', &around.group.1);
        let now = around.now.duration_since(UNIX_EPOCH).unwrap_or_default();
        magic.set('t', &now.as_secs().to_string());
        magic.set('T', &now.as_micros().to_string());
        magic
    }

    fn set(&mut self, name: char, value: &str) {
        if let Some(place) = self.table.get_mut(name as usize) {
            value.clone_into(place);
        }
    }

    fn of(&self, name: char) -> &str {
        self.table.get(name as usize).map_or("", String::as_str)
    }

    /// Sets the variables of `file`, which may have `:section` behind it. An `included` file does
    /// not become the first one.
    pub fn enter(&mut self, file: &str, included: bool, around: &Surroundings<'_>) {
        self.set('o', file);
        let (name, section) = match file.rsplit_once(':') {
            Some((name, section)) => (name, section),
            None => (file, ""),
        };
        // `:section` is of the file before.
        if !name.is_empty() {
            self.enter_path(&full_name(name, around));
            let inode = around.kind(name).map_or(0, |kind| kind.inode);
            self.set('i', &inode.to_string());
        }
        self.set('x', section);
        if !self.is_first_file_known && !included {
            for name in ['o', 'd', 's', 'p', 'c', 'e', 'n', 'x', 'i', 'j'] {
                let value = self.of(name).to_owned();
                self.set(name.to_ascii_uppercase(), &value);
            }
            self.is_first_file_known = true;
        }
    }

    fn enter_path(&mut self, path: &str) {
        let (dir, base) = path.rsplit_once('/').unwrap_or(("", path));
        self.set('p', path);
        self.set('j', &hash(path));
        self.set('s', base);
        self.set('d', &format!("{dir}/"));
        self.set('c', dir.rsplit('/').next().unwrap_or_default());
        let (name, ending) = base.rsplit_once('.').unwrap_or((base, ""));
        self.set('n', name);
        self.set('e', ending);
        let parts: Vec<_> = dir.split('/').filter(|part| !part.is_empty()).collect();
        for digit in 0..=9u8 {
            let part = parts.get(usize::from(digit)).copied().unwrap_or_default();
            self.set(char::from(b'0' + digit), part);
        }
    }

    /// `text` with its variables replaced, of at most `most` bytes. A `%` before any other character
    /// disappears with it.
    ///
    /// # Errors
    /// The reason, if the text becomes longer.
    pub fn apply(&self, text: &str, most: usize) -> Result<String, String> {
        let mut result = String::with_capacity(text.len());
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            match char {
                // At the end uWSGI takes the zero behind the text for the name.
                '%' => {
                    if let Some(name) = chars.next() {
                        result.push_str(self.of(name));
                    }
                }
                _ => result.push(char),
            }
            if result.len() > most {
                return Err(format!("longer than {most} bytes with its variables"));
            }
        }
        Ok(result)
    }
}

/// The bytes of Bernstein's hash of a path, as uWSGI writes them on a little-endian machine (`djb33x_hash`,
/// `uwsgi_str2hex`).
fn hash(path: &str) -> String {
    let start: u32 = 5381;
    let hash = path
        .bytes()
        .fold(start, |hash, byte| hash.wrapping_mul(33) ^ u32::from(byte));
    let bytes = hash.to_le_bytes();
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// True if the text has `%b`, for which there is no value here.
pub fn names_program(text: &str) -> bool {
    let mut behind = text.split('%').skip(1);
    let mut is_found = false;
    while let Some(part) = behind.next() {
        match part.is_empty() {
            // `%%`: the part behind it is text.
            true => drop(behind.next()),
            false => is_found |= part.starts_with('b'),
        }
    }
    is_found
}

/// Names of variables that no one writes for a program, with their meaning.
const MEANINGS: &[(&str, &str)] = &[
    ("tT", "the time of the start"),
    ("pP", "the path of the file"),
    ("sS", "the name of the file"),
    ("oO", "the name of the file as it was given"),
    ("dD", "the directory of the file"),
    ("cC", "the name of the directory of the file"),
    ("nN", "the name of the file without its ending"),
    ("eE", "the ending of the file"),
    ("xX", "the section of the file"),
    ("iI", "the inode of the file"),
    ("jJ", "the hash of the file's path"),
    ("b", "the program of uWSGI"),
    ("v", "the current directory"),
    ("h", "the name of the machine"),
    ("k", "the number of CPUs"),
    ("V", "the version of uWSGI"),
    ("uUgG", "the user or group of the server"),
    ("0123456789", "a part of the directory of the file"),
];
/// Words of commands that have formats with percent signs of their own.
const FORMATS: &[&str] = &["printf", "date", "strftime", "format"];

/// The variables in the line of a command that were meant for its program, with their meaning: those of a
/// format, and all of a line with one that means nothing in a file, or the time.
pub fn meant_for_program(line: &str) -> Vec<(char, &'static str)> {
    let mut found: Vec<(char, &'static str)> = Vec::new();
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        if char != '%' {
            continue;
        }
        let Some(name) = chars.next().filter(char::is_ascii_alphanumeric) else {
            continue;
        };
        let mut known = MEANINGS.iter();
        let known = known.find(|(names, _)| names.contains(name));
        let meaning = known.map_or("nothing", |(_, meaning)| meaning);
        if !found.contains(&(name, meaning)) {
            found.push((name, meaning));
        }
    }
    let is_odd = |(name, meaning): &(char, &str)| "tTb".contains(*name) || *meaning == "nothing";
    let has_format = FORMATS.iter().any(|word| line.contains(word));
    match has_format || found.iter().any(is_odd) {
        true => found,
        false => Vec::new(),
    }
}

/// The version in `%V`.
const VERSION: &str = "2.0.31";

/// The absolute name: links are followed, except that of the file itself.
fn full_name(name: &str, around: &Surroundings<'_>) -> String {
    let path = around.current_dir.join(native::path(name));
    let is_link = around.kind(name).is_some_and(|kind| kind.is_link);
    let full = match is_link {
        true if Path::new(name).is_absolute() => path,
        true => around.current_dir.join(name),
        false => (around.files.real)(&path).unwrap_or(path),
    };
    native::text(full.as_os_str())
}
