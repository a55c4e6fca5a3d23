//! TLS: the settings that name a certificate and its key.

use super::Meaning;
use crate::config::foreign::Verdict;

/// Settings of gunicorn, and ours of the same meaning.
const COUNTERPARTS: &[(&str, &str)] = &[("certfile", "tls_cert"), ("keyfile", "tls_key")];

pub(super) fn decide(meaning: &mut Meaning<'_>) {
    for (theirs, ours) in COUNTERPARTS {
        let Some((at, value)) = meaning.given(theirs) else {
            continue;
        };
        match crate::config::settings::named(ours) {
            Some(_) => meaning.set(at, ours, value.texts()),
            None => meaning.say(
                at,
                Verdict::Unsupported(
                    "TLS is not supported yet: put a balancer or a proxy that has it in front, and name it with `trust`"
                        .to_owned(),
                ),
            ),
        }
    }
}
