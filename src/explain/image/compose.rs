//! A Compose file: the commands of its services, and the proxies that pyserve replaces.
//!
//! A service that starts a server keeps its place with pyserve in it. One of nginx may go away; what its file
//! passes to another service by name is the application, if that service starts it
//! ([`layers`]).

mod document;
mod service;

use self::document::{Entry, Node};
use self::service::Service;
use super::commands::{self, Became, Conversion};
use super::placement::Placement;
use super::{Report, base, dockerfile, script, tiangolo};
use crate::config::foreign::Verdict;
use crate::config::foreign::shell;
use crate::config::layers::Layer;
use crate::explain::image::Explained;
use crate::explain::readers::Context;
use crate::explain::subject::{ImageFile, Kind, Subject};

/// The address of a server that named none for HTTP: other containers do not reach the default one.
const ADDRESS: &str = "0.0.0.0:8000";

/// Keys whose values are shown; of others they may be secrets.
const SHOWN: &[&str] = &[
    "image",
    "command",
    "entrypoint",
    "ports",
    "expose",
    "volumes",
    "stop_signal",
    "depends_on",
];

/// True for the name and the text of a Compose file: it is named so, or has services.
pub fn is_compose(name: &str, text: &str) -> bool {
    let has = |start: &str| {
        text.lines()
            .any(|line| line.trim_start().starts_with(start))
    };
    let base = name.rsplit('/').next().unwrap_or(name);
    let is_named = ["compose.", "docker-compose."]
        .iter()
        .any(|start| base.starts_with(start));
    let keys = [
        "image:",
        "build:",
        "command:",
        "entrypoint:",
        "environment:",
        "extends:",
    ];
    let is_one = || {
        let mut lines = text.lines();
        lines.any(|line| line.starts_with("services:")) && keys.iter().any(|key| has(key))
    };
    (name.ends_with(".yml") || name.ends_with(".yaml")) && (is_named || is_one())
}

/// The directory from which a Compose file builds a Dockerfile, empty or with a slash at its end.
pub fn context_of(dockerfile: &str, subjects: &[Subject]) -> Option<String> {
    subjects.iter().find_map(|subject| {
        let Kind::Image(ImageFile::Compose, text) = &subject.kind else {
            return None;
        };
        let tree = document::read(text).ok()?;
        let services = Service::all(&tree, &subject.name, subjects).into_iter();
        let mut contexts = services.filter_map(|service| {
            let (built, _) = service.dockerfile?;
            (built == dockerfile)
                .then(|| service.context(&subject.name))
                .flatten()
        });
        contexts.next()
    })
}

/// The settings that the commands of the services give, and the names of those that start the
/// application.
pub fn layers(
    (name, text): (&str, &str),
    subjects: &[Subject],
    around: &Context<'_>,
) -> Vec<Layer> {
    let Ok(tree) = document::read(text) else {
        return Vec::new();
    };
    let mut servers = Vec::new();
    let mut layers = Vec::new();
    for service in Service::all(&tree, name, subjects) {
        let commands = service.commands();
        layers.extend(
            commands
                .iter()
                .filter_map(|words| commands::layer_of(words, around)),
        );
        if !service.is_template && service.starts_server(subjects) {
            servers.push(service.hosts());
        }
    }
    // Of several applications, none is that of all files.
    if let [hosts] = &servers[..] {
        let mut named = Layer::default();
        named.hosts.clone_from(hosts);
        layers.push(named);
    }
    layers
}

pub fn explain(
    (name, text): (&str, &str),
    (subjects, read): (&[Subject], &[Explained]),
    around: &Context<'_>,
    report: &mut Report,
) {
    let tree = match document::read(text) {
        Ok(tree) => tree,
        Err((line, why)) => {
            let given = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
            let line = line.clamp(1, text.lines().count().max(1));
            report.say(line, key_of(given), Verdict::Wrong(why));
            return;
        }
    };
    let lines: Vec<&str> = text.lines().collect();
    let services = Service::all(&tree, name, subjects);
    let servers = services
        .iter()
        .filter(|service| !service.is_template && service.starts_server(subjects));
    let servers: Vec<_> = servers.map(|service| &*service.entry.key).collect();
    let mut file = File {
        lines: &lines,
        servers: &servers,
        is_shell_before: false,
        report,
    };
    for entry in tree.entries() {
        if entry.key != "services" && !services.iter().any(|one| one.entry.line == entry.line) {
            file.say(entry, Verdict::Read("it stays".to_owned()));
        }
    }
    for service in &services {
        let placement = match service.dockerfile {
            Some((name, text)) => super::placement_of(name, text, subjects, around.current_dir),
            None => Placement::of_unknown_image(),
        };
        let mut conversion = Conversion::new(subjects, read, &placement, around);
        if !service.has_port() {
            conversion.listen_at(ADDRESS);
        }
        file.service(service, &conversion);
    }
    let all = &mut file.report.explained.reading.lines;
    all.sort_by_key(|line| line.place.line);
}

/// The verdicts of the file.
struct File<'a> {
    lines: &'a [&'a str],
    /// The services that start the application.
    servers: &'a [&'a str],
    /// True if the entry point of the service is `sh -c`, which gets the command.
    is_shell_before: bool,
    report: &'a mut Report,
}

impl File<'_> {
    fn say(&mut self, entry: &Entry, verdict: Verdict) {
        let line = self.lines.get(entry.line.saturating_sub(1));
        let line = line.map_or("", |line| line.trim());
        let text = match &entry.value {
            Node::Scalar(_) => line,
            Node::Sequence(_) if SHOWN.contains(&&*entry.key) => line,
            _ => key_of(line),
        };
        self.report.say(entry.line, text, verdict);
    }

    /// True if the service is not in lines of its own, so that none can be replaced.
    fn refuses_flow(&mut self, service: &Service<'_>) -> bool {
        let has_own = service.entry.value.entries().iter().any(is_command);
        let is_flow = service.entry.is_flow && has_own && service.starts_own_server();
        if is_flow {
            let why = "the service is in flow style, `{ }`: write it in block style, each setting in a line of its own";
            self.say(service.entry, Verdict::Unsupported(why.to_owned()));
        }
        is_flow
    }

    fn service(&mut self, service: &Service<'_>, conversion: &Conversion<'_>) {
        if service.is_proxy() {
            let to = match self.servers {
                [one] => format!("service {one}"),
                _ => "the service of the application".to_owned(),
            };
            let port = match conversion.site_listens() {
                true => "",
                false => " (to the port of its own command)",
            };
            let why = format!(
                "not needed, with all its lines: pyserve serves HTTP and files itself; {to} publishes its ports{port}, has its volumes, and its settings as pyserve.toml (`pyserve explain --write` with this file and that of nginx)"
            );
            self.say(service.entry, Verdict::NoEffect(why));
            return;
        }
        if self.refuses_flow(service) {
            return;
        }
        let keys = service.entry.value.entries();
        let mut commands = keys.iter().filter(|entry| is_command(entry));
        let is_server = service.starts_own_server();
        if !is_server && service.inherits_start() {
            let names = tiangolo::fixed_in_command(&service.variables());
            if !names.is_empty() && !tiangolo::has_site(conversion) {
                let why = format!(
                    "{} of the service: the command of the image has the value of its Dockerfile: set it there",
                    names.join(", ")
                );
                return self.say(service.entry, Verdict::Unsupported(why));
            }
        }
        if let (false, Some(missing)) = (is_server, &service.missing) {
            let why = format!(
                "it extends {missing}, which is not among these files: explain that file too, since it may start a server"
            );
            return self.say(service.entry, Verdict::Unsupported(why));
        }
        if !is_server {
            let advice = commands.find_map(|entry| match became(&entry.value, conversion)?.0 {
                Became::Unsupported(advice) => Some(advice),
                _ => None,
            });
            let advice = advice.map_or_else(String::new, |advice| format!("; {advice}"));
            let text = format!("it stays, with all its lines{advice}");
            self.say(service.entry, Verdict::Read(text));
            return;
        }
        let note = match service.line_of_command() {
            Some(line) => format!(
                "it stays; its command is that of line {line} of the service or template that it takes over"
            ),
            None => "it stays".to_owned(),
        };
        self.say(service.entry, Verdict::Read(note));
        let joined = joined(&service.value, conversion);
        self.is_shell_before = service.has_shell_as_entry();
        for entry in keys.iter().filter(|entry| entry.line > service.entry.line) {
            let verdict = match &*entry.key {
                "command" | "entrypoint" => self.command(entry, joined.as_ref(), conversion),
                "image" => self.image(&entry.value),
                "stop_signal" => signal(&entry.value),
                "healthcheck" => health(entry, service, conversion),
                _ => Verdict::Read("it stays".to_owned()),
            };
            self.say(entry, verdict);
        }
    }

    /// The verdict of a command, which is replaced.
    fn command(
        &mut self,
        entry: &Entry,
        joined: Option<&Became>,
        conversion: &Conversion<'_>,
    ) -> Verdict {
        if entry.key == "command" && self.is_shell_before {
            return self.script(entry, conversion);
        }
        if let Some(Became::Pyserve(words)) = joined {
            let after = match &*entry.key {
                "entrypoint" => "entrypoint: [\"pyserve\"]".to_owned(),
                _ => format!("command: {}", array(words)),
            };
            self.replace(entry, after);
            return conversion.verdict(&Became::Pyserve(words.clone()));
        }
        match became(&entry.value, conversion) {
            Some((became @ Became::Pyserve(_), text)) => {
                self.replace(entry, format!("{}: {text}", entry.key));
                conversion.verdict(&became)
            }
            Some((became, _)) => conversion.verdict(&became),
            None => Verdict::Read("it stays".to_owned()),
        }
    }

    /// The verdict of a command that is the script of a shell.
    fn script(&mut self, entry: &Entry, conversion: &Conversion<'_>) -> Verdict {
        let mut words = entry.value.words().unwrap_or_default();
        let converted = words
            .first()
            .and_then(|text| script::converted(text, conversion));
        let Some(converted) = converted else {
            return Verdict::Read("it stays".to_owned());
        };
        if matches!(converted.became, Became::Pyserve(_)) {
            words[0] = script::executed(&converted.text);
            self.replace(entry, format!("command: {}", array(&words)));
        }
        conversion.verdict(&converted.became)
    }

    fn image(&self, value: &Node) -> Verdict {
        let found = value.text().map(|image| base::of(image, true).verdict);
        match found {
            Some(found) if base::is_too_old(&found) => found,
            _ => Verdict::Read("it stays; it needs pyserve in it".to_owned()),
        }
    }

    /// Replaces the lines of an entry.
    fn replace(&mut self, entry: &Entry, after: String) {
        let first = entry.line - 1;
        let Some(line) = self.lines.get(first) else {
            return;
        };
        let indent = line.len() - line.trim_start().len();
        let after = with_properties(line, &after);
        // `- ` of a sequence may stand below its key, and comments anywhere.
        let is_inside = |line: &&&str| {
            let own = line.len() - line.trim_start().len();
            let text = line.trim();
            let is_blank = text.is_empty() || text.starts_with('#');
            is_blank || own > indent || own == indent && text.starts_with("- ")
        };
        let rest = self.lines[first + 1..].iter().take_while(is_inside);
        let mut end = first + 1 + rest.count();
        while end > first + 1 {
            let last = self.lines[end - 1].trim();
            if !last.is_empty() && !last.starts_with('#') {
                break;
            }
            end -= 1;
        }
        let before = &self.lines[first..end];
        let after = format!("{}{after}", &line[..indent]);
        self.report.replace(entry.line, before, vec![after]);
    }
}

/// The line up to the colon of its key, with a mark where a value follows.
fn key_of(line: &str) -> &str {
    let line = line.trim();
    line.find(": ").map_or(line, |at| &line[..=at])
}

/// `command: x` with the anchor and the tag that stand before the value in `line`, as `&c` and `!override`.
fn with_properties(line: &str, after: &str) -> String {
    let Some((key, value)) = after.split_once(": ") else {
        return after.to_owned();
    };
    let given = line.split_once(':').map_or("", |(_, given)| given);
    let words = given.split_whitespace();
    let properties: Vec<_> = words
        .take_while(|word| word.starts_with(['&', '!']))
        .collect();
    match properties.is_empty() {
        true => after.to_owned(),
        false => format!("{key}: {} {value}", properties.join(" ")),
    }
}

/// What a command becomes, and its new text.
fn became(value: &Node, conversion: &Conversion<'_>) -> Option<(Became, String)> {
    if let Some(mut words) = value.words() {
        if let Some(at) = shell::script(&words) {
            let inner = script::converted(&words[at], conversion)?;
            words[at] = script::executed(&inner.text);
            return Some((inner.became, array(&words)));
        }
        let became = conversion.convert(&words);
        let text = match &became {
            Became::Pyserve(ours) => {
                let program = ["pyserve".to_owned()];
                array(&program.iter().chain(ours).cloned().collect::<Vec<_>>())
            }
            _ => String::new(),
        };
        return Some((became, text));
    }
    let converted = script::converted(&service::one_line(value.text()?), conversion)?;
    let text = match converted.text.starts_with("pyserve") {
        true => converted.text,
        false => script::executed(&converted.text),
    };
    Some((converted.became, scalar(&text)))
}

/// What entry point and command become, if they make one command line of a server.
fn joined(service: &Node, conversion: &Conversion<'_>) -> Option<Became> {
    let words = |key: &str| service.get(key).and_then(Node::words);
    let mut entry = words("entrypoint")?;
    let is_server = !matches!(conversion.convert(&entry), Became::Stays(_));
    let command = words("command").filter(|_| is_server)?;
    entry.extend(command);
    Some(conversion.convert(&entry))
}

/// The verdict of a check, which may ask a server that is not there any more.
fn health(entry: &Entry, service: &Service<'_>, conversion: &Conversion<'_>) -> Verdict {
    let test = entry.value.get("test");
    let text = test.map_or(String::new(), |test| match test.words() {
        Some(words) => words.join(" "),
        None => test.text().unwrap_or_default().to_owned(),
    });
    let commands = service
        .value
        .entries()
        .iter()
        .filter(|entry| is_command(entry));
    let mut became = commands.filter_map(|entry| became(&entry.value, conversion));
    let ports = became.find_map(|(became, _)| match became {
        Became::Pyserve(words) => conversion.ports(&words),
        _ => None,
    });
    match dockerfile::health::failure(&text, ports.as_deref()) {
        Some(reason) => Verdict::Unsupported(format!(
            "{reason}: test: [\"CMD\", \"pyserve\", \"health\"]"
        )),
        None => Verdict::Read("it stays".to_owned()),
    }
}

fn is_command(entry: &Entry) -> bool {
    matches!(&*entry.key, "command" | "entrypoint")
}

fn signal(value: &Node) -> Verdict {
    let given = value.text().unwrap_or_default();
    match given.trim_start_matches("SIG") {
        "TERM" | "15" => Verdict::Read("it stays".to_owned()),
        _ => Verdict::Unsupported("pyserve stops gracefully at SIGTERM: leave it out".to_owned()),
    }
}

/// `["pyserve", "--ini", "x"]`.
fn array(words: &[String]) -> String {
    serde_json::to_string(words)
        .unwrap_or_default()
        .replace("\",\"", "\", \"")
}

/// The text as a plain scalar, or in quotes.
fn scalar(text: &str) -> String {
    let starts_plain =
        text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '/');
    let is_plain = starts_plain
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.contains('\n')
        && !text.ends_with(':');
    match is_plain {
        true => text.to_owned(),
        false => serde_json::to_string(text).unwrap_or_default(),
    }
}
