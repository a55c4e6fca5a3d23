//! Rules of the settings for the responses of a location: error pages and header fields.
//!
//! Responses of locations without rules pay for one comparison. [`error_pages`] replaces the body of
//! an error, [`charset`] completes its type, then [`headers`] changes fields; the fields that frame the message come later, from
//! `request/common_fields.rs` and hyper.

pub mod charset;
pub mod error_pages;
pub mod headers;

use std::sync::Arc;

use http::{HeaderValue, Response};

use self::error_pages::{ErrorPages, Maker};
use crate::config;
use crate::front::body::Body;

/// The rules of a location. Clones share them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseRules(Option<Arc<Rules>>);

#[derive(Debug, PartialEq, Eq)]
struct Rules {
    headers: Vec<config::HeaderRule>,
    charset: Option<HeaderValue>,
    pages: ErrorPages,
}

impl ResponseRules {
    /// The rules of the settings; `media_type` has the type of a page by its file name.
    pub fn new(settings: &config::ResponseRules, media_type: impl Fn(&str) -> HeaderValue) -> Self {
        let has_charset = settings.charset.is_some();
        if settings.headers.is_empty() && settings.error_pages.is_empty() && !has_charset {
            return Self(None);
        }
        Self(Some(Arc::new(Rules {
            headers: settings.headers.clone(),
            charset: settings.charset.clone(),
            pages: ErrorPages::new(settings, media_type),
        })))
    }

    /// Replaces the body of an error by the page of its status.
    pub fn put_page(&self, response: &mut Response<Body>, maker: Maker) {
        if let Some(rules) = &self.0
            && response.status().as_u16() >= 400
        {
            rules.pages.put(response, maker);
        }
    }

    /// Changes the header fields.
    pub fn change_headers<B>(&self, response: &mut Response<B>) {
        if let Some(rules) = &self.0 {
            let status = response.status();
            if let Some(charset) = &rules.charset {
                charset::of_text(status, response.headers_mut(), charset);
            }
            headers::change(&rules.headers, status, response.headers_mut());
        }
    }
}
