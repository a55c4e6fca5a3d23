//! uWSGI's magic variables: `%d`, `%n`, `%k` and the others, replaced in a file before it is read.

use std::path::Path;

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
        magic.set('t', "0");
        magic.set('T', "0");
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
