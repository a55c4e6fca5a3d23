//! From directives to settings: a verdict for each, and a layer.
//!
//! 1. [`servers`] selects the servers that can be served, with their hosts and addresses.
//! 2. [`locations`] puts the locations of each into the order in which nginx chooses, and [`handler`]
//!    makes `[[location]]` tables of them.
//! 3. [`site`] sets what holds for all.
//! 4. The table of directives decides about all others.
//!
//! A directive that several locations inherit has the worst of its verdicts.

mod access;
mod answer;
mod arity;
mod by_name;
mod circles;
mod contexts;
mod error_pages;
mod files;
mod forwarding;
mod handler;
mod inherited;
mod listen;
mod locations;
mod method_conditions;
mod methods;
mod numbers;
mod passing;
mod proxy_tls;
mod redirects;
mod regex;
mod response_fields;
mod rest;
mod rewrites;
mod rules;
mod served;
mod servers;
mod site;
mod starts;
mod tls;
mod try_files;
mod types;
mod upstreams;
mod uwsgi_params;

use std::path::Path;

pub use numbers::bytes as size;

use super::tree::Tree;
use crate::config::foreign::{Line, Place, Reading, Verdict, equivalent, origin, secrets};
use crate::config::layers::{Layer, SettingsTable};
use crate::config::locations as tables;
use crate::config::settings;

/// The facts on which the meaning of a file depends.
pub struct Given<'a> {
    /// True if there is an application, which `uwsgi_pass` then means.
    pub app: bool,
    /// The application that the current directory has, if none is given.
    pub found_app: Option<String>,
    /// The addresses at which the server of that application would speak HTTP, as in `:8000`.
    pub binds: Vec<String>,
    /// The addresses at which it would speak uwsgi.
    pub sockets: Vec<String>,
    /// Names by which nginx, on another machine, reaches the server of that application.
    pub hosts: Vec<String>,
    /// True if the settings of the application trust a proxy, as gunicorn trusts those of its machine.
    pub trusts: bool,
    /// Seconds that the settings of the application give a request; `None` for no limit.
    pub deadline: Option<u64>,
    /// True if other settings have rules for the header fields of all responses.
    pub has_headers: bool,
    /// True if a directory is there; a file that is only explained may be of another machine.
    pub is_dir: &'a dyn Fn(&Path) -> bool,
    /// True if a directory is there on this machine.
    pub is_dir_here: &'a dyn Fn(&Path) -> bool,
    /// The entries of a password file that cannot be used; `None` for a file that is not there.
    pub bad_passwords: &'a dyn Fn(&Path) -> Option<Vec<String>>,
    /// The value of an environment variable, for templates.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

/// The meaning of all directives.
pub fn of(tree: &Tree, given: &Given<'_>) -> Reading {
    let mut meaning = Meaning {
        tree,
        given,
        verdicts: vec![None; tree.items.len()],
        layer: Layer::default(),
        implied: Vec::new(),
        tables: Vec::new(),
        is_alone: false,
        first: None,
        is_uncompressed: false,
        passing: Vec::new(),
        max_body: String::new(),
    };
    if tree.fault.is_none() {
        let sites = servers::decide(&mut meaning);
        meaning.is_alone = sites.len() == 1;
        meaning.first = sites.first().map(|site| site.server);
        meaning.max_body = site::max_body_of(&mut meaning, sites.first());
        meaning.is_uncompressed = site::is_uncompressed(&mut meaning, &sites);
        for site in &sites {
            handler::server(&mut meaning, site);
        }
        site::decide(&mut meaning, &sites);
        meaning.finish_tables();
        arity::check(&mut meaning);
        contexts::check(&mut meaning);
    }
    rest::decide(&mut meaning);
    meaning.layer.secrets.extend(keys_of_maps(tree));
    meaning.reading()
}

/// The values of a secret, such as the field with an API key, that a `map` knows.
fn keys_of_maps(tree: &Tree) -> Vec<String> {
    let items = tree.items.iter().enumerate();
    let maps = items.filter(|(_, item)| item.name == "map" && secrets::is_secret(item.arg(0)));
    let entries = maps.flat_map(|(at, _)| tree.children(Some(at)));
    let keys = entries.map(|at| tree.items[at].name.trim_matches(['"', '\'']).to_owned());
    keys.filter(|key| !["default", "hostnames", "volatile", "include"].contains(&&**key))
        .collect()
}

/// Settings for the requests that a table is for.
const PLACE: [&str; 9] = [
    "path",
    "starts_with",
    "prefix",
    "ignore_case",
    "segment",
    "extension",
    "method",
    "scheme",
    "host",
];

/// One `[[location]]` in the making.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Table {
    /// The directive that makes it.
    at: usize,
    /// Settings with their values.
    entries: Vec<(&'static str, Vec<String>)>,
}

impl Table {
    fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.entries.push((name, vec![value.into()]));
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.values(name).first().map(String::as_str)
    }

    /// The path, the prefix or the start of its paths.
    fn path(&self) -> Option<&str> {
        let mut names = ["path", "prefix", "starts_with"].into_iter();
        names.find_map(|name| self.value(name))
    }

    fn values(&self, name: &str) -> &[String] {
        let entry = self.entries.iter().find(|(own, _)| *own == name);
        entry.map_or(&[], |(_, values)| values)
    }

    /// Adds a value to a setting that may have several, unless it has it.
    fn append(&mut self, name: &'static str, value: String) {
        match self.entries.iter_mut().find(|(own, _)| *own == name) {
            Some((_, values)) if !values.contains(&value) => values.push(value),
            Some(_) => {}
            None => self.entries.push((name, vec![value])),
        }
    }

    /// True if both say the same, in whatever order.
    fn has_the_entries_of(&self, other: &Self) -> bool {
        let mut own = self.entries.iter();
        self.entries.len() == other.entries.len() && own.all(|entry| other.entries.contains(entry))
    }

    /// Leaves the requests that it is for, and nothing else.
    fn clear(&mut self) {
        self.entries.retain(|(name, _)| PLACE.contains(name));
    }

    /// `prefix = "/x", app = "."`, for people.
    fn shown(&self) -> String {
        let handlers = [
            "pass",
            "upstream",
            "static",
            "file",
            "redirect",
            "respond",
            "stub_status",
            "status",
        ];
        let names = PLACE.iter().chain(&handlers);
        let parts = names.filter_map(|name| {
            let (_, values) = self.entries.iter().find(|(own, _)| own == name)?;
            Some(equivalent::assignment(tables::named(name)?, values))
        });
        let parts: Vec<_> = parts.collect();
        format!("[[location]] {}", parts.join(", "))
    }
}

/// The meaning in the making.
struct Meaning<'a> {
    tree: &'a Tree,
    given: &'a Given<'a>,
    verdicts: Vec<Option<Verdict>>,
    layer: Layer,
    implied: Vec<(String, String)>,
    tables: Vec<Table>,
    /// True if there is one server, whose settings hold for all.
    is_alone: bool,
    /// The default server, or the first one.
    first: Option<usize>,
    /// True if `gzip off` holds for all but the locations and servers that say otherwise.
    is_uncompressed: bool,
    /// The named locations that pass requests on to the one that is read.
    passing: Vec<usize>,
    /// The longest body for all: that of the first server.
    max_body: String,
}

impl<'a> Meaning<'a> {
    fn has_app(&self) -> bool {
        self.given.app || self.given.found_app.is_some()
    }

    fn name(&self, at: usize) -> &'a str {
        &self.tree.items[at].name
    }

    fn arg(&self, at: usize, number: usize) -> &'a str {
        self.tree.items[at].arg(number)
    }

    fn args(&self, at: usize) -> Vec<&'a str> {
        self.tree.items[at].texts().collect()
    }

    /// Gives a directive a verdict, unless it has a worse one.
    fn say(&mut self, at: usize, verdict: Verdict) {
        let is_worse = |old: &Verdict| rank(&verdict) > rank(old);
        if self.verdicts[at].as_ref().is_none_or(is_worse) {
            self.verdicts[at] = Some(verdict);
        }
    }

    fn honoured(&mut self, at: usize, text: impl Into<String>) {
        self.say(at, Verdict::Honoured(text.into()));
    }

    fn already(&mut self, at: usize, text: impl Into<String>) {
        self.say(at, Verdict::AlreadySo(text.into()));
    }

    fn steers(&mut self, at: usize, text: impl Into<String>) {
        self.say(at, Verdict::Read(text.into()));
    }

    fn no_effect(&mut self, at: usize, text: impl Into<String>) {
        self.say(at, Verdict::NoEffect(text.into()));
    }

    fn unsupported(&mut self, at: usize, text: impl Into<String>) {
        self.say(at, Verdict::Unsupported(text.into()));
    }

    /// True if a block has a directive of such a name.
    fn has(&self, block: usize, is_such: impl Fn(&str) -> bool) -> bool {
        let mut children = self.tree.children(Some(block));
        children.any(|child| is_such(self.name(child)))
    }

    /// Gives everything in a block this verdict, where it has none.
    fn say_inside(&mut self, block: usize, verdict: &Verdict) {
        let tree = self.tree;
        for at in tree.children(Some(block)) {
            if self.verdicts[at].is_none() {
                self.verdicts[at] = Some(verdict.clone());
            }
            self.say_inside(at, verdict);
        }
    }

    /// Replaces a part of what the lines in a block are said to set.
    fn say_otherwise(&mut self, block: usize, part: &str, by: &str) {
        let tree = self.tree;
        for at in tree.children(Some(block)) {
            if let Some(Verdict::Honoured(text)) = &mut self.verdicts[at] {
                *text = text.replace(part, by);
            }
            self.say_otherwise(at, part, by);
        }
    }

    /// The directives of this name that hold in a block: those of the nearest block around that has
    /// one, as nginx inherits.
    fn nearest(&self, block: Option<usize>, name: &str) -> Vec<usize> {
        let mut block = block;
        loop {
            let found: Vec<_> = self.tree.named(block, name).collect();
            if !found.is_empty() {
                return found;
            }
            match block {
                None => return Vec::new(),
                Some(at) => block = self.tree.items[at].parent,
            }
        }
    }

    /// The one directive of this name that holds in a block. nginx refuses a second.
    fn scalar(&mut self, block: Option<usize>, name: &str) -> Option<usize> {
        let found = self.nearest(block, name);
        for at in found.iter().skip(1) {
            self.say(
                *at,
                Verdict::Wrong(format!("{name} is given twice in one block")),
            );
        }
        found.first().copied()
    }

    /// The first argument of [`Self::scalar`].
    fn scalar_value(&mut self, block: Option<usize>, name: &str) -> Option<&'a str> {
        self.scalar(block, name).map(|at| self.arg(at, 0))
    }

    /// The `server` around, or the block itself.
    fn around(&self, at: usize, name: &str) -> Option<usize> {
        let mut at = Some(at);
        while let Some(block) = at {
            if self.name(block) == name {
                return Some(block);
            }
            at = self.tree.items[block].parent;
        }
        None
    }

    /// Sets a setting for all, which the directive asks for.
    fn set(&mut self, at: usize, name: &'static str, values: Vec<String>) {
        let Some(setting) = settings::named(name) else {
            return;
        };
        self.honoured(at, equivalent::assignment(setting, &values));
        self.insert(at, name, values);
    }

    /// Sets a setting for all, which follows from the directive beside what its line says.
    fn insert(&mut self, at: usize, name: &'static str, values: Vec<String>) {
        let Some(setting) = settings::named(name) else {
            return;
        };
        let item = &self.tree.items[at];
        let place = place(item.source.clone(), item.line);
        self.layer
            .insert(setting, values, origin(&place, &shown(&item.text)));
    }

    /// Adds a value to a setting for all.
    fn append(&mut self, at: usize, name: &'static str, value: String) {
        let shown = settings::named(name)
            .map(|setting| equivalent::assignment(setting, std::slice::from_ref(&value)));
        let mut values = self
            .layer
            .entry(name)
            .map_or_else(Vec::new, |entry| entry.values.clone());
        if !values.contains(&value) {
            values.push(value);
        }
        let verdict = self.verdicts[at].take();
        self.set(at, name, values);
        self.verdicts[at] = verdict;
        self.honoured(at, shown.unwrap_or_default());
    }

    /// Sets what follows from a default of nginx.
    fn imply(&mut self, name: &'static str, value: &str, reason: &str) {
        self.imply_all(name, vec![value.to_owned()], reason);
    }

    /// As [`Self::imply`], for a setting with several values, or none.
    fn imply_all(&mut self, name: &'static str, values: Vec<String>, reason: &str) {
        let (Some(setting), Some(first)) = (settings::named(name), self.tree.items.first()) else {
            return;
        };
        self.implied
            .push((equivalent::assignment(setting, &values), reason.to_owned()));
        self.layer.insert(
            setting,
            values,
            origin(&place(first.source.clone(), 0), reason),
        );
    }

    /// Puts the tables into the layer.
    fn finish_tables(&mut self) {
        let mut tables = std::mem::take(&mut self.tables);
        let uses_app = self.given.app || tables.iter().any(|table| table.value("pass").is_some());
        circles::end(self, &mut tables);
        inherited::take_out(self, &mut tables);
        // The application answers unasked where nothing else does.
        let is_plain = |table: &Table| {
            table.value("pass").is_some()
                && table.value("prefix") == Some("/")
                && table.entries.len() == 2
        };
        tables.retain(|table| !is_plain(table));
        let is_beside = |table: &Table| {
            let is_files = table.value("static").or(table.value("file")).is_some();
            !is_files
                && table.value("prefix") == Some("/")
                && table.value("host").or(table.value("scheme")).is_none()
        };
        let is_for_all = |table: &Table| {
            is_beside(table) && table.value("method").or(table.value("segment")).is_none()
        };
        // Beside the application, which has the whole site.
        if uses_app && tables.iter().any(is_for_all) {
            for table in tables.iter_mut().filter(|table| is_beside(table)) {
                table.set("host", "*");
            }
        }
        for table in tables {
            let item = &self.tree.items[table.at];
            let origin = origin(&place(item.source.clone(), item.line), &shown(&item.text));
            let mut made = SettingsTable::new(origin.clone());
            for (name, values) in table.entries {
                if let Some(setting) = tables::named(name) {
                    made.insert(setting, values, origin.clone());
                }
            }
            self.layer.locations.push(made);
        }
    }

    fn reading(self) -> Reading {
        let known = &self.layer.secrets;
        let verdicts = self.tree.items.iter().zip(self.verdicts);
        let mut lines: Vec<_> = verdicts
            .map(|(item, verdict)| Line {
                place: place(item.source.clone(), item.line),
                text: secrets::without_known(&shown(&item.text), known),
                verdict: verdict
                    .unwrap_or_else(|| Verdict::Unsupported("not known".to_owned()))
                    .map(|text| secrets::without_known(&without_secret_of_field(text), known)),
            })
            .collect();
        if let Some(fault) = &self.tree.fault {
            lines.push(Line {
                place: place(fault.source.clone(), fault.line),
                text: shown(&fault.text),
                verdict: Verdict::Wrong(fault.problem.clone()),
            });
        }
        Reading {
            layer: self.layer,
            lines,
            implied: self.implied,
        }
    }
}

fn place(source: std::sync::Arc<str>, line: usize) -> Place {
    Place { source, line }
}

/// The text of a directive without secrets. Names of directives such as `proxy_pass` are none.
fn shown(text: &str) -> String {
    let (name, rest) = text.split_at(text.find(' ').unwrap_or(text.len()));
    let field = rest.split_whitespace().next().unwrap_or_default();
    let is_credential = [
        "authorization",
        "cookie",
        "proxy-authorization",
        "x-api-key",
        "x-auth",
    ]
    .iter()
    .any(|telling| {
        field
            .trim_matches(['"', '\''])
            .eq_ignore_ascii_case(telling)
    });
    let value = rest.trim_start().get(field.len()..).unwrap_or_default();
    // Both have a word that only the application knows.
    if matches!(name, "secure_link_md5" | "secure_link_secret") {
        return format!("{name} {}", secrets::HIDDEN);
    }
    if is_credential && name.ends_with("_header") && !value.trim_start().starts_with('$') {
        return format!("{name} {field} {}", secrets::HIDDEN);
    }
    format!("{name}{}", secrets::masked(rest))
}

/// The text of a verdict without the secret in a header field that it sets: prose has none.
fn without_secret_of_field(verdict: &str) -> String {
    match verdict.starts_with("header = ") {
        true => secrets::masked(verdict),
        false => verdict.to_owned(),
    }
}

/// The gravity of a verdict, for directives that have several.
fn rank(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::NoEffect(_) => 0,
        Verdict::AlreadySo(_) => 1,
        Verdict::Honoured(_) | Verdict::Read(_) => 2,
        Verdict::Noted(_) | Verdict::Differs(_) | Verdict::Incomplete(_) => 3,
        Verdict::Unknown(_) | Verdict::Ignored(_) => 4,
        Verdict::Dangerous(_) => 5,
        Verdict::Unsupported(_) => 6,
        Verdict::AtStart(_) | Verdict::Unset(_) | Verdict::Unfilled(_) => 7,
        Verdict::Wrong(_) => 8,
    }
}
