//! The tree of a YAML document (YAML 1.2.2), with the line of each key.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser};

/// Deepest nesting that is read.
const DEEPEST: usize = 64;
/// Longest value with an anchor that is put in the place of its aliases, in bytes of its texts.
const LONGEST_ANCHOR: usize = 4096;
/// Most bytes of such values together: an alias of aliases may be larger than any memory.
const MOST_ALIASED: usize = 1 << 20;

/// A value of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    Scalar(String),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
    /// A reference to an anchor whose value is too long, or not there.
    Alias,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    /// The line of the key, from 1.
    pub line: usize,
    pub value: Node,
    /// True if the value is a mapping or sequence in flow style, `{…}` or `[…]`.
    pub is_flow: bool,
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

/// A mapping or sequence that is being read.
struct Unfinished {
    open: Open,
    anchor: usize,
}

impl Open {
    /// Adds a value, which is a key where one is due.
    fn add(&mut self, node: Node, line: usize, is_flow: bool) {
        match self {
            Self::Sequence(items) => items.push(node),
            Self::Mapping(entries, key) => match key.take() {
                Some((key, line)) => entries.push(Entry {
                    key,
                    line,
                    value: node,
                    is_flow,
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
/// The line and the reason, if the text is no YAML, or has a key twice in one mapping (YAML 1.2.2, §3.2.1.3).
pub fn read(text: &str) -> Result<Node, (usize, String)> {
    let mut open: Vec<Unfinished> = Vec::new();
    let mut anchors: HashMap<usize, Node> = HashMap::new();
    let mut left = MOST_ALIASED;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let why = format!("it is no YAML: {}", error.info());
            (error.marker().line(), why)
        })?;
        let line = span.start.line();
        // Flow style has a bracket at its end, block style nothing.
        let is_flow = !span.is_empty();
        let (node, anchor, is_flow) = match event {
            Event::Scalar(text, _, anchor, _) => (Node::Scalar(text.into_owned()), anchor, false),
            Event::Alias(anchor) => {
                let known = anchors.get(&anchor).filter(|node| size(node) <= left);
                left -= known.map_or(0, size);
                (known.cloned().unwrap_or(Node::Alias), 0, false)
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() >= DEEPEST => {
                let why = format!("it is no YAML of Compose: nested more than {DEEPEST} deep");
                return Err((line, why));
            }
            Event::SequenceStart(anchor, _) => {
                let begun = Open::Sequence(Vec::new());
                open.push(Unfinished {
                    open: begun,
                    anchor,
                });
                continue;
            }
            Event::MappingStart(anchor, _) => {
                let begun = Open::Mapping(Vec::new(), None);
                open.push(Unfinished {
                    open: begun,
                    anchor,
                });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(done) => (done.open.closed(), done.anchor, is_flow),
                None => continue,
            },
            Event::DocumentEnd => break,
            _ => continue,
        };
        twice(&node)?;
        if anchor > 0 && size(&node) <= LONGEST_ANCHOR {
            anchors.insert(anchor, node.clone());
        }
        match open.last_mut() {
            Some(outer) => outer.open.add(node, line, is_flow),
            None => return Ok(node),
        }
    }
    Ok(Node::Mapping(Vec::new()))
}

/// Refuses a mapping with a key twice, as Compose does.
fn twice(node: &Node) -> Result<(), (usize, String)> {
    let mut keys = HashSet::new();
    let mut entries = node.entries().iter();
    let again = entries.find(|entry| !entry.key.is_empty() && !keys.insert(&entry.key));
    again.map_or(Ok(()), |entry| {
        let key = &entry.key;
        Err((
            entry.line,
            format!("`{key}` is there twice: Compose refuses the file"),
        ))
    })
}

/// The length of all texts of a value, and one for each of its parts.
fn size(node: &Node) -> usize {
    match node {
        Node::Scalar(text) => text.len() + 1,
        Node::Sequence(items) => items.iter().map(size).sum::<usize>() + 1,
        Node::Mapping(entries) => {
            let sizes = entries
                .iter()
                .map(|entry| entry.key.len() + size(&entry.value));
            sizes.sum::<usize>() + 1
        }
        Node::Alias => 1,
    }
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
        let merged = other.get("<<").unwrap();
        assert_eq!(merged.get("command"), web.get("command"));
        let nested = (0..40).map(|n| format!("a{}: &a{} [*a{n}, *a{n}]\n", n + 1, n + 1));
        let bomb = format!(
            "a0: &a0 {}\n{}",
            "x".repeat(3000),
            nested.collect::<String>()
        );
        assert!(size(&read(&bomb).unwrap()) < MOST_ALIASED + bomb.len());
        let tree = read("a: &a [x, y]\nb: *a\nc: {d: &d 1, e: *d}\nf: &f\n  - g\n").unwrap();
        assert_eq!(tree.get("b").unwrap().words().unwrap(), ["x", "y"]);
        assert_eq!(tree.get("c").unwrap().get("e").unwrap().text(), Some("1"));
        let flow: Vec<_> = tree.entries().iter().map(|entry| entry.is_flow).collect();
        assert_eq!(flow, [true, false, true, false]);
    }

    #[test]
    fn what_is_no_yaml_is_refused_with_its_line() {
        assert_eq!(read("a: 1\nb: [\n").unwrap_err().0, 3);
        assert!(read(&"[".repeat(100)).unwrap_err().1.contains("deep"));
        assert_eq!(read("").unwrap(), Node::Mapping(Vec::new()));
        assert_eq!(read("a:\n  b: 1\n  c: 2\n  b: 3\n").unwrap_err().0, 4);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(\\PC|\n){0,60}|((a:|- |\\{|\\}|\\[|\\]|&x |\\*x|!t|>|\\||---|\\?|,|\"|'|#| |\n){0,40})") {
            let _ = read(&text);
        }
    }
}
