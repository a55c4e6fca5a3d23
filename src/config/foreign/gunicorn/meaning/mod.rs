//! From settings of gunicorn to ours: a verdict for each, and a layer.
//!
//! The files below decide about the settings of class `honoured` in the table, each about one concern;
//! the table decides about all others.

mod application;
mod hooks;
mod listening;
mod logging;
mod processes;
mod scheme;
mod tls;

use super::reader::{Item, Settings};
use super::settings::Kind;
use super::value::Value;
use crate::config::foreign::class::Class;
use crate::config::foreign::drafting::{self, Draft};
use crate::config::foreign::{Line, Reading, Surroundings, Verdict, bounds, secrets};

/// The meaning of the settings.
pub fn of(settings: Settings, around: &Surroundings<'_>) -> Reading {
    let mut meaning = Meaning {
        around,
        verdicts: vec![None; settings.items.len()],
        items: settings.items,
        draft: Draft::default(),
    };
    meaning.overridden();
    application::decide(&mut meaning);
    listening::decide(&mut meaning);
    processes::decide(&mut meaning);
    logging::decide(&mut meaning);
    tls::decide(&mut meaning);
    hooks::decide(&mut meaning, settings.location.as_deref(), &settings.python);
    meaning.by_table();
    let secrets: Vec<String> = meaning.items.iter().flat_map(secrets_of).collect();
    let mut lines = settings.lines;
    let decided = meaning.items.into_iter().zip(meaning.verdicts);
    let decided = decided.map(|(item, verdict)| (item.place, item.text, verdict));
    drafting::finish(&mut lines, decided, &secrets);
    let mut reading = Reading {
        layer: meaning.draft.layer,
        lines: in_order(lines),
        implied: meaning.draft.implied,
    };
    reading.layer.secrets = secrets;
    if settings.is_failed {
        // A statement that was not evaluated may say otherwise than the default.
        let name = |text: &String| text.split(' ').next().unwrap_or_default().to_owned();
        let names: Vec<_> = reading.implied.iter().map(|(text, _)| name(text)).collect();
        for name in names {
            reading.forget_implied(&name);
        }
    }
    reading
}

/// The values of variables that are secrets.
fn secrets_of(item: &Item) -> Vec<String> {
    let pairs = match item.setting.name {
        "raw_env" => item.value.texts(),
        _ => Vec::new(),
    };
    let pairs = pairs.iter().filter_map(|pair| pair.split_once('='));
    let secret = pairs.filter(|(name, _)| secrets::is_secret(name));
    secret.map(|(_, value)| value.to_owned()).collect()
}

/// The file, the variable, the command line; by line within the file.
fn in_order(mut lines: Vec<Line>) -> Vec<Line> {
    let rank = |line: &Line| match &*line.place.source {
        "GUNICORN_CMD_ARGS" => 1,
        "command line" => 2,
        _ => 0,
    };
    lines.sort_by_key(|line| (rank(line), line.place.line));
    lines.dedup();
    lines
}

/// Texts of a value, which the command line and files of other servers list between commas.
fn listed(text: &str) -> Vec<String> {
    let parts = text.split(',').map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

struct Meaning<'a> {
    around: &'a Surroundings<'a>,
    items: Vec<Item>,
    verdicts: Vec<Option<Verdict>>,
    draft: Draft,
}

impl Meaning<'_> {
    /// Decides about settings that a later source gives again.
    fn overridden(&mut self) {
        for at in 0..self.items.len() {
            let item = &self.items[at];
            let accumulates = item.setting.kind == Kind::List && item.rank > 0;
            let stronger = self.items[at + 1..].iter().find(|other| {
                other.setting.name == item.setting.name && !(accumulates && other.rank == item.rank)
            });
            if let Some(other) = stronger {
                let why = match item.setting.name {
                    "config" => continue,
                    name => format!("{} sets {name}", other.place),
                };
                self.verdicts[at] = Some(Verdict::NoEffect(why));
            }
        }
    }

    /// The items of a setting that count.
    fn all(&self, name: &str) -> Vec<usize> {
        let counts =
            |at: &usize| self.verdicts[*at].is_none() && self.items[*at].setting.name == name;
        (0..self.items.len()).filter(counts).collect()
    }

    /// The item of a setting that counts.
    fn find(&self, name: &str) -> Option<usize> {
        self.all(name).last().copied()
    }

    /// The value of a setting that is given, but not as `None`.
    fn given(&self, name: &str) -> Option<(usize, Value)> {
        let at = self.find(name)?;
        let value = self.items[at].value.clone();
        (value != Value::None).then_some((at, value))
    }

    fn say(&mut self, at: usize, verdict: Verdict) {
        self.verdicts[at] = Some(verdict);
    }

    fn no_effect(&mut self, at: usize, why: &str) {
        self.say(at, Verdict::NoEffect(why.to_owned()));
    }

    fn already(&mut self, at: usize, so: &str) {
        self.say(at, Verdict::AlreadySo(so.to_owned()));
    }

    fn set(&mut self, at: usize, name: &str, values: Vec<String>) {
        let item = &self.items[at];
        let verdict = self.draft.set(&item.place, &item.text, name, values);
        self.say(at, verdict);
    }

    /// A time in seconds.
    fn time(&mut self, at: usize, name: &str, seconds: i64) {
        let (seconds, note) = bounds::seconds(seconds);
        self.set(at, name, vec![seconds]);
        if let Some(note) = note {
            self.note(at, note);
        }
    }

    fn append(&mut self, at: usize, name: &str, values: &[String]) {
        let item = &self.items[at];
        let verdict = self.draft.append(&item.place, &item.text, name, values);
        self.say(at, verdict);
    }

    /// Adds something to know to the verdict of a line that is honoured.
    fn note(&mut self, at: usize, note: &str) {
        if let Some(Verdict::Honoured(text)) = &mut self.verdicts[at] {
            text.push_str(&format!(" ({note})"));
        }
    }

    fn imply(&mut self, name: &str, values: &[&str], reason: &str) {
        self.draft
            .imply("default of gunicorn", name, values, reason);
    }

    /// Decides about everything that is left.
    fn by_table(&mut self) {
        for at in 0..self.items.len() {
            if self.verdicts[at].is_some() {
                continue;
            }
            let item = &self.items[at];
            let is_default = item.value.is_default_of(item.setting);
            let reason = item.setting.reason.to_owned();
            let verdict = match item.setting.class {
                Class::Honoured if item.setting.name == "config" => {
                    let text = item.value.text().unwrap_or_default();
                    Verdict::Read(format!("the settings of {text}"))
                }
                Class::Honoured if item.value == Value::None && item.setting.default.is_empty() => {
                    Verdict::AlreadySo("None is the default".to_owned())
                }
                Class::Honoured if item.value == Value::None => Verdict::Differs(format!(
                    "None is read as the default, {}",
                    item.setting.default
                )),
                Class::Honoured => Verdict::NoEffect("it is empty".to_owned()),
                Class::Noted | Class::Differs | Class::Dangerous | Class::Unsupported
                    if is_default =>
                {
                    Verdict::AlreadySo("it is off".to_owned())
                }
                class => class.verdict(reason),
            };
            self.verdicts[at] = Some(verdict);
        }
    }
}
