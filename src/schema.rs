//! The JSON schema of `pyserve.toml` (draft 2020-12), generated from the table of settings: editors check
//! and complete the file with it.

use serde_json::{Map, Value, json};

use crate::config::file::{TABLES, settings_of_table, takes_number_or_boolean, takes_pairs};
use crate::config::settings::{self, Default, Setting};

/// The schema.
pub fn schema() -> Value {
    let of_file = settings::all().filter(|setting| setting.is_for_file());
    let mut properties = properties(of_file, false);
    for kind in TABLES {
        let table = object(self::properties(settings_of_table(kind).into_iter(), true));
        let tables = json!({"type": "array", "items": table});
        properties.insert(kind.to_owned(), tables);
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
        return json!({"enum": enumerated(&words)});
    }
    match takes_number_or_boolean(setting) {
        true => json!({"type": ["string", "number", "boolean"]}),
        false => json!({"type": "string"}),
    }
}

/// The words, the numbers among them, and TOML's own words for yes and no where the server takes them.
fn enumerated(words: &[&str]) -> Vec<Value> {
    let mut values: Vec<_> = words.iter().map(|word| json!(word)).collect();
    let numbers = words.iter().filter_map(|word| word.parse::<u64>().ok());
    values.extend(numbers.map(Value::from));
    if words.contains(&"yes") {
        values.extend([json!(true), json!("on"), json!("true")]);
    }
    if words.contains(&"no") || words.contains(&"off") {
        values.push(json!(false));
        let other = ["no", "off", "false"].into_iter();
        let other = other.filter(|word| !words.contains(word));
        values.extend(other.map(Value::from));
    }
    values
}
