//! The layer of settings that a reader makes, line by line, with the text of each verdict.

use super::{Line, Place, Verdict, equivalent, origin, secrets};
use crate::config::layers::{Layer, SettingsTable};
use crate::config::settings::{self, Setting};

/// A layer in the making.
#[derive(Debug, Default)]
pub struct Draft {
    /// The settings so far.
    pub layer: Layer,
    /// Settings that follow from a default of the other server, with the reason.
    pub implied: Vec<(String, String)>,
}

impl Draft {
    /// Sets what the line `text` at `place` asks for.
    pub fn set(&mut self, place: &Place, text: &str, name: &str, values: Vec<String>) -> Verdict {
        let Some(setting) = settings::named(name) else {
            return Verdict::Unsupported(format!("there is no setting {name}"));
        };
        let verdict = Verdict::Honoured(equivalent::assignment(setting, &values));
        self.layer.insert(setting, values, origin(place, text));
        verdict
    }

    /// Adds values to a repeatable setting, which has the origin of its first line.
    pub fn append(&mut self, place: &Place, text: &str, name: &str, more: &[String]) -> Verdict {
        let Some(setting) = settings::named(name) else {
            return Verdict::Unsupported(format!("there is no setting {name}"));
        };
        let (mut values, origin) = match self.layer.entry(name) {
            Some(entry) => (entry.values.clone(), entry.origin.clone()),
            None => (Vec::new(), origin(place, text)),
        };
        values.extend_from_slice(more);
        self.layer.insert(setting, values, origin);
        Verdict::Honoured(equivalent::assignment(setting, more))
    }

    /// Sets what follows from a default of the other server, unless a line has set it.
    pub fn imply(&mut self, source: &str, name: &str, values: &[&str], reason: &str) {
        let Some(setting) = settings::named(name).filter(|_| self.layer.entry(name).is_none())
        else {
            return;
        };
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        let text = equivalent::assignment(setting, &values);
        self.implied.push((text, reason.to_owned()));
        let place = Place {
            source: source.into(),
            line: 0,
        };
        self.layer.insert(setting, values, origin(&place, reason));
    }
}

/// Adds a line for each item that has a verdict, and hides secrets in all lines.
pub fn finish(
    lines: &mut Vec<Line>,
    items: impl Iterator<Item = (Place, String, Option<Verdict>)>,
    secrets: &[String],
) {
    lines.extend(items.filter_map(|(place, text, verdict)| {
        Some(Line {
            place,
            text,
            verdict: verdict?,
        })
    }));
    for line in lines {
        line.text = secrets::hidden(&line.text, secrets);
        line.verdict = line.verdict.map(|text| secrets::hidden(text, secrets));
    }
}

/// A table with these settings, which the line `text` at `place` makes.
pub fn table(
    place: &Place,
    text: &str,
    known: &mut dyn Iterator<Item = &'static Setting>,
    given: &[(&str, Vec<String>)],
) -> SettingsTable {
    let origin = origin(place, text);
    let mut table = SettingsTable::new(origin.clone());
    for setting in known {
        if let Some((_, values)) = given.iter().find(|(name, _)| *name == setting.name) {
            table.insert(setting, values.clone(), origin.clone());
        }
    }
    table
}
