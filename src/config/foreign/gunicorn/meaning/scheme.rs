//! The headers of proxies that make the scheme `https`.

use super::Meaning;
use crate::config::foreign::Verdict;
use crate::config::foreign::gunicorn::value::Value;

/// Headers that count here, with their value for `https`, and the name in `trust_fields`. gunicorn has all of
/// them by default.
const USUAL: [(&str, &str, &str); 3] = [
    ("X-FORWARDED-PROTO", "https", "proto"),
    ("X-FORWARDED-SSL", "on", "ssl"),
    ("X-FORWARDED-PROTOCOL", "ssl", "protocol"),
];

/// The difference that clients see where proxies contradict themselves (gunicorn: `InvalidSchemeHeaders`).
const CONTRADICTIONS: &str = "of headers that contradict each other, which gunicorn answers with 400, the first of these that is there counts";

pub(super) fn decide(meaning: &mut Meaning<'_>) {
    if let Some((at, Value::Map(fields))) = meaning.given("secure_scheme_headers") {
        given(meaning, at, &fields);
    }
    let reason = format!(
        "gunicorn takes the scheme alone from proxies; here also the client, for REMOTE_ADDR and the log; {CONTRADICTIONS}"
    );
    meaning.imply("trust_fields", &["for,proto,ssl,protocol"], &reason);
}

fn given(meaning: &mut Meaning<'_>, at: usize, fields: &[(String, Value)]) {
    let fact = |name: &str, value: &Value| {
        let value = value.text().unwrap_or_default();
        let mut usual = USUAL.iter();
        usual.find(|(known, secure, _)| *known == name && *secure == value)
    };
    // gunicorn compares the names in capitals (http/message.py, `_apply_header_policy`).
    let (counted, unread): (Vec<_>, Vec<_>) = fields
        .iter()
        .partition(|(name, _)| *name == name.to_ascii_uppercase());
    let found: Vec<_> = counted
        .iter()
        .map(|(name, value)| fact(name, value))
        .collect();
    let known = found.iter().flatten().map(|(.., fact)| *fact);
    let in_order = USUAL.iter().map(|(.., fact)| *fact);
    let known: Vec<_> = known.collect();
    let facts = in_order.filter(|fact| known.contains(fact));
    let facts = std::iter::once("for").chain(facts).collect::<Vec<_>>();
    meaning.set(at, "trust_fields", vec![facts.join(",")]);
    if found.iter().any(Option::is_none) {
        let text = format!(
            "the scheme is that of X-Forwarded-Proto, X-Forwarded-Ssl or X-Forwarded-Protocol, with gunicorn's usual values: have the proxy set one of them (trust_fields = {:?})",
            facts.join(",")
        );
        return meaning.say(at, Verdict::Unsupported(text));
    }
    let mut notes = Vec::new();
    if !unread.is_empty() {
        let names: Vec<_> = unread.iter().map(|(name, _)| name.as_str()).collect();
        notes.push(format!(
            "as gunicorn compares names in capitals, {} never counts",
            names.join(", ")
        ));
    }
    match facts.len() {
        1 => notes.push("no header makes the scheme https".to_owned()),
        2 => {}
        _ => notes.push(CONTRADICTIONS.to_owned()),
    }
    if !notes.is_empty() {
        meaning.note(at, &notes.join("; "));
    }
}
