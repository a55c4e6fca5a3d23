//! The prefix of the paths that belong to a location.
//!
//! Paths are compared percent-decoded, so the encoding of a path does not change its location, and by
//! whole segments, so `/static` does not match `/static_secret`, unless a location is for what starts so.

use crate::config::{Extent, LONGEST_EXTENSION, Scope, Segments};

/// A decoded path without a trailing slash: `/static`. Empty: every path. Or one exact path, or the start
/// of paths. With extensions, only paths whose last segment has one of them; with segments, only paths that have one.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    path: String,
    extent: Extent,
    ignore_case: bool,
    /// In lower case; none for every path.
    extensions: Vec<String>,
    segments: Segments,
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
            extent: Extent::Below,
            ignore_case: false,
            extensions: Vec::new(),
            segments: Segments::default(),
        })
    }

    /// Parses a prefix with its extensions, or an exact path, for which a slash at its end counts.
    ///
    /// # Errors
    /// [`PrefixError`] for one that no path can have.
    pub fn in_scope(path: &str, scope: &Scope) -> Result<Self, PrefixError> {
        let prefix = Self::new(path)?;
        Ok(Self {
            path: match scope.extent {
                Extent::Exact | Extent::Start => path.to_owned(),
                Extent::Below => prefix.path,
            },
            extent: scope.extent,
            ignore_case: scope.ignore_case,
            extensions: scope.extensions.clone(),
            segments: scope.segments.clone(),
        })
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
            let is_same =
                byte == expected || self.ignore_case && byte.eq_ignore_ascii_case(&expected);
            if !is_same {
                return None;
            }
            rest = behind;
        }
        let is_slash = next_byte(rest).is_some_and(|(byte, _)| byte == b'/');
        let is_boundary = self.extent.ends_before(rest.is_empty(), is_slash);
        let is_named = || self.extensions.is_empty() || self.has_extension(path.as_bytes());
        (is_boundary && is_named() && self.has_segment(path.as_bytes()))
            .then(|| raw_path.get(path.len() - rest.len()..))
            .flatten()
    }

    /// True if a segment of an encoded path begins as the settings say.
    fn has_segment(&self, path: &[u8]) -> bool {
        let mut rest = path;
        let behind_slashes = std::iter::from_fn(|| {
            while let Some((byte, behind)) = next_byte(rest) {
                rest = behind;
                if byte == b'/' {
                    return Some(behind);
                }
            }
            None
        });
        self.segments
            .cover(behind_slashes.map(|rest| move |text: &str| begins(rest, text)))
    }

    /// True if the last segment of an encoded path has one of the extensions.
    fn has_extension(&self, path: &[u8]) -> bool {
        let mut rest = path;
        let mut extension = [0; LONGEST_EXTENSION];
        // `None` before a dot of the segment.
        let mut length = None;
        while let Some((byte, behind)) = next_byte(rest) {
            rest = behind;
            match (byte, &mut length) {
                (b'/', _) => length = None,
                (b'.', _) => length = Some(0),
                (byte, Some(length)) => {
                    if let Some(place) = extension.get_mut(*length) {
                        *place = byte.to_ascii_lowercase();
                    }
                    *length += 1;
                }
                (_, None) => {}
            }
        }
        if !rest.is_empty() {
            return false;
        }
        let given = length.and_then(|length| extension.get(..length));
        given.is_some_and(|given| self.extensions.iter().any(|own| own.as_bytes() == given))
    }
}

/// True if an encoded path begins with a text, in any case.
fn begins(mut rest: &[u8], text: &str) -> bool {
    text.bytes().all(|expected| match next_byte(rest) {
        Some((byte, behind)) => {
            rest = behind;
            byte.eq_ignore_ascii_case(&expected)
        }
        None => false,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_those_of_the_last_segment_decoded_and_in_any_case() {
        let scope = Scope {
            extensions: vec!["css".to_owned(), "js".to_owned()],
            ..Scope::default()
        };
        let prefix = Prefix::in_scope("/static", &scope).unwrap();
        for (path, rest) in [
            ("/static/a.css", Some("/a.css")),
            ("/static/a.min.JS?v=1.png", Some("/a.min.JS?v=1.png")),
            ("/static/a%2eC%53s", Some("/a%2eC%53s")),
            ("/static/.css", Some("/.css")),
            ("/static/css", None),
            ("/static/a.css/", None),
            ("/static/a.css/b", None),
            ("/static/a.cssx", None),
            ("/static/a.css%zz", None),
            ("/static.css", None),
            ("/a.css", None),
            ("/static", None),
        ] {
            assert_eq!(prefix.rest_of(path), rest, "{path}");
        }
        let long = format!("/static/a.css{}", "x".repeat(100));
        assert_eq!(prefix.rest_of(&long), None);
    }

    #[test]
    fn segments_begin_so_decoded_and_in_any_case() {
        let texts = [".", "!.well-known", "wp-admin"].map(str::to_owned);
        let scope = Scope {
            segments: Segments::of(texts.to_vec()).unwrap(),
            ..Scope::default()
        };
        let prefix = Prefix::in_scope("/a", &scope).unwrap();
        for (path, expected) in [
            ("/a/.git/config", true),
            ("/a/b/%2Egit?x", true),
            ("/a/b/.well-known/x", false),
            ("/a/b%2F.env", true),
            ("/a/WP-admin", true),
            ("/a/xwp-admin", false),
            ("/a/b.c?/.git", false),
            ("/a", false),
            ("/b/.git", false),
        ] {
            assert_eq!(prefix.rest_of(path).is_some(), expected, "{path}");
        }
    }

    #[test]
    fn what_starts_so_may_end_within_a_segment_and_case_may_be_ignored() {
        let scope = |extent, ignore_case| Scope {
            extent,
            ignore_case,
            ..Scope::default()
        };
        let check = |path: &str, scope: &Scope, expected: &[(&str, Option<&str>)]| {
            let prefix = Prefix::in_scope(path, scope).unwrap();
            for (path, rest) in expected {
                assert_eq!(prefix.rest_of(path), *rest, "{path} {scope:?}");
                let path = path.replace("%73", "s");
                let (path, _) = path.split_once('?').unwrap_or((&path, ""));
                let behind = scope.behind(prefix.as_str(), path);
                assert_eq!(behind.is_some(), rest.is_some(), "{path} {scope:?}");
            }
        };
        let start = [
            ("/secret", Some("")),
            ("/%73ecrets?q", Some("s?q")),
            ("/secret/x", Some("/x")),
            ("/secre", None),
            ("/Secret", None),
            ("/x/secret", None),
        ];
        check("/secret", &scope(Extent::Start, false), &start);
        let any_case = [
            ("/SECRETs", Some("s")),
            ("/%73Ecret", Some("")),
            ("/s", None),
        ];
        check("/secret", &scope(Extent::Start, true), &any_case);
        let below = [("/SECRET/x", Some("/x")), ("/SECRETs", None)];
        check("/secret", &scope(Extent::Below, true), &below);
        let exact = [
            ("/Secret/", Some("")),
            ("/secret", None),
            ("/secret/x", None),
        ];
        check("/secret/", &scope(Extent::Exact, true), &exact);
    }
}
