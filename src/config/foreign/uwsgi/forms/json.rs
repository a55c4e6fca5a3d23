//! The json form: strings, numbers and booleans, alone or in arrays, in the order of the text.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{Entry, Parsed};

pub fn parse(text: &str, asked: &str) -> Parsed {
    let mut parsed = Parsed::default();
    let root = match serde_json::from_str::<Node>(text) {
        Ok(root) => root,
        Err(error) => {
            parsed.error = Some((error.line().max(1), format!("not valid JSON: {error}")));
            return parsed;
        }
    };
    let sections = match &root {
        Node::Object(sections) => &sections[..],
        _ => &[],
    };
    // The last of equal keys counts, as in jansson.
    let Some((_, Node::Object(section))) = sections.iter().rfind(|(name, _)| name == asked) else {
        parsed.error = Some((1, format!("there is no object {asked:?}")));
        return parsed;
    };
    parsed.is_found = true;
    let mut lines = Lines { text, from: 0 };
    lines.skip_to(asked);
    for (key, value) in section {
        let line = lines.skip_to(key);
        let values = match value {
            Node::List(items) => &items[..],
            Node::Object(_) => {
                let text = format!("{key}: {{…}}");
                let reason = "an object is no value of an option".to_owned();
                parsed.unread.push((line, text, reason));
                continue;
            }
            one => std::slice::from_ref(one),
        };
        let texts = values.iter().filter_map(Node::text);
        parsed.entries.extend(texts.map(|value| Entry {
            key: key.clone(),
            value,
            line,
        }));
    }
    parsed
}

/// Finds the lines of keys that follow each other.
struct Lines<'a> {
    text: &'a str,
    from: usize,
}

impl Lines<'_> {
    /// The line of the next `"key"`.
    fn skip_to(&mut self, key: &str) -> usize {
        let quoted = serde_json::to_string(key).unwrap_or_default();
        if let Some(at) = self.text[self.from..].find(&quoted) {
            self.from += at + quoted.len();
        }
        crate::config::file::line_of(self.text, self.from)
    }
}

/// A value; objects in the order of their text.
enum Node {
    Text(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Node {
    fn text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::List(_) | Self::Object(_) => None,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Text(u8::from(value).to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Text(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Text(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Text(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Text("0".to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Node::Object(pairs))
    }
}
