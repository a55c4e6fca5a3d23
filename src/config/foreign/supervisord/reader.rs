//! The options of a file and of those that it includes, by the rules of Python's ConfigParser as
//! supervisord uses it.
//!
//! A name ends at the first `=` or `:` and has no upper case; an indented line continues a value; `;`
//! and `#` begin a comment, within a line behind white space; the last of equal names counts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::foreign::percent::up_to_name;
use crate::config::foreign::{Line, Place, Surroundings, Verdict, secrets};
use crate::config::native;

/// An option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its section, `program:celery`.
    pub section: String,
    /// Its name.
    pub key: String,
    /// Its value, lines with line feeds between them.
    pub value: String,
    /// Its file and line.
    pub place: Place,
    /// The line without secrets.
    pub text: String,
    /// The directory of its file, `%(here)s`.
    pub here: String,
}

/// Everything that was read.
#[derive(Debug, Default)]
pub struct Options {
    /// The options, in order.
    pub items: Vec<Item>,
    /// Lines that are no options.
    pub lines: Vec<Line>,
}

/// Longest file.
const LONGEST_FILE: usize = 1 << 20;
/// Most files that are included.
const MOST_FILES: usize = 200;
/// Most options.
const MOST_ITEMS: usize = 5000;

/// Reads the file `name`, and those that it includes.
pub fn read(name: &str, around: &Surroundings<'_>) -> Options {
    let mut options = Options::default();
    let path = around.current_dir.join(native::path(name));
    if !options.file(name, &path, around) {
        return options;
    }
    let included: Vec<Item> = options
        .items
        .iter()
        .filter(|item| item.section == "include" && item.key == "files")
        .cloned()
        .collect();
    let mut left = MOST_FILES;
    for item in included {
        let base = path.parent().unwrap_or(Path::new("/"));
        let files = item.value.replace("%(here)s", &item.here);
        for pattern in files.split_whitespace() {
            for file in matching(&base.join(native::path(pattern)))
                .into_iter()
                .take(left)
            {
                left -= 1;
                let shown = native::text(file.as_os_str());
                options.file(&shown, &file, around);
            }
        }
    }
    options
}

impl Options {
    fn file(&mut self, name: &str, path: &Path, around: &Surroundings<'_>) -> bool {
        let source: Arc<str> = Arc::from(name);
        let bytes = match (around.files.read)(path, LONGEST_FILE) {
            Ok(bytes) => bytes,
            Err(problem) => {
                let problem = Verdict::Wrong(format!("it cannot be read: {problem}"));
                self.line(&source, 0, name, problem);
                return false;
            }
        };
        let here = path.parent().unwrap_or(Path::new("/"));
        let here = native::text(here.as_os_str());
        let text = native::text(&native::string(&String::from_utf8_lossy(&bytes)));
        self.parse(&source, &text, &here);
        true
    }

    fn line(&mut self, source: &Arc<str>, line: usize, text: &str, verdict: Verdict) {
        self.lines.push(Line {
            place: Place {
                source: Arc::clone(source),
                line,
            },
            text: secrets::masked(text),
            verdict,
        });
    }

    /// Adds the options of a text.
    pub fn parse(&mut self, source: &Arc<str>, text: &str, here: &str) {
        let mut section: Option<String> = None;
        let mut is_open = false;
        for (at, line) in text.split('\n').enumerate() {
            let number = at + 1;
            let content = without_comment(line);
            if content.trim().is_empty() {
                // An empty line does not end a value, but one that is all comment is skipped.
                continue;
            }
            if self.items.len() >= MOST_ITEMS {
                let why = Verdict::Wrong("there are too many options".to_owned());
                return self.line(source, number, "…", why);
            }
            let is_indented = line.starts_with([' ', '\t']);
            if is_indented
                && is_open
                && let Some(item) = self.items.last_mut()
            {
                item.value.push('\n');
                item.value.push_str(content.trim());
                continue;
            }
            let content = content.trim();
            if let Some(name) = content
                .strip_prefix('[')
                .and_then(|rest| rest.rsplit_once(']'))
            {
                section = Some(name.0.to_owned());
                is_open = false;
                continue;
            }
            let Some(section) = &section else {
                let why = "it stands before the first section".to_owned();
                self.line(source, number, content, Verdict::Wrong(why));
                return;
            };
            let Some(end) = content.find(['=', ':']) else {
                let why = "it is neither an option nor a section".to_owned();
                self.line(source, number, content, Verdict::Wrong(why));
                is_open = false;
                continue;
            };
            let key = content[..end].trim().to_lowercase();
            let shown = match secrets::is_secret(&key) {
                true => format!("{} = {}", key, secrets::HIDDEN),
                false => secrets::masked(content),
            };
            self.items.push(Item {
                section: section.clone(),
                key,
                value: content[end + 1..].trim().to_owned(),
                place: Place {
                    source: Arc::clone(source),
                    line: number,
                },
                text: shown,
                here: here.to_owned(),
            });
            is_open = true;
        }
    }
}

/// The line up to a comment: `;` or `#` at its beginning or behind white space.
fn without_comment(line: &str) -> &str {
    let mut before = ' ';
    for (at, char) in line.char_indices() {
        if matches!(char, ';' | '#') && before.is_whitespace() {
            return &line[..at];
        }
        before = char;
    }
    line
}

/// Files that a pattern matches in its last part, by name.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let (Some(dir), Some(name)) = (pattern.parent(), pattern.file_name()) else {
        return Vec::new();
    };
    let name = name.to_string_lossy();
    if !name.contains(['*', '?']) {
        return vec![pattern.to_owned()];
    }
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name());
    let fits = names.filter(|file| {
        let file = file.to_string_lossy();
        !file.starts_with('.') && glob(name.as_bytes(), file.as_bytes())
    });
    let mut all: Vec<_> = fits.map(|file| dir.join(file)).collect();
    all.sort();
    all
}

/// True if `text` matches a pattern of `*` and `?`.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[from] => {
                at += 1;
                from += 1;
            }
            _ => match &mut star {
                Some((pattern_at, text_at)) => {
                    *text_at += 1;
                    (at, from) = (*pattern_at + 1, *text_at);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// Replaces `%(name)s`, `%(name)d`, `%(name)02d` and `%%`, as Python's `%` does.
///
/// # Errors
/// The reason for which supervisord does not start.
pub fn expand(value: &str, known: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut result = String::new();
    let mut rest = value;
    while let Some((name, behind)) = up_to_name(rest, &mut result) {
        let name = name.ok_or("a percent sign is written as %%")?;
        let width: String = behind.chars().take_while(char::is_ascii_digit).collect();
        let behind = &behind[width.len()..];
        let found = known(name).ok_or_else(|| match name.strip_prefix("ENV_") {
            Some(variable) => format!("the variable {variable} is not set"),
            None => format!("supervisord knows no %({name})s"),
        })?;
        match behind.chars().next() {
            Some('s') => result.push_str(&found),
            Some('d') => {
                let length = width.parse::<usize>().unwrap_or_default().min(20);
                let missing = length.saturating_sub(found.len());
                let fill = if width.starts_with('0') { "0" } else { " " };
                result.push_str(&fill.repeat(missing));
                result.push_str(&found);
            }
            _ => return Err(format!("%({name}) has no conversion: write %({name})s")),
        }
        rest = &behind[1..];
    }
    Ok(result)
}

/// The pairs of an `environment`: `A="1",B=two`.
///
/// # Errors
/// The reason, if it cannot be read.
pub fn pairs(value: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut rest = value.trim();
    while !rest.is_empty() {
        let (name, behind) = rest
            .split_once('=')
            .ok_or_else(|| format!("{rest:?} is no NAME=\"value\""))?;
        let behind = behind.trim_start();
        let (text, after) = match behind.chars().next() {
            Some(quote @ ('"' | '\'')) => behind[1..].split_once(quote).ok_or("a quote is open")?,
            _ => {
                let end = behind.find(',').unwrap_or(behind.len());
                (behind[..end].trim(), &behind[end..])
            }
        };
        pairs.push((name.trim().to_owned(), text.to_owned()));
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(after) => after.trim_start(),
            None if after.is_empty() => after,
            None => return Err("pairs have commas between them".to_owned()),
        };
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Vec<String> {
        let mut options = Options::default();
        options.parse(&"x".into(), text, "/here");
        let items = options.items.iter();
        items
            .map(|item| format!("{}/{}={}", item.section, item.key, item.value))
            .collect()
    }

    #[test]
    fn files_are_read_as_config_parser_reads_them() {
        let check = |text: &str, expected: &[&str]| assert_eq!(read(text), expected, "{text}");
        check(
            "[program:a]\nCommand = x ; y\nuser: web\n",
            &["program:a/command=x", "program:a/user=web"],
        );
        check(
            "[a]\nx=1;2\ny=#3\nz=a#b #c\n; c\n  # d\n",
            &["a/x=1;2", "a/y=#3", "a/z=a#b"],
        );
        check(
            "[a]\nenvironment=\n  A=\"1\",\n  B=\"2\"\nx=1\n",
            &["a/environment=\nA=\"1\",\nB=\"2\"", "a/x=1"],
        );
        check(
            "[a]\nx=http://h:80/\n[b] ; c\ny : 2\n",
            &["a/x=http://h:80/", "b/y=2"],
        );
    }

    #[test]
    fn values_are_expanded_as_python_s_percent_does() {
        let known = |name: &str| match name {
            "ENV_HOME" => Some("/root".to_owned()),
            "process_num" => Some("7".to_owned()),
            _ => None,
        };
        let check = |value: &str, expected: Result<&str, &str>| {
            let expanded = expand(value, &known);
            match expected {
                Ok(text) => assert_eq!(expanded.as_deref(), Ok(text)),
                Err(part) => assert!(expanded.unwrap_err().contains(part)),
            }
        };
        check(
            "%(ENV_HOME)s/x %% %(process_num)02d %(process_num)d",
            Ok("/root/x % 07 7"),
        );
        check("%(ENV_NONE)s", Err("NONE is not set"));
        check("100%", Err("%%"));
        check("%(other)s", Err("knows no"));
    }

    #[test]
    fn environments_are_pairs() {
        let check = |value: &str, expected: &[(&str, &str)]| {
            let found = pairs(value).unwrap();
            let found: Vec<_> = found
                .iter()
                .map(|(name, value)| (&**name, &**value))
                .collect();
            assert_eq!(found, expected, "{value}");
        };
        check(
            "A=\"1, 2\",B='x=y' , C=3",
            &[("A", "1, 2"), ("B", "x=y"), ("C", "3")],
        );
        check("", &[]);
        check("A=1,", &[("A", "1")]);
        assert!(pairs("A").is_err() && pairs("A=\"1").is_err() && pairs("A=\"1\" B=2").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[\\[\\]a-z%()=:;# \n\t\"',]{0,80}\\PC{0,20}") {
            let _ = read(&text);
            let _ = expand(&text, &|_| Some("x".to_owned()));
            let _ = pairs(&text);
            let _ = glob(text.as_bytes(), text.as_bytes());
        }
    }
}
