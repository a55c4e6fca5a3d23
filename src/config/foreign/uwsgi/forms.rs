//! The four forms of a uWSGI file: each becomes keys with values, in the order of the file.
//!
//! Magic variables are replaced before, `$(NAME)` and the like after; a form knows neither.

mod ini;
mod json;
mod xml;
mod yaml;

use crate::config::suggest;

/// The form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `[uwsgi]` and `key = value`.
    Ini,
    /// `uwsgi:` with `key: value` below.
    Yaml,
    /// `{"uwsgi": {"key": "value"}}`.
    Json,
    /// `<uwsgi><key>value</key></uwsgi>`.
    Xml,
}

impl Form {
    /// The form that the ending of a name means, as uWSGI's `include` takes it.
    pub fn of_name(name: &str) -> Option<Self> {
        let (_, ending) = name.rsplit_once('.')?;
        match ending {
            "ini" => Some(Self::Ini),
            "yaml" | "yml" => Some(Self::Yaml),
            "json" | "js" => Some(Self::Json),
            "xml" => Some(Self::Xml),
            _ => None,
        }
    }
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value; empty for a key alone.
    pub value: String,
    /// The line, from 1.
    pub line: usize,
}

/// A file of one form, read for one section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The entries of the section, in order.
    pub entries: Vec<Entry>,
    /// Lines that are not read: number, text and reason.
    pub unread: Vec<(usize, String, String)>,
    /// A line that cannot be read, with the reason.
    pub error: Option<(usize, String)>,
    /// True if the section is there.
    pub is_found: bool,
}

/// Reads `text` for `section`; `None` stands for the usual one.
pub fn parse(form: Form, text: &str, section: Option<&str>) -> Parsed {
    let name = section.unwrap_or("uwsgi");
    let mut parsed = match form {
        Form::Ini => ini::parse(text, name),
        Form::Yaml => yaml::parse(text, name),
        Form::Json => json::parse(text, name),
        Form::Xml => xml::parse(text, section),
    };
    parsed.is_found |= !parsed.entries.is_empty();
    parsed
}

/// True if a file of this text and name is one of uWSGI's.
pub fn is_uwsgi(form: Form, text: &str) -> bool {
    match form {
        Form::Ini => {
            let is_head = |line: &str| line.trim() == "[uwsgi]";
            text.lines().any(is_head)
        }
        Form::Xml => text.contains("<uwsgi"),
        _ => {
            let parsed = parse(form, text, None);
            let known = |entry: &Entry| super::options::named(&entry.key).is_some();
            parsed.error.is_none() && parsed.entries.iter().any(known)
        }
    }
}

/// The reason for a line in a section that nothing reads.
fn unread_section(section: &str, asked: &str) -> String {
    match suggest::closest(section, [asked]) {
        Some(_) if section != asked => {
            format!("the section is [{section}]; did you mean [{asked}]?")
        }
        _ => format!("section [{section}] is not read"),
    }
}
