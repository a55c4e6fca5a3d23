//! Which part of pyserve answers a path, files apart: the location with the longest prefix.
//!
//! Nothing is allocated and nothing is waited for. Files are asked by [`super::files`], for
//! which the length of the prefix found here decides who comes first.

use std::cmp::Reverse;

use super::fixed::Fixed;
use crate::config::LocationSettings;
use crate::config::locations::Redirect;
use crate::front::prefix::Prefix;
use crate::front::upstream::Upstream;
use crate::front::upstream::workers::Pool;

/// All locations but those of files.
pub struct Router {
    /// Longest prefix first.
    routes: Vec<Route>,
    has_http_upstreams: bool,
}

/// One location.
pub struct Route {
    /// The paths that belong to it.
    pub prefix: Prefix,
    /// Who answers them.
    pub handler: Handler,
    /// Whether who answers is told the prefix apart from the path.
    pub strips: bool,
    /// What holds for them.
    pub settings: LocationSettings,
}

impl Route {
    /// The mount of who answers, decoded, and the path there, percent-encoded; `rest` is what
    /// the prefix leaves of the target.
    pub fn mount<'a>(&'a self, whole: &'a str, rest: &'a str) -> (&'a str, &'a str) {
        if !self.strips {
            return ("", whole);
        }
        let path = rest.split_once('?').map_or(rest, |(path, _)| path);
        (self.prefix.as_str(), path)
    }
}

/// Who answers.
pub enum Handler {
    /// An application in workers of ours.
    App(Pool),
    /// Servers behind us.
    Upstream(Upstream),
    /// Nobody: clients are sent elsewhere.
    Redirect(Redirect),
    /// The settings themselves.
    Respond(Fixed),
}

impl Route {
    /// The servers behind us that answer here.
    pub fn upstream(&self) -> Option<&Upstream> {
        match &self.handler {
            Handler::Upstream(upstream) => Some(upstream),
            _ => None,
        }
    }
}

impl Router {
    /// Sorts the locations.
    pub fn new(mut routes: Vec<Route>) -> Self {
        routes.sort_by_key(|route| Reverse(route.prefix.as_str().len()));
        let speaks_http = |route: &Route| matches!(route.upstream(), Some(Upstream::Http(_)));
        Self {
            has_http_upstreams: routes.iter().any(speaks_http),
            routes,
        }
    }

    /// True if there are servers of HTTP behind us.
    pub fn has_http_upstreams(&self) -> bool {
        self.has_http_upstreams
    }

    /// All servers behind us.
    pub fn upstreams(&self) -> impl Iterator<Item = &Upstream> {
        self.routes.iter().filter_map(Route::upstream)
    }

    /// The location of a request's target, percent-encoded and with its query, and what is
    /// left of the target behind the location's prefix.
    pub fn find<'a>(&self, target: &'a str) -> Option<(&Route, &'a str)> {
        // A target without a path, as in `OPTIONS *`, is the whole site's.
        let is_whole = |route: &Route| target == "*" && route.prefix.as_str().is_empty();
        self.routes.iter().find_map(|route| {
            let rest = route.prefix.rest_of(target);
            let rest = rest.or_else(|| is_whole(route).then_some(target))?;
            Some((route, rest))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Compression;
    use http::StatusCode;
    use std::time::Duration;

    fn router(prefixes: &[&str]) -> Router {
        let route = |prefix: &&str| Route {
            prefix: Prefix::new(prefix).unwrap(),
            handler: Handler::Redirect(Redirect {
                to: "/".to_owned(),
                status: StatusCode::FOUND,
                keep_path: false,
            }),
            strips: false,
            settings: LocationSettings {
                max_body: 0,
                body_timeout: Duration::ZERO,
                buffering: true,
                request_buffering: true,
                compression: Compression::default(),
            },
        };
        Router::new(prefixes.iter().map(route).collect())
    }

    #[test]
    fn the_longest_prefix_of_whole_segments_answers() {
        let router = router(&["/", "/api", "/api/v2", "/caf\u{e9}"]);
        for (target, prefix, rest) in [
            ("/", "", "/"),
            ("/api", "/api", ""),
            ("/api?x=/api/v2", "/api", "?x=/api/v2"),
            ("/api/", "/api", "/"),
            ("/api/v2/x?y", "/api/v2", "/x?y"),
            ("/api/v20", "/api", "/v20"),
            ("/apiary", "", "/apiary"),
            ("/%61pi/x", "/api", "/x"),
            ("/api%2Fv2", "/api/v2", ""),
            ("/API", "", "/API"),
            ("//api", "", "//api"),
            ("/x/../api", "", "/x/../api"),
            ("/caf%C3%A9/a", "/caf\u{e9}", "/a"),
            ("*", "", "*"),
        ] {
            let (route, found) = router.find(target).unwrap();
            assert_eq!((route.prefix.as_str(), found), (prefix, rest), "{target}");
        }
    }

    #[test]
    fn without_a_location_for_the_whole_site_some_paths_have_none() {
        let router = router(&["/api"]);
        for target in ["/", "*", "/apiary", "/x/api"] {
            assert!(router.find(target).is_none(), "{target}");
        }
    }
}
