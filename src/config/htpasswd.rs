//! Password files as `htpasswd` writes them (Apache, "Password Formats"): a line `USER:HASH` for
//! each user, of bcrypt (`$2y$`) or SHA-2 crypt (`$5$`, `$6$`).
//!
//! Other formats are refused by name: MD5 (`$apr1$`, `$1$`), DES crypt, SHA-1 (`{SHA}`) and plain
//! text can be broken at billions of guesses a second. The costs of a hash are limited, because each
//! attempt of any client has to pay them.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use bcrypt::HashParts;
use sha_crypt::{Algorithm, PasswordHashRef, PasswordVerifier, ShaCrypt};

/// The users of a password file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passwords {
    users: BTreeMap<Vec<u8>, PasswordHash>,
}

/// A hash of a known format, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordHash {
    /// `$2y$`, `$2b$` or `$2a$`.
    Bcrypt(String),
    /// `$5$` or `$6$`.
    Sha2(String),
}

/// A line that is no usable entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct BadEntry {
    /// From 1.
    pub line: usize,
    /// Names format and user, never the hash.
    pub problem: String,
}

/// Longest password in bytes. `htpasswd` reads no longer ones; the cost of SHA-2 crypt grows with it.
pub const LONGEST_PASSWORD: usize = 255;
/// Longest password file in bytes, for some hundred thousand users.
const LONGEST_FILE: u64 = 32 << 20;
/// Highest cost of bcrypt: the highest that `htpasswd -C` takes, some seconds an attempt.
const HIGHEST_COST: u32 = 17;
/// Most rounds of SHA-2 crypt, about a second an attempt; the default is 5,000.
const MOST_ROUNDS: u32 = 1_000_000;

/// The facts by which a change of the file is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    /// Seconds and nanoseconds of the last change of contents or owner.
    changed: (i64, i64),
}

impl Stamp {
    fn of(facts: &Metadata) -> Self {
        Self {
            device: facts.dev(),
            inode: facts.ino(),
            length: facts.len(),
            changed: (facts.ctime(), facts.ctime_nsec()),
        }
    }

    /// True if a change after `now` shows another time: clocks of file systems are coarse.
    pub fn is_settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        now.as_secs() as i64 >= self.changed.0 + 2
    }
}

/// The stamp of the file. Blocks.
///
/// # Errors
/// Of the system call.
pub fn stamp(path: &Path) -> io::Result<Stamp> {
    Ok(Stamp::of(&std::fs::metadata(path)?))
}

/// Reads the file, with its stamp. Blocks.
///
/// # Errors
/// Of the system call, or that the file is too long or not regular.
pub fn read(path: &Path) -> io::Result<(Vec<u8>, Stamp)> {
    // Before it is opened: a pipe would wait for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let file = File::open(path)?;
    let stamp = Stamp::of(&file.metadata()?);
    let mut bytes = Vec::new();
    file.take(LONGEST_FILE + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > LONGEST_FILE {
        true => {
            let limit = LONGEST_FILE >> 20;
            Err(io::Error::other(format!("longer than {limit} MiB")))
        }
        false => Ok((bytes, stamp)),
    }
}

/// Parses a password file: its usable entries, and the lines that are none. Empty lines and lines
/// that begin with `#` are skipped. Of several entries of a user the first counts, as in nginx and
/// Apache.
pub fn parse(bytes: &[u8]) -> (Passwords, Vec<BadEntry>) {
    let (mut passwords, mut bad) = (Passwords::default(), Vec::new());
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        match entry(line) {
            Ok((user, hash)) => {
                passwords.users.entry(user.to_vec()).or_insert(hash);
            }
            Err(problem) => bad.push(BadEntry {
                line: index + 1,
                problem,
            }),
        }
    }
    (passwords, bad)
}

fn entry(line: &[u8]) -> Result<(&[u8], PasswordHash), String> {
    let mut parts = line.split(|byte| *byte == b':');
    let (Some(user), Some(hash)) = (parts.next(), parts.next()) else {
        return Err("no `:` between user and hash".to_owned());
    };
    if user.is_empty() {
        return Err("the user has no name".to_owned());
    }
    let shown = user.escape_ascii();
    let hash = str::from_utf8(hash).unwrap_or_default().trim_end();
    PasswordHash::parse(hash)
        .map(|hash| (user, hash))
        .map_err(|problem| format!("user {shown}: {problem}"))
}

impl PasswordHash {
    fn parse(hash: &str) -> Result<Self, String> {
        let unusable = |format: &str| {
            Err(format!(
                "{format} is not safe and not supported (set the password again with `htpasswd -B`)"
            ))
        };
        match hash.split('$').nth(1) {
            Some("2y" | "2b" | "2a") if hash.starts_with('$') => bcrypt_hash(hash),
            Some("5" | "6") if hash.starts_with('$') => sha2_hash(hash),
            Some("apr1") => unusable("an MD5 hash ($apr1$)"),
            Some("1") => unusable("an MD5 hash ($1$)"),
            Some("y" | "7" | "gy" | "argon2id" | "argon2i" | "scrypt") => Err(
                "a hash of this kind is not supported (give one of bcrypt, as `htpasswd -B` makes)"
                    .to_owned(),
            ),
            _ if hash.starts_with("{SHA}") => unusable("an unsalted SHA-1 hash ({SHA})"),
            _ if hash.starts_with("{SSHA}") => unusable("a SHA-1 hash ({SSHA})"),
            _ if hash.is_empty() => Err("there is no hash".to_owned()),
            _ if is_des(hash) => unusable("a DES hash (crypt)"),
            _ => unusable("a password in plain text, or a hash of an unknown kind,"),
        }
    }

    /// True if the password is right. Takes as long as the hash wants, up to seconds.
    pub fn verify(&self, password: &[u8]) -> bool {
        match self {
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Sha2(hash) => ShaCrypt::default()
                .verify_password(password, &**hash)
                .is_ok(),
        }
    }
}

fn bcrypt_hash(hash: &str) -> Result<PasswordHash, String> {
    let parts: HashParts = hash
        .parse()
        .map_err(|_| "a malformed hash of bcrypt".to_owned())?;
    match parts.get_cost() {
        cost @ ..4 => Err(format!("the cost {cost} of bcrypt is below 4")),
        cost if cost > HIGHEST_COST => Err(format!(
            "the cost {cost} of bcrypt is above {HIGHEST_COST}: an attempt would take minutes"
        )),
        _ => Ok(PasswordHash::Bcrypt(hash.to_owned())),
    }
}

fn sha2_hash(hash: &str) -> Result<PasswordHash, String> {
    let malformed = || "a malformed hash of SHA-2 crypt".to_owned();
    let parsed = PasswordHashRef::new(hash).map_err(|_| malformed())?;
    let length = match parsed.id().parse() {
        Ok(Algorithm::Sha256Crypt) => 43,
        Ok(Algorithm::Sha512Crypt) => 86,
        _ => return Err(malformed()),
    };
    let mut fields: Vec<_> = hash.split('$').skip(2).collect();
    if let Some(rounds) = fields
        .first()
        .and_then(|first| first.strip_prefix("rounds="))
    {
        match rounds.parse::<u32>() {
            Ok(1000..=MOST_ROUNDS) => {}
            Ok(1000..) => {
                return Err(format!(
                    "{rounds} rounds of SHA-2 crypt are more than {MOST_ROUNDS}: an attempt would take seconds"
                ));
            }
            _ => return Err(malformed()),
        }
        fields.remove(0);
    }
    match fields.as_slice() {
        [salt, digest] if salt.len() <= 16 && digest.len() == length => {
            Ok(PasswordHash::Sha2(hash.to_owned()))
        }
        _ => Err(malformed()),
    }
}

/// crypt(3): two characters of salt and eleven of the hash, all of `[a-zA-Z0-9./]`.
fn is_des(hash: &str) -> bool {
    let is_of_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || b"./".contains(&byte);
    hash.len() == 13 && hash.bytes().all(is_of_alphabet)
}

impl Passwords {
    /// The hash of a user.
    pub fn of(&self, user: &[u8]) -> Option<&PasswordHash> {
        self.users.get(user)
    }

    /// The hash of one of the users, chosen by `number`; `None` without users.
    pub fn any(&self, number: u64) -> Option<&PasswordHash> {
        let count = self.users.len() as u64;
        let index = number.checked_rem(count)?;
        self.users.values().nth(index as usize)
    }

    /// Number of users.
    pub fn count(&self) -> usize {
        self.users.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The first is of `htpasswd -nbB -C 4 ann secret`; the SHA-2 ones are test vectors of the
    /// specification ("Unix crypt using SHA-256 and SHA-512").
    const GOOD: &[(&str, &str)] = &[
        (
            "$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe",
            "password",
        ),
        (
            "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5",
            "Hello world!",
        ),
        (
            "$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA",
            "Hello world!",
        ),
        (
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
            "Hello world!",
        ),
    ];

    #[test]
    fn bcrypt_and_sha_2_are_verified() {
        for (hash, password) in GOOD {
            let (passwords, bad) = parse(format!("ann:{hash}\n").as_bytes());
            assert_eq!(bad, [], "{hash}");
            let found = passwords.of(b"ann").unwrap();
            assert!(found.verify(password.as_bytes()), "{hash}");
            for wrong in ["", "hello world!", "Hello world", "\0", "Hello world!\0"] {
                assert!(!found.verify(wrong.as_bytes()), "{hash} {wrong:?}");
            }
        }
    }

    #[test]
    fn unsafe_and_malformed_hashes_are_refused_by_name_with_their_line() {
        for (hash, problem) in [
            ("$apr1$GYl1IA2o$TlChbQHTlSNiQS.xPCmWC.", "MD5 hash ($apr1$)"),
            ("$1$abc$abcdefghijklmnopqrstuv", "MD5 hash ($1$)"),
            ("rqXexS6ZhobKA", "DES hash (crypt)"),
            ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "SHA-1 hash ({SHA})"),
            ("{SSHA}abc", "({SSHA})"),
            ("secret", "plain text"),
            ("", "no hash"),
            (
                "$2y$18$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe",
                "cost 18",
            ),
            ("$2y$05$short", "malformed hash of bcrypt"),
            ("$6$rounds=2000000$salt$x", "more than 1000000"),
            ("$6$salt$short", "malformed hash of SHA-2"),
            ("$y$j9T$abc$def", "not supported"),
        ] {
            let text = format!("# users\n\nann:{hash}\n");
            let (passwords, bad) = parse(text.as_bytes());
            assert_eq!(passwords.count(), 0);
            let said = bad[0].to_string();
            assert!(
                said.starts_with("line 3: user ann: ") && said.contains(problem),
                "{said}"
            );
            assert!(hash.len() < 9 || !said.contains(hash), "{said}");
        }
        let (_, bad) = parse(b"nothing\n:x\n");
        assert_eq!(bad[0].to_string(), "line 1: no `:` between user and hash");
        assert_eq!(bad[1].to_string(), "line 2: the user has no name");
    }

    #[test]
    fn comments_line_ends_and_further_fields_are_those_of_nginx_and_the_first_entry_counts() {
        let (hash, other) = (GOOD[1].0, GOOD[2].0);
        let text = format!("#x:y\r\nann:{hash}:a comment\r\nann:{other}\n\u{e9}:{other}");
        let (passwords, bad) = parse(text.as_bytes());
        assert_eq!((bad.len(), passwords.count()), (0, 2));
        assert_eq!(passwords.of(b"ann"), Some(&PasswordHash::Sha2(hash.into())));
        assert!(passwords.of("\u{e9}".as_bytes()).is_some());
        assert!(passwords.any(u64::MAX).is_some());
        assert_eq!(Passwords::default().any(7), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, hash in "(\\$(2y|5|6|apr1)?\\$?[0-9a-z=./$]{0,70})|\\PC{0,20}") {
            let _ = parse(&bytes);
            let _ = parse(format!("u:{hash}").as_bytes());
        }
    }
}
