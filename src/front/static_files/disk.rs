//! Step 2: from a name to a [`Resource`]: opened beneath the root, small ones read.
//!
//! Blocking; runs on the [`FilePool`](crate::front::sendfile::file_pool::FilePool). The directory
//! is opened anew each time, so a replaced one (a deployment that switches a symbolic link) takes
//! effect at once. Files outside of it and of the declared directories do not exist.

use parking_lot::Mutex;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderValue;
use rustix::io::Errno;

use super::conditional::Validators;
use super::freshness::{self, Manifest};
use super::headers::FileFacts;
use super::hidden::is_hidden_target;
use super::listing::{self, Format, Listing};
use super::negotiate::Coding;
use super::path::{FilePath, Location};
use super::representation::{Heads, OpenFile, Representation, Stamp};
use super::resource::Resource;
use super::sealed::Sealed;
use super::types::MediaType;
use super::{FilePreferences, StaticError};
use crate::config::{Immutable, StaticSettings};
use crate::front::sendfile::file_source::{SharedFile, read_block};
use crate::os::descriptors::for_client;
use crate::os::files;
use crate::os::files::{Hides, Root};

/// Settings and caches that all locations share for access to the disk.
#[derive(Debug)]
pub(super) struct Disk {
    settings: StaticSettings,
    /// Directories into which links may lead: the locations themselves, and those of the settings.
    declared: Vec<PathBuf>,
    /// Django's manifest of each location.
    manifests: Vec<Mutex<Option<ReadManifest>>>,
}

/// A manifest, and the state of its file when it was read.
type ReadManifest = (Stamp, Arc<Manifest>);

/// The result of a lookup.
pub(super) enum Found {
    /// A file, and the form of it that the client gets, opened if its bytes are not in memory.
    File(Arc<Resource>, Option<SharedFile>),
    /// A directory with an index, requested without the slash that makes relative links in the
    /// index right.
    Directory,
}

/// A regular file, and its metadata when it was opened.
struct Opened {
    file: File,
    metadata: Metadata,
    stamp: Stamp,
}

impl Disk {
    pub(super) fn new<'a>(
        locations: impl Iterator<Item = &'a Location>,
        settings: StaticSettings,
    ) -> Self {
        let locations: Vec<_> = locations.collect();
        // A location of one file declares nothing about its neighbours.
        let whole = locations.iter().filter(|at| !at.is_one_file());
        let dirs: Vec<_> = whole.map(|at| at.dir().to_owned()).collect();
        Self {
            manifests: locations.iter().map(|_| Mutex::default()).collect(),
            declared: [&dirs[..], &settings.links[..]].concat(),
            settings,
        }
    }

    /// Looks up `path`. What is `known` of it is reused if it is still valid.
    pub(super) fn find(
        &self,
        location: &Location,
        path: &FilePath,
        known: Option<Arc<Resource>>,
        wish: &FilePreferences,
    ) -> Result<Found, StaticError> {
        let root = self.root(location)?;
        let name = path.file_name();
        let original = match open(&root, &name) {
            Err(StaticError::NotFound) if is_directory(&root, path) => {
                open(&root, &path.index_name())?;
                return Ok(Found::Directory);
            }
            outcome => outcome?,
        };
        // Its ending and its hash, if there are any, are text.
        let text = name.to_string_lossy();
        let media_type = location.media_type(&text);
        let neighbours = match location.is_precompressed() {
            true => neighbours(&root, &name, &original, &media_type),
            false => [None, None, None],
        };
        let now = SystemTime::now();
        let cache_control = match location.max_age() {
            Some(max_age) => freshness::for_so_long(max_age),
            None => {
                let manifest = self.manifest(location, &root);
                let is_settled = original.stamp.was_written_before(now);
                let is_immutable = is_settled
                    && freshness::is_immutable(&text, &media_type, location.immutable(), &manifest);
                freshness::by_itself(&media_type, is_immutable)
            }
        };
        let resource = match known {
            Some(known) if still_stands(&known, &original, &neighbours, &cache_control) => known,
            _ => {
                let facts = (&media_type, &cache_control);
                Arc::new(self.resource((location, &name), &original, &neighbours, facts, now)?)
            }
        };
        let form = wish.choose(&resource);
        let file = match form.bytes {
            Some(_) => None,
            None => {
                let opened = neighbours.into_iter().flatten().chain([original]);
                let mut opened = opened.filter(|opened| opened.stamp == form.stamp);
                opened.next().map(|opened| {
                    form.open.locate(&opened.file);
                    form.open.keep(opened.file)
                })
            }
        };
        Ok(Found::File(resource, file))
    }

    /// The listing of a directory in this format; `None` if its path lacks the slash at the end.
    pub(super) fn list(
        &self,
        location: &Location,
        path: &FilePath,
        format: Format,
    ) -> Result<Option<Bytes>, StaticError> {
        let root = self.root(location)?;
        let relative = &*path.relative;
        let directory = root.open_file(Path::new(relative)).map_err(refusal)?;
        let directory = for_client(directory).map_err(StaticError::Io)?;
        if !directory.metadata().map_err(StaticError::Io)?.is_dir() {
            return Err(StaticError::NotFound);
        }
        if !path.is_directory {
            return Ok(None);
        }
        let listing = Listing::read(&root, relative, &directory, self.settings.hidden)?;
        Ok(Some(
            listing.page(format, &listing::shown_path(location, path)),
        ))
    }

    /// Opens a file whose state is known. `None`: it has changed, or was deleted.
    pub(super) fn reopen(&self, location: &Location, form: &Representation) -> Option<SharedFile> {
        let root = self.root(location).ok()?;
        let opened = open(&root, &form.name).ok()?;
        (opened.stamp == form.stamp).then(|| form.open.keep(opened.file))
    }

    /// As [`Disk::reopen`], but on a thread that must not block: for a path in the kernel's cache,
    /// on a local file system. `None` also if that is unknown.
    pub(super) fn reopen_at_once(location: &Location, form: &Representation) -> Option<SharedFile> {
        if !form.open.is_local() {
            return None;
        }
        let file = files::open_cached(location.dir(), Path::new(&form.name))?;
        let opened = Opened::of(file).ok()?;
        (opened.stamp == form.stamp).then(|| form.open.keep(opened.file))
    }

    /// All bytes of a form, if the file is still in that state.
    pub(super) fn read(&self, location: &Location, form: &Representation) -> Option<Bytes> {
        if let Some(bytes) = &form.bytes {
            return Some(bytes.clone());
        }
        let file = self.reopen(location, form)?;
        let bytes = read_block(&file.file, 0, usize::try_from(form.length).ok()?).ok()?;
        (Stamp::of(&file.file.metadata().ok()?) == form.stamp).then_some(bytes)
    }

    fn root<'a>(&'a self, location: &'a Location) -> Result<Root<'a>, StaticError> {
        let hides = Hides {
            is_hidden: is_hidden_target,
            // Packages below ~/.local are served where that was declared.
            but_in: &self.settings.links,
        };
        let hides = (!self.settings.hidden).then_some(hides);
        Root::open(location.dir(), &self.declared, hides).map_err(refusal)
    }

    fn resource(
        &self,
        (location, name): (&Location, &OsStr),
        original: &Opened,
        neighbours: &[Option<Opened>; 3],
        (media_type, cache_control): (&MediaType, &HeaderValue),
        now: SystemTime,
    ) -> Result<Resource, StaticError> {
        let compressible = self.compressible(location, media_type, original, neighbours);
        let is_negotiated = compressible.contains(&true) || neighbours.iter().any(Option::is_some);
        let form = |opened: &Opened, coding: Option<Coding>| {
            let bytes = opened.read_if_small().map_err(StaticError::Io)?;
            let mut validators = match &bytes {
                Some(bytes) => Validators::of_bytes(bytes, &opened.metadata),
                None => Validators::of_state(&opened.metadata, opened.stamp.is_settled(now)),
            };
            if let Some(coding) = coding {
                validators = validators.for_coding(coding);
            }
            let length = opened.metadata.len();
            let (bytes, sealed) = bytes.map(Sealed::keep).unzip();
            let sealed = sealed.flatten();
            let facts = FileFacts {
                content_type: media_type.value.clone(),
                cache_control,
                validators: &validators,
                length,
                coding,
                is_negotiated,
            };
            Ok(Arc::new(Representation {
                name: with_suffix(name, coding.map_or("", Coding::suffix)),
                stamp: opened.stamp,
                headers: facts.fields(),
                validators,
                length,
                bytes,
                sealed,
                open: OpenFile::default(),
                heads: Heads::default(),
            }))
        };
        let mut encoded = [None, None, None];
        for coding in Coding::ALL {
            if let Some(opened) = &neighbours[coding.index()] {
                encoded[coding.index()] = Some(form(opened, Some(coding))?);
            }
        }
        let mut all = neighbours.iter().flatten().chain([original]);
        Ok(Resource {
            identity: form(original, None)?,
            encoded,
            is_settled: all.all(|opened| opened.stamp.is_settled(now)),
            compressible,
        })
    }

    /// The forms that compression may add: those of the settings, where they pay and no
    /// precompressed neighbour exists. They are kept in memory, so without memory there are none.
    fn compressible(
        &self,
        location: &Location,
        media_type: &MediaType,
        original: &Opened,
        neighbours: &[Option<Opened>; 3],
    ) -> [bool; 3] {
        let pays = self.settings.cache > 0
            && media_type.is_compressible()
            && (LEAST_TO_COMPRESS..=MOST_TO_COMPRESS).contains(&original.metadata.len())
            && neighbours.iter().all(Option::is_none);
        let for_all = [self.settings.brotli, self.settings.gzip];
        let [brotli, gzip] = location.compress().unwrap_or(for_all);
        let mut compressible = [false; 3];
        compressible[Coding::Brotli.index()] = pays && brotli;
        compressible[Coding::Gzip.index()] = pays && gzip;
        compressible
    }

    /// Django's manifest of the location, read again when it has changed.
    fn manifest(&self, location: &Location, root: &Root<'_>) -> Arc<Manifest> {
        let opened = match location.immutable() {
            Immutable::No => None,
            _ => open(root, OsStr::new(Manifest::NAME)).ok(),
        };
        let (Some(opened), Some(kept)) = (opened, self.manifests.get(location.index())) else {
            return Arc::default();
        };
        let mut kept = kept.lock();
        match &*kept {
            Some((stamp, manifest)) if *stamp == opened.stamp => Arc::clone(manifest),
            _ => {
                let text = match usize::try_from(opened.metadata.len()) {
                    Ok(length) if length <= LONGEST_MANIFEST => read_block(&opened.file, 0, length),
                    _ => Ok(Bytes::new()),
                };
                // Unreadable, or shorter than a moment ago: the next lookup decides.
                let Ok(text) = text else {
                    return Arc::default();
                };
                let manifest = Arc::new(Manifest::parse(&text));
                if opened.stamp.is_settled(SystemTime::now()) {
                    *kept = Some((opened.stamp, Arc::clone(&manifest)));
                }
                manifest
            }
        }
    }
}

impl Opened {
    fn of(file: File) -> Result<Self, StaticError> {
        let file = for_client(file).map_err(StaticError::Io)?;
        let metadata = file.metadata().map_err(StaticError::Io)?;
        // FIFOs, devices, sockets and directories have nothing that could be sent.
        if !metadata.is_file() {
            return Err(StaticError::NotFound);
        }
        Ok(Self {
            stamp: Stamp::of(&metadata),
            file,
            metadata,
        })
    }

    /// The bytes of a small file, if they are those of one state.
    fn read_if_small(&self) -> io::Result<Option<Bytes>> {
        let Some(length) = usize::try_from(self.metadata.len())
            .ok()
            .filter(|&length| length <= SMALL)
        else {
            return Ok(None);
        };
        let bytes = read_block(&self.file, 0, length)?;
        let is_one_state = Stamp::of(&self.file.metadata()?) == self.stamp;
        Ok(is_one_state.then_some(bytes))
    }
}

/// True if the known resource was read from the present state of the file.
fn still_stands(
    known: &Resource,
    original: &Opened,
    neighbours: &[Option<Opened>; 3],
    cache_control: &HeaderValue,
) -> bool {
    let is_same = |form: &Representation, opened: &Opened| form.stamp == opened.stamp;
    known.is_settled
        && is_same(&known.identity, original)
        && known.identity.headers.get(http::header::CACHE_CONTROL) == Some(cache_control)
        && Coding::ALL.into_iter().all(|coding| {
            match (&known.encoded[coding.index()], &neighbours[coding.index()]) {
                (Some(form), Some(opened)) => is_same(form, opened),
                // Compressed in memory, from the same state of the original.
                (Some(form), None) => is_same(form, original),
                (None, there) => there.is_none(),
            }
        })
}

/// The name of the form with this suffix.
fn with_suffix(name: &OsStr, suffix: &str) -> OsString {
    let mut name = name.to_owned();
    name.push(suffix);
    name
}

fn open(root: &Root<'_>, name: &OsStr) -> Result<Opened, StaticError> {
    Opened::of(root.open_file(Path::new(name)).map_err(refusal)?)
}

fn is_directory(root: &Root<'_>, path: &FilePath) -> bool {
    let opened = || {
        root.open_file(Path::new(&path.relative))
            .ok()?
            .metadata()
            .ok()
    };
    !path.is_directory && opened().is_some_and(|metadata| metadata.is_dir())
}

/// The precompressed neighbours of a file that are not older than it.
fn neighbours(
    root: &Root<'_>,
    name: &OsStr,
    original: &Opened,
    media_type: &MediaType,
) -> [Option<Opened>; 3] {
    if original.metadata.len() == 0 || media_type.is_packed() {
        return [None, None, None];
    }
    Coding::ALL.map(|coding| {
        let opened = open(root, &with_suffix(name, coding.suffix())).ok()?;
        // An empty one is the result of an interrupted build: no coding makes that of text.
        let is_whole = opened.metadata.len() > 0;
        let is_up_to_date = opened.stamp.is_up_to_date_with(&original.stamp);
        (is_whole && is_up_to_date).then_some(opened)
    })
}

fn refusal(error: io::Error) -> StaticError {
    match Errno::from_io_error(&error) {
        // XDEV: it leads outside. NXIO: a socket, or a device without a driver.
        Some(
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::NAMETOOLONG
            | Errno::LOOP
            | Errno::XDEV
            | Errno::NXIO
            | Errno::NODEV,
        ) => StaticError::NotFound,
        Some(Errno::ACCESS | Errno::PERM) => StaticError::Forbidden,
        _ => StaticError::Io(error),
    }
}

/// Largest file that is read whole at once, and cached. Larger ones are sent by the kernel, which
/// uses no memory here and no more CPU.
const SMALL: usize = 64 * 1024;

/// A file that fits into one packet with its head gains nothing from being smaller.
const LEAST_TO_COMPRESS: u64 = 512;

/// Size of the largest bundles of scripts. Both encoders take 0.3 s for it.
const MOST_TO_COMPRESS: u64 = 4 << 20;

/// Size of a manifest of a hundred thousand files.
const LONGEST_MANIFEST: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// By error number, because some test suites run as root, which may read everything.
    #[test]
    fn what_the_kernel_refuses_is_told_apart() {
        let refused = |errno: Errno| refusal(errno.into());
        assert!(matches!(refused(Errno::ACCESS), StaticError::Forbidden));
        assert!(matches!(refused(Errno::NOENT), StaticError::NotFound));
        assert!(matches!(refused(Errno::MFILE), StaticError::Io(_)));
        assert!(matches!(refused(Errno::IO), StaticError::Io(_)));
    }
}
