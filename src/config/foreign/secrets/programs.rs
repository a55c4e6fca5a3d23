//! Programs whose options for a password do not tell: `mysql -pSECRET`, `redis-cli -a SECRET`.

/// The form of an option's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// It begins in the same word: the next one is something else.
    Attached,
    /// It begins in the same word, or is the next one.
    Either,
}

/// The start of a program's name, its option, and the form of the value.
const PROGRAMS: &[(&str, &str, Form)] = &[
    ("mysql", "-p", Form::Attached),
    ("mariadb", "-p", Form::Attached),
    ("mycli", "-p", Form::Attached),
    ("7z", "-p", Form::Attached),
    ("redis-cli", "-a", Form::Either),
    ("keydb-cli", "-a", Form::Either),
    ("valkey-cli", "-a", Form::Either),
    ("sshpass", "-p", Form::Either),
    ("mongo", "-p", Form::Either),
    ("cqlsh", "-p", Form::Either),
    ("ldap", "-w", Form::Either),
    ("zip", "-P", Form::Either),
    ("unzip", "-P", Form::Either),
];

/// A secret that a word of a command line has, or announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It begins at this byte of the word.
    At(usize),
    /// It is the next word.
    Next,
}

/// The programs that the words so far have named.
#[derive(Debug, Default)]
pub struct Programs {
    options: Vec<(&'static str, Form)>,
}

impl Programs {
    /// Takes the next word, which may have quotes and marks of lists around it.
    pub fn next(&mut self, word: &str) -> Option<Found> {
        let start = word.len() - word.trim_start_matches(MARKS).len();
        let plain = word[start..].trim_end_matches(MARKS);
        for (option, form) in &self.options {
            match plain.strip_prefix(option) {
                Some("") if *form == Form::Either => return Some(Found::Next),
                Some(value) if !value.is_empty() => return Some(Found::At(start + option.len())),
                _ => {}
            }
        }
        let base = plain.rsplit(['/', '=']).next().unwrap_or(plain);
        let known = PROGRAMS.iter().filter(|(name, ..)| base.starts_with(name));
        self.options
            .extend(known.map(|(_, option, form)| (*option, *form)));
        None
    }
}

/// Marks around the words of lists, scripts and quotes.
const MARKS: &[char] = &['"', '\'', '[', ']', '(', ')', ',', '`', '$', ';', '{', '}'];
