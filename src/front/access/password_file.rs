//! A password file in use: looked at once a second, read again when it changes, with a memory of the
//! credentials that were right.
//!
//! The memory holds keyed digests only, and ends with the contents that they were checked against. A
//! file that cannot be read admits no client. An unknown user costs the time of a known one.

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest as _, Sha256};

use super::AccessRefused;
use super::attempts::{Attempts, Busy, Digest};
use super::credentials::Credentials;
use crate::config::htpasswd::{self, BadEntry, LONGEST_PASSWORD, Passwords, Stamp};
use crate::front::sendfile::file_pool::FilePool;

/// Time for which the file counts as unchanged.
const CHECK: Duration = Duration::from_secs(1);
/// Credentials that are remembered; beyond, all are forgotten.
const REMEMBERED: usize = 4096;

/// A password file.
pub(super) struct PasswordFile {
    path: PathBuf,
    key: [u8; 32],
    pool: FilePool,
    attempts: Arc<Attempts>,
    state: Mutex<State>,
}

struct State {
    looked: Instant,
    contents: Arc<Contents>,
}

/// One state of the file.
struct Contents {
    /// `None` if it has to be read again: it has just changed, or cannot be read.
    stamp: Option<Stamp>,
    passwords: Result<Passwords, Arc<str>>,
    verified: Mutex<HashSet<Digest>>,
}

impl PasswordFile {
    /// Reads the file, on a thread that may block.
    ///
    /// # Errors
    /// It cannot be read, or the system has no random numbers.
    pub(super) fn open(path: &Path, pool: FilePool, attempts: Arc<Attempts>) -> io::Result<Self> {
        let mut key = [0; 32];
        getrandom(&mut key, GetRandomFlags::empty())?;
        let contents = Contents::read(path).map_err(|error| {
            let text = format!("cannot read the password file {}: {error} (the user that the server runs as has to read it)", path.display());
            io::Error::new(error.kind(), text)
        })?;
        Ok(Self {
            path: path.to_owned(),
            key,
            pool,
            attempts,
            state: Mutex::new(State {
                looked: Instant::now(),
                contents: Arc::new(contents),
            }),
        })
    }

    /// True if the password is the user's.
    pub(super) async fn verify(
        &self,
        given: &Credentials,
        address: Option<IpAddr>,
    ) -> Result<bool, AccessRefused> {
        let contents = self.current().await;
        let passwords = match &contents.passwords {
            Ok(passwords) => passwords,
            Err(reason) => return Err(AccessRefused::File(Arc::clone(reason))),
        };
        let digest = self.digest(given);
        if contents.verified.lock().contains(&digest) {
            return Ok(true);
        }
        let known = passwords.of(&given.user);
        // One of the file, always the same for a name: all names take the time of a user's.
        let number =
            u64::from_le_bytes(*self.digest_of(&given.user).first_chunk().expect("32 bytes"));
        let Some(hash) = known.or_else(|| passwords.any(number)) else {
            return Ok(false);
        };
        let may_be_right = known.is_some()
            && given.password.len() <= LONGEST_PASSWORD
            && !given.password.contains(&0);
        let length = given.password.len().min(LONGEST_PASSWORD);
        let (hash, password) = (hash.clone(), given.password[..length].to_owned());
        let checked_against = Arc::clone(&contents);
        let check = move || {
            let is_right = hash.verify(&password) && may_be_right;
            if is_right {
                let mut verified = checked_against.verified.lock();
                if verified.len() >= REMEMBERED {
                    verified.clear();
                }
                verified.insert(digest);
            }
            is_right
        };
        let checked = self.attempts.run(address, digest, check).await;
        checked.map_err(|Busy| AccessRefused::Attempts)
    }

    /// The contents, at most [`CHECK`] old. While one request looks, the others go on with the
    /// contents before.
    async fn current(&self) -> Arc<Contents> {
        let before = {
            let mut state = self.state.lock();
            if state.looked.elapsed() < CHECK {
                return Arc::clone(&state.contents);
            }
            state.looked = Instant::now();
            Arc::clone(&state.contents)
        };
        let (path, stamp) = (self.path.clone(), before.stamp);
        let look = move || match htpasswd::stamp(&path) {
            Ok(now) if Some(now) == stamp => None,
            Ok(_) => Some(Contents::read(&path)),
            Err(error) => Some(Err(error)),
        };
        let read = match self.pool.run(look).await {
            None => return before,
            Some(read) => read.unwrap_or_else(|error| Contents::unreadable(&error)),
        };
        let after = Arc::new(read);
        after.log_change(&before, &self.path);
        if let (Ok(old), Ok(new)) = (&before.passwords, &after.passwords)
            && old == new
        {
            // Read again because it had just changed.
            std::mem::swap(&mut *before.verified.lock(), &mut *after.verified.lock());
        }
        self.state.lock().contents = Arc::clone(&after);
        after
    }

    fn digest(&self, given: &Credentials) -> Digest {
        let length = (given.user.len() as u64).to_le_bytes();
        let parts: [&[u8]; 4] = [&self.key, &length, &given.user, &given.password];
        let mut hasher = Sha256::new();
        parts.iter().for_each(|part| hasher.update(part));
        hasher.finalize().into()
    }

    fn digest_of(&self, user: &[u8]) -> Digest {
        Sha256::new()
            .chain_update(self.key)
            .chain_update(user)
            .finalize()
            .into()
    }
}

impl Contents {
    fn read(path: &Path) -> io::Result<Self> {
        let now = SystemTime::now();
        let (bytes, stamp) = htpasswd::read(path)?;
        let (passwords, bad) = htpasswd::parse(&bytes);
        for BadEntry { line, problem } in bad {
            let path = path.display();
            tracing::error!(file = %path, line, problem, "an entry of a password file cannot be used");
        }
        Ok(Self {
            stamp: Some(stamp).filter(|stamp| stamp.is_settled(now)),
            passwords: Ok(passwords),
            verified: Mutex::default(),
        })
    }

    fn unreadable(error: &io::Error) -> Self {
        Self {
            stamp: None,
            passwords: Err(error.to_string().into()),
            verified: Mutex::default(),
        }
    }

    fn log_change(&self, before: &Self, path: &Path) {
        let file = path.display();
        match (&before.passwords, &self.passwords) {
            (old, new) if old == new => {}
            (_, Ok(passwords)) => {
                tracing::info!(%file, users = passwords.count(), "password file read");
            }
            (_, Err(error)) => {
                tracing::error!(%file, %error, "cannot read the password file: its locations answer 500 (make it readable for the user that the server runs as)");
            }
        }
    }
}
