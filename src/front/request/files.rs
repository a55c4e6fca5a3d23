//! Which files answer a path: locations that were asked for, then those that the application
//! named, then those that are there by themselves because a directory has the right name.

use std::sync::Arc;

use bytes::Bytes;
use http::header::ETAG;
use http::{Response, request};

use super::error::Rejection;
use crate::front::body::Body;
use crate::front::site::Site;
use crate::front::static_files::{Location, StaticError, StaticFiles};

/// The one field of a file that is not in title case.
const AS_EVERYBODY_WRITES_IT: [Bytes; 1] = [Bytes::from_static(b"ETag")];

/// Whether a path may be that of a file; cheap, for every request.
pub fn is_candidate(site: &Site, target: &str) -> bool {
    let found = site.found_files.current();
    site.static_files.find(target).is_some()
        || found.iter().any(|files| files.find(target).is_some())
}

/// Answers with a file, or refuses to; `None`: the path is the application's.
pub async fn answer(
    site: &Site,
    head: &request::Parts,
    target: &str,
) -> Option<Result<Response<Body>, Rejection>> {
    let found = site.found_files.current();
    let declared = site.static_files.find(target);
    let asked_for = declared.filter(|(location, _)| !location.is_predefined());
    if let Some((location, rest)) = asked_for {
        return served(site, &site.static_files, location, rest, head).await;
    }
    let mut refusal = None;
    for files in Arc::clone(&found).iter() {
        let Some((location, rest)) = files.find(target) else {
            continue;
        };
        match served(site, files, location, rest, head).await {
            Some(Err(Rejection::Static(StaticError::NotFound))) => {
                refusal = Some(Err(Rejection::Static(StaticError::NotFound)));
            }
            answer => return answer,
        }
    }
    match declared {
        Some((location, rest)) => served(site, &site.static_files, location, rest, head).await,
        None => refusal,
    }
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
