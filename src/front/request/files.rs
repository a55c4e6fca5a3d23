//! The order of the static locations that may answer a path: those in the settings, then those that
//! the application named, then those found because a directory has a usual name. A dynamic location
//! precedes static ones of a lower rank (a shorter prefix), and those with the same prefix that are
//! not in the settings.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use http::header::{CACHE_CONTROL, ETAG};
use http::{HeaderMap, HeaderValue, Response, request};

use super::record::Record;
use crate::config::Rank;
use crate::front::access::Access;
use crate::front::body::Body;
use crate::front::context::Client;
use crate::front::error::Rejection;
use crate::front::header_case::ETAG_AS_WRITTEN;
use crate::front::routing::origin::RequestedOrigin;
use crate::front::routing::router::Route;
use crate::front::site::Site;
use crate::front::static_files::found::Directories;
use crate::front::static_files::{Location, Plainly, Ready, StaticError, StaticFiles};
use crate::observe::metrics::{LocationMetrics, METRICS};

/// The future of a response, while files are searched.
pub type Answering<'f, 'a> = Pin<Box<dyn Future<Output = ByFile<'a>> + Send + 'f>>;

/// The result of the search for a file.
pub enum ByFile<'a> {
    /// The response, or the rejection.
    Answered(Result<Response<Body>, Rejection>),
    /// The path belongs to the location that answers without files.
    Left,
    /// The path belongs to this named location.
    LeftTo(&'a Route),
}

/// The static locations that cover a path. Each request searches them once.
pub struct Covering<'a> {
    target: &'a str,
    origin: RequestedOrigin<'a>,
    declared: Option<(&'a Location, &'a str)>,
    found: Arc<Directories>,
}

/// One static location that covers a path.
struct Candidate<'a> {
    files: &'a StaticFiles,
    location: &'a Location,
    /// The part of the target behind the prefix.
    rest: &'a str,
    access: &'a Access,
}

impl<'a> Covering<'a> {
    /// The static locations that cover `target` of `origin`; `None` if there are none.
    pub fn of(site: &'a Site, target: &'a str, origin: RequestedOrigin<'a>) -> Option<Self> {
        let declared = site.static_files.find(target, origin);
        let found = site.found_files.current();
        let covers = |(_, files): &(_, Arc<StaticFiles>)| files.find(target, origin).is_some();
        (declared.is_some() || found.iter().any(covers)).then_some(Self {
            target,
            origin,
            declared,
            found,
        })
    }

    /// The origin of the request.
    pub fn origin(&self) -> RequestedOrigin<'a> {
        self.origin
    }

    /// The locations with precedence over the location `otherwise`, in order. Locations that
    /// applications named need a longer prefix than `otherwise` and than a location in the
    /// settings; locations in the settings come last, and need a prefix that is not shorter.
    fn in_order<'s>(
        &'s self,
        site: &'s Site,
        otherwise: Option<&Route>,
    ) -> impl Iterator<Item = Candidate<'s>> {
        // Files that no setting names are guarded like the location that they come before.
        let inherited = site.access_of(otherwise);
        let otherwise = rank_of(otherwise);
        let declared = self.declared(otherwise);
        let asked_for = declared.filter(|(location, _)| !location.is_predefined());
        let below = asked_for.map(|(location, _)| location.rank());
        let below = otherwise.max(below).unwrap_or_default();
        let is_root = !below.exact && below.length == 0;
        let named = self.found.iter().filter_map(move |(_, files)| {
            let (location, rest) = files.find(self.target, self.origin)?;
            let rank = location.rank();
            let is_nearer = rank > below || is_root && rank.has_host >= below.has_host;
            is_nearer.then_some((&**files, location, rest))
        });
        let declared = declared.map(|(location, rest)| (&site.static_files, location, rest));
        let all = named.chain(declared);
        all.map(move |(files, location, rest)| Candidate {
            files,
            location,
            rest,
            access: match asked_for {
                Some((declared, _)) if std::ptr::eq(declared, location) => {
                    &site.access[declared.access()]
                }
                _ => inherited,
            },
        })
    }

    fn declared(&self, otherwise: Option<Rank>) -> Option<(&'a Location, &'a str)> {
        self.declared
            .filter(|(location, _)| Some(location.rank()) >= otherwise)
    }

    /// The response with the file that [`Covering::answer`] would try first, if it is in memory.
    pub fn at_once(
        &self,
        site: &Site,
        otherwise: Option<&Route>,
        asked: &Plainly<'_>,
        now: Instant,
    ) -> Option<(Ready, &'static LocationMetrics)> {
        let first = self.in_order(site, otherwise).next()?;
        let Candidate {
            files,
            location,
            rest,
            access,
        } = first;
        if !access.is_open() {
            return None;
        }
        let ready = files.at_once(location, rest, asked, now)?;
        Some((ready, METRICS.requests.at(location.prefix())))
    }

    /// Responds with a file, or rejects the request. `None`: the path belongs to the `otherwise`
    /// location, if there is one. The future is boxed to keep the future
    /// of every request small.
    pub fn answer<'f>(
        self,
        site: &'a Site,
        otherwise: Option<&'f Route>,
        client: &'f Client,
        head: &'f request::Parts,
        record: &'f mut Record,
    ) -> Option<Answering<'f, 'a>>
    where
        'a: 'f,
    {
        let rank = rank_of(otherwise);
        if self.declared(rank).is_none() && self.in_order(site, otherwise).next().is_none() {
            return None;
        }
        let has_other = otherwise.is_some();
        Some(Box::pin(async move {
            let mut refusal = ByFile::Left;
            for candidate in self.in_order(site, otherwise) {
                match served(site, &candidate, client, head, has_other, record).await {
                    not_here @ ByFile::Answered(Err(Rejection::Static(StaticError::NotFound))) => {
                        refusal = not_here;
                    }
                    answer => return answer,
                }
            }
            refusal
        }))
    }
}

/// The rank of the location that answers if no file does.
fn rank_of(otherwise: Option<&Route>) -> Option<Rank> {
    otherwise.map(|route| route.rank)
}

/// Keeps a file for some clients out of shared caches (RFC 9111 §5.2.2.7).
fn keep_private(headers: &mut HeaderMap) {
    let Some(value) = headers.get_mut(CACHE_CONTROL) else {
        return;
    };
    let rest = value
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix("public"));
    if let Some(private) = rest.map(|rest| format!("private{rest}"))
        && let Ok(private) = HeaderValue::try_from(private)
    {
        *value = private;
    }
}

async fn served<'a>(
    site: &'a Site,
    candidate: &Candidate<'_>,
    client: &Client,
    head: &request::Parts,
    has_other: bool,
    record: &mut Record,
) -> ByFile<'a> {
    let Candidate {
        files,
        location,
        rest,
        access,
    } = *candidate;
    if !access.is_open()
        && let Err(refused) = access.admit(client.address, &head.headers).await
    {
        record.located(location.prefix(), location.rules());
        return ByFile::Answered(Err(refused.into()));
    }
    match files
        .serve(location, rest, &head.method, &head.headers)
        .await
    {
        Err(StaticError::LeftToApp) if has_other || location.missing_name().is_some() => {
            // The settings were checked: there is a location of the name.
            let named = location.missing_name().map(|name| site.router.named(name));
            named.flatten().map_or(ByFile::Left, ByFile::LeftTo)
        }
        Err(error) => {
            record.located(location.prefix(), location.rules());
            ByFile::Answered(Err(Rejection::Static(error)))
        }
        Ok(response) => {
            record.located(location.prefix(), location.rules());
            let mut response = response.map(Body::from);
            if response.headers().contains_key(ETAG) {
                let extensions = response.extensions_mut();
                site.header_case.apply(&[ETAG_AS_WRITTEN], extensions);
            }
            if !access.is_open() {
                keep_private(response.headers_mut());
            }
            ByFile::Answered(Ok(response))
        }
    }
}
