//! The JSON schema of `pyserve.toml` (draft 2020-12), generated from the table of settings: editors check
//! and complete the file with it.

use serde_json::{Map, Value, json};

use crate::config::file::{takes_number_or_boolean, takes_pairs};
use crate::config::settings::{self, Default, Setting};
use crate::config::{companions, locations};

/// The schema.
pub fn schema() -> Value {
    let of_file = settings::all().filter(|setting| setting.is_for_file());
    let mut properties = properties(of_file, false);
    for (name, settings) in [
        ("location", locations::all().collect::<Vec<_>>()),
        ("companion", companions::COMPANION_SETTINGS.iter().collect()),
    ] {
        let table = object(self::properties(settings.into_iter(), true));
        let tables = json!({"type": "array", "items": table});
        properties.insert(name.to_owned(), tables);
    }
    let mut schema = object(properties);
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "pyserve.toml".into();
    schema
}

fn object(properties: Map<String, Value>) -> Value {
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

fn properties<'a>(
    settings: impl Iterator<Item = &'a Setting>,
    in_table: bool,
) -> Map<String, Value> {
    settings
        .map(|setting| (setting.name.to_owned(), property(setting, in_table)))
        .collect()
}

fn property(setting: &Setting, in_table: bool) -> Value {
    let one = value(setting);
    let mut forms = vec![one.clone()];
    if setting.repeatable {
        forms.push(json!({"type": "array", "items": one}));
    }
    if takes_pairs(setting, in_table) {
        forms.push(json!({"type": "object", "additionalProperties": one}));
    }
    let mut property = match forms.len() {
        1 => one,
        _ => json!({"anyOf": forms}),
    };
    property["description"] = setting.full_help().into();
    if let Default::Value(text) = setting.default {
        property["default"] = text.into();
    }
    property
}

/// One value. The server reads all of them as texts; the placeholder says what they may be.
fn value(setting: &Setting) -> Value {
    let words: Vec<_> = setting.value_name.split('|').collect();
    if setting.is_switch() || words == ["yes", "no"] {
        return json!({"anyOf": [{"type": "boolean"}, {"enum": ["yes", "no", "on", "off", "true", "false"]}]});
    }
    let is_plain = |word: &&str| {
        word.chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    if words.len() > 1 && words.iter().all(is_plain) {
        let numbers = words.iter().filter_map(|word| word.parse::<u64>().ok());
        let values = words.iter().map(|word| json!(word));
        return json!({"enum": values.chain(numbers.map(Value::from)).collect::<Vec<_>>()});
    }
    match takes_number_or_boolean(setting) {
        true => json!({"type": ["string", "number", "boolean"]}),
        false => json!({"type": "string"}),
    }
}
