//! The xml form: the element `uwsgi`, whose children are the options.
//!
//! A small reader for the part of XML that such files use: elements, attributes, text, comments and
//! the five entities. No DTD, so nothing expands.

use super::{Entry, Parsed};

/// Deepest nesting of elements.
const DEEPEST: usize = 32;

pub fn parse(text: &str, asked: Option<&str>) -> Parsed {
    let mut parsed = Parsed::default();
    let mut reader = Reader {
        text,
        at: 0,
        depth: 0,
    };
    let root = match reader.document() {
        Ok(root) => root,
        Err(message) => {
            let line = crate::config::file::line_of(text, reader.at.min(text.len()));
            parsed.error = Some((line, format!("not valid XML: {message}")));
            return parsed;
        }
    };
    let is_asked = |element: &Element| {
        element.name == "uwsgi"
            && (asked.is_none() || element.attribute("id").is_none_or(|id| Some(id) == asked))
    };
    let children = root.children.iter();
    let inner = || children.clone().find(|element| is_asked(element));
    let section = match root.name == "uwsgi" {
        true => Some(&root),
        false => inner(),
    };
    let Some(section) = section else {
        parsed.error = Some((root.line, "there is no element <uwsgi>".to_owned()));
        return parsed;
    };
    parsed.is_found = true;
    for child in &section.children {
        if asked.is_some() && child.attribute("id").is_some_and(|id| Some(id) != asked) {
            let reason = "another id is read".to_owned();
            parsed
                .unread
                .push((child.line, format!("<{}>", child.name), reason));
        } else if child.name == "app" {
            parsed.entries.extend(app(child));
        } else {
            let value = match child.text.is_empty() && child.children.is_empty() {
                true => "1".to_owned(),
                false => child.text.clone(),
            };
            parsed.entries.push(child.entry(&child.name, value));
        }
    }
    parsed
}

/// `<app mountpoint="/x"><script>module</script></app>` is a mount.
fn app(element: &Element) -> Vec<Entry> {
    let inner = element.children.first().map(|child| &child.text);
    let text = inner.unwrap_or(&element.text).trim();
    let mount = match (element.attribute("mountpoint"), element.attribute("domain")) {
        (Some(point), _) => format!("{point}={text}"),
        (None, Some(domain)) => format!("{domain}|={text}"),
        (None, None) => text.to_owned(),
    };
    match text.is_empty() {
        true => Vec::new(),
        false => vec![element.entry("mount", mount)],
    }
}

#[derive(Default)]
struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    children: Vec<Self>,
    /// The text before the first child, without entities.
    text: String,
    line: usize,
}

impl Element {
    fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    fn entry(&self, key: &str, value: String) -> Entry {
        Entry {
            key: key.to_owned(),
            value,
            line: self.line,
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl Reader<'_> {
    fn document(&mut self) -> Result<Element, &'static str> {
        self.skip_text_and_comments()?;
        let root = self.element()?;
        self.skip_text_and_comments()?;
        match self.rest().is_empty() {
            true => Ok(root),
            false => Err("something follows the root element"),
        }
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    /// Skips blanks, comments, `<?...?>` and `<!DOCTYPE ...>`.
    fn skip_text_and_comments(&mut self) -> Result<(), &'static str> {
        loop {
            let rest = self.rest();
            let blanks = rest.len() - rest.trim_start_matches('\u{feff}').trim_start().len();
            self.at += blanks;
            let end = match self.rest() {
                rest if rest.starts_with("<!--") => "-->",
                rest if rest.starts_with("<?") => "?>",
                rest if rest.starts_with("<!DOCTYPE") => ">",
                _ => return Ok(()),
            };
            self.skip_past(end)?;
        }
    }

    fn skip_past(&mut self, end: &str) -> Result<(), &'static str> {
        let at = self.rest().find(end).ok_or("a part has no end")?;
        self.at += at + end.len();
        Ok(())
    }

    fn element(&mut self) -> Result<Element, &'static str> {
        let line = crate::config::file::line_of(self.text, self.at);
        if !self.rest().starts_with('<') {
            return Err("an element is expected");
        }
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("elements are nested too deeply");
        }
        self.at += 1;
        let mut element = Element {
            name: self.name()?,
            line,
            ..Element::default()
        };
        loop {
            self.at += self.rest().len() - self.rest().trim_start().len();
            if self.rest().starts_with("/>") {
                self.at += 2;
                self.depth -= 1;
                return Ok(element);
            }
            if self.rest().starts_with('>') {
                self.at += 1;
                break;
            }
            let attribute = self.attribute()?;
            element.attributes.push(attribute);
        }
        self.content(&mut element)?;
        self.depth -= 1;
        Ok(element)
    }

    /// Children and text, up to the closing tag.
    fn content(&mut self, element: &mut Element) -> Result<(), &'static str> {
        loop {
            let rest = self.rest();
            let end = rest.find('<').ok_or("an element is not closed")?;
            if element.children.is_empty() {
                element.text.push_str(&without_entities(&rest[..end]));
            }
            self.at += end;
            if self.rest().starts_with("<!--") {
                self.skip_past("-->")?;
            } else if let Some(data) = self.rest().strip_prefix("<![CDATA[") {
                let length = data.find("]]>").ok_or("a part has no end")?;
                element.text.push_str(&data[..length]);
                self.skip_past("]]>")?;
            } else if self.rest().starts_with("</") {
                self.at += 2;
                if self.name()? != element.name {
                    return Err("another element is closed than was opened");
                }
                self.skip_past(">")?;
                return Ok(());
            } else {
                let child = self.element()?;
                element.children.push(child);
            }
        }
    }

    fn name(&mut self) -> Result<String, &'static str> {
        let is_end = |c: char| c.is_whitespace() || matches!(c, '=' | '>' | '/' | '<');
        let rest = self.rest();
        let name = rest[..rest.find(is_end).unwrap_or(rest.len())].to_owned();
        self.at += name.len();
        match name.is_empty() {
            true => Err("a name is missing"),
            false => Ok(name),
        }
    }

    /// `name="value"`.
    fn attribute(&mut self) -> Result<(String, String), &'static str> {
        let name = self.name()?;
        let rest = self.rest().trim_start();
        let rest = rest.strip_prefix('=').ok_or("an attribute has no value")?;
        let rest = rest.trim_start();
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
        let quote = quote.ok_or("an attribute has no value in quotes")?;
        let value = &rest[1..];
        let end = value.find(quote).ok_or("an attribute is not closed")?;
        let text = without_entities(&value[..end]);
        self.at = self.text.len() - value.len() + end + 1;
        Ok((name, text))
    }
}

fn without_entities(text: &str) -> String {
    let pairs = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
    ];
    let plain = pairs
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    plain.replace("&amp;", "&")
}
