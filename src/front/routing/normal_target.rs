//! The normal form of a request target, which selects locations and files.
//!
//! As in nginx (`merge_slashes on`): percent-encoded slashes and dots are decoded once, dot
//! segments are resolved (RFC 3986 §5.2.4), consecutive slashes are merged. So a location covers
//! every form of its paths that an upstream server may resolve. All other escapes stay as the
//! client sent them; prefixes are compared decoded ([`crate::front::routing::prefix`]).
//! [`super::router::Route::mount`] decides which form the application receives.

use std::borrow::Cow;

/// A target without a normal form; nginx answers 400 too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unresolvable {
    /// It climbs above the root: `/../x`, `/a/../../x`.
    AboveRoot,
    /// Its path has a NUL, `%00`: a program in C takes it for the end.
    Nul,
}

/// The normal form of a target, with its query; borrowed if the target is normal already.
///
/// # Errors
/// [`Unresolvable`] if a `..` segment has no segment before it, or for a NUL.
pub fn normal(target: &str) -> Result<Cow<'_, str>, Unresolvable> {
    let (path, query) = split_query(target);
    if !path.starts_with('/') || is_normal(path.as_bytes()) {
        return Ok(Cow::Borrowed(target));
    }
    if path.contains(NUL) {
        return Err(Unresolvable::Nul);
    }
    let decoded = decode_separators(path);
    let mut out = String::with_capacity(target.len());
    let mut segments = decoded.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            ".." => {
                let parent = out.rfind('/').ok_or(Unresolvable::AboveRoot)?;
                out.truncate(parent);
            }
            "." | "" => {}
            name => {
                out.push('/');
                out.push_str(name);
            }
        }
        // `/a/`, `/a/.` and `/a/b/..` name the directory `/a/`.
        if is_last && matches!(segment, "" | "." | "..") {
            out.push('/');
        }
    }
    out.push_str(query);
    Ok(Cow::Owned(out))
}

const NUL: &str = "%00";

/// True if a target has a `..` segment, in any spelling that its normal form resolves.
pub fn climbs(target: &str) -> bool {
    let (path, _) = split_query(target);
    decode_separators(path).split('/').any(|name| name == "..")
}

/// Splits off the query, with its question mark.
fn split_query(target: &str) -> (&str, &str) {
    target.split_at(target.find('?').unwrap_or(target.len()))
}

/// True if a path that begins with a slash has nothing to resolve. Runs for every request, so it
/// does not allocate.
fn is_normal(path: &[u8]) -> bool {
    let is_end = |at: usize| path.get(at).is_none_or(|byte| *byte == b'/');
    path.iter().enumerate().all(|(at, byte)| match byte {
        b'/' => match path.get(at + 1) {
            Some(b'/') => false,
            Some(b'.') => !(is_end(at + 2) || path[at + 2] == b'.' && is_end(at + 3)),
            _ => true,
        },
        b'%' => separator(&path[at..]).is_none() && !path[at..].starts_with(NUL.as_bytes()),
        _ => true,
    })
}

/// The dot or slash that an escape at the start of `raw` stands for (RFC 3986 §2.1).
fn separator(raw: &[u8]) -> Option<char> {
    match raw {
        [b'%', b'2', b'e' | b'E', ..] => Some('.'),
        [b'%', b'2', b'f' | b'F', ..] => Some('/'),
        _ => None,
    }
}

/// `path` with percent-encoded dots and slashes decoded.
fn decode_separators(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        // An escape is three characters long, all of them ASCII.
        let length = match separator(rest.as_bytes()) {
            Some(byte) => {
                out.push(byte);
                3
            }
            None => {
                out.push('%');
                1
            }
        };
        rest = &rest[length..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dot_segments_are_resolved_and_slashes_merged() {
        for (target, expected) in [
            ("/", "/"),
            ("*", "*"),
            ("/a/b?c=/../d//e", "/a/b?c=/../d//e"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
            ("/..a/.b./c..", "/..a/.b./c.."),
            ("/a%20b/%C3%A9", "/a%20b/%C3%A9"),
            ("//", "/"),
            ("//private/f", "/private/f"),
            ("///a////b//", "/a/b/"),
            ("/./a", "/a"),
            ("/a/.", "/a/"),
            ("/a/./", "/a/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../", "/a/"),
            ("/a/..", "/"),
            ("/x/../private/f", "/private/f"),
            ("/x/..//private/f", "/private/f"),
            ("/x//../private/f", "/private/f"),
            ("/%2e/private/f", "/private/f"),
            ("/x/%2E%2e/private/f", "/private/f"),
            ("/x/.%2e/private/f", "/private/f"),
            ("/x%2f..%2Fprivate/f", "/private/f"),
            ("/%2fprivate/f?q", "/private/f?q"),
            ("/%252e%252e/x", "/%252e%252e/x"),
            ("/a%2ejs", "/a.js"),
            ("/a%2Fb%20c%zz%", "/a/b%20c%zz%"),
            ("/x/../?q=1", "/?q=1"),
        ] {
            assert_eq!(normal(target).as_deref(), Ok(expected), "{target}");
        }
    }

    #[test]
    fn a_target_above_the_root_has_no_normal_form() {
        for target in [
            "/..",
            "/../x",
            "/./../x",
            "//../x",
            "/a/../../x",
            "/%2e%2e/x",
            "/..%2fx",
            "/%2f..%2fx",
            "/a/..//..",
        ] {
            assert_eq!(normal(target), Err(Unresolvable::AboveRoot), "{target}");
        }
        for target in ["/%00", "/a%00/../b", "/a/../%00?x"] {
            assert_eq!(normal(target), Err(Unresolvable::Nul), "{target}");
        }
        // Decoded once; a query is never decoded.
        assert!(normal("/a%2500?%00").is_ok());
    }

    proptest! {
        #[test]
        fn a_normal_form_is_its_own_normal_form_and_never_climbs(
            target in "(/|%2f|%2E|\\.|%25|%|a|é|\\?){0,12}"
        ) {
            let target = format!("/{target}");
            if let Ok(form) = normal(&target) {
                prop_assert_eq!(normal(&form), Ok(Cow::Borrowed(&*form)));
                let (path, _) = split_query(&form);
                let ends = path.split('/').skip(1).any(|name| matches!(name, "." | ".."));
                prop_assert!(!ends && !path.contains("//"), "{}", form);
            }
        }
    }
}
