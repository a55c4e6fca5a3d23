//! Static locations, and what the settings say about their files.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{ResponseRules, Scope};

/// A location served from disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticLocation {
    /// `/static`, decoded and without a slash behind; `/` for everything.
    pub prefix: String,
    /// Its hosts, and what the path stands for.
    pub scope: Scope,
    /// Its directory; absolute.
    pub dir: PathBuf,
    /// The one file of the directory that it serves; `None` for all of them.
    pub file: Option<String>,
    /// True for `/static`, `/css`, `/js` and `/images` of the root, which no setting names.
    pub predefined: bool,
    /// The answer where there is no file.
    pub missing: Missing,
    /// Time for which clients may use a file without asking; `None` for what suits its type.
    pub max_age: Option<Duration>,
    /// Rule for the names that clients may keep for a year.
    pub immutable: Immutable,
    /// True if `.br`, `.zst` and `.gz` files stand in for the file beside them.
    pub precompressed: bool,
    /// Types by the end of a name; they come before the built-in ones.
    pub types: FileTypes,
    /// True if a directory's `index.html` answers for it.
    pub index: bool,
    /// True if `page.html` answers for `/page`.
    pub html: bool,
    /// The listing of directories without an index.
    pub listing: Listing,
    /// True for brotli and for gzip if text is compressed so; `None` as the settings for all files say.
    pub compress: Option<[bool; 2]>,
    /// Most ranges that a request may ask for; one that asks for more gets the whole file.
    pub max_ranges: usize,
    /// Its access: an index of [`super::Config::access`].
    pub access: usize,
    /// Rules for its responses.
    pub rules: Arc<ResponseRules>,
}

/// Media types by what a name ends with behind a dot, or by a whole name; in lower case.
pub type FileTypes = Arc<BTreeMap<String, String>>;

impl StaticLocation {
    /// A location that was asked for, with nothing else said about it.
    pub fn new(prefix: impl Into<String>, dir: impl Into<PathBuf>) -> Self {
        Self {
            prefix: prefix.into(),
            scope: Scope::default(),
            dir: dir.into(),
            file: None,
            predefined: false,
            missing: Missing::default(),
            max_age: None,
            immutable: Immutable::No,
            precompressed: false,
            types: FileTypes::default(),
            index: true,
            html: false,
            listing: Listing::No,
            compress: None,
            max_ranges: MAX_RANGES,
            access: 0,
            rules: Arc::default(),
        }
    }

    /// The location for people, mostly its prefix.
    pub fn place(&self) -> String {
        self.scope.place(&self.prefix)
    }

    /// These settings for a directory that only a build writes to: content hashes in names,
    /// `staticfiles.json` and precompressed neighbours are trusted. Elsewhere each may be an upload.
    pub fn of_a_build(self) -> Self {
        Self {
            immutable: Immutable::Auto,
            precompressed: true,
            ..self
        }
    }
}

/// Settings for every location, applied to those that an application names once it is
/// imported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EveryLocation {
    /// As in [`StaticLocation`].
    pub max_age: Option<Duration>,
    /// As in [`StaticLocation`]; `None`: as the directory suggests.
    pub immutable: Option<Immutable>,
    /// As in [`StaticLocation`]; `None`: as the directory suggests.
    pub precompressed: Option<bool>,
    /// As in [`StaticLocation`].
    pub types: FileTypes,
    /// As in [`StaticLocation`].
    pub listing: Listing,
    pub rules: Arc<ResponseRules>,
}

impl EveryLocation {
    /// Gives a location what is said about every one.
    pub fn complete(&self, mut location: StaticLocation) -> StaticLocation {
        location.max_age = self.max_age.or(location.max_age);
        location.immutable = self.immutable.unwrap_or(location.immutable);
        location.precompressed = self.precompressed.unwrap_or(location.precompressed);
        location.types = Arc::clone(&self.types);
        location.listing = self.listing;
        location.rules = Arc::clone(&self.rules);
        location
    }
}

/// The form in which directories without an index are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Listing {
    /// They are not.
    #[default]
    No,
    /// HTML, or JSON for clients that ask for it.
    AsAsked,
    /// JSON.
    Json,
}

/// Most ranges in one request: readers of PDF files ask for some ten at once. For more the whole file is sent,
/// which costs less than a response of many small parts.
pub const MAX_RANGES: usize = 32;

/// The answer of a location where there is no file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Missing {
    /// `404`.
    #[default]
    Refuse,
    /// The application.
    App,
    /// The location of this name.
    Named(String),
    /// This file of the location, if the path looks like a page's.
    Page(String),
}

impl Missing {
    /// True if another location answers.
    pub fn is_left(&self) -> bool {
        matches!(self, Self::App | Self::Named(_))
    }
}

/// Settings that all static locations share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticSettings {
    /// True if text is compressed by brotli in the background.
    pub brotli: bool,
    /// True if text is compressed by gzip in the background.
    pub gzip: bool,
    /// Bytes of memory for files; zero for none.
    pub cache: u64,
    /// Time for which a file in memory counts as unchanged.
    pub check: Duration,
    /// Directories into which links may lead, besides the locations; absolute.
    pub links: Vec<PathBuf>,
    /// True if hidden files (dotfiles, Python's, databases, backups) are served too.
    pub hidden: bool,
}

impl Default for StaticSettings {
    /// As with no setting at all.
    fn default() -> Self {
        Self {
            brotli: true,
            gzip: true,
            cache: 32 << 20,
            check: Duration::from_secs(1),
            links: Vec::new(),
            hidden: false,
        }
    }
}

/// Rule for the files that never change under their name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Immutable {
    /// By Django's manifest, and by a content hash in the name.
    Auto,
    /// By Django's manifest alone.
    Manifest,
    /// Not at all.
    No,
}
