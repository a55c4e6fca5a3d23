//! `Cache-Control` of a file: the time that a client may use it without revalidation.
//!
//! A name with a hash of the content in it always stands for the same content, so it may be cached
//! without limit. Such names are found in Django's `staticfiles.json`, and by their form, in the
//! directories of build tools; uploads have identifiers in their names that look the same, and may
//! include a manifest. A configured maximum age holds for every file.

use std::collections::HashSet;
use std::time::Duration;

use http::HeaderValue;

use super::types::MediaType;
use crate::config::Immutable;

/// The names that `ManifestStaticFilesStorage` gave to files when it collected them.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    hashed: HashSet<String>,
}

impl Manifest {
    /// The path of Django's manifest below the location's directory.
    pub(super) const NAME: &str = "staticfiles.json";

    /// Parses `{"paths": {"css/base.css": "css/base.27e20196a850.css"}, …}`. Any other content
    /// lists nothing.
    pub(super) fn parse(text: &[u8]) -> Self {
        #[derive(serde::Deserialize)]
        struct Written {
            paths: std::collections::HashMap<String, String>,
        }
        let written = serde_json::from_slice::<Written>(text);
        let paths = written.map(|written| written.paths).unwrap_or_default();
        let hashed = paths
            .into_iter()
            .filter(|(name, hashed)| adds_hash(name, hashed) || has_hash(hashed))
            .map(|(_, hashed)| hashed)
            .collect();
        Self { hashed }
    }
}

/// True if `hashed` is `name` with a hash in hexadecimal in front of the extension: Django's
/// `base.27e20196a850.css`. A name without one may stand for other content tomorrow.
fn adds_hash(name: &str, hashed: &str) -> bool {
    let file = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = name[file..].rfind('.').filter(|dot| *dot > 0);
    let (root, extension) = name.split_at(dot.map_or(name.len(), |dot| file + dot));
    let added = hashed
        .strip_prefix(root)
        .and_then(|rest| rest.strip_suffix(extension))
        .and_then(|rest| rest.strip_prefix(['.', '-', '_']));
    added.is_some_and(|hash| hash.len() >= 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// True if the content of the file called `name` never changes. Pages do change: they name the
/// scripts of their release. So do playlists.
pub(super) fn is_immutable(
    name: &str,
    media_type: &MediaType,
    rule: Immutable,
    manifest: &Manifest,
) -> bool {
    !media_type.is_html()
        && !media_type.is_playlist()
        && match rule {
            Immutable::Auto => manifest.hashed.contains(name) || has_hash(name),
            Immutable::Manifest => manifest.hashed.contains(name),
            Immutable::No => false,
        }
}

/// The default of `Cache-Control`.
pub(super) fn by_itself(media_type: &MediaType, is_immutable: bool) -> HeaderValue {
    match is_immutable {
        // RFC 8246. Caches treat a year as unlimited.
        true => HeaderValue::from_static("public, max-age=31536000, immutable"),
        // The old scripts of a page may be deleted.
        false if media_type.is_html() => for_so_long(Duration::ZERO),
        false => for_so_long(DEFAULT_MAX_AGE),
    }
}

/// The value of `Cache-Control` for this maximum age.
pub(super) fn for_so_long(max_age: Duration) -> HeaderValue {
    match max_age.as_secs() {
        0 => HeaderValue::from_static("no-cache"),
        seconds => {
            HeaderValue::try_from(format!("public, max-age={seconds}")).expect("letters and digits")
        }
    }
}

/// True if the name looks as if a build tool had put a hash of the content into it:
/// `base.27e20196a850.css` (Django), `main.0a1b2c3d.chunk.js` (Webpack), `index-BfX3k2aQ.js`
/// (Vite), `0123456789abcdef0123.js`.
pub(super) fn has_hash(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    let Some((stem, extension)) = file.rsplit_once('.') else {
        return false;
    };
    if stem.is_empty() || extension.is_empty() {
        return false;
    }
    if has_uuid(stem) {
        return false;
    }
    let mut parts = stem.split(['.', '-']).enumerate();
    parts.any(|(at, part)| is_hex_hash(part, at == 0)) || has_base64_hash(stem)
}

/// True if it contains a UUID (RFC 9562 §4), which identifies a thing, not its content.
fn has_uuid(stem: &str) -> bool {
    stem.as_bytes().windows(36).any(|part| {
        part.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
    })
}

/// True for digits and letters of lower-case hexadecimal, at least some of each: neither a date nor
/// a word.
fn is_hex_hash(part: &str, is_whole_name: bool) -> bool {
    let least = if is_whole_name { 16 } else { 8 };
    (least..=64).contains(&part.len())
        && part
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && part.bytes().any(|byte| byte.is_ascii_digit())
        && part.bytes().any(|byte| byte.is_ascii_lowercase())
}

/// True for Rollup's eight characters of base64url after a dash. Only those that no person would
/// write: with a digit, and a capital after something else than a capital.
fn has_base64_hash(stem: &str) -> bool {
    let stem = stem.as_bytes();
    let Some(at) = stem.len().checked_sub(HASH + 1).filter(|&at| at > 0) else {
        return false;
    };
    let (dash, hash) = (stem[at], &stem[at + 1..]);
    dash == b'-'
        && hash
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        && hash.iter().any(u8::is_ascii_digit)
        && hash.iter().any(u8::is_ascii_lowercase)
        && hash
            .windows(2)
            .any(|pair| !pair[0].is_ascii_uppercase() && pair[1].is_ascii_uppercase())
}

const HASH: usize = 8;

/// Short enough that a new release is seen soon, long enough to spare repeated requests;
/// WhiteNoise's default.
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FileTypes;
    use proptest::prelude::*;

    #[test]
    fn names_made_by_build_tools_are_told_from_names_made_by_people() {
        for name in [
            "css/base.27e20196a850.css",
            "base.27e20196a850.min.css",
            "main.0a1b2c3d.chunk.js",
            "main.0123456789abcdef0123.js",
            "page-0123456789abcdef.js",
            "0123456789abcdef0123.js",
            "assets/index-BfX3k2aQ.js",
            "assets/index-a_B-3k2Q.css",
        ] {
            assert!(has_hash(name), "{name}");
        }
        for name in [
            "style.css",
            "jquery-3.7.1.min.js",
            "report-20240101.pdf",
            "my-document.pdf",
            "IMG-Photo001.jpg",
            "name-lowercas.js",
            "cafe.deadbeef.css",
            "facade12.css",
            "27e20196a850",
            ".27e20196a850",
            "27e20196a850.css",
            "27e20196a850/style.css",
            "BfX3k2aQ.js",
            "",
            ".",
            "a.",
            "550e8400-e29b-41d4-a716-446655440000.jpg",
            "photo-550e8400-e29b-41d4-a716-446655440000.thumb.jpg",
        ] {
            assert!(!has_hash(name), "{name}");
        }
    }

    #[test]
    fn the_manifest_names_what_never_changes() {
        let manifest = Manifest::parse(
            br#"{"paths": {"a.css": "a.123456789012.css", "same.css": "same.css",
                "d/b.min.js": "d/b.min.210987654321.js", "LICENSE": "LICENSE.123456789012",
                "c.css": "c.custom.css", "e.css": "other.123456789012.css"}, "version": "1.1"}"#,
        );
        let check = |name: &str, rule: Immutable, expected: &str| {
            let media_type = MediaType::of("", name, &FileTypes::default());
            let value = by_itself(
                &media_type,
                is_immutable(name, &media_type, rule, &manifest),
            );
            assert_eq!(value, expected, "{name} {rule:?}");
        };
        let forever = "public, max-age=31536000, immutable";
        let a_while = "public, max-age=60";
        for listed in [
            "a.123456789012.css",
            "d/b.min.210987654321.js",
            "LICENSE.123456789012",
        ] {
            check(listed, Immutable::Auto, forever);
            check(listed, Immutable::Manifest, forever);
            check(listed, Immutable::No, a_while);
        }
        check("c.custom.css", Immutable::Auto, a_while);
        check("other.123456789012.css", Immutable::Manifest, a_while);
        check("a.css", Immutable::Auto, a_while);
        check("same.css", Immutable::Auto, a_while);
        check("b.27e20196a850.css", Immutable::Auto, forever);
        check("b.27e20196a850.css", Immutable::Manifest, a_while);
        check("a.html", Immutable::Auto, "no-cache");
        check("b.27e20196a850.html", Immutable::Auto, "no-cache");
        check("b.27e20196a850.xhtml", Immutable::Auto, "no-cache");
        check("live-a1b2c3d4.m3u8", Immutable::Auto, a_while);
        check("live-a1b2c3d4.mpd", Immutable::Auto, a_while);
        assert_eq!(for_so_long(Duration::ZERO), "no-cache");
        assert_eq!(for_so_long(Duration::from_secs(5)), "public, max-age=5");
    }

    proptest! {
        #[test]
        fn any_manifest_and_any_name_are_read_without_a_panic(
            text in prop::collection::vec(any::<u8>(), 0..60), name in "\\PC{0,20}|[a-fA-F0-9.-]{0,30}"
        ) {
            Manifest::parse(&text);
            has_hash(&name);
        }
    }
}
