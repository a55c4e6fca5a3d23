//! The prefix of the paths that belong to a location.
//!
//! Paths are compared percent-decoded and by whole segments, so the encoding of a path does not
//! change its location, and `/static` does not match `/static_secret`.

use crate::config::Scope;

/// A decoded path without a trailing slash: `/static`. Empty: every path. Or one exact path.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    path: String,
    is_exact: bool,
}

/// A prefix that no path can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// It is not an absolute path.
    #[error("cannot serve {0:?}: a prefix begins with a single slash")]
    NotAbsolute(String),
    /// It contains a part that no normal path contains.
    #[error(
        "cannot serve {0:?}: a prefix has no empty, `.` or `..` part, backslash or control character"
    )]
    Unreachable(String),
}

impl Prefix {
    /// Parses the prefix as the settings have it: literal, not percent-encoded.
    ///
    /// # Errors
    /// [`PrefixError`] for a prefix that no path can have.
    pub fn new(prefix: &str) -> Result<Self, PrefixError> {
        if !prefix.starts_with('/') {
            return Err(PrefixError::NotAbsolute(prefix.to_owned()));
        }
        let trimmed = prefix.strip_suffix('/').unwrap_or(prefix);
        let is_plain = |name: &str| {
            !matches!(name, "" | "." | "..")
                && !name.contains(|c: char| c == '\\' || c.is_ascii_control())
        };
        if !trimmed.split('/').skip(1).all(is_plain) {
            return Err(PrefixError::Unreachable(prefix.to_owned()));
        }
        Ok(Self {
            path: trimmed.to_owned(),
            is_exact: false,
        })
    }

    /// Parses an exact path, for which a slash at its end counts.
    ///
    /// # Errors
    /// [`PrefixError`] for one that no path can be.
    pub fn exact(path: &str) -> Result<Self, PrefixError> {
        Self::new(path)?;
        Ok(Self {
            path: path.to_owned(),
            is_exact: true,
        })
    }

    /// Parses a prefix, or an exact path.
    ///
    /// # Errors
    /// [`PrefixError`] for one that no path can have.
    pub fn in_scope(path: &str, scope: &Scope) -> Result<Self, PrefixError> {
        match scope.exact {
            true => Self::exact(path),
            false => Self::new(path),
        }
    }

    /// The decoded path; empty if every path belongs here.
    pub fn as_str(&self) -> &str {
        &self.path
    }

    /// The rest of a path that has this prefix, with the query; `raw_path` is as the client sent
    /// it. Decodes while it compares, without allocating: most paths do not match.
    pub fn rest_of<'a>(&self, raw_path: &'a str) -> Option<&'a str> {
        let path = raw_path.split_once('?').map_or(raw_path, |(path, _)| path);
        let mut rest = path.as_bytes();
        for &expected in self.path.as_bytes() {
            let (byte, behind) = next_byte(rest)?;
            if byte != expected {
                return None;
            }
            rest = behind;
        }
        let is_below = || !self.is_exact && next_byte(rest).is_some_and(|(byte, _)| byte == b'/');
        let is_boundary = rest.is_empty() || is_below();
        is_boundary
            .then(|| raw_path.get(path.len() - rest.len()..))
            .flatten()
    }
}

/// Splits off one byte, decoded (RFC 3986 §2.1). `None` at the end and at a bad escape.
pub fn next_byte(raw: &[u8]) -> Option<(u8, &[u8])> {
    match raw {
        [] => None,
        [b'%', high, low, rest @ ..] => Some((hex(*high)? << 4 | hex(*low)?, rest)),
        [b'%', ..] => None,
        [byte, rest @ ..] => Some((*byte, rest)),
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}
