//! Which files answer a path: locations that were asked for, then those that the application
//! named, then those that are there by themselves because a directory has the right name.

use std::pin::Pin;

use bytes::Bytes;
use http::header::ETAG;
use http::{Response, request};

use super::error::Rejection;
use crate::front::body::Body;
use crate::front::site::Site;
use crate::front::static_files::{Location, StaticError, StaticFiles};

/// An answer that is being looked for.
pub type Answering<'a> =
    Pin<Box<dyn Future<Output = Option<Result<Response<Body>, Rejection>>> + Send + 'a>>;

/// The one field of a file that is not in title case.
const AS_EVERYBODY_WRITES_IT: [Bytes; 1] = [Bytes::from_static(b"ETag")];

/// Answers with a file, or refuses to. `None`, at once or from the future: the path is the
/// application's. The future is boxed, so that what every request is moved around with
/// stays small.
pub fn answer<'a>(
    site: &'a Site,
    head: &'a request::Parts,
    target: &'a str,
) -> Option<Answering<'a>> {
    let declared = site.static_files.find(target);
    let found = site.found_files.current();
    if declared.is_none() && found.iter().all(|files| files.find(target).is_none()) {
        return None;
    }
    Some(Box::pin(async move {
        let (by_name, asked_for) = match declared {
            Some((location, _)) if location.is_predefined() => (declared, None),
            _ => (None, declared),
        };
        if let Some((location, rest)) = asked_for {
            return served(site, &site.static_files, location, rest, head).await;
        }
        let mut refusal = None;
        for files in found.iter() {
            let Some((location, rest)) = files.find(target) else {
                continue;
            };
            match served(site, files, location, rest, head).await {
                not_here @ Some(Err(Rejection::Static(StaticError::NotFound))) => {
                    refusal = not_here;
                }
                answer => return answer,
            }
        }
        match by_name {
            Some((location, rest)) => served(site, &site.static_files, location, rest, head).await,
            None => refusal,
        }
    }))
}

async fn served(
    site: &Site,
    files: &StaticFiles,
    location: &Location,
    rest: &str,
    head: &request::Parts,
) -> Option<Result<Response<Body>, Rejection>> {
    match files
        .serve(location, rest, &head.method, &head.headers)
        .await
    {
        Err(StaticError::LeftToApp) if site.workers.is_some() => None,
        Err(error) => Some(Err(Rejection::Static(error))),
        Ok(response) => {
            let mut response = response.map(Body::from);
            if response.headers().contains_key(ETAG) {
                let extensions = response.extensions_mut();
                site.spellings.apply(&AS_EVERYBODY_WRITES_IT, extensions);
            }
            Some(Ok(response))
        }
    }
}
