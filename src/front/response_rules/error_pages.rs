//! Pages of the settings in place of errors.
//!
//! The pages were read with the settings and stay in memory, so an error needs no disk. A page takes
//! the place of the whole response: its fields describe the page, and of the error's own fields only
//! those stay that explain the status or end the connection. A page that could not be read has no
//! effect.

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_RANGE, CONTENT_TYPE, PROXY_AUTHENTICATE, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::config;
use crate::front::body::Body;

/// Fields that stay beside another page, each with the statuses that it explains (RFC 9110 §10.2.3,
/// §11.6.1, §11.7.1, §15.5.6, §15.5.17; RFC 6585 §4). Of the responses of upstreams nginx keeps
/// `WWW-Authenticate` alone.
const KEPT: [(HeaderName, &[u16]); 5] = [
    (ALLOW, &[405]),
    (CONTENT_RANGE, &[416]),
    (PROXY_AUTHENTICATE, &[407]),
    (RETRY_AFTER, &[413, 429, 503]),
    (WWW_AUTHENTICATE, &[401]),
];

/// The component that made an error response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// pyserve.
    Server,
    /// An application or an upstream server.
    Upstream,
    /// pyserve, with content that a page must not hide: a traceback of `--dev`, a text of the
    /// settings.
    ServerWithContent,
}

/// The pages of a location.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ErrorPages {
    /// The first that covers a status applies.
    pages: Vec<CoveredStatuses>,
    /// True if the pages also replace errors of upstreams.
    intercept: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct CoveredStatuses {
    from: u16,
    to: u16,
    /// `None` for the built-in page.
    page: Option<Page>,
}

#[derive(Debug, PartialEq, Eq)]
struct Page {
    body: Bytes,
    content_type: HeaderValue,
    status: Option<StatusCode>,
}

impl ErrorPages {
    pub(super) fn new(
        settings: &config::ResponseRules,
        media_type: impl Fn(&str) -> HeaderValue,
    ) -> Self {
        let page = |page: &config::PageFile| {
            let name = page.path.file_name().unwrap_or_default();
            Some(Page {
                body: page.content.clone()?,
                content_type: match &page.media_type {
                    Some(given) => given.clone(),
                    None => media_type(&name.to_string_lossy()),
                },
                status: page.status,
            })
        };
        let covered = |given: &config::ErrorPage| CoveredStatuses {
            from: given.from,
            to: given.to,
            page: given.page.as_ref().and_then(page),
        };
        Self {
            pages: settings.error_pages.iter().map(covered).collect(),
            intercept: settings.intercept_errors,
        }
    }

    pub(super) fn put(&self, response: &mut Response<Body>, maker: Maker) {
        let is_replaced = match maker {
            Maker::Server => true,
            Maker::Upstream => self.intercept,
            Maker::ServerWithContent => false,
        };
        if is_replaced && let Some(page) = self.page(response.status()) {
            page.put(response);
        }
    }

    fn page(&self, status: StatusCode) -> Option<&Page> {
        let code = status.as_u16();
        let mut pages = self.pages.iter();
        let covered = pages.find(|given| (given.from..=given.to).contains(&code))?;
        covered.page.as_ref()
    }
}

impl Page {
    fn put(&self, response: &mut Response<Body>) {
        let before = std::mem::take(response.headers_mut());
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(CONTENT_TYPE, self.content_type.clone());
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let status = self.status.unwrap_or(response.status());
        let explaining = KEPT
            .into_iter()
            .filter(|(_, of)| of.contains(&status.as_u16()));
        let kept = explaining.map(|(name, _)| name);
        for name in kept.chain([CONNECTION]) {
            for value in before.get_all(&name) {
                headers.append(&name, value.clone());
            }
        }
        *response.headers_mut() = headers;
        // The reason phrase and the header case of the error.
        *response.extensions_mut() = Extensions::new();
        *response.body_mut() = Body::Full(self.body.clone());
        *response.status_mut() = status;
    }
}
