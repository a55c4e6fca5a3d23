//! The directory of ACME: account, keys, certificates, pending challenges, and the state that survives
//! a restart. All functions block.
//!
//! ```text
//! lock                        the writer holds it (flock)
//! account-HOST-PATH.json      key and URL of the account at an authority
//! NAME.pem                    key and chain of a certificate, replaced at once
//! .NAME.pem.new               the key of an order that is not complete yet, with room for the chain
//! challenges.json             what every server answers while an order is validated
//! state.json                  attempts, orders and windows
//! ```
//!
//! Every file is replaced by a complete new one, so that readers and a crash never see a half.

#![allow(
    clippy::disallowed_methods,
    reason = "called at the start, and in the FilePool"
)]

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::der::Key;
use super::error::AcmeError;
use super::state::{PendingChallenges, State};
use crate::config::acme;
use crate::front::tls::pair::Pair;
use crate::front::tls::pem;

/// Room for the chain that is taken before an order: a full disk has to be noticed before the authority
/// has work.
const ROOM: usize = 32 << 10;

/// The right to write to the directory: of several servers that share it, one has it.
pub struct Store {
    dir: PathBuf,
    /// Locked until it is closed, also when the process is killed.
    _lock: File,
}

/// An account at an authority.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Account {
    /// PKCS #8 in base64.
    key: String,
    /// Its URL; `None` before the authority knows it.
    pub url: Option<String>,
}

impl Account {
    /// One with a new key.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn generate() -> Result<Self, AcmeError> {
        Ok(Self {
            key: BASE64_STANDARD.encode(Key::generate()?.pkcs8),
            url: None,
        })
    }

    /// The key in PKCS #8.
    ///
    /// # Errors
    /// The file was damaged.
    pub fn key(&self) -> Result<Vec<u8>, AcmeError> {
        BASE64_STANDARD
            .decode(&self.key)
            .map_err(|error| AcmeError::Directory(format!("the account's key is damaged: {error}")))
    }
}

/// Creates the directory, as the user that starts the server; `owner` is the one that it becomes.
///
/// # Errors
/// The directory cannot be created.
pub fn create(dir: &Path, owner: Option<(u32, u32)>) -> Result<(), AcmeError> {
    if dir.is_dir() {
        return Ok(());
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| problem("create the directory", dir, &error))?;
    if let Some((uid, gid)) = owner {
        std::os::unix::fs::chown(dir, Some(uid), Some(gid))
            .map_err(|error| problem("change the owner of", dir, &error))?;
    }
    Ok(())
}

/// Tries to write to the directory, as the server is going to.
///
/// # Errors
/// The reason why it cannot.
pub fn try_directory(dir: &Path) -> Result<(), AcmeError> {
    let name = format!(".try-{}", std::process::id());
    let file = dir.join(name);
    let tried = create_file(&file).and_then(|mut file| file.write_all(b"x"));
    let tried = tried.map_err(|error| problem("write to the directory", dir, &error));
    let _missing = std::fs::remove_file(&file);
    tried?;
    for known in ["lock", STATE, CHALLENGES] {
        let known = dir.join(known);
        let opened = OpenOptions::new().read(true).write(true).open(&known);
        match opened {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(problem("write to", &known, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

impl Store {
    /// Takes the right to write; `None`: another server has it.
    ///
    /// # Errors
    /// The directory cannot be used.
    pub fn lock(dir: &Path) -> Result<Option<Self>, AcmeError> {
        create(dir, None)?;
        let path = dir.join("lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| problem("open", &path, &error))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self {
                dir: dir.to_owned(),
                _lock: file,
            })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(problem("lock", &path, &error.into())),
        }
    }

    /// Writes the state.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, state: &State) -> Result<(), AcmeError> {
        self.write_json(STATE, state)
    }

    /// Writes the challenges, for the other servers and for a restart.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn publish(&self, challenges: &PendingChallenges) -> Result<(), AcmeError> {
        self.write_json(CHALLENGES, challenges)
    }

    /// The account at the authority with this URL; a new one is written before it is used.
    ///
    /// # Errors
    /// Its file cannot be read or written.
    pub fn account(&self, directory: &str) -> Result<Account, AcmeError> {
        let path = self.dir.join(account_file(directory));
        if let Some(account) = read_json(&path)? {
            return Ok(account);
        }
        let account = Account::generate()?;
        self.save_account(directory, &account)?;
        Ok(account)
    }

    /// Writes an account.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save_account(&self, directory: &str, account: &Account) -> Result<(), AcmeError> {
        self.write_json(&account_file(directory), account)
    }

    /// A new key for an order, written with room for the chain.
    ///
    /// # Errors
    /// It cannot be written: the authority need not be asked.
    pub fn new_key(&self, name: &str) -> Result<Key, AcmeError> {
        let key = Key::generate()?;
        let mut text = pem::written("PRIVATE KEY", &key.pkcs8).into_bytes();
        // Blank lines are no part of PEM (RFC 7468 §2).
        text.resize(text.len() + ROOM, b'\n');
        let path = self.pending(name);
        self.write(&path, &text)?;
        Ok(key)
    }

    /// The key of an order that is not complete.
    pub fn pending_key(&self, name: &str) -> Option<Key> {
        let text = std::fs::read(self.pending(name)).ok()?;
        let PrivateKeyDer::Pkcs8(key) = PrivateKeyDer::from_pem_slice(&text).ok()? else {
            return None;
        };
        Key::of(key.secret_pkcs8_der().to_vec()).ok()
    }

    /// Puts a certificate with its key in the place of the one before.
    ///
    /// # Errors
    /// It cannot be written, or is not the one that was ordered.
    pub fn install(&self, name: &str, key: &Key, chain: &str) -> Result<(), AcmeError> {
        let path = self.pending(name);
        let text = format!("{}{chain}", pem::written("PRIVATE KEY", &key.pkcs8));
        // Into the room that was taken.
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.set_len(text.len() as u64)?;
                file.sync_all()
            });
        written.map_err(|error| problem("write", &path, &error))?;
        let pair = Pair::read(&path, &path, SystemTime::now());
        let pair = pair.map_err(|error| {
            AcmeError::Unexpected(format!(
                "the authority gave a certificate that cannot be used: {error}"
            ))
        })?;
        if !pair.certificate.names.iter().any(|found| found == name) {
            let names = pair.names();
            let text = format!("the authority gave a certificate for {names} instead of {name}");
            return Err(AcmeError::Unexpected(text));
        }
        let to = acme::file(&self.dir, name);
        std::fs::rename(&path, &to).map_err(|error| problem("write", &to, &error))?;
        self.sync();
        Ok(())
    }

    fn pending(&self, name: &str) -> PathBuf {
        self.dir.join(format!(".{name}.pem.new"))
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), AcmeError> {
        let text = serde_json::to_vec_pretty(value)
            .map_err(|error| AcmeError::internal("cannot write JSON", error))?;
        let to = self.dir.join(name);
        let new = self.dir.join(format!(".{name}.new"));
        self.write(&new, &text)?;
        std::fs::rename(&new, &to).map_err(|error| problem("write", &to, &error))?;
        self.sync();
        Ok(())
    }

    fn write(&self, path: &Path, text: &[u8]) -> Result<(), AcmeError> {
        let written = create_file(path).and_then(|mut file| {
            file.write_all(text)?;
            file.sync_all()
        });
        written.map_err(|error| {
            let _missing = std::fs::remove_file(path);
            problem("write", path, &error)
        })
    }

    /// Has renamed files survive a power failure, where the file system can.
    fn sync(&self) {
        let _not_supported = File::open(&self.dir).and_then(|dir| dir.sync_all());
    }
}

/// The state as the last writer left it; an empty one if there is none, or a damaged one.
pub fn state(dir: &Path) -> State {
    let read = read_json(&dir.join(STATE));
    read.ok().flatten().unwrap_or_default()
}

/// The challenges that are pending now.
pub fn challenges(dir: &Path) -> PendingChallenges {
    let read = read_json(&dir.join(CHALLENGES));
    read.ok().flatten().unwrap_or_default()
}

/// A number that changes with the challenges.
pub fn stamp(dir: &Path) -> (u64, i64, i64) {
    let state = std::fs::metadata(dir.join(CHALLENGES));
    state.map_or((0, 0, 0), |file| {
        (file.ino(), file.mtime(), file.mtime_nsec())
    })
}

/// The key of an external account, from its file.
///
/// # Errors
/// The file cannot be read, or is not base64url.
pub fn external_key(path: &Path) -> Result<Vec<u8>, AcmeError> {
    let doing = "use the key of --acme-eab-key";
    let text = std::fs::read_to_string(path);
    let text =
        text.map_err(|error| AcmeError::Settings(problem(doing, path, &error).to_string()))?;
    super::jws::decoded(&text)
        .filter(|key| !key.is_empty())
        .ok_or_else(|| {
            let path = path.display();
            AcmeError::Settings(format!("cannot {doing} {path}: not in base64url"))
        })
}

/// The certificate in use; `None` if there is none that can be used.
pub fn pair(dir: &Path, name: &str) -> Option<Pair> {
    let file = acme::file(dir, name);
    let pair = Pair::read(&file, &file, SystemTime::now()).ok()?;
    let is_for_name = pair.certificate.names.iter().any(|found| found == name);
    is_for_name.then_some(pair)
}

const STATE: &str = "state.json";
const CHALLENGES: &str = "challenges.json";

/// `account-acme.example-directory.json`: an authority for tests has another account.
fn account_file(directory: &str) -> String {
    let url = directory.trim_start_matches("https://");
    let plain = |char: char| match char.is_ascii_alphanumeric() || char == '.' || char == '-' {
        true => char,
        false => '-',
    };
    let url: String = url.chars().map(plain).take(150).collect();
    format!("account-{url}.json")
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, AcmeError> {
    match std::fs::read(path) {
        Ok(text) => match serde_json::from_slice(&text) {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                let path = path.display();
                Err(AcmeError::Directory(format!("{path} is damaged: {error}")))
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(problem("read", path, &error)),
    }
}

fn create_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

fn problem(doing: &str, path: &Path, error: &io::Error) -> AcmeError {
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            " (make it writable for the user that the server runs as, or set another with --acme-dir)"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => " (free some space)",
        _ => "",
    };
    let path = path.display();
    AcmeError::Directory(format!("cannot {doing} {path}: {error}{advice}"))
}
