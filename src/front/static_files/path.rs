//! Step 1: the location of a path, and the file in it.
//!
//! All decisions use the percent-decoded form, so no encoding of a path changes its target.
//! Decoding happens once: `%252e` is the name `%2e`. The next step finds out if the file exists.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, percent_encode, utf8_percent_encode};

use super::StaticError;
use super::hidden::is_hidden;
use super::types::MediaType;
use crate::config;
use crate::config::{FileTypes, Immutable, Listing, Missing, Rank, Scope, StaticLocation};
use crate::front::response_rules::ResponseRules;
use crate::front::routing::origin::RequestedOrigin;
use crate::front::routing::prefix::{Prefix, PrefixError, next_byte};

/// The served directories, by the prefix of their paths.
#[derive(Debug, Clone, Default)]
pub struct Locations {
    /// Highest rank first.
    locations: Vec<Location>,
}

/// One directory and the prefix under which it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    prefix: Prefix,
    scope: Scope,
    rank: Rank,
    dir: PathBuf,
    file: Option<String>,
    /// Its index among the locations.
    index: usize,
    missing: Missing,
    max_age: Option<Duration>,
    immutable: Immutable,
    precompressed: bool,
    types: FileTypes,
    predefined: bool,
    access: usize,
    has_indexes: bool,
    html: bool,
    listing: Listing,
    compress: Option<[bool; 2]>,
    max_ranges: usize,
    rules: ResponseRules,
}

/// An invalid location.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// No path can have the prefix.
    #[error(transparent)]
    Prefix(#[from] PrefixError),
    /// Two locations have the same prefix.
    #[error("cannot serve {0:?} from two directories")]
    Twice(String),
}

/// A path inside a location, decoded and safe to be joined to its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePath {
    /// Names with one slash between them; empty for the location itself.
    pub relative: OsString,
    /// True if the path ended in a slash: only a directory is meant.
    pub is_directory: bool,
}

impl Locations {
    /// Takes prefixes as in the settings: literal, not percent-encoded.
    ///
    /// # Errors
    /// [`LocationError`] for a prefix that no path can have, or that occurs twice.
    pub fn new(locations: impl IntoIterator<Item = StaticLocation>) -> Result<Self, LocationError> {
        let mut locations = locations
            .into_iter()
            .map(Location::new)
            .collect::<Result<Vec<_>, _>>()?;
        locations.sort_by_key(|location| Reverse(location.rank));
        for index in 0..locations.len() {
            let (before, [location, ..]) = locations.split_at_mut(index) else {
                break;
            };
            let is_same = |other: &Location| {
                other.prefix == location.prefix && other.scope.overlaps(&location.scope)
            };
            if before.iter().any(is_same) {
                return Err(LocationError::Twice(location.prefix().to_owned()));
            }
            location.index = index;
        }
        Ok(Self { locations })
    }

    /// The location of `raw_path`, and the rest of the path after its prefix.
    ///
    /// `raw_path` is as the client sent it; a query after it stays in the rest. `/static` and
    /// `/static/…` belong to `/static`, `/staticfoo` and `/static../x` do not. The longest prefix
    /// wins.
    pub fn find<'a>(
        &self,
        raw_path: &'a str,
        origin: RequestedOrigin<'_>,
    ) -> Option<(&Location, &'a str)> {
        self.locations.iter().find_map(|location| {
            let rest = location.prefix.rest_of(raw_path)?;
            origin.is_in(&location.scope).then_some((location, rest))
        })
    }

    /// All locations, longest prefix first.
    pub fn iter(&self) -> impl Iterator<Item = &Location> {
        self.locations.iter()
    }
}

impl Location {
    fn new(location: StaticLocation) -> Result<Self, LocationError> {
        let rules = response_rules(&location.rules, &location.types);
        Ok(Self {
            prefix: Prefix::in_scope(&location.prefix, &location.scope)?,
            rank: location.scope.rank(&location.prefix),
            scope: location.scope,
            dir: location.dir,
            file: location.file,
            index: 0,
            missing: location.missing,
            max_age: location.max_age,
            immutable: location.immutable,
            precompressed: location.precompressed,
            types: location.types,
            predefined: location.predefined,
            access: location.access,
            has_indexes: location.index,
            html: location.html,
            listing: location.listing,
            compress: location.compress,
            max_ranges: location.max_ranges,
            rules,
        })
    }

    /// The decoded prefix, without a slash at its end; empty for the whole site.
    pub fn prefix(&self) -> &str {
        self.prefix.as_str()
    }

    /// The directory that is served.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The rules for its responses.
    pub fn rules(&self) -> &ResponseRules {
        &self.rules
    }

    /// Its precedence among the locations that cover a request.
    pub fn rank(&self) -> Rank {
        self.rank
    }

    /// True if it serves one file, and says nothing about others of the directory.
    pub(super) fn is_one_file(&self) -> bool {
        self.file.is_some()
    }

    /// The file for the rest of a path without its query.
    ///
    /// # Errors
    /// [`StaticError`] for an invalid path, or one that no file may have.
    pub(super) fn file_path(&self, rest: &str, hidden: bool) -> Result<FilePath, StaticError> {
        match &self.file {
            Some(name) => Ok(FilePath::of_file(name)),
            None => FilePath::decode(rest, hidden),
        }
    }

    /// True for a location that was not configured explicitly.
    pub fn is_predefined(&self) -> bool {
        self.predefined
    }

    /// The index of its access in the site.
    pub fn access(&self) -> usize {
        self.access
    }

    /// True if an index answers for its directory.
    pub(super) fn has_indexes(&self) -> bool {
        self.has_indexes
    }

    /// The `page.html` that answers for `page`, if there is no such file.
    pub(super) fn page_of(&self, path: &FilePath) -> Option<FilePath> {
        let is_page = self.html && !path.is_directory && !path.relative.is_empty();
        is_page.then(|| {
            let mut relative = path.relative.clone();
            relative.push(".html");
            FilePath {
                relative,
                is_directory: false,
            }
        })
    }

    /// The listing of a directory without an index.
    pub(super) fn listing(&self) -> Listing {
        self.listing
    }

    /// True for brotli and for gzip if its text is compressed so; `None` as the settings for all files say.
    pub(super) fn compress(&self) -> Option<[bool; 2]> {
        self.compress
    }

    /// Most ranges in a request.
    pub(super) fn max_ranges(&self) -> usize {
        self.max_ranges
    }

    /// Its index among the locations.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// The setting for paths without a file.
    pub(super) fn missing(&self) -> &Missing {
        &self.missing
    }

    /// The name of the location for paths without a file.
    pub fn missing_name(&self) -> Option<&str> {
        match &self.missing {
            Missing::Named(name) => Some(name),
            _ => None,
        }
    }

    /// Time that clients may cache a file without revalidation; `None` for the default of its type.
    pub(super) fn max_age(&self) -> Option<Duration> {
        self.max_age
    }

    /// Rule for the names that clients may cache for a year.
    pub(super) fn immutable(&self) -> Immutable {
        self.immutable
    }

    /// True if `.br`, `.zst` and `.gz` files are used as encoded forms of the file beside them.
    pub(super) fn is_precompressed(&self) -> bool {
        self.precompressed
    }

    /// The type of the file called `name` here.
    pub(super) fn media_type(&self, name: &str) -> MediaType {
        let directory = match self.file {
            Some(_) => self
                .prefix()
                .rsplit_once('/')
                .map_or("", |(parent, _)| parent),
            None => self.prefix(),
        };
        MediaType::of(directory, name, &self.types)
    }

    /// The URL of the directory `relative`: path only, so it cannot name a host.
    pub(super) fn directory_url(&self, relative: &OsStr, query: Option<&str>) -> String {
        let mut url = utf8_percent_encode(self.prefix(), ESCAPED).to_string();
        if !relative.is_empty() {
            url.push('/');
            url.extend(percent_encode(relative.as_bytes(), ESCAPED));
        }
        url.push('/');
        if let Some(query) = query {
            url.push('?');
            url.push_str(query);
        }
        url
    }
}

/// The rules of these settings; the pages among them have the types of files.
pub fn response_rules(settings: &config::ResponseRules, types: &FileTypes) -> ResponseRules {
    ResponseRules::new(settings, |name| MediaType::of("", name, types).value)
}

impl FilePath {
    /// Decodes the rest of the path that [`Locations::find`] returned, without a query. `hidden`
    /// files, such as `.env` and `settings.py`, are found only on demand.
    ///
    /// # Errors
    /// [`StaticError`] for an invalid path, or one that no file may have.
    pub fn decode(raw: &str, hidden: bool) -> Result<Self, StaticError> {
        let decoded = decode(raw)?;
        let is_directory = decoded.ends_with(b"/");
        let mut relative = OsString::with_capacity(decoded.len());
        // Empty names are skipped, as nginx does by default (`merge_slashes`).
        let mut names = decoded
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
            .peekable();
        while let Some(name) = names.next() {
            let is_refused = match hidden {
                true => matches!(name, b"." | b".."),
                false => is_hidden(name, names.peek().is_none()),
            };
            if is_refused {
                return Err(StaticError::NotFound);
            }
            if !relative.is_empty() {
                relative.push("/");
            }
            relative.push(OsStr::from_bytes(name));
        }
        Ok(Self {
            relative,
            is_directory,
        })
    }

    /// The path of a file in the settings.
    pub(super) fn of_file(relative: &str) -> Self {
        Self {
            relative: relative.into(),
            is_directory: false,
        }
    }

    /// The name of the file; for a directory that of its index.
    pub(super) fn file_name(&self) -> Cow<'_, OsStr> {
        match self.is_directory {
            true => Cow::Owned(self.index_name()),
            false => Cow::Borrowed(&self.relative),
        }
    }

    /// The name of the index, if this is a directory.
    pub(super) fn index_name(&self) -> OsString {
        let mut name = self.relative.clone();
        if !name.is_empty() {
            name.push("/");
        }
        name.push(INDEX);
        name
    }
}

/// RFC 3986 §2.1, once. Names are bytes, as for the kernel and nginx: they need not be UTF-8.
fn decode(raw: &str) -> Result<Vec<u8>, StaticError> {
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while !rest.is_empty() {
        let (byte, behind) =
            next_byte(rest).ok_or(StaticError::BadPath("a percent sign without two digits"))?;
        if byte == 0 {
            return Err(StaticError::BadPath("a zero byte"));
        }
        decoded.push(byte);
        rest = behind;
    }
    Ok(decoded)
}

const INDEX: &str = "index.html";

/// Everything but RFC 3986's unreserved and sub-delims, `:`, `@` and the slash between names.
pub(super) const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn locations() -> Locations {
        Locations::new([
            StaticLocation::new("/static", "/srv/static"),
            StaticLocation::new("/static/admin/", "/srv/admin"),
            StaticLocation::new("/my files", "/srv/files"),
        ])
        .unwrap()
    }

    #[test]
    fn a_path_belongs_to_the_longest_prefix_that_ends_at_a_slash() {
        let locations = locations();
        for (path, expected) in [
            ("/static", Some(("/static", ""))),
            ("/static/", Some(("/static", "/"))),
            ("/static/a.css?v=1", Some(("/static", "/a.css?v=1"))),
            ("/static?v=/admin", Some(("/static", "?v=/admin"))),
            ("/%73tatic/a", Some(("/static", "/a"))),
            ("/%2573tatic/a", None),
            ("/static%2fa", Some(("/static", "%2fa"))),
            ("%2Fstatic/a", Some(("/static", "/a"))),
            ("/static/admin", Some(("/static/admin", ""))),
            ("/static%2Fadmin/x", Some(("/static/admin", "/x"))),
            ("/static/adminx", Some(("/static", "/adminx"))),
            ("/my%20files/x", Some(("/my files", "/x"))),
            ("/staticfoo", None),
            ("/static../x", None),
            ("/static%2e%2e/x", None),
            ("/static_secret/x", None),
            ("/static%00/x", None),
            ("/static%", None),
            ("/static%zz", None),
            ("/Static/x", None),
            ("/STATIC/x", None),
            ("//static/x", None),
            ("/x/static/x", None),
            ("/", None),
            ("", None),
            ("*", None),
        ] {
            let found = locations.find(path, RequestedOrigin::ANY);
            let found = found.map(|(location, rest)| (location.prefix(), rest));
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn the_root_as_a_prefix_takes_every_path() {
        let locations = Locations::new([StaticLocation::new("/", "/srv")]).unwrap();
        for path in ["/", "/a/b", "/?q"] {
            let (location, rest) = locations.find(path, RequestedOrigin::ANY).unwrap();
            assert_eq!((location.prefix(), rest), ("", path));
        }
        assert!(locations.find("*", RequestedOrigin::ANY).is_none());
    }

    #[test]
    fn a_prefix_that_no_request_can_have_is_refused() {
        let try_one = |prefix: &str| {
            Locations::new([StaticLocation::new(prefix, "")])
                .unwrap_err()
                .to_string()
        };
        assert!(try_one("static").contains("begins with"));
        assert!(try_one("").contains("begins with"));
        for prefix in ["//", "//a", "/a//b", "/a/../b", "/.", "/a\\b", "/a\nb"] {
            assert!(try_one(prefix).contains("no empty"), "{prefix}");
        }
        let twice = Locations::new([
            StaticLocation::new("/a", ""),
            StaticLocation::new("/a/", ""),
        ]);
        assert_eq!(twice.unwrap_err(), LocationError::Twice("/a".to_owned()));
    }

    #[test]
    fn the_rest_of_a_path_decodes_to_a_name_beneath_the_root() {
        for (raw, expected) in [
            ("", Some(("", false))),
            ("/", Some(("", true))),
            ("/a.css", Some(("a.css", false))),
            ("/a//b/", Some(("a/b", true))),
            ("%2fa", Some(("a", false))),
            ("/%61%20%C3%A9", Some(("a é", false))),
            ("/a%0Ab+%25", Some(("a\nb+%", false))),
            ("/.well-known/x", Some((".well-known/x", false))),
            ("/%252e%252e/x", Some(("%2e%2e/x", false))),
            ("/...", None),
            ("/..", None),
            ("/../x", None),
            ("/%2e%2e/x", None),
            ("/..%2fx", None),
            ("/%2e%2e%2fx", None),
            ("/..%5cx", None),
            ("/a\\b", Some(("a\\b", false))),
            ("/a%5Cb/", Some(("a\\b", true))),
            ("/./x", None),
            ("/.git/config", None),
            ("/a/.env", None),
            ("/settings.py", None),
            ("/settings.PY", None),
            ("/settings.py/", None),
            ("/settings.pyc", None),
            ("/db.sqlite3", None),
            ("/py", Some(("py", false))),
        ] {
            let decoded = FilePath::decode(raw, false).ok();
            let expected = expected.map(|(relative, is_directory)| FilePath {
                relative: relative.into(),
                is_directory,
            });
            assert_eq!(decoded, expected, "{raw}");
        }
    }

    /// An overlong form of a dot is a name of two bytes, as for the kernel.
    #[test]
    fn names_are_bytes_in_any_charset() {
        for (raw, expected) in [
            ("/caf%E9.txt", &b"caf\xE9.txt"[..]),
            ("/%ff/x", b"\xFF/x"),
            ("/%c0%ae%c0%ae/x", b"\xC0\xAE\xC0\xAE/x"),
        ] {
            let decoded = FilePath::decode(raw, false).unwrap();
            assert_eq!(decoded.relative.as_bytes(), expected, "{raw}");
        }
        for raw in ["/%ff/../x", "/.%ff", "/%ff/.env", "/%ff.py"] {
            assert!(FilePath::decode(raw, false).is_err(), "{raw}");
        }
    }

    #[test]
    fn hidden_files_are_found_on_demand_and_dots_never() {
        let decode = |raw| FilePath::decode(raw, true).map(|path| path.relative).ok();
        assert_eq!(decode("/.env"), Some(".env".into()));
        assert_eq!(decode("/a.py"), Some("a.py".into()));
        for raw in ["/..", "/a/./b", "/%2e%2e/x"] {
            assert_eq!(decode(raw), None);
        }
    }

    #[test]
    fn a_zero_byte_or_a_bad_escape_is_the_clients_mistake() {
        for raw in ["/a%00", "/.%00./", "/%", "/%4", "/%zz", "/%+1", "/%é"] {
            let outcome = FilePath::decode(raw, false);
            assert!(matches!(outcome, Err(StaticError::BadPath(_))), "{raw}");
        }
    }

    #[test]
    fn the_url_of_a_directory_is_encoded_and_keeps_its_query() {
        let locations = locations();
        let url = |path: &str, relative: &str, query: Option<&str>| {
            locations
                .find(path, RequestedOrigin::ANY)
                .unwrap()
                .0
                .directory_url(OsStr::new(relative), query)
        };
        assert_eq!(url("/static", "", None), "/static/");
        assert_eq!(
            url("/static", "a b/c?", Some("x=1")),
            "/static/a%20b/c%3F/?x=1"
        );
        assert_eq!(
            url("/my%20files", "\r\né", None),
            "/my%20files/%0D%0A%C3%A9/"
        );
        let all = Locations::new([StaticLocation::new("/", "")]).unwrap();
        let (location, _) = all.find("/evil.com", RequestedOrigin::ANY).unwrap();
        assert_eq!(
            location.directory_url(OsStr::new("evil.com"), None),
            "/evil.com/"
        );
    }

    /// Paths of attacks, more often than random text has them.
    fn nasty() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("/".to_owned()),
            Just(".".to_owned()),
            Just("..".to_owned()),
            Just("%2e".to_owned()),
            Just("%2F".to_owned()),
            Just("%5c".to_owned()),
            Just("%00".to_owned()),
            Just("%25".to_owned()),
            Just("%c0%ae".to_owned()),
            Just("static".to_owned()),
            ".{0,6}",
        ];
        prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn no_path_panics_or_escapes(raw in nasty()) {
            let locations = locations();
            if let Some((_, rest)) = locations.find(&raw, RequestedOrigin::ANY) {
                prop_assert!(raw.ends_with(rest));
            }
            for path in [false, true].map(|hidden| FilePath::decode(&raw, hidden)) {
                let Ok(path) = path else { continue };
                let relative = path.relative.as_bytes();
                for name in relative.split(|byte| *byte == b'/') {
                    prop_assert!(!matches!(name, b"." | b".."));
                    prop_assert!(!name.contains(&0));
                }
                prop_assert!(!relative.starts_with(b"/"));
            }
        }

        #[test]
        fn the_encoding_of_a_path_does_not_change_what_it_reaches(
            path in "/static/[a-z./]{0,12}", encode in prop::collection::vec(any::<bool>(), 24)
        ) {
            let encoded: String = path
                .bytes()
                .zip(encode)
                .map(|(byte, encode)| match encode {
                    true => format!("%{byte:02x}"),
                    false => char::from(byte).to_string(),
                })
                .collect();
            let locations = locations();
            let reach = |path: &str| {
                let (location, rest) = locations.find(path, RequestedOrigin::ANY)?;
                Some((location.clone(), FilePath::decode(rest, false).ok()))
            };
            prop_assert_eq!(reach(&path), reach(&encoded));
        }
    }
}
