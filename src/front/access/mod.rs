//! Access to a location: the client's address, and a password, before anything else of the location
//! is looked at.
//!
//! As in nginx: the rules for addresses come first, and a refused one is `403`; a wrong or missing
//! password is `401`, also where either of both would be enough. [`attempts`] runs the hash functions
//! on threads of its own; [`password_file`] remembers which credentials were right.

pub mod attempts;
mod credentials;
mod password_file;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

use self::attempts::Attempts;
use self::credentials::Credentials;
use self::password_file::PasswordFile;
use super::sendfile::file_pool::FilePool;
use crate::config::access::{AccessRules, AccessSettings, Satisfy};

/// The conditions under which the requests of a location are answered.
pub struct Access {
    rules: AccessRules,
    satisfy: Satisfy,
    basic: Option<Basic>,
}

struct Basic {
    challenge: HeaderValue,
    file: Arc<PasswordFile>,
}

/// The name of a user whose password was right; any bytes but a colon and control characters.
pub type UserName = Box<[u8]>;

/// The reason for which a client has no access.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessRefused {
    /// Its address is denied.
    #[error("the address of the client is not allowed (--access)")]
    Address,
    /// There is no password, or a wrong one; with the value of `WWW-Authenticate`.
    #[error("the request has no password, or a wrong one (--basic-auth)")]
    Password(HeaderValue),
    /// Too many passwords of this client wait to be checked.
    #[error("too many passwords wait to be checked")]
    Attempts,
    /// The password file cannot be read.
    #[error("the password file cannot be used: {0}")]
    File(Arc<str>),
}

impl Access {
    /// The access of each of these settings; settings with the same password file share it.
    ///
    /// # Errors
    /// A password file that this user cannot read.
    pub fn all(
        settings: &[AccessSettings],
        pool: &FilePool,
        attempts: &Arc<Attempts>,
    ) -> io::Result<Vec<Self>> {
        let mut files: HashMap<PathBuf, Arc<PasswordFile>> = HashMap::new();
        let one = |settings: &AccessSettings| {
            let basic = settings.basic_auth.as_ref().map(|auth| {
                let file = match files.get(&auth.file) {
                    Some(file) => Arc::clone(file),
                    None => {
                        let file =
                            PasswordFile::open(&auth.file, pool.clone(), Arc::clone(attempts))?;
                        let file = Arc::new(file);
                        files.insert(auth.file.clone(), Arc::clone(&file));
                        file
                    }
                };
                // RFC 7617 §2.1.
                let challenge = format!("Basic realm=\"{}\", charset=\"UTF-8\"", auth.realm);
                let challenge = HeaderValue::try_from(challenge).map_err(io::Error::other)?;
                Ok::<_, io::Error>(Basic { challenge, file })
            });
            Ok(Self {
                rules: settings.rules.clone(),
                satisfy: settings.satisfy,
                basic: basic.transpose()?,
            })
        };
        settings.iter().map(one).collect()
    }

    /// True if every request is answered.
    pub fn is_open(&self) -> bool {
        self.rules.is_empty() && self.basic.is_none()
    }

    /// Admits a request; returns the user if the password was asked for.
    ///
    /// # Errors
    /// [`AccessRefused`].
    pub async fn admit(
        &self,
        address: Option<IpAddr>,
        headers: &HeaderMap,
    ) -> Result<Option<UserName>, AccessRefused> {
        let is_allowed = self.rules.allow(address);
        match (&self.basic, self.satisfy) {
            (_, Satisfy::All) if !is_allowed => Err(AccessRefused::Address),
            (None, _) if !is_allowed => Err(AccessRefused::Address),
            (None, _) => Ok(None),
            // nginx: rules that do not exist are not satisfied.
            (Some(_), Satisfy::Any) if is_allowed && !self.rules.is_empty() => Ok(None),
            // Boxed to keep the future of every request small.
            (Some(basic), _) => Box::pin(basic.admit(address, headers)).await.map(Some),
        }
    }
}

impl Basic {
    async fn admit(
        &self,
        address: Option<IpAddr>,
        headers: &HeaderMap,
    ) -> Result<UserName, AccessRefused> {
        let wrong = || AccessRefused::Password(self.challenge.clone());
        let given = Credentials::of(headers).ok_or_else(wrong)?;
        match self.file.verify(&given, address).await? {
            true => Ok(given.user),
            false => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(rules: &str, satisfy: Satisfy) -> Access {
        let settings = AccessSettings {
            rules: AccessRules::parse(rules).unwrap(),
            basic_auth: None,
            satisfy,
        };
        let all = Access::all(&[settings], &FilePool::default(), &Arc::default());
        all.unwrap().pop().unwrap()
    }

    #[tokio::test]
    async fn without_a_password_file_the_address_alone_decides() {
        let address = |text: &str| Some(text.parse().unwrap());
        for satisfy in [Satisfy::All, Satisfy::Any] {
            let access = access("allow 192.0.2.0/24 deny all", satisfy);
            let none = HeaderMap::new();
            assert_eq!(access.admit(address("192.0.2.9"), &none).await, Ok(None));
            let refused = access.admit(address("198.51.100.1"), &none).await;
            assert_eq!(refused, Err(AccessRefused::Address));
        }
        assert!(access("", Satisfy::All).is_open());
    }
}
