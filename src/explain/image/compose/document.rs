//! The tree of a YAML document (YAML 1.2.2), with the line of each key.

use saphyr_parser::{Event, Parser};

/// Deepest nesting that is read.
const DEEPEST: usize = 64;

/// A value of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    Scalar(String),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
    /// A reference to an anchor, which is read where it stands itself.
    Alias,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    /// The line of the key, from 1.
    pub line: usize,
    pub value: Node,
}

impl Node {
    /// The entries of a mapping; none of anything else.
    pub fn entries(&self) -> &[Entry] {
        match self {
            Self::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let mut entries = self.entries().iter();
        entries
            .find(|entry| entry.key == key)
            .map(|entry| &entry.value)
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// The items of a sequence; none of anything else.
    pub fn items(&self) -> &[Self] {
        match self {
            Self::Sequence(items) => items,
            _ => &[],
        }
    }

    /// The scalars of a sequence; `None` if it has others, or is none.
    pub fn words(&self) -> Option<Vec<String>> {
        let Self::Sequence(items) = self else {
            return None;
        };
        let words = items.iter().map(|item| item.text().map(str::to_owned));
        words.collect()
    }
}

/// A mapping or sequence that is not yet closed.
enum Open {
    Sequence(Vec<Node>),
    /// The entries, and the key whose value follows.
    Mapping(Vec<Entry>, Option<(String, usize)>),
}

impl Open {
    /// Adds a value, which is a key where one is due.
    fn add(&mut self, node: Node, line: usize) {
        match self {
            Self::Sequence(items) => items.push(node),
            Self::Mapping(entries, key) => match key.take() {
                Some((key, line)) => entries.push(Entry {
                    key,
                    line,
                    value: node,
                }),
                None => {
                    let text = node.text().unwrap_or_default().to_owned();
                    *key = Some((text, line));
                }
            },
        }
    }

    fn closed(self) -> Node {
        match self {
            Self::Sequence(items) => Node::Sequence(items),
            Self::Mapping(entries, _) => Node::Mapping(entries),
        }
    }
}

/// Reads the first document.
///
/// # Errors
/// The line and the reason, if the text is no YAML.
pub fn read(text: &str) -> Result<Node, (usize, String)> {
    let mut open: Vec<Open> = Vec::new();
    // An anchor of a mapping is no text, so the tree is as large as the text.
    for event in Parser::new_from_str(text) {
        let (event, span) =
            event.map_err(|error| (error.marker().line(), error.info().to_owned()))?;
        let line = span.start.line();
        let node = match event {
            Event::Scalar(text, ..) => Node::Scalar(text.into_owned()),
            Event::Alias(_) => Node::Alias,
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() >= DEEPEST => {
                return Err((line, format!("nested more than {DEEPEST} deep")));
            }
            Event::SequenceStart(..) => {
                open.push(Open::Sequence(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Mapping(Vec::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(done) => done.closed(),
                None => continue,
            },
            Event::DocumentEnd => break,
            _ => continue,
        };
        match open.last_mut() {
            Some(outer) => outer.add(node, line),
            None => return Ok(node),
        }
    }
    Ok(Node::Mapping(Vec::new()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_have_their_lines_and_values() {
        let text = "# c\nservices:\n  web: &web\n    command: >\n      a\n      b\n    ports: [\"80:80\", 1]\n  other:\n    <<: *web\n";
        let tree = read(text).unwrap();
        let services = tree.get("services").unwrap();
        let lines: Vec<_> = services.entries().iter().map(|entry| entry.line).collect();
        assert_eq!(lines, [3, 8]);
        let web = services.get("web").unwrap();
        assert_eq!(web.get("command").unwrap().text(), Some("a b\n"));
        assert_eq!(web.get("ports").unwrap().words().unwrap(), ["80:80", "1"]);
        assert_eq!(web.entries()[1].line, 7);
        let other = services.get("other").unwrap();
        assert_eq!(other.get("<<"), Some(&Node::Alias));
    }

    #[test]
    fn what_is_no_yaml_is_refused_with_its_line() {
        assert_eq!(read("a: 1\nb: [\n").unwrap_err().0, 3);
        assert!(read(&"[".repeat(100)).unwrap_err().1.contains("deep"));
        assert_eq!(read("").unwrap(), Node::Mapping(Vec::new()));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(\\PC|\n){0,60}|((a:|- |\\{|\\}|\\[|\\]|&x |\\*x|!t|>|\\||---|\\?|,|\"|'|#| |\n){0,40})") {
            let _ = read(&text);
        }
    }
}
