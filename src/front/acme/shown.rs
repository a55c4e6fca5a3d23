//! The state of all hosts for the status, the metrics and `pyserve check`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::current::{Current, Facts, due_at};
use super::state::{CertificateState, State};
use super::store;
use crate::config::acme::AcmeSettings;
use crate::observe::acme::{AcmeState, AcmeStatus};
use crate::observe::metrics::METRICS;
use crate::observe::timestamp::Timestamp;

/// Shows the state of all hosts, of which one may have an order under way.
pub fn show(
    settings: &AcmeSettings,
    state: &State,
    current: &BTreeMap<String, Current>,
    ordering: Option<&str>,
) {
    let all = settings.names.iter().map(|name| {
        let facts = current.get(name).and_then(|current| current.facts.as_ref());
        let own = state.certificates.get(name);
        status(settings, name, own, facts, ordering == Some(name))
    });
    METRICS.acme.set(all.collect());
}

fn status(
    settings: &AcmeSettings,
    name: &str,
    state: Option<&CertificateState>,
    facts: Option<&Facts>,
    is_ordering: bool,
) -> AcmeStatus {
    let now = seconds_now();
    // A time that is over is due now.
    let next = (!is_ordering).then(|| due_at(settings, state, facts, now).max(now));
    AcmeStatus {
        name: name.to_owned(),
        state: match facts {
            _ if is_ordering => AcmeState::Ordering,
            None => AcmeState::Missing,
            Some(facts) if facts.validity.to <= now => AcmeState::Expired,
            Some(_) => AcmeState::Valid,
        },
        expires: facts.map(|facts| rfc_3339(facts.validity.to)),
        next_attempt: next.map(rfc_3339),
        next_attempt_at: next,
        failures: state.map_or(0, |state| state.failures),
        last_error: state.and_then(|state| state.last_error.clone()),
    }
}

/// The states of all hosts by the files alone, for `pyserve check`. Blocks.
pub fn report(settings: &AcmeSettings) -> Vec<AcmeStatus> {
    let state = store::state(&settings.dir);
    let of = |name: &String| {
        let current = Current::read(&settings.dir, name);
        let own = state.certificates.get(name);
        status(settings, name, own, current.facts.as_ref(), false)
    };
    settings.names.iter().map(of).collect()
}

/// Seconds since 1970.
pub fn seconds_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// A time in seconds since 1970 as RFC 3339 writes it.
pub fn rfc_3339(seconds: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    Timestamp::from(time.unwrap_or(UNIX_EPOCH)).rfc_3339()
}
