//! Static locations, and what the settings say about their files.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A location served from disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticLocation {
    /// `/static`, decoded and without a slash behind; `/` for everything.
    pub prefix: String,
    /// Its directory; absolute.
    pub dir: PathBuf,
    /// Whether it was there without being asked for.
    pub predefined: bool,
    /// What answers where there is no file.
    pub missing: Missing,
    /// How long clients may use a file without asking; `None` for what suits its type.
    pub max_age: Option<Duration>,
    /// Which names are promised never to change what they stand for.
    pub immutable: Immutable,
    /// Whether encoded forms are looked for beside a file.
    pub precompressed: bool,
    /// Types by the end of a name, before those that everybody knows.
    pub types: FileTypes,
}

/// Media types by what a name ends with behind a dot, or by a whole name; in lower case.
pub type FileTypes = Arc<BTreeMap<String, String>>;

impl StaticLocation {
    /// A location that was asked for, with nothing else said about it.
    pub fn new(prefix: impl Into<String>, dir: impl Into<PathBuf>) -> Self {
        Self {
            prefix: prefix.into(),
            dir: dir.into(),
            predefined: false,
            missing: Missing::default(),
            max_age: None,
            immutable: Immutable::Manifest,
            precompressed: false,
            types: FileTypes::default(),
        }
    }

    /// The same for a directory into which a build puts files and no stranger does: names
    /// with a content hash and encoded neighbours are what they look like.
    pub fn of_a_build(self) -> Self {
        Self {
            immutable: Immutable::Auto,
            precompressed: true,
            ..self
        }
    }
}

/// What the settings say about every location, for those that an application names once it
/// is imported.
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
}

impl EveryLocation {
    /// Gives a location what is said about every one.
    pub fn complete(&self, mut location: StaticLocation) -> StaticLocation {
        location.max_age = self.max_age.or(location.max_age);
        location.immutable = self.immutable.unwrap_or(location.immutable);
        location.precompressed = self.precompressed.unwrap_or(location.precompressed);
        location.types = Arc::clone(&self.types);
        location
    }
}

/// What answers in a location where there is no file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Missing {
    /// `404`.
    #[default]
    Refuse,
    /// The application.
    App,
    /// This file of the location, if the path looks like a page's.
    Page(String),
}

/// What holds for all static locations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticSettings {
    /// Whether text is compressed by brotli in the background.
    pub brotli: bool,
    /// Whether text is compressed by gzip in the background.
    pub gzip: bool,
    /// Bytes of memory for files; zero for none.
    pub cache: u64,
    /// How long what is in memory counts as true.
    pub check: Duration,
    /// Directories into which links may lead, besides the locations; absolute.
    pub links: Vec<PathBuf>,
    /// Whether dotfiles, Python's files and databases are served as well.
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

/// How files are recognised that never change under their name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Immutable {
    /// By Django's manifest, and by a content hash in the name.
    Auto,
    /// By Django's manifest alone.
    Manifest,
    /// Not at all.
    No,
}
