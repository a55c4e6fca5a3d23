//! The resources of an authority (RFC 8555 §7): directory, nonces, account, orders, authorizations,
//! and renewal information (RFC 9773).

use std::time::Duration;

use http::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::error::{AcmeError, Problem};
use super::https::{Answer, Client};
use super::jws::AccountKey;
use super::schedule::Window;

/// Requests that are repeated with a new nonce (RFC 8555 §6.5).
const TRIES: usize = 4;

/// An authority, with the account at it.
pub struct Authority {
    client: Client,
    directory: Directory,
    key: AccountKey,
    account: Option<String>,
    nonce: Option<String>,
}

/// RFC 8555 §7.1.1.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Directory {
    new_nonce: String,
    new_account: String,
    new_order: String,
    renewal_info: Option<String>,
}

/// RFC 8555 §7.1.3.
#[derive(Debug, Deserialize)]
pub struct Order {
    pub status: Status,
    #[serde(default)]
    pub authorizations: Vec<String>,
    pub finalize: String,
    pub certificate: Option<String>,
    #[serde(default)]
    pub error: Option<Problem>,
}

/// RFC 8555 §7.1.4.
#[derive(Debug, Deserialize)]
pub struct Authorization {
    pub identifier: Identifier,
    pub status: Status,
    #[serde(default)]
    pub challenges: Vec<OfferedChallenge>,
}

/// A host.
#[derive(Debug, Deserialize)]
pub struct Identifier {
    pub value: String,
}

/// RFC 8555 §8.
#[derive(Debug, Deserialize)]
pub struct OfferedChallenge {
    #[serde(rename = "type")]
    pub kind: String,
    pub url: String,
    #[serde(default)]
    pub token: String,
    #[serde(default)]
    pub error: Option<Problem>,
}

/// State of an order or of an authorization (RFC 8555 §7.1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Pending,
    Ready,
    Processing,
    Valid,
    #[serde(other)]
    Invalid,
}

/// RFC 9773 §4.2.
#[derive(Debug)]
pub struct RenewalInfo {
    pub window: Window,
    /// Why, for people.
    pub explanation: Option<String>,
    pub retry_after: Option<Duration>,
}

/// The account as the authority has to know it.
pub struct NewAccount<'a> {
    pub email: Option<&'a str>,
    /// Key identifier and key of an external account.
    pub external: Option<(&'a str, Vec<u8>)>,
}

impl Authority {
    /// Asks for the directory at `url`.
    ///
    /// # Errors
    /// There is none.
    pub async fn at(mut client: Client, url: &str, key: AccountKey) -> Result<Self, AcmeError> {
        let answer = client.request(Method::GET, url, None).await?;
        let directory = read(&answer, "the directory of the authority")?;
        Ok(Self {
            client,
            directory,
            key,
            account: None,
            nonce: None,
        })
    }

    /// Uses an account that was made before.
    pub fn use_account(&mut self, url: String) {
        self.account = Some(url);
    }

    /// The key authorization of a token.
    pub fn authorization_of(&self, token: &str) -> String {
        self.key.authorization(token)
    }

    /// Makes an account, or finds the one with this key. Returns its URL.
    ///
    /// # Errors
    /// The authority refuses it.
    pub async fn make_account(&mut self, account: &NewAccount<'_>) -> Result<String, AcmeError> {
        const DOING: &str = "the authority gives no account";
        let url = self.directory.new_account.clone();
        let mut payload = json!({"termsOfServiceAgreed": true});
        if let Some(email) = account.email {
            payload["contact"] = json!([format!("mailto:{email}")]);
        }
        if let Some((kid, key)) = &account.external {
            payload["externalAccountBinding"] = self.key.bound_to(&url, kid, key);
        }
        self.account = None;
        let answer = self.post(&url, Some(&payload), DOING).await?;
        let made = answer
            .field("location")
            .ok_or_else(|| AcmeError::Unexpected(format!("{DOING}: its answer has no Location")))?;
        self.account = Some(made.to_owned());
        Ok(made.to_owned())
    }

    /// Orders a certificate; `replaces` identifies the one before (RFC 9773 §5). Returns the URL of the
    /// order with it.
    ///
    /// # Errors
    /// The authority refuses it.
    pub async fn order(
        &mut self,
        name: &str,
        replaces: Option<&str>,
    ) -> Result<(String, Order), AcmeError> {
        const DOING: &str = "the authority takes no order";
        let url = self.directory.new_order.clone();
        let mut payload = json!({"identifiers": [{"type": "dns", "value": name}]});
        if let Some(replaces) = replaces
            && self.directory.renewal_info.is_some()
        {
            payload["replaces"] = replaces.into();
        }
        let answer = self.post(&url, Some(&payload), DOING).await?;
        let order = answer
            .field("location")
            .ok_or_else(|| AcmeError::Unexpected(format!("{DOING}: its answer has no Location")))?;
        Ok((order.to_owned(), read(&answer, DOING)?))
    }

    /// The current state of a resource, and the time after which to ask again.
    ///
    /// # Errors
    /// There is none.
    pub async fn state<T: DeserializeOwned>(
        &mut self,
        url: &str,
        doing: &'static str,
    ) -> Result<(T, Option<Duration>), AcmeError> {
        let answer = self.post(url, None, doing).await?;
        Ok((read(&answer, doing)?, answer.retry_after()))
    }

    /// Asks the authority to validate a challenge.
    ///
    /// # Errors
    /// It refuses.
    pub async fn validate(&mut self, challenge: &str) -> Result<(), AcmeError> {
        const DOING: &str = "the authority does not validate";
        self.post(challenge, Some(&json!({})), DOING).await?;
        Ok(())
    }

    /// Sends the signing request of an order.
    ///
    /// # Errors
    /// The authority refuses it.
    pub async fn finalize(&mut self, url: &str, request: &[u8]) -> Result<(), AcmeError> {
        const DOING: &str = "the authority does not finalize the order";
        let payload = json!({"csr": super::jws::encoded(request)});
        self.post(url, Some(&payload), DOING).await?;
        Ok(())
    }

    /// The certificate with its chain, in PEM.
    ///
    /// # Errors
    /// There is none.
    pub async fn certificate(&mut self, url: &str) -> Result<String, AcmeError> {
        const DOING: &str = "the authority gives no certificate";
        let answer = self.post(url, None, DOING).await?;
        String::from_utf8(answer.body.to_vec())
            .map_err(|error| AcmeError::Unexpected(format!("{DOING}: {error}")))
    }

    /// The window in which to renew a certificate; `None`: the authority has no such information.
    ///
    /// # Errors
    /// The authority does not answer, or differently.
    pub async fn renewal_info(
        &mut self,
        certificate: &str,
    ) -> Result<Option<RenewalInfo>, AcmeError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Info {
            suggested_window: Times,
            #[serde(rename = "explanationURL")]
            explanation: Option<String>,
        }
        #[derive(Deserialize)]
        struct Times {
            start: String,
            end: String,
        }
        const DOING: &str = "the authority has no renewal information";
        let Some(base) = &self.directory.renewal_info else {
            return Ok(None);
        };
        let url = format!("{}/{certificate}", base.trim_end_matches('/'));
        let answer = self.client.request(Method::GET, &url, None).await?;
        if !answer.status.is_success() {
            return Err(refused(&answer, DOING));
        }
        let info: Info = read(&answer, DOING)?;
        let seconds = |text: &str| {
            let time = text.parse::<jiff::Timestamp>();
            let time = time.map_err(|error| AcmeError::Unexpected(format!("{DOING}: {error}")))?;
            Ok::<_, AcmeError>(u64::try_from(time.as_second()).unwrap_or(0))
        };
        let window = Window {
            start: seconds(&info.suggested_window.start)?,
            end: seconds(&info.suggested_window.end)?,
        };
        // RFC 9773 §4.2: such a window has to be ignored.
        if window.end <= window.start {
            let text = format!("{DOING}: its window ends before it begins");
            return Err(AcmeError::Unexpected(text));
        }
        Ok(Some(RenewalInfo {
            window,
            explanation: info.explanation,
            retry_after: answer.retry_after(),
        }))
    }

    /// Sends a signed request; with another nonce if the authority wants one.
    async fn post(
        &mut self,
        url: &str,
        payload: Option<&Value>,
        doing: &'static str,
    ) -> Result<Answer, AcmeError> {
        let mut tries = TRIES;
        loop {
            let nonce = match self.nonce.take() {
                Some(nonce) => nonce,
                None => self.new_nonce().await?,
            };
            let body = self
                .key
                .signed(url, &nonce, self.account.as_deref(), payload)?;
            let answer = self.client.request(Method::POST, url, Some(body)).await?;
            self.nonce = answer.field("replay-nonce").map(ToOwned::to_owned);
            if answer.status.is_success() {
                return Ok(answer);
            }
            let error = refused(&answer, doing);
            tries -= 1;
            match &error {
                AcmeError::Refused { problem, .. } if problem.name() == "badNonce" && tries > 0 => {
                }
                _ => return Err(error),
            }
        }
    }

    async fn new_nonce(&mut self) -> Result<String, AcmeError> {
        let url = self.directory.new_nonce.clone();
        let answer = self.client.request(Method::HEAD, &url, None).await?;
        let nonce = answer.field("replay-nonce").map(ToOwned::to_owned);
        nonce.ok_or_else(|| match answer.status.is_success() {
            true => AcmeError::Unexpected("the authority gives no nonce".to_owned()),
            false => refused(&answer, "the authority gives no nonce"),
        })
    }
}

fn read<T: DeserializeOwned>(answer: &Answer, doing: &'static str) -> Result<T, AcmeError> {
    if !answer.status.is_success() {
        return Err(refused(answer, doing));
    }
    serde_json::from_slice(&answer.body).map_err(|error| {
        AcmeError::Unexpected(format!("{doing}: its answer is malformed: {error}"))
    })
}

/// The error of an answer. One of the authority's server is as good as none.
fn refused(answer: &Answer, doing: &'static str) -> AcmeError {
    let mut problem: Problem = serde_json::from_slice(&answer.body).unwrap_or_default();
    if problem.kind.is_empty() && answer.status == StatusCode::TOO_MANY_REQUESTS {
        problem.kind = "rateLimited".to_owned();
    }
    if problem.detail.is_empty() {
        problem.detail = format!("status {}", answer.status);
    }
    AcmeError::Refused {
        doing,
        problem,
        retry_after: answer.retry_after(),
    }
}
