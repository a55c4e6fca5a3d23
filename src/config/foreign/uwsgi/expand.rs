//! The three passes over all values: `$(NAME)`, `@(file)` and `%(option)`.
//!
//! The scanner follows uWSGI's: after a replacement it goes on at the second character of the new
//! value, so that a replacement may contain further ones; and a name that is not known stays as it is.

use super::numbers::atoi;

/// Longest value.
const LONGEST: usize = 16 << 10;
/// Most replacements in one value: uWSGI has no limit, and never ends for `a = x%(a)`.
const MOST: usize = 100;

/// Replaces what stands in `symbol(...)` in `value`.
///
/// # Errors
/// The reason, if it does not end, or `hook` fails.
pub fn pass(
    value: &str,
    symbol: u8,
    mut hook: impl FnMut(&str) -> Result<Option<String>, String>,
) -> Result<String, String> {
    let mut value = value.to_owned();
    let mut replaced = 0;
    let mut at = 0;
    // The position of the key while one is read, and the depth of parentheses in it.
    let mut key: Option<(usize, usize)> = None;
    let mut is_after_symbol = false;
    while let Some(byte) = value.as_bytes().get(at).copied() {
        match (byte, key) {
            // A symbol begins anew, even within a key.
            (byte, _) if byte == symbol => (is_after_symbol, key) = (true, None),
            (b'(', None) if is_after_symbol => (is_after_symbol, key) = (false, Some((at + 1, 0))),
            (b'(', Some((from, depth))) => key = Some((from, depth + 1)),
            (b')', Some((from, depth))) if depth > 0 => key = Some((from, depth - 1)),
            (b')', Some((from, _))) => {
                let name = &value[from..at];
                let found = match name.is_empty() {
                    true => None,
                    false => hook(name)?,
                };
                key = None;
                if let Some(found) = found {
                    value.replace_range(from - 2..=at, &found);
                    replaced += 1;
                    if replaced > MOST || value.len() > LONGEST {
                        let name = char::from(symbol);
                        return Err(format!("the replacements of {name}(…) do not end"));
                    }
                    at = 0;
                }
            }
            (_, None) => is_after_symbol = false,
            (_, Some(_)) => {}
        }
        at += 1;
    }
    Ok(value)
}

/// The value of `%(key)`: that of the option, or a calculation such as `%(processes * 2)`.
/// `value_of` knows the first value of each name.
pub fn reference(key: &str, value_of: impl Fn(&str) -> Option<String>) -> Option<String> {
    if !key.contains(' ') {
        return value_of(key);
    }
    let mut current: Option<String> = None;
    let mut operator = "";
    for word in key.split(' ').filter(|word| !word.is_empty()) {
        match word {
            "+" | "-" | "*" | "/" => {
                operator = word;
                continue;
            }
            "++" | "--" => {
                let step = if word == "++" { 1 } else { -1 };
                current = current.map(|text| atoi(&text).saturating_add(step).to_string());
                operator = "";
                continue;
            }
            _ => {}
        }
        let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
        let value = match is_number {
            true => word.to_owned(),
            false => value_of(word).unwrap_or_default(),
        };
        let left = current.as_deref().map_or(0, atoi);
        let right = atoi(&value);
        let result = match operator {
            "+" => left.saturating_add(right).to_string(),
            "-" => left.saturating_sub(right).to_string(),
            "*" => left.saturating_mul(right).to_string(),
            "/" => left.checked_div(right).unwrap_or_default().to_string(),
            _ => format!("{}{value}", current.unwrap_or_default()),
        };
        if result.len() > LONGEST {
            return None;
        }
        current = Some(result);
        operator = "";
    }
    current
}
