//! A service of a Compose file: its commands, its Dockerfile and its names.

use super::document::{self, Entry, Node};
use crate::config::foreign::shell;
use crate::explain::image::{base, commands, dockerfile, placement};
use crate::explain::subject::{ImageFile, Kind, Subject};

/// A service, or a mapping for services to take over (`x-web: &web`).
pub struct Service<'a> {
    pub entry: &'a Entry,
    /// Its settings with those that it takes over, by `<<` and `extends`.
    pub value: Node,
    /// A service that it extends and that is not here.
    pub missing: Option<String>,
    pub is_template: bool,
    /// The Dockerfile of its `build`.
    pub dockerfile: Option<(&'a str, &'a str)>,
}

impl<'a> Service<'a> {
    /// All of a file of this name, and its templates.
    pub fn all(tree: &'a Node, name: &str, subjects: &'a [Subject]) -> Vec<Self> {
        let services = tree.get("services").map_or(&[][..], Node::entries);
        let services = services.iter().map(|entry| (entry, false));
        let templates = tree.entries().iter();
        let templates = templates
            .filter(|entry| entry.key.starts_with("x-") && !entry.value.entries().is_empty())
            .map(|entry| (entry, true));
        let of = |(entry, is_template): (&'a Entry, bool)| {
            let mut missing = None;
            let place = Place {
                tree,
                name,
                subjects,
            };
            let value = place.merged(&entry.value, DEEPEST, &mut missing);
            Self {
                entry,
                dockerfile: dockerfile_of(&value, name, subjects),
                value,
                missing,
                is_template,
            }
        };
        services.chain(templates).map(of).collect()
    }

    /// The directory of its build, as subjects of a file of this name are named: empty, or with a slash at its end.
    pub fn context(&self, file: &str) -> Option<String> {
        let build = self.value.get("build")?;
        let context = build.text().or(build.get("context").and_then(Node::text));
        let start = if file.starts_with("./") { "./" } else { "" };
        let path = normal(&format!(
            "{}{}",
            placement::directory(file),
            context.unwrap_or(".")
        ));
        match &*path {
            "" => Some(start.to_owned()),
            path if path.starts_with(['/', '.']) => Some(format!("{path}/")),
            path => Some(format!("{start}{path}/")),
        }
    }

    /// The line of the command that it takes over, from this file or another.
    pub fn line_of_command(&self) -> Option<usize> {
        let own = self.entry.value.entries();
        let is_command = |entry: &&Entry| matches!(&*entry.key, "command" | "entrypoint");
        let found = self.value.entries().iter().find(is_command);
        found
            .filter(|_| !own.iter().any(|entry| is_command(&entry)))
            .map(|entry| entry.line)
    }

    /// True if it runs nginx alone.
    pub fn is_proxy(&self) -> bool {
        let image = self.value.get("image").and_then(Node::text);
        image.is_some_and(|image| base::of(image, true).goes_away)
            || self
                .dockerfile
                .is_some_and(|(_, text)| dockerfile::is_proxy(text))
            || self.is_built_as_proxy()
    }

    /// True if its Dockerfile is not here, and its name or directory is that of nginx.
    fn is_built_as_proxy(&self) -> bool {
        let Some(build) = self.value.get("build") else {
            return false;
        };
        let context = build.text().or(build.get("context").and_then(Node::text));
        let directory =
            context.and_then(|context| context.trim_end_matches('/').rsplit('/').next());
        let is_so = |name: &str| name.contains("nginx");
        self.dockerfile.is_none()
            && self.commands().is_empty()
            && (is_so(&self.entry.key) || directory.is_some_and(is_so))
    }

    /// True if the base image starts its servers, and nothing else is said.
    pub fn inherits_start(&self) -> bool {
        let text = self.dockerfile.map(|(_, text)| text);
        self.commands().is_empty() && text.and_then(dockerfile::inherited_layer).is_some()
    }

    /// True if PORT is set, or may be in a file of variables.
    pub fn has_port(&self) -> bool {
        let has_file = self.value.get("env_file").is_some();
        let of_image = self.dockerfile.map(|(_, text)| text);
        has_file
            || self.variables().contains(&"PORT")
            || of_image.is_some_and(dockerfile::sets_port)
    }

    /// The names of its variables.
    pub fn variables(&self) -> Vec<&str> {
        let Some(given) = self.value.get("environment") else {
            return Vec::new();
        };
        let keys = given.entries().iter().map(|entry| &*entry.key);
        let items = given.items().iter().filter_map(Node::text);
        let items = items.map(|item| item.split('=').next().unwrap_or(item));
        keys.chain(items).collect()
    }

    /// The words of the commands that it starts.
    pub fn commands(&self) -> Vec<Vec<String>> {
        let command = self.value.get("command").and_then(Node::words);
        if let Some(script) = command.filter(|_| self.has_shell_as_entry()) {
            return script.first().map_or_else(Vec::new, |line| words_of(line));
        }
        let given = ["entrypoint", "command"].map(|key| self.value.get(key));
        given.into_iter().flatten().flat_map(commands_of).collect()
    }

    /// True if its entry point is `sh -c`, for which the command is the script.
    pub fn has_shell_as_entry(&self) -> bool {
        let entry = self.value.get("entrypoint").and_then(Node::words);
        entry.is_some_and(|mut words| {
            words.push(String::new());
            shell::script(&words) == Some(words.len() - 1)
        })
    }

    /// True if a server whose settings are read is started by its own commands.
    pub fn starts_own_server(&self) -> bool {
        let own = self.commands();
        own.iter().any(|words| commands::is_server(words))
    }

    /// True if it starts an application of Python behind a server that is read.
    pub fn starts_server(&self, subjects: &[Subject]) -> bool {
        let is_one =
            |words: &Vec<String>| commands::is_server(words) || self.names_script(words, subjects);
        let own = self.commands();
        match self.dockerfile {
            Some((_, text)) if own.is_empty() => dockerfile::commands(text).iter().any(is_one),
            _ => own.iter().any(is_one),
        }
    }

    /// True if a word names an entry script of the directory of its Dockerfile.
    fn names_script(&self, words: &[String], subjects: &[Subject]) -> bool {
        let Some((dockerfile, _)) = self.dockerfile else {
            return false;
        };
        let directory = normal(placement::directory(dockerfile));
        let mut scripts = subjects.iter().filter(|subject| {
            matches!(subject.kind, Kind::Image(ImageFile::Script, _))
                && normal(&subject.name).starts_with(&directory)
        });
        scripts.any(|script| {
            let base = script.name.rsplit('/').next();
            words.iter().any(|word| word.rsplit('/').next() == base)
        })
    }

    /// Names by which other services reach it.
    pub fn hosts(&self) -> Vec<String> {
        let value = &self.value;
        let others = ["container_name", "hostname"].map(|key| value.get(key).and_then(Node::text));
        let others = others.into_iter().flatten().map(str::to_owned);
        [self.entry.key.clone()].into_iter().chain(others).collect()
    }
}

/// Deepest chain of `extends` that is followed.
const DEEPEST: usize = 8;

/// The file of a service, beside others.
struct Place<'a> {
    tree: &'a Node,
    name: &'a str,
    subjects: &'a [Subject],
}

impl Place<'_> {
    /// A mapping with the entries that it takes over; its own come first.
    fn merged(&self, value: &Node, depth: usize, missing: &mut Option<String>) -> Node {
        let own = value.entries().iter();
        let mut all: Vec<_> = own
            .filter(|entry| !matches!(&*entry.key, "<<" | "extends"))
            .cloned()
            .collect();
        let Some(depth) = depth.checked_sub(1) else {
            return Node::Mapping(all);
        };
        let mut others = Vec::new();
        if let Some(given) = value.get("<<") {
            let one = [given];
            let many: Vec<_> = given.items().iter().collect();
            for other in if many.is_empty() { &one[..] } else { &many } {
                others.push(self.merged(other, depth, missing));
            }
        }
        if let Some(given) = value.get("extends") {
            match self.extended(given, depth, missing) {
                Some(other) => others.push(other),
                None => *missing = Some(named(given)),
            }
        }
        for entry in others.iter().flat_map(Node::entries) {
            if !all.iter().any(|own| own.key == entry.key) {
                all.push(entry.clone());
            }
        }
        Node::Mapping(all)
    }

    /// The service that `extends` names.
    fn extended(&self, given: &Node, depth: usize, missing: &mut Option<String>) -> Option<Node> {
        let service = given.text().or(given.get("service").and_then(Node::text))?;
        let Some(file) = given.get("file").and_then(Node::text) else {
            let found = self.tree.get("services")?.get(service)?;
            return Some(self.merged(found, depth, missing));
        };
        let wanted = normal(&format!("{}{file}", placement::directory(self.name)));
        self.subjects
            .iter()
            .find_map(|subject| match &subject.kind {
                Kind::Image(ImageFile::Compose, text) if normal(&subject.name) == wanted => {
                    let tree = document::read(text).ok()?;
                    let other = Place {
                        tree: &tree,
                        name: &subject.name,
                        subjects: self.subjects,
                    };
                    let found = tree.get("services")?.get(service)?;
                    Some(other.merged(found, depth, missing))
                }
                _ => None,
            })
    }
}

/// `web of common.yml`.
fn named(given: &Node) -> String {
    let part = |key: &str| given.get(key).and_then(Node::text);
    let service = given.text().or(part("service")).unwrap_or("?");
    match part("file") {
        Some(file) => format!("{service} of {file}"),
        None => service.to_owned(),
    }
}

/// The words of the commands that an entry point or a command starts, those of a shell's script in place of
/// the shell.
pub fn commands_of(value: &Node) -> Vec<Vec<String>> {
    let outer = match (value.words(), value.text()) {
        (Some(words), _) => vec![words],
        (None, text) => text
            .map(|text| words_of(&one_line(text)))
            .unwrap_or_default(),
    };
    let inner = outer.into_iter().map(|words| match shell::script(&words) {
        Some(at) => words_of(&words[at]),
        None => vec![words],
    });
    inner.flatten().collect()
}

/// The text of a command in one line: Compose, which runs no shell, splits it at line feeds as at blanks. Those in
/// quotes stay.
pub fn one_line(text: &str) -> String {
    let mut quote = None;
    let mut is_escaped = false;
    let text = text.trim().replace("\\\n", " ");
    let in_line = text.chars().map(|c| {
        let is_free = !is_escaped;
        is_escaped = is_free && c == '\\';
        match quote {
            None if is_free && matches!(c, '"' | '\'') => quote = Some(c),
            Some(open) if is_free && c == open => quote = None,
            _ => {}
        }
        if c == '\n' && quote.is_none() { ' ' } else { c }
    });
    in_line.collect()
}

fn words_of(line: &str) -> Vec<Vec<String>> {
    let commands = shell::commands(line.trim()).unwrap_or_default();
    commands.into_iter().map(|command| command.words).collect()
}

/// The Dockerfile of the `build` of a service in the Compose file of this name.
fn dockerfile_of<'a>(
    service: &Node,
    name: &str,
    subjects: &'a [Subject],
) -> Option<(&'a str, &'a str)> {
    let build = service.get("build")?;
    let part = |key: &str| build.get(key).and_then(Node::text);
    let context = build.text().or(part("context")).unwrap_or(".");
    let file = part("dockerfile").unwrap_or("Dockerfile");
    let wanted = normal(&format!("{}{context}/{file}", placement::directory(name)));
    subjects.iter().find_map(|subject| match &subject.kind {
        Kind::Image(ImageFile::Dockerfile, text) if normal(&subject.name) == wanted => {
            Some((&*subject.name, &**text))
        }
        _ => None,
    })
}

/// The path without `.`, `..` and empty segments.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let start = if path.starts_with('/') { "/" } else { "" };
    format!("{start}{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_without_steps() {
        for (path, expected) in [
            ("./web/Dockerfile", "web/Dockerfile"),
            ("a/../b//./c", "b/c"),
            ("../x/../y", "../y"),
            ("/a/b", "/a/b"),
        ] {
            assert_eq!(normal(path), expected, "{path}");
        }
    }

    #[test]
    fn line_feeds_outside_quotes_are_blanks() {
        for (text, expected) in [
            ("a\n  b\n", "a   b"),
            ("a \\\nb", "a  b"),
            ("sh -c 'a\nb'\nc", "sh -c 'a\nb' c"),
            ("a \\'x\ny", "a \\'x y"),
        ] {
            assert_eq!(one_line(text), expected, "{text}");
        }
    }

    #[test]
    fn the_script_of_a_shell_takes_its_place() {
        let of = |value: Node| {
            let all = commands_of(&value).into_iter();
            all.map(|words| words.join(" ")).collect::<Vec<_>>()
        };
        let text = |text: &str| Node::Scalar(text.to_owned());
        assert_eq!(of(text("a b")), ["a b"]);
        assert_eq!(of(text("sh -c 'a && b c'")), ["a", "b c"]);
        let words = ["bash", "-lc", "a; b"].map(text).to_vec();
        assert_eq!(of(Node::Sequence(words)), ["a", "b"]);
        assert!(of(Node::Alias).is_empty());
    }
}
