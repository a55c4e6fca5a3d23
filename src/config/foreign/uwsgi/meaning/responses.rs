//! Header fields of all responses, and pages for errors that the server itself finds.

use super::Meaning;
use crate::config::foreign::Verdict;
use crate::config::response_rules::HeaderRule;

pub(super) fn decide(meaning: &mut Meaning<'_>) {
    for at in meaning.all(&["add-header"]) {
        let field = meaning.value(at).trim().to_owned();
        match header_rule(&format!("always add {field}")) {
            Ok(rule) => meaning.append(at, "header", rule),
            Err(verdict) => meaning.say(at, verdict),
        }
    }
    for at in meaning.all(&["rem-header", "del-header"]) {
        let field = meaning.value(at).trim().to_owned();
        match header_rule(&format!("remove {field}")) {
            Ok(rule) => meaning.append(at, "header", rule),
            Err(verdict) => meaning.say(at, verdict),
        }
    }
    for (key, status) in [
        ("error-page-403", 403),
        ("error-page-404", 404),
        ("error-page-500", 500),
    ] {
        let all = meaning.all(&[key]);
        for (index, at) in all.into_iter().enumerate() {
            let file = meaning.value(at).trim().to_owned();
            match (index, file.is_empty()) {
                (_, true) => meaning.no_effect(at, "no file"),
                (0, _) => {
                    meaning.append(at, "error_page", format!("{status}={file}"));
                    if status == 500 {
                        let note =
                            "also where the application raises, which uWSGI answers with nothing";
                        meaning.note(at, note);
                    }
                }
                // uWSGI takes the first file of a list that it can open.
                _ => meaning.no_effect(at, "the first such line counts"),
            }
        }
    }
}

/// The rule, if `header` takes it.
pub(super) fn header_rule(rule: &str) -> Result<String, Verdict> {
    let field = rule
        .trim_start_matches("always add ")
        .trim_start_matches("remove ");
    let name = field.split(':').next().unwrap_or_default().trim();
    match HeaderRule::parse(rule) {
        Ok(_) => Ok(rule.to_owned()),
        Err(_) if name.eq_ignore_ascii_case("connection") => {
            let why = "the front decides how long a connection stays open: `keepalive_timeout`";
            Err(Verdict::NoEffect(why.to_owned()))
        }
        Err(invalid) => Err(Verdict::Unsupported(format!(
            "{} ({})",
            invalid.problem, invalid.remedy
        ))),
    }
}
