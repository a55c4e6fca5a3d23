//! The ini form, line by line as uWSGI reads it: no inline comments, no quotes, no continuation.

use super::{Entry, Parsed, unread_section};

/// Blanks that uWSGI strips from both ends.
const BLANKS: [char; 3] = [' ', '\t', '\r'];

pub fn parse(text: &str, asked: &str) -> Parsed {
    let mut parsed = Parsed::default();
    let mut section = String::new();
    for (at, line) in text.split('\n').enumerate() {
        // C strings end at a NUL.
        let line = line.split('\0').next().unwrap_or_default();
        let line = line.trim_matches(BLANKS);
        if let Some(head) = line.strip_prefix('[') {
            // The last character goes, whatever it is: `[uwsgi] ; x` is a section of that name.
            let mut head = head.to_owned();
            head.pop();
            section = head;
            parsed.is_found |= section == asked;
        } else if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        } else if section == asked {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            parsed.entries.push(Entry {
                key: key.trim_end_matches(BLANKS).to_owned(),
                value: value.trim_matches(BLANKS).to_owned(),
                line: at + 1,
            });
        } else {
            let reason = match section.is_empty() {
                true => format!("it stands in no section, and uWSGI reads [{asked}]"),
                false => unread_section(&section, asked),
            };
            parsed.unread.push((at + 1, line.to_owned(), reason));
        }
    }
    parsed
}
