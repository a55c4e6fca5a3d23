//! One attempt to get a certificate (RFC 8555 §7.4, §7.5):
//!
//! 1. the account: made once, with the key in the directory;
//! 2. the key of the certificate, written before the order, with room for the chain;
//! 3. the order: a new one, or the one that a stop has interrupted;
//! 4. its authorizations: a challenge is published, then the authority validates it;
//! 5. the signing request, the certificate, its file.
//!
//! Each step is written to the directory before the next one begins, so an attempt may be dropped at
//! any `await`, and continues at the next start.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::challenges::Challenges;
use super::der::Key;
use super::error::AcmeError;
use super::https::Client;
use super::jws::AccountKey;
use super::protocol::{Authority, Authorization, NewAccount, Order, Status};
use super::state::{PendingChallenges, PendingOrder, State};
use super::store::{self, Store};
use crate::config::acme::{AcmeSettings, Challenge};
use crate::front::sendfile::file_pool::FilePool;

/// Longest wait for the authority in each of its states.
const PATIENCE: Duration = Duration::from_secs(120);
/// Waits between two questions, unless the authority wants others.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Time in which the other servers that share the directory read a challenge.
const SPREADING: Duration = Duration::from_millis(1500);

/// The surroundings of attempts.
pub struct Attempts {
    pub settings: AcmeSettings,
    pub challenges: Challenges,
    pub files: FilePool,
    pub store: Arc<Store>,
}

impl Attempts {
    /// Connects to the authority, with the account.
    ///
    /// # Errors
    /// There is no account.
    pub async fn authority(&self) -> Result<Authority, AcmeError> {
        let (store, settings) = (Arc::clone(&self.store), self.settings.clone());
        let read = move || -> Result<_, AcmeError> {
            let account = store.account(&settings.directory)?;
            let external = match &settings.external_account {
                Some(external) => Some((external.kid.clone(), store::external_key(&external.key)?)),
                None => None,
            };
            Ok((Client::new(settings.ca.as_ref())?, account, external))
        };
        let (client, mut account, external) = self.files.run(read).await?;
        let url = &self.settings.directory;
        let key = AccountKey::of(&account.key()?)?;
        let mut authority = Authority::at(client, url, key).await?;
        match account.url.take() {
            Some(known) => authority.use_account(known),
            None => {
                let new = NewAccount {
                    email: self.settings.email.as_deref(),
                    external: external
                        .as_ref()
                        .map(|(kid, key)| (kid.as_str(), key.clone())),
                };
                let made = authority.make_account(&new).await?;
                tracing::info!(authority = url, account = made, "ACME account made");
                account.url = Some(made);
                self.save_account(account).await?;
            }
        }
        Ok(authority)
    }

    async fn save_account(&self, account: store::Account) -> Result<(), AcmeError> {
        let (store, url) = (Arc::clone(&self.store), self.settings.directory.clone());
        let save = move || store.save_account(&url, &account);
        self.files.run(save).await
    }

    /// Forgets that the authority knows the account; its key stays.
    async fn forget_account(&self) -> Result<(), AcmeError> {
        let (store, url) = (Arc::clone(&self.store), self.settings.directory.clone());
        let forget = move || {
            let mut account = store.account(&url)?;
            account.url = None;
            store.save_account(&url, &account)
        };
        self.files.run(forget).await
    }

    /// Writes the state.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn save(&self, state: &State) -> Result<(), AcmeError> {
        let (store, state) = (Arc::clone(&self.store), state.clone());
        self.files.run(move || store.save(&state)).await
    }

    /// Gets a certificate for `name` by this challenge; `replaces` identifies the one before.
    ///
    /// # Errors
    /// The reason why there is none.
    pub async fn certificate(
        &self,
        name: &str,
        by: Challenge,
        replaces: Option<&str>,
        state: &mut State,
    ) -> Result<(), AcmeError> {
        let done = self.attempt(name, by, replaces, state).await;
        self.withdraw().await;
        if let Err(AcmeError::Refused { problem, .. }) = &done {
            match problem.name() {
                "accountDoesNotExist" => self.forget_account().await?,
                // Another order has replaced it (RFC 9773 §5).
                "alreadyReplaced" if replaces.is_some() => {
                    let again = self.attempt(name, by, None, state).await;
                    self.withdraw().await;
                    return again;
                }
                _ => {}
            }
        }
        done
    }

    async fn attempt(
        &self,
        name: &str,
        by: Challenge,
        replaces: Option<&str>,
        state: &mut State,
    ) -> Result<(), AcmeError> {
        // Before the authority has work: the disk may be full.
        let (key, is_known) = self.key(name, state).await?;
        let mut authority = self.authority().await?;
        let pending = match is_known {
            true => self.pending(name, &mut authority, state).await?,
            false => None,
        };
        let (url, order) = match pending {
            Some(pending) => pending,
            None => {
                // An order whose URL cannot be written would be one for nothing.
                self.save(state).await?;
                let (url, order) = authority.order(name, replaces).await?;
                tracing::info!(
                    name,
                    order = url,
                    challenge = by.as_str(),
                    "certificate ordered"
                );
                let order_of = state.certificates.entry(name.to_owned()).or_default();
                order_of.order = Some(PendingOrder {
                    url: url.clone(),
                    directory: self.settings.directory.clone(),
                });
                self.save(state).await?;
                (url, order)
            }
        };
        let certificate = self
            .fulfil(&mut authority, name, by, (&url, order), &key)
            .await;
        if let Err(error) = &certificate
            && !matches!(
                error,
                AcmeError::Unreachable { .. } | AcmeError::Slow { .. }
            )
            && let Some(state) = state.certificates.get_mut(name)
        {
            // The next attempt makes a new one. The caller writes the state.
            state.order = None;
        }
        let chain = certificate?;
        let (store, host) = (Arc::clone(&self.store), name.to_owned());
        let install = move || store.install(&host, &key, &chain);
        let installed = self.files.run(install).await;
        // The certificate of a valid order can be asked for again.
        if !matches!(installed, Err(AcmeError::Directory(_)))
            && let Some(state) = state.certificates.get_mut(name)
        {
            state.order = None;
        }
        installed
    }

    /// The key of the pending order, else a new one; true for the former.
    async fn key(&self, name: &str, state: &State) -> Result<(Key, bool), AcmeError> {
        let order = state
            .certificates
            .get(name)
            .and_then(|state| state.order.as_ref());
        let is_pending = order.is_some_and(|order| order.directory == self.settings.directory);
        let (store, name) = (Arc::clone(&self.store), name.to_owned());
        let find = move || {
            let known = is_pending.then(|| store.pending_key(&name)).flatten();
            match known {
                Some(known) => Ok((known, true)),
                None => Ok((store.new_key(&name)?, false)),
            }
        };
        self.files.run(find).await
    }

    /// The order that an earlier attempt has left; `None` if it cannot be continued.
    async fn pending(
        &self,
        name: &str,
        authority: &mut Authority,
        state: &State,
    ) -> Result<Option<(String, Order)>, AcmeError> {
        let order = state
            .certificates
            .get(name)
            .and_then(|state| state.order.as_ref());
        let Some(order) = order else {
            return Ok(None);
        };
        match authority
            .state::<Order>(&order.url, "the order is gone")
            .await
        {
            Ok((found, _)) if found.status != Status::Invalid => {
                tracing::info!(name, order = order.url, "order continued");
                Ok(Some((order.url.clone(), found)))
            }
            Err(error @ AcmeError::Unreachable { .. }) => Err(error),
            // A new account explains it as well: the next attempt makes one.
            Err(error) if is_unknown_account(&error) => Err(error),
            Ok(_) | Err(_) => Ok(None),
        }
    }

    /// Brings an order to its certificate: the chain in PEM.
    async fn fulfil(
        &self,
        authority: &mut Authority,
        name: &str,
        by: Challenge,
        (url, mut order): (&str, Order),
        key: &Key,
    ) -> Result<String, AcmeError> {
        if order.status == Status::Pending {
            for authorization in &order.authorizations {
                self.authorize(authority, name, by, authorization).await?;
            }
            order = settle(authority, url, "the order", |order: &Order| {
                order.status != Status::Pending
            })
            .await?;
        }
        if order.status == Status::Ready {
            let request = key.signing_request(name)?;
            authority.finalize(&order.finalize, &request).await?;
        }
        if matches!(order.status, Status::Ready | Status::Processing) {
            order = settle(authority, url, "the order", |order: &Order| {
                // A certificate may take a moment after the state.
                match order.status {
                    Status::Valid => order.certificate.is_some(),
                    status => status == Status::Invalid,
                }
            })
            .await?;
        }
        match (order.status, order.certificate) {
            (Status::Valid, Some(certificate)) => authority.certificate(&certificate).await,
            _ => {
                let why = order.error.unwrap_or_default();
                Err(AcmeError::Unexpected(format!(
                    "the authority has refused the order: {why}"
                )))
            }
        }
    }

    /// Has the authority validate the control over a host.
    async fn authorize(
        &self,
        authority: &mut Authority,
        name: &str,
        by: Challenge,
        url: &str,
    ) -> Result<(), AcmeError> {
        const DOING: &str = "the authorization is gone";
        let (found, _) = authority.state::<Authorization>(url, DOING).await?;
        if found.status == Status::Valid {
            return Ok(());
        }
        let offered = found
            .challenges
            .iter()
            .find(|challenge| challenge.kind == by.as_str());
        let Some(offered) = offered.filter(|_| found.status == Status::Pending) else {
            return Err(not_validated(&found, name, by));
        };
        let authorization = authority.authorization_of(&offered.token);
        let mut pending = PendingChallenges::default();
        match by {
            Challenge::Http01 => pending.http.insert(offered.token.clone(), authorization),
            Challenge::TlsAlpn01 => pending
                .alpn
                .insert(found.identifier.value.clone(), authorization),
        };
        self.publish(pending).await?;
        tokio::time::sleep(SPREADING).await;
        authority.validate(&offered.url).await?;
        let found = settle(authority, url, "the validation", |found: &Authorization| {
            found.status != Status::Pending
        })
        .await?;
        match found.status {
            Status::Valid => Ok(()),
            _ => Err(not_validated(&found, name, by)),
        }
    }

    async fn publish(&self, pending: PendingChallenges) -> Result<(), AcmeError> {
        self.challenges.set(&pending)?;
        let store = Arc::clone(&self.store);
        self.files.run(move || store.publish(&pending)).await
    }

    /// Ends the answers to challenges. Files that stay are replaced by the next ones.
    async fn withdraw(&self) {
        if let Err(error) = self.publish(PendingChallenges::default()).await {
            tracing::debug!(%error, "challenges not removed");
        }
    }
}

/// True if the authority does not know the account.
pub fn is_unknown_account(error: &AcmeError) -> bool {
    matches!(error, AcmeError::Refused { problem, .. } if problem.name() == "accountDoesNotExist")
}

/// Asks until the state is a wanted one.
async fn settle<T: serde::de::DeserializeOwned>(
    authority: &mut Authority,
    url: &str,
    of: &'static str,
    is_settled: impl Fn(&T) -> bool,
) -> Result<T, AcmeError> {
    let (began, mut wait) = (Instant::now(), FIRST_WAIT);
    loop {
        let (state, after) = authority.state::<T>(url, of).await?;
        if is_settled(&state) {
            return Ok(state);
        }
        if began.elapsed() > PATIENCE {
            let limit = PATIENCE.as_secs();
            // It may still succeed: the order is continued later.
            return Err(AcmeError::Slow { of, limit });
        }
        tokio::time::sleep(after.map_or(wait, |after| after.clamp(FIRST_WAIT, LONGEST_WAIT))).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

fn not_validated(found: &Authorization, name: &str, by: Challenge) -> AcmeError {
    let errors = found
        .challenges
        .iter()
        .find_map(|challenge| challenge.error.clone());
    let is_offered = found
        .challenges
        .iter()
        .any(|challenge| challenge.kind == by.as_str());
    let mut problem = errors.unwrap_or_default();
    if problem.detail.is_empty() && !is_offered {
        problem.detail = format!("the authority does not offer {}", by.as_str());
    }
    AcmeError::NotValidated {
        name: name.to_owned(),
        challenge: by.as_str(),
        problem,
        port: by.port(),
    }
}
