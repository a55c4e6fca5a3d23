//! The task that keeps the certificates valid: each second it looks what is due.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};
use tokio_util::sync::CancellationToken;

use super::attempt::{Attempts, is_unknown_account};
use super::challenges::Challenges;
use super::current::{Current, Facts, due_at, is_issued_by};
use super::schedule;
use super::shown::{rfc_3339, seconds_now, show};
use super::state::{PendingChallenges, Renewal, State};
use super::store::{self, Store};
use crate::config::acme::{AcmeSettings, Challenge};
use crate::front::sendfile::file_pool::FilePool;
use crate::observe::codes;
use crate::observe::metrics::METRICS;
use crate::observe::status::remember_error;

/// Interval of the looks.
const LOOK: Duration = Duration::from_secs(1);
/// Interval of the tries to use a directory that cannot be used.
const DIRECTORY_AGAIN: Duration = Duration::from_secs(5);
/// Seconds between orders of certificates that are due as soon as they are there.
const PAUSE_IF_DUE: u64 = 3600;
/// Certificates whose times of issue are kept.
const ISSUED: usize = 10;

/// Runs until `stop`. It may be dropped at any `await`: the directory has all that is needed to go on.
pub async fn run(
    settings: AcmeSettings,
    challenges: Challenges,
    files: FilePool,
    stop: CancellationToken,
) {
    let work = async {
        let self_signed = match settings.self_signed {
            true => &*settings.names,
            false => &[],
        };
        if let Err(error) = challenges.set_self_signed(self_signed) {
            tracing::error!(code = codes::ACME, %error, "no self-signed certificates");
        }
        announce(&settings);
        let store = wait_for_lock(&settings, &challenges, &files).await;
        let attempts = Attempts {
            settings,
            challenges,
            files,
            store: Arc::new(store),
        };
        Writer::new(attempts).await.write().await;
    };
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

/// The settings have no ACME any more.
pub fn clear(challenges: &Challenges) {
    METRICS.acme.set(Vec::new());
    let cleared = challenges
        .set(&PendingChallenges::default())
        .and_then(|()| challenges.set_self_signed(&[]));
    if let Err(error) = cleared {
        tracing::debug!(%error, "challenges not removed");
    }
}

fn announce(settings: &AcmeSettings) {
    tracing::info!(
        names = settings.names.join(", "),
        authority = settings.directory,
        directory = %settings.dir.display(),
        challenge = settings.challenge.as_str(),
        "certificates by ACME"
    );
}

/// Answers challenges and shows the state until this server may write to the directory.
async fn wait_for_lock(
    settings: &AcmeSettings,
    challenges: &Challenges,
    files: &FilePool,
) -> Store {
    let (mut logged, mut known) = (String::new(), None);
    loop {
        let dir = settings.dir.clone();
        let look = move || (Store::lock(&dir), store::stamp(&dir));
        let (locked, stamp) = files.run(look).await;
        let pause = match locked {
            Ok(Some(store)) => return store,
            Ok(None) => {
                if logged.is_empty() {
                    logged = "another".to_owned();
                    tracing::info!(directory = %settings.dir.display(),
                        "another server orders the certificates of this directory");
                }
                LOOK
            }
            Err(error) => {
                let error = error.to_string();
                if logged != error {
                    tracing::error!(code = codes::ACME, error, "no certificates by ACME");
                    remember_error(&format!("no certificates by ACME: {error}"));
                    logged = error;
                }
                DIRECTORY_AGAIN
            }
        };
        if known != Some(stamp) {
            known = Some(stamp);
            let dir = settings.dir.clone();
            let pending = files.run(move || store::challenges(&dir)).await;
            if let Err(error) = challenges.set(&pending) {
                tracing::error!(code = codes::ACME, %error, "challenges cannot be answered");
            }
        }
        show_others(settings, files).await;
        tokio::time::sleep(pause).await;
    }
}

/// Shows the state that the writer has left.
async fn show_others(settings: &AcmeSettings, files: &FilePool) {
    let (dir, names) = (settings.dir.clone(), settings.names.clone());
    let read = move || {
        let current = names
            .iter()
            .map(|name| (name.clone(), Current::read(&dir, name)));
        (store::state(&dir), current.collect::<BTreeMap<_, _>>())
    };
    let (state, current) = files.run(read).await;
    show(settings, &state, &current, None);
}

/// The part that orders.
struct Writer {
    attempts: Attempts,
    state: State,
    current: BTreeMap<String, Current>,
    /// The last error of a write, logged once.
    unwritten: String,
}

impl Writer {
    async fn new(attempts: Attempts) -> Self {
        let dir = attempts.settings.dir.clone();
        let read = move || (store::state(&dir), store::challenges(&dir));
        let (state, pending) = attempts.files.run(read).await;
        // An order that a stop has interrupted may be validated at this moment.
        if let Err(error) = attempts.challenges.set(&pending) {
            tracing::error!(code = codes::ACME, %error, "challenges cannot be answered");
        }
        Self {
            attempts,
            state,
            current: BTreeMap::new(),
            unwritten: String::new(),
        }
    }

    async fn write(mut self) {
        loop {
            let names = self.attempts.settings.names.clone();
            for name in &names {
                self.look(name).await;
            }
            // Last: an authority that does not answer must not delay an order.
            for name in &names {
                self.ask_for_window(name).await;
            }
            self.show(None);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Does what is due for one host.
    async fn look(&mut self, name: &str) {
        let (dir, host) = (self.attempts.settings.dir.clone(), name.to_owned());
        let known = self.current.get(name).cloned();
        let read = move || Current::refreshed(&dir, &host, known);
        let current = self.attempts.files.run(read).await;
        self.current.insert(name.to_owned(), current.clone());
        if self.due_at(name) <= seconds_now() {
            self.show(Some(name));
            self.order(name, current.facts).await;
        }
    }

    /// The time of the next attempt.
    fn due_at(&self, name: &str) -> u64 {
        let facts = self
            .current
            .get(name)
            .and_then(|current| current.facts.as_ref());
        due_at(
            &self.attempts.settings,
            self.state.certificates.get(name),
            facts,
            seconds_now(),
        )
    }

    /// Asks the authority for the time of the renewal, where it is time to.
    async fn ask_for_window(&mut self, name: &str) {
        let now = seconds_now();
        let current = self.current.get(name);
        let facts = current.and_then(|current| current.facts.as_ref());
        let Some(identifier) = facts.and_then(|facts| facts.identifier.clone()) else {
            return;
        };
        let state = self.state.certificates.entry(name.to_owned()).or_default();
        let renewal = state.renewal.as_ref();
        let known = renewal.filter(|renewal| renewal.certificate == identifier);
        let is_of_other = !is_issued_by(&self.attempts.settings, state);
        if is_of_other || known.is_some_and(|known| known.ask_at > now) {
            return;
        }
        let window = known.and_then(|known| known.window);
        let asked = match self.attempts.authority().await {
            Ok(mut authority) => authority.renewal_info(&identifier).await,
            Err(error) => Err(error),
        };
        let (window, after) = match asked {
            Ok(Some(info)) => {
                let after = info.retry_after.map(|after| after.as_secs());
                if window != Some(info.window) {
                    let time = |at| rfc_3339(at);
                    let explanation = info.explanation.as_deref();
                    tracing::info!(
                        name,
                        start = time(info.window.start),
                        end = time(info.window.end),
                        explanation,
                        "renewal window of the authority"
                    );
                }
                (Some(info.window), schedule::next_question(after))
            }
            Ok(None) => (None, schedule::next_question(None)),
            Err(error) => {
                // RFC 9773 §4.3.3: it is asked again later, and the renewal does not depend on it.
                tracing::warn!(code = codes::ACME, name, %error, "no renewal window");
                let after = error.retry_after().map_or(600, |after| after.as_secs());
                (window, schedule::next_question(Some(after)))
            }
        };
        if let Some(state) = self.state.certificates.get_mut(name) {
            state.renewal = Some(Renewal {
                certificate: identifier,
                window,
                ask_at: now + after,
            });
        }
        self.save().await;
    }

    /// One attempt, with its outcome in state, log and metrics.
    async fn order(&mut self, name: &str, current: Option<Facts>) {
        let settings = &self.attempts.settings;
        let first = settings.challenge;
        let state = self.state.certificates.entry(name.to_owned()).or_default();
        let is_possible = |by: &Challenge| *by == first || Some(*by) == settings.alternative;
        let by = state.challenge.filter(is_possible).unwrap_or(first);
        let replaces = current
            .as_ref()
            .filter(|_| is_issued_by(settings, state))
            .and_then(|facts| facts.identifier.clone());
        let replaces = replaces.as_deref();
        let done = self
            .attempts
            .certificate(name, by, replaces, &mut self.state)
            .await;
        let (now, draw) = (seconds_now(), random());
        let settings = &self.attempts.settings;
        let state = self.state.certificates.entry(name.to_owned()).or_default();
        match done {
            Ok(()) => {
                state.issued_by.clone_from(&settings.directory);
                state.issued.push(now);
                let excess = state.issued.len().saturating_sub(ISSUED);
                state.issued.drain(..excess);
                (state.failures, state.not_before) = (0, 0);
                (state.last_error, state.renewal) = (None, None);
                METRICS.acme.issued.inc();
                tracing::info!(name, authority = settings.directory, "certificate issued");
                self.pause_if_due(name).await;
            }
            Err(error) => {
                state.failures = state.failures.saturating_add(1);
                let delay = schedule::delay(state.failures, error.is_free(), draw);
                let delay = match error.retry_after() {
                    // With a little more, so that servers do not come back at the same moment.
                    Some(after) => {
                        after.as_secs()
                            + 1
                            + u64::from(draw) * (after.as_secs() / 20) / u64::from(u32::MAX)
                    }
                    None if is_unknown_account(&error) => 1,
                    None => delay,
                };
                state.not_before = now.saturating_add(delay);
                if error.is_of_challenge() {
                    let other = match by == first {
                        true => settings.alternative,
                        false => Some(first),
                    };
                    if other.is_some() && state.failures == 1 {
                        // The other way has not been tried yet.
                        state.not_before = now;
                    }
                    state.challenge = other;
                }
                let text = error.to_string();
                METRICS.acme.failed.inc();
                let meanwhile = match (&current, settings.self_signed) {
                    (Some(facts), _) if facts.validity.to > now => "the one before stays in use",
                    (Some(_), _) => "the one before has expired and stays in use",
                    (None, true) => "a self-signed one is used",
                    (None, false) => "handshakes for this host are refused",
                };
                tracing::error!(
                    code = codes::ACME,
                    name,
                    error = text,
                    failures = state.failures,
                    next_attempt = rfc_3339(state.not_before),
                    "no certificate: {meanwhile}"
                );
                remember_error(&format!("no certificate for {name}: {text}"));
                state.last_error = Some(text);
            }
        }
        self.save().await;
    }

    /// A certificate that is due as soon as it is there would be ordered again and again.
    async fn pause_if_due(&mut self, name: &str) {
        let (dir, host) = (self.attempts.settings.dir.clone(), name.to_owned());
        let current = self
            .attempts
            .files
            .run(move || Current::read(&dir, &host))
            .await;
        let now = seconds_now();
        let is_due = |facts: &Facts| schedule::renewal(facts.validity, None) <= now;
        if current.facts.as_ref().is_none_or(is_due)
            && let Some(state) = self.state.certificates.get_mut(name)
        {
            state.not_before = now + PAUSE_IF_DUE;
            tracing::warn!(
                code = codes::ACME,
                name,
                next_attempt = rfc_3339(state.not_before),
                "the new certificate is due for a renewal already: check the clock of this machine"
            );
        }
    }

    async fn save(&mut self) {
        match self.attempts.save(&self.state).await {
            Ok(()) => self.unwritten.clear(),
            Err(error) => {
                let error = error.to_string();
                if self.unwritten != error {
                    tracing::error!(code = codes::ACME, error, "state of ACME not written");
                    self.unwritten = error;
                }
            }
        }
    }

    fn show(&self, ordering: Option<&str>) {
        show(
            &self.attempts.settings,
            &self.state,
            &self.current,
            ordering,
        );
    }
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    let _early_in_the_boot = getrandom(&mut bytes, GetRandomFlags::empty());
    u32::from_be_bytes(bytes)
}
