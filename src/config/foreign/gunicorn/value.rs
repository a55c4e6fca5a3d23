//! The values of settings, as Python has them, and what gunicorn accepts for a setting.

use serde_json::Value as Json;

use super::settings::{GunicornSetting, Kind};

/// A value of Python.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `None`.
    None,
    /// A boolean.
    Bool(bool),
    /// A whole number; one that is too large is the largest.
    Int(i64),
    /// A text.
    Text(String),
    /// A list, tuple or set.
    List(Vec<Value>),
    /// A dictionary.
    Map(Vec<(String, Value)>),
    /// A function of so many arguments, if that is known.
    Callable(String, Option<usize>),
    /// A class by its whole name.
    Class(String),
    /// Something else, by its type.
    Other(String),
}

impl Value {
    /// The value as `evaluate.py` writes it.
    pub fn of_json(json: &Json) -> Option<Self> {
        let parts = json.as_array()?;
        let text = || Some(parts.get(1)?.as_str()?.to_owned());
        Some(match parts.first()?.as_str()? {
            "none" => Self::None,
            "bool" => Self::Bool(parts.get(1)?.as_bool()?),
            "int" => {
                let digits = text()?;
                let largest = if digits.starts_with('-') {
                    i64::MIN
                } else {
                    i64::MAX
                };
                Self::Int(digits.parse().unwrap_or(largest))
            }
            "float" => Self::Other("float".to_owned()),
            "text" => Self::Text(text()?),
            "list" => {
                let items = parts.get(1)?.as_array()?.iter();
                Self::List(items.filter_map(Self::of_json).collect())
            }
            "map" => {
                let pairs = parts.get(1)?.as_array()?.iter().filter_map(|pair| {
                    let name = pair.get(0)?.as_str()?.to_owned();
                    Some((name, Self::of_json(pair.get(1)?)?))
                });
                Self::Map(pairs.collect())
            }
            "class" => Self::Class(text()?),
            "callable" => {
                let arguments = parts.get(2).and_then(Json::as_u64);
                let arguments = arguments.and_then(|count| usize::try_from(count).ok());
                Self::Callable(text()?, arguments)
            }
            _ => Self::Other(text()?),
        })
    }

    /// A plain value as text.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Int(number) => Some(number.to_string()),
            Self::Text(text) | Self::Class(text) => Some(text.clone()),
            Self::Bool(value) => Some(value.to_string()),
            _ => None,
        }
    }

    /// The texts of a list.
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::List(items) => items.iter().filter_map(Self::text).collect(),
            other => other.text().into_iter().collect(),
        }
    }

    /// A number that [`accepted`] has checked.
    pub fn number(&self) -> i64 {
        match self {
            Self::Int(number) => *number,
            _ => 0,
        }
    }

    /// True if it is the default of `setting`.
    pub fn is_default_of(&self, setting: &GunicornSetting) -> bool {
        match self {
            Self::None => true,
            Self::Bool(false) => matches!(setting.default, "" | "off"),
            Self::List(items) if items.is_empty() => setting.default.is_empty(),
            Self::Map(items) if items.is_empty() => setting.default.is_empty(),
            Self::Int(0) if setting.default.is_empty() => true,
            other => other.text().is_some_and(|text| text == setting.default),
        }
    }

    /// True for `True`.
    pub fn is_true(&self) -> bool {
        *self == Self::Bool(true)
    }
}

/// The value as gunicorn has it after its check (`validate_*` in its config.py).
///
/// # Errors
/// The reason for which gunicorn does not start.
pub fn accepted(setting: &GunicornSetting, value: Value) -> Result<Value, String> {
    let wrong = |wanted: &str| Err(format!("{} has to be {wanted}", setting.name));
    match (setting.kind, value) {
        (Kind::Int | Kind::Mode, value) => match number(&value) {
            Some(number) if number >= 0 => Ok(Value::Int(number)),
            Some(_) => Err(format!("{} cannot be negative", setting.name)),
            None => wrong("a whole number"),
        },
        (Kind::Switch | Kind::Off, Value::Text(text)) => match &*text.to_lowercase() {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => wrong("True or False"),
        },
        (Kind::Switch | Kind::Off, value @ (Value::None | Value::Bool(_))) => Ok(value),
        (Kind::Switch | Kind::Off, _) => wrong("True or False"),
        (Kind::Text, value @ Value::Int(_)) if matches!(setting.name, "user" | "group") => {
            Ok(value)
        }
        (Kind::Text, Value::Text(text)) => Ok(Value::Text(text.trim().to_owned())),
        (Kind::Text, Value::None) => Ok(Value::None),
        (Kind::Text, _) => wrong("a string"),
        (Kind::Maybe, Value::Bool(true)) => Ok(Value::Text("auto".to_owned())),
        (Kind::Maybe, Value::Bool(false) | Value::None) => Ok(Value::Text("off".to_owned())),
        (Kind::Maybe, Value::Text(text)) => {
            let text = text.trim().to_lowercase();
            match PROXY_PROTOCOLS.contains(&&*text) {
                true => Ok(Value::Text(text)),
                false => wrong("off, v1, v2, or auto"),
            }
        }
        (Kind::Maybe, _) => wrong("a string or a boolean"),
        (Kind::List, Value::None) => Ok(Value::List(Vec::new())),
        (Kind::List, Value::Text(text)) if text.is_empty() => Ok(Value::List(Vec::new())),
        (Kind::List, text @ Value::Text(_)) => Ok(Value::List(vec![text])),
        (Kind::List, Value::List(items)) => {
            let texts = items.into_iter().map(|item| match item {
                Value::Text(text) => Some(Value::Text(text.trim().to_owned())),
                _ => None,
            });
            match texts.collect::<Option<Vec<_>>>() {
                Some(texts) => Ok(Value::List(texts)),
                None => wrong("a list of strings"),
            }
        }
        (Kind::List, _) => wrong("a list of strings"),
        (Kind::Class, value @ (Value::Text(_) | Value::Class(_) | Value::Callable(..))) => {
            Ok(value)
        }
        (Kind::Class, _) => wrong("a class or its name"),
        (Kind::Map, value @ Value::Map(_)) => Ok(value),
        (Kind::Map, _) => wrong("a dictionary"),
        (Kind::Hook(wanted), Value::Callable(name, Some(given)))
            if given != wanted && setting.name != "post_request" =>
        {
            Err(format!(
                "gunicorn calls {name} with {wanted} arguments, and it takes {given}"
            ))
        }
        (Kind::Hook(_), value @ (Value::Callable(..) | Value::Class(_))) => Ok(value),
        (Kind::Hook(_), Value::Text(name)) if name.contains('.') => Ok(Value::Text(name)),
        (Kind::Hook(_), _) => wrong("a function, or its name in a module"),
    }
}

/// The values of `proxy_protocol`, the one setting that is a boolean as well.
pub const PROXY_PROTOCOLS: [&str; 7] = ["off", "v1", "v2", "auto", "false", "true", "none"];

/// Python's `int(value, 0)`.
fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::Bool(value) => Some(i64::from(*value)),
        Value::Text(text) => {
            let text = text.trim().replace('_', "").to_ascii_lowercase();
            let (sign, digits) = match text.strip_prefix('-') {
                Some(digits) => (-1, digits),
                None => (1, text.strip_prefix('+').unwrap_or(&text)),
            };
            let parsed = match digits.get(..2) {
                Some("0x") => i64::from_str_radix(&digits[2..], 16),
                Some("0o") => i64::from_str_radix(&digits[2..], 8),
                Some("0b") => i64::from_str_radix(&digits[2..], 2),
                _ => digits.parse(),
            };
            parsed.ok().map(|number| sign * number)
        }
        _ => None,
    }
}
