//! Which files answer a path: locations that were asked for, then those that the application
//! named, then those that are there by themselves because a directory has the right name.
//! Another location comes before those whose prefix is shorter than its own, and before
//! those of its own prefix that nobody asked for.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use http::header::ETAG;
use http::{Response, request};

use super::record::Record;
use crate::front::body::Body;
use crate::front::error::Rejection;
use crate::front::header_case::ETAG_AS_WRITTEN;
use crate::front::routing::router::Route;
use crate::front::site::Site;
use crate::front::static_files::{Location, Plainly, Ready, StaticError, StaticFiles};
use crate::observe::metrics::{METRICS, Place};

/// An answer that is being looked for.
pub type Answering<'a> =
    Pin<Box<dyn Future<Output = Option<Result<Response<Body>, Rejection>>> + Send + 'a>>;

/// A location of files, and what it leaves of the target.
type Declared<'a> = (&'a Location, &'a str);

/// Answers with a file, or refuses to. `None`, at once or from the future: the path belongs
/// to the `otherwise` location, if there is one. The future is boxed, so that what every
/// request is moved around with stays small.
pub fn answer<'a>(
    site: &'a Site,
    otherwise: Option<&'a Route>,
    head: &'a request::Parts,
    target: &'a str,
    record: &'a mut Record,
) -> Option<Answering<'a>> {
    let beside = beside(otherwise);
    let declared = declared(site, target, beside);
    let found = site.found_files.current();
    let below = below(declared, beside);
    let is_named = |(_, files): &(_, Arc<StaticFiles>)| named(files, target, below).is_some();
    if declared.is_none() && !found.iter().any(is_named) {
        return None;
    }
    let has_other = otherwise.is_some();
    Some(Box::pin(async move {
        let mut refusal = None;
        for (_, files) in found.iter() {
            let Some((location, rest)) = named(files, target, below) else {
                continue;
            };
            match served(site, files, location, rest, head, has_other, record).await {
                not_here @ Some(Err(Rejection::Static(StaticError::NotFound))) => {
                    refusal = not_here;
                }
                answer => return answer,
            }
        }
        match declared {
            Some((location, rest)) => {
                served(
                    site,
                    &site.static_files,
                    location,
                    rest,
                    head,
                    has_other,
                    record,
                )
                .await
            }
            None => refusal,
        }
    }))
}

/// Whether a path could be that of a file.
pub fn may_answer(site: &Site, target: &str) -> bool {
    let found = site.found_files.current();
    site.static_files.find(target).is_some()
        || found.iter().any(|(_, files)| files.find(target).is_some())
}

/// The answer with the file that [`answer`] would ask first, if it is in memory.
pub fn at_once(
    site: &Site,
    otherwise: Option<&Route>,
    target: &str,
    asked: &Plainly<'_>,
    now: Instant,
) -> Option<(Ready, &'static Place)> {
    let beside = beside(otherwise);
    let declared = declared(site, target, beside);
    let below = below(declared, beside);
    let found = site.found_files.current();
    let first = found
        .iter()
        .find_map(|(_, files)| Some((&**files, named(files, target, below)?)));
    let (files, (location, rest)) = match first {
        Some(first) => first,
        None => (&site.static_files, declared?),
    };
    let ready = files.at_once(location, rest, asked, now)?;
    Some((ready, METRICS.requests.at(location.prefix())))
}

/// The length of the other location's prefix, beside which files have to stand.
fn beside(otherwise: Option<&Route>) -> usize {
    otherwise.map_or(0, |route| route.prefix.as_str().len())
}

fn declared<'a>(site: &'a Site, target: &'a str, beside: usize) -> Option<Declared<'a>> {
    let found = site.static_files.find(target);
    found.filter(|(location, _)| location.prefix().len() >= beside)
}

/// Before what was asked for comes only what is nearer to the path.
fn below(declared: Option<Declared<'_>>, beside: usize) -> usize {
    let asked_for = declared.filter(|(location, _)| !location.is_predefined());
    beside.max(asked_for.map_or(0, |(location, _)| location.prefix().len()))
}

/// What the application named, unless the other location is as near to the path.
fn named<'a>(
    files: &'a StaticFiles,
    target: &'a str,
    beside: usize,
) -> Option<(&'a Location, &'a str)> {
    files
        .find(target)
        .filter(|(location, _)| location.prefix().len() > beside || beside == 0)
}

async fn served(
    site: &Site,
    files: &StaticFiles,
    location: &Location,
    rest: &str,
    head: &request::Parts,
    has_other: bool,
    record: &mut Record,
) -> Option<Result<Response<Body>, Rejection>> {
    match files
        .serve(location, rest, &head.method, &head.headers)
        .await
    {
        Err(StaticError::LeftToApp) if has_other => None,
        Err(error) => {
            record.located(location.prefix());
            Some(Err(Rejection::Static(error)))
        }
        Ok(response) => {
            record.located(location.prefix());
            let mut response = response.map(Body::from);
            if response.headers().contains_key(ETAG) {
                let extensions = response.extensions_mut();
                site.spellings.apply(&[ETAG_AS_WRITTEN], extensions);
            }
            Some(Ok(response))
        }
    }
}
