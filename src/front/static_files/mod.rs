//! Serves files from declared directories, without asking Python.
//!
//! 1. `path`: selects the location and the file in it, decoded once; `hidden`: the names that are
//!    never served;
//! 2. `memory`: the cache; on a miss `disk`: opened beneath the location's directory, race-free;
//!    regular files only; its encoded neighbours; small ones read; where there is none, `fallback`:
//!    is the request one for a page?
//! 3. `negotiate`: selects the form that the client accepts; for a range the identity;
//! 4. `conditional`: is the client's copy still valid?
//! 5. `range`: the bytes asked for;
//! 6. `headers`: type (`types`), validators, length, time to live (`freshness`);
//! 7. `body`: bytes at once if small, else sent as the client reads them; `multipart` for several
//!    ranges.
//!
//! If the settings say so, `listing` answers for a directory without an index.
//!
//! Cached files are served without leaving the thread. Access to the disk is a job of the
//! [`FilePool`], one for a small file. `compress` adds encoded forms to the cache, in the
//! background. `front/error.rs` maps a [`StaticError`] to a status and a page.

mod compress;
mod conditional;
mod disk;
mod fallback;
pub mod fast_path;
pub mod found;
mod freshness;
mod handed_over;
mod headers;
mod hidden;
pub mod internal;
mod listing;
mod memory;
mod path;
mod range;
mod representation;
mod resource;
mod sealed;
mod types;

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response};

use super::body::negotiate;
use super::body::negotiate::Accepted;
use super::descriptors::Tries;
use super::sendfile::file_pool::FilePool;
use super::sendfile::file_source::SharedFile;
use crate::config::{Listing, Missing, StaticSettings};
use crate::front::body::multipart::Bodies;
use crate::front::routing::origin::RequestedOrigin;
use crate::observe::metrics::METRICS;
use crate::os::files;
use compress::Background;
use conditional::{ConditionOutcome, Conditions};
use disk::{Disk, Found};
use listing::{Format, Listings};
use memory::Memory;
use range::Selection;
use representation::Representation;
use resource::Resource;

pub use crate::front::body::content::Content;
pub use crate::front::body::file::FileBody;
pub use crate::front::body::multipart::Multipart;
pub use fast_path::{Plainly, Ready};
pub use handed_over::{IN_ONE_READ, handed_over};
pub use headers::ALLOW;
pub use path::{FilePath, Location, Locations, response_rules};
pub use sealed::Sealed;

/// Reasons why there is no file to send. `front/error.rs` maps them to responses.
#[derive(Debug, thiserror::Error)]
pub enum StaticError {
    /// No file, or none that may be served.
    #[error("no such file")]
    NotFound,
    /// No file, in a location whose other paths belong to the application or a named location.
    #[error("no such file; the path is another location's")]
    LeftToApp,
    /// The file exists, but may not be read.
    #[error("permission denied")]
    Forbidden,
    /// Neither GET nor HEAD nor OPTIONS; the response names [`ALLOW`].
    #[error("method not allowed for a file")]
    MethodNotAllowed,
    /// The path cannot be decoded, for this reason.
    #[error("bad path: {0}")]
    BadPath(&'static str),
    /// `If-Match` or `If-Unmodified-Since` does not hold.
    #[error("precondition failed")]
    PreconditionFailed,
    /// None of the requested ranges is in the file.
    #[error("no such range of {length} bytes")]
    RangeNotSatisfiable {
        /// The file's length in bytes.
        length: u64,
    },
    /// A directory with an index, requested without a slash at its end. The path and query of the
    /// redirect, encoded for a `Location` field.
    #[error("moved to {0}")]
    RedirectToDirectory(String),
    /// An error of the file system that the client did not cause.
    #[error("cannot read a static file: {0}")]
    Io(io::Error),
}

/// The static files of a server: their locations, and their part of the cache.
#[derive(Debug)]
pub struct StaticFiles {
    locations: Locations,
    hidden: bool,
    /// The threads of each location.
    pools: Vec<FilePool>,
    shared: Arc<Shared>,
}

/// State that all static files of a server share: the cache, within one limit, and the thread that
/// compresses. Clones share it.
#[derive(Debug, Clone)]
pub struct Cache(Arc<Common>);

#[derive(Debug)]
struct Common {
    memory: Memory,
    background: Background,
}

impl Cache {
    /// A cache with the size and validity of the settings.
    pub fn new(settings: &StaticSettings) -> Self {
        Self(Arc::new(Common {
            memory: Memory::new(settings.cache, settings.check),
            background: Background::default(),
        }))
    }
}

/// State that jobs on other threads need too.
#[derive(Debug)]
struct Shared {
    disk: Disk,
    cache: Cache,
    /// The locations' indices in the cache.
    places: Vec<usize>,
    listings: Listings,
}

/// The fields of a request that select a form of a file.
#[derive(Clone)]
struct FilePreferences {
    with_body: bool,
    conditions: Conditions,
    accepted: Accepted,
    /// Only of a GET (RFC 9110 §14.2).
    range: Option<HeaderValue>,
    /// Most ranges in it.
    max_ranges: usize,
}

impl StaticFiles {
    /// Serves the files of these locations, each with a part of `pool`.
    pub fn new(
        locations: Locations,
        settings: StaticSettings,
        pool: FilePool,
        cache: &Cache,
    ) -> Self {
        let places = locations.iter().map(|_| cache.0.memory.open()).collect();
        Self {
            hidden: settings.hidden,
            shared: Arc::new(Shared {
                disk: Disk::new(locations.iter(), settings),
                cache: cache.clone(),
                places,
                listings: Listings::default(),
            }),
            pools: locations
                .iter()
                .map(|_| pool.part(FilePool::OF_ONE_LOCATION))
                .collect(),
            locations,
        }
    }

    fn pool(&self, location: &Location) -> &FilePool {
        &self.pools[location.index()]
    }

    /// The location of a request's path; see [`Locations::find`].
    pub fn find<'a>(
        &self,
        raw_path: &'a str,
        origin: RequestedOrigin<'_>,
    ) -> Option<(&Location, &'a str)> {
        self.locations.find(raw_path, origin)
    }

    /// All locations.
    pub fn locations(&self) -> impl Iterator<Item = &Location> {
        self.locations.iter()
    }

    /// Answers a request for `rest`, the part of the path and its query that [`StaticFiles::find`]
    /// returned.
    ///
    /// # Errors
    /// [`StaticError`] for everything except 200, 204 (to OPTIONS), 206 and 304. A request with
    /// another method touches no file.
    pub async fn serve(
        &self,
        location: &Location,
        rest: &str,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Response<Content>, StaticError> {
        let missing = location.missing();
        let with_body = match *method {
            Method::GET => true,
            Method::HEAD => false,
            _ if missing.is_left() => return Err(StaticError::LeftToApp),
            Method::OPTIONS => return Ok(headers::options().map(|()| Content::Empty)),
            _ => return Err(StaticError::MethodNotAllowed),
        };
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let decoded = location.file_path(path, self.hidden);
        let wish = FilePreferences {
            with_body,
            conditions: Conditions::of(headers),
            accepted: Accepted::of(headers),
            range: headers
                .get(http::header::RANGE)
                .filter(|_| with_body && location.max_ranges() > 0)
                .cloned(),
            max_ranges: location.max_ranges(),
        };
        let (answered, decoded) = match decoded {
            Ok(path) => {
                let answered = self.answer(location, &path, query, &wish).await;
                let answered = match (answered, location.page_of(&path)) {
                    (Err(StaticError::NotFound), Some(page)) => {
                        self.answer(location, &page, query, &wish).await
                    }
                    (answered, _) => answered,
                };
                let answered = match answered {
                    Err(StaticError::NotFound) if location.listing() != Listing::No => {
                        let format = match location.listing() {
                            Listing::Json => Format::Json,
                            Listing::No | Listing::AsAsked => Format::of(query, headers),
                        };
                        self.list(location, &path, query, format, with_body).await
                    }
                    answered => answered,
                };
                (answered, Some(path))
            }
            Err(_) if missing.is_left() => return Err(StaticError::LeftToApp),
            Err(error) => (Err(error), None),
        };
        match (answered, missing) {
            (Err(StaticError::NotFound), Missing::App | Missing::Named(_)) => {
                Err(StaticError::LeftToApp)
            }
            (Err(StaticError::NotFound), Missing::Page(page))
                if fallback::is_for(path, decoded.as_ref(), headers) =>
            {
                let page = FilePath::of_file(page);
                let mut answered = self.answer(location, &page, query, &wish).await;
                if let Ok(response) = &mut answered {
                    fallback::vary(response.headers_mut());
                }
                answered
            }
            (answered, _) => answered,
        }
    }

    async fn answer(
        &self,
        location: &Location,
        path: &FilePath,
        query: Option<&str>,
        wish: &FilePreferences,
    ) -> Result<Response<Content>, StaticError> {
        if path.is_directory && !location.has_indexes() {
            return Err(StaticError::NotFound);
        }
        let name = path.file_name();
        let (resource, file) = match self.recall(location, &name, wish).await {
            Some(found) => {
                METRICS.static_from_memory.inc();
                found
            }
            None if self.is_surely_absent(location, &name) => return Err(StaticError::NotFound),
            None => match self.look(location, path, wish).await? {
                Found::File(resource, file) => (resource, file),
                Found::Directory if !location.has_indexes() => return Err(StaticError::NotFound),
                Found::Directory => {
                    let url = location.directory_url(&path.relative, query);
                    return Err(StaticError::RedirectToDirectory(url));
                }
            },
        };
        self.respond(location, wish.choose(&resource), file, wish)
    }

    /// The file from the cache, with its large form opened if needed. `None`: the disk has to be
    /// asked.
    async fn recall(
        &self,
        location: &Location,
        name: &OsStr,
        wish: &FilePreferences,
    ) -> Option<(Arc<Resource>, Option<SharedFile>)> {
        let (memory, place) = self.shared.memory(location);
        let resource = memory.recall(place, name, Instant::now())?;
        let form = wish.choose(&resource);
        if form.bytes.is_some() || !wish.needs_bytes(form) {
            return Some((resource, None));
        }
        let open = form.open.get();
        if let Some(file) = open.or_else(|| Disk::reopen_at_once(location, form)) {
            return Some((resource, Some(file)));
        }
        let pool = self.pool(location);
        let (shared, location) = (Arc::clone(&self.shared), location.clone());
        let form = Arc::clone(form);
        let reopen = move || shared.disk.reopen(&location, &form);
        let file = pool.run(reopen).await;
        file.map(|file| (resource, Some(file)))
    }

    /// True if the location is known to lack this file, in a location where most paths may not be
    /// files. It needs no job, because absence is not cached.
    fn is_surely_absent(&self, location: &Location, name: &OsStr) -> bool {
        let is_absent = *location.missing() != Missing::Refuse
            && files::is_surely_absent(location.dir(), Path::new(name));
        if is_absent {
            METRICS.static_from_disk.inc();
            let (memory, place) = self.shared.memory(location);
            memory.forget(place, name);
        }
        is_absent
    }

    /// Looks the file up on disk, and caches it.
    async fn look(
        &self,
        location: &Location,
        path: &FilePath,
        wish: &FilePreferences,
    ) -> Result<Found, StaticError> {
        METRICS.static_from_disk.inc();
        let (shared, pool) = (Arc::clone(&self.shared), self.pool(location));
        let location = location.clone();
        let mut tries = Tries::default();
        let found = loop {
            let (shared, location) = (Arc::clone(&shared), location.clone());
            let (path, wish) = (path.clone(), wish.clone());
            let look = move || shared.look(&location, &path, &wish);
            match pool.run(look).await {
                Err(StaticError::Io(error)) if tries.again(&error).await => {}
                looked => break looked?,
            }
        };
        if let Found::File(resource, _) = &found
            && resource.is_settled
            && resource.missing_codings().next().is_some()
        {
            let (shared, resource) = (Arc::clone(&self.shared), Arc::clone(resource));
            let name = path.file_name().into_owned();
            let common = &self.shared.cache.0;
            common
                .background
                .submit(move || shared.compress(&location, &name, resource));
        }
        Ok(found)
    }

    /// Lists a directory that has no index.
    async fn list(
        &self,
        location: &Location,
        path: &FilePath,
        query: Option<&str>,
        format: Format,
        with_body: bool,
    ) -> Result<Response<Content>, StaticError> {
        let (place, relative) = (location.index(), &*path.relative);
        let kept = self.shared.listings.recall(place, relative, format);
        let page = match kept.filter(|_| path.is_directory) {
            Some(page) => page,
            None => {
                let (shared, at, wanted) =
                    (Arc::clone(&self.shared), location.clone(), path.clone());
                let read = move || shared.disk.list(&at, &wanted, format);
                let Some(page) = self.pool(location).run(read).await? else {
                    let url = location.directory_url(relative, query);
                    return Err(StaticError::RedirectToDirectory(url));
                };
                self.shared.listings.keep(place, relative, format, &page);
                page
            }
        };
        let head = listing::response(format, &page);
        Ok(head.map(|()| match with_body {
            true => Content::Bytes(page),
            false => Content::Empty,
        }))
    }

    /// Steps 4 to 7.
    fn respond(
        &self,
        location: &Location,
        form: &Representation,
        file: Option<SharedFile>,
        wish: &FilePreferences,
    ) -> Result<Response<Content>, StaticError> {
        match wish.conditions.evaluate(&form.validators) {
            ConditionOutcome::Send => {}
            ConditionOutcome::NotModified => {
                return Ok(headers::not_modified(form).map(|()| Content::Empty));
            }
            ConditionOutcome::Failed => return Err(StaticError::PreconditionFailed),
        }
        if !wish.with_body {
            return Ok(headers::whole(form).map(|()| Content::Empty));
        }
        let bodies = match (&form.bytes, file) {
            (Some(bytes), _) => Bodies::Bytes(bytes.clone()),
            (None, Some(file)) => Bodies::File(file, 0, self.pool(location).clone()),
            // It was needed a moment ago, when its form was selected by the same rules.
            (None, None) => return Err(StaticError::NotFound),
        };
        match wish.select(form) {
            Selection::Whole => {
                let content = bodies.into_content(0, form.length);
                Ok(headers::whole(form).map(|()| content))
            }
            Selection::Unsatisfiable => Err(StaticError::RangeNotSatisfiable {
                length: form.length,
            }),
            Selection::Parts(ranges) => match ranges.as_slice() {
                [range] => {
                    let content = bodies.into_content(range.start, range.end - range.start);
                    Ok(headers::part(form, range).map(|()| content))
                }
                ranges => {
                    let content_type = form.headers.get(http::header::CONTENT_TYPE);
                    let (multipart, boundary) =
                        Multipart::new(content_type, form.length, ranges, bodies);
                    let head = headers::parts(form, multipart.length(), &boundary);
                    Ok(head.map(|()| Content::Parts(multipart)))
                }
            },
        }
    }
}

impl FilePreferences {
    /// The form to respond with. A range is one of the identity wherever the client accepts that:
    /// an encoded form may be made, or lost, between the requests for two ranges.
    fn choose<'a>(&self, resource: &'a Resource) -> &'a Arc<Representation> {
        match self.select(&resource.identity) {
            Selection::Whole => resource.choose(&self.accepted),
            Selection::Parts(_) | Selection::Unsatisfiable => &resource.identity,
        }
    }

    fn needs_bytes(&self, form: &Representation) -> bool {
        self.with_body && self.conditions.evaluate(&form.validators) == ConditionOutcome::Send
    }

    /// RFC 9110 §14.2: after the conditions.
    fn select(&self, form: &Representation) -> Selection {
        match &self.range {
            Some(range)
                if form.has_ranges_for(&self.accepted)
                    && self.conditions.allow_range(&form.validators) =>
            {
                range::select_at_most(range.as_bytes(), form.length, self.max_ranges)
            }
            _ => Selection::Whole,
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for place in &self.places {
            self.cache.0.memory.close(*place);
        }
    }
}

impl Shared {
    /// The cache, and the index of the location in it.
    fn memory(&self, location: &Location) -> (&Memory, usize) {
        (&self.cache.0.memory, self.places[location.index()])
    }

    fn look(
        &self,
        location: &Location,
        path: &FilePath,
        wish: &FilePreferences,
    ) -> Result<Found, StaticError> {
        let (memory, index) = self.memory(location);
        let name = path.file_name();
        // Before the disk is asked: a later change is seen that much later at most.
        let now = Instant::now();
        let known = memory.latest(index, &name);
        let found = self.disk.find(location, path, known, wish);
        match &found {
            Ok(Found::File(resource, _)) => {
                memory.keep(index, &name, Arc::clone(resource), now);
            }
            _ => memory.forget(index, &name),
        }
        found
    }

    /// Adds the missing encoded forms to the cached file.
    fn compress(&self, location: &Location, name: &OsStr, mut resource: Arc<Resource>) {
        let (memory, place) = self.memory(location);
        if !memory.remembers(place, name, &resource) {
            return;
        }
        let Some(bytes) = self.disk.read(location, &resource.identity) else {
            return;
        };
        let codings: Vec<_> = resource.missing_codings().collect();
        for coding in codings {
            let encoded = compress::encode(&bytes, coding).map(Bytes::from);
            let (from, to) = (
                bytes.len(),
                encoded.as_ref().map_or(bytes.len(), Bytes::len),
            );
            let more = Arc::new(resource.with_encoded(coding, encoded));
            memory.replace(place, name, &resource, Arc::clone(&more));
            let coding = coding.name();
            tracing::debug!(name = ?name, coding, from, to, "static file compressed");
            resource = more;
        }
    }
}

impl Bodies {
    fn into_content(self, offset: u64, length: u64) -> Content {
        match self {
            _ if length == 0 => Content::Empty,
            Self::Bytes(bytes) => {
                let (start, end) = (offset as usize, (offset + length) as usize);
                Content::Bytes(bytes.slice(start..end))
            }
            Self::File(file, start, pool) => {
                Content::File(FileBody::new(file, start + offset, length, pool))
            }
        }
    }
}

#[cfg(test)]
mod tests;
