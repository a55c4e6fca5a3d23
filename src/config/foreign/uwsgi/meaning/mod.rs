//! From options of uWSGI to settings: a verdict for each, and a layer.
//!
//! The files below decide about the options of class `honoured` in the table, each about one concern;
//! the table decides about all others.

mod addresses;
mod application;
mod commands;
mod companions;
mod credentials;
mod fallback;
mod files;
mod listening;
mod logging;
mod processes;
mod responses;
mod routes;
mod schedules;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::numbers::{atoi, has_number};
use super::reader::{Item, Options};
use crate::config::foreign::drafting::{self, Draft};
use crate::config::foreign::{Line, Place, Reading, Surroundings, Verdict, origin, secrets};
use crate::config::layers::SettingsTable;
use crate::config::settings::Setting;

/// The meaning of the options.
pub fn of(options: Options, around: &Surroundings<'_>) -> Reading {
    let mut meaning = Meaning {
        around,
        verdicts: vec![None; options.items.len()],
        items: options.items,
        draft: Draft::default(),
        binds: Vec::new(),
        served: Vec::new(),
    };
    fallback::refuse_unset(&mut meaning);
    application::decide(&mut meaning);
    listening::decide(&mut meaning);
    processes::decide(&mut meaning);
    logging::decide(&mut meaning);
    files::decide(&mut meaning);
    commands::decide(&mut meaning);
    responses::decide(&mut meaning);
    routes::decide(&mut meaning);
    fallback::decide(&mut meaning);
    let given = meaning.items.iter();
    let given = given.map(|item| (item.key.clone(), item.value.clone()));
    meaning.draft.layer.uwsgi_options = given.collect();
    let mut secrets = options.secrets;
    secrets.extend(meaning.items.iter().flat_map(secrets_of));
    let mut lines = options.lines;
    let read = meaning.items.iter().map(|item| item.place.clone());
    let read: BTreeSet<_> = read
        .chain(lines.iter().map(|line| line.place.clone()))
        .collect();
    let unread = options.unread.into_iter();
    lines.extend(unread.filter(|line| !read.contains(&line.place)));
    let decided = meaning.items.into_iter().zip(meaning.verdicts);
    let decided = decided.map(|(item, verdict)| (item.place, item.text, verdict));
    drafting::finish(&mut lines, decided, &secrets);
    meaning.draft.layer.secrets = secrets;
    Reading {
        layer: meaning.draft.layer,
        lines: in_order(lines),
        implied: meaning.draft.implied,
    }
}

/// The parts of an option's value that are secrets.
fn secrets_of(item: &Item) -> Vec<String> {
    let value = item.value.as_deref().unwrap_or_default();
    match (&*item.key, value.split_once('=')) {
        ("env", Some((name, value))) if secrets::is_secret(name) => vec![value.to_owned()],
        ("pyargv", _) => secrets::behind_names(value),
        (key, _) if secrets::is_secret(key) => vec![value.to_owned()],
        (key, _) if key.starts_with("route") => routes::password(value).into_iter().collect(),
        ("add-header", _) => match value.split_once(':') {
            Some((name, value)) if secrets::is_secret(name.trim()) => vec![value.trim().to_owned()],
            _ => Vec::new(),
        },
        (key, _) => credentials::of_option(key, value),
    }
}

/// By file, in the order in which files were opened, and line; each verdict of a line once.
fn in_order(mut lines: Vec<Line>) -> Vec<Line> {
    let mut ranks = BTreeMap::new();
    for line in &lines {
        let next = ranks.len();
        ranks.entry(line.place.source.clone()).or_insert(next);
    }
    lines.sort_by_key(|line| (ranks.get(&line.place.source).copied(), line.place.line));
    // A line that steers the reading, or that is fatal, needs no second verdict.
    let places = |is_one: fn(&Verdict) -> bool| -> BTreeSet<Place> {
        let chosen = lines.iter().filter(|line| is_one(&line.verdict));
        chosen.map(|line| line.place.clone()).collect()
    };
    let others = places(|verdict| !matches!(verdict, Verdict::Read(_)));
    let fatal = places(Verdict::is_fatal);
    lines.retain(|line| match &line.verdict {
        _ if line.place.line == 0 => true,
        Verdict::Read(_) => !others.contains(&line.place),
        verdict => verdict.is_fatal() || !fatal.contains(&line.place),
    });
    lines.dedup();
    lines
}

struct Meaning<'a> {
    around: &'a Surroundings<'a>,
    items: Vec<Item>,
    verdicts: Vec<Option<Verdict>>,
    draft: Draft,
    /// The addresses at which uWSGI itself speaks HTTP.
    binds: Vec<String>,
    /// The prefixes and directories, or paths and files, of `static-map` and `check-static`.
    served: Vec<(String, String)>,
}

impl Meaning<'_> {
    /// The options of these names that have no verdict yet, in order.
    fn all(&self, names: &[&str]) -> Vec<usize> {
        let is_one = |at: &usize| {
            let item = &self.items[*at];
            !item.is_placeholder && self.verdicts[*at].is_none() && names.contains(&&*item.key)
        };
        (0..self.items.len()).filter(is_one).collect()
    }

    /// The last option of these names; those before it have no effect.
    fn last(&mut self, names: &[&str]) -> Option<usize> {
        let all = self.all(names);
        let (last, before) = all.split_last()?;
        let place = self.items[*last].place.to_string();
        for at in before {
            let why = format!("the last line counts ({place})");
            self.say(*at, Verdict::NoEffect(why));
        }
        Some(*last)
    }

    fn value(&self, at: usize) -> &str {
        self.items[at].value.as_deref().unwrap_or_default()
    }

    fn flag(&self, at: usize) -> bool {
        super::numbers::flag(self.items[at].value.as_deref())
    }

    fn say(&mut self, at: usize, verdict: Verdict) {
        self.verdicts[at] = Some(verdict);
    }

    fn no_effect(&mut self, at: usize, why: &str) {
        self.say(at, Verdict::NoEffect(why.to_owned()));
    }

    /// The number of a line; a negative one is wrong, as in uWSGI.
    fn number(&mut self, at: usize) -> Option<i64> {
        let value = self.value(at).to_owned();
        // A flag of the command line without its value counts as one.
        let number = match self.items[at].value {
            None => 1,
            Some(_) => atoi(&value),
        };
        if number < 0 {
            let why = format!("{} cannot be negative", self.items[at].key);
            self.say(at, Verdict::Wrong(why));
            return None;
        }
        Some(number)
    }

    /// As [`Self::number`], for options whose zero makes no sense.
    fn positive(&mut self, at: usize, consequence: &str) -> Option<i64> {
        let number = self.number(at)?;
        if number == 0 {
            let value = self.value(at);
            let why = match has_number(value) {
                true => consequence.to_owned(),
                false => format!("{value:?} is no number, uWSGI takes it for 0: {consequence}"),
            };
            self.say(at, Verdict::Wrong(why));
            return None;
        }
        Some(number)
    }

    /// Sets what the line asks for.
    fn honour(&mut self, at: usize, setting: &str, values: Vec<String>) {
        let item = &self.items[at];
        let verdict = self.draft.set(&item.place, &item.text, setting, values);
        self.say(at, verdict);
    }

    /// As [`Self::honour`], with something to know behind it.
    fn honour_with_note(&mut self, at: usize, setting: &str, values: Vec<String>, note: &str) {
        self.honour(at, setting, values);
        self.note(at, note);
    }

    /// Adds something to know to the verdict of a line that is honoured.
    fn note(&mut self, at: usize, note: &str) {
        if let Some(Verdict::Honoured(text)) = &mut self.verdicts[at] {
            text.push_str(&format!(" ({note})"));
        }
    }

    /// Adds a value to a repeatable setting, which has the origin of its first line.
    fn append(&mut self, at: usize, name: &str, value: String) {
        let item = &self.items[at];
        let verdict = self.draft.append(&item.place, &item.text, name, &[value]);
        self.say(at, verdict);
    }

    /// Sets what follows from a default of uWSGI, unless a line has set it.
    fn imply(&mut self, name: &str, value: &str, reason: &str) {
        if let Some(first) = self.items.first() {
            let source = &first.place.source;
            self.draft.imply(source, name, &[value], reason);
        }
    }

    /// The mount points that uWSGI takes off the path before it compares it with anything (`manage-script-name`).
    fn stripped_mounts(&self) -> Vec<String> {
        let mut items = self.items.iter();
        let manages = items.rfind(|item| item.key == "manage-script-name" && !item.is_placeholder);
        if !manages.is_some_and(|item| super::numbers::flag(item.value.as_deref())) {
            return Vec::new();
        }
        let tables = self.draft.layer.locations.iter();
        let apps = tables.filter(|table| table.entry("app").is_some());
        let prefixes = apps.filter_map(|table| table.entry("prefix")?.values.first().cloned());
        prefixes.collect()
    }

    /// A table with these settings, which the line makes.
    fn table(
        &self,
        at: usize,
        known: &mut dyn Iterator<Item = &'static Setting>,
        given: &[(&str, String)],
    ) -> SettingsTable {
        let item = &self.items[at];
        let origin = origin(&item.place, &item.text);
        let mut table = SettingsTable::new(origin.clone());
        for setting in known {
            let values = given.iter().filter(|(name, _)| *name == setting.name);
            let values: Vec<_> = values.map(|(_, value)| value.clone()).collect();
            if !values.is_empty() {
                table.insert(setting, values, origin.clone());
            }
        }
        table
    }

    /// True if one of the directories with the application's code is `dir` or below it, by their names.
    fn is_at_or_above_code(&self, dir: &str) -> bool {
        let values = |name| {
            self.draft
                .layer
                .entry(name)
                .map(|entry| entry.values.iter())
        };
        let current = self.around.current_dir;
        let chdir = values("chdir").and_then(|mut dirs| dirs.next());
        let base = chdir.map_or(current.to_owned(), |dir| current.join(dir));
        let absolute = |path: &str| base.join(path).components().collect::<PathBuf>();
        let dir = absolute(dir);
        // A module has no slash in its name, so it stands for the directory itself.
        let files = values("app").into_iter().flatten();
        let files = files.filter_map(|app| Some(absolute(app).parent()?.to_owned()));
        let paths = values("pythonpath").into_iter().flatten();
        let mut code = paths.map(|path| absolute(path)).chain(files);
        base.components().collect::<PathBuf>().starts_with(&dir)
            || code.any(|code| code.starts_with(&dir))
    }
}
