//! Header fields of responses that the settings set, add or remove. Pure: rules, a status and fields
//! in, fields out. Both paths that write responses call it.

use http::{HeaderMap, StatusCode};

use crate::config::{HeaderChange, HeaderRule};

/// The statuses of nginx's `add_header` without `always`.
const USUAL: [u16; 10] = [200, 201, 204, 206, 301, 302, 303, 304, 307, 308];

/// Applies the rules that hold for this status, in order.
pub(super) fn change(rules: &[HeaderRule], status: StatusCode, headers: &mut HeaderMap) {
    let is_usual = USUAL.contains(&status.as_u16());
    for rule in rules.iter().filter(|rule| rule.always || is_usual) {
        apply(rule, headers);
    }
}

fn apply(rule: &HeaderRule, headers: &mut HeaderMap) {
    match &rule.change {
        HeaderChange::Set(value) => {
            headers.insert(&rule.name, value.clone());
        }
        // A map that is full has thousands of fields; no client takes as many.
        HeaderChange::Add(value) => {
            let _ = headers.try_append(&rule.name, value.clone());
        }
        HeaderChange::Remove => {
            headers.remove(&rule.name);
        }
    }
}
