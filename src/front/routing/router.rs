//! Selects the component that answers a path, apart from files: the location with the highest rank,
//! an exact path or the longest prefix, among those for the scheme, the host and the method.
//!
//! It neither allocates nor waits. [`crate::front::request::files`] searches the files; the length
//! of the prefix found here decides about precedence.

use std::cmp::Reverse;
use std::ffi::OsString;

use super::fixed::Fixed;
use super::normal_target;
use super::origin::RequestedOrigin;
use crate::config::locations::Redirect;
use crate::config::request_headers::RequestHeaderRule;
use crate::config::{LocationSettings, Rank, Scope};
use crate::front::response_rules::ResponseRules;
use crate::front::routing::prefix::Prefix;
use crate::front::upstream::Upstream;
use crate::front::upstream::workers::Pool;

/// All locations except the static ones.
pub struct Router {
    /// Highest rank first.
    routes: Vec<Route>,
    /// Locations that only files refer to.
    named: Vec<Route>,
    has_http_upstreams: bool,
}

/// One location.
pub struct Route {
    /// The paths that belong to it.
    pub prefix: Prefix,
    /// The requests that it is for.
    pub scope: Scope,
    /// Its precedence.
    pub rank: Rank,
    /// The component that answers them.
    pub handler: Handler,
    /// The prefix that the handler gets apart from the path.
    pub mount: Option<Prefix>,
    /// The name by which files refer to it.
    pub name: Option<String>,
    /// True if no path leads to it.
    pub is_named_only: bool,
    /// The settings of the location.
    pub settings: LocationSettings,
    /// The index of its access in the site.
    pub access: usize,
    /// Changes of header fields of its requests.
    pub request_headers: Vec<RequestHeaderRule>,
    /// Variables for its application besides those of every request.
    pub variables: Vec<(String, OsString)>,
    /// The rules for its responses.
    pub rules: ResponseRules,
}

/// A target as a location receives it, percent-encoded and with its query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoutedTarget<'a> {
    /// The whole target.
    pub whole: &'a str,
    /// The part behind the location's prefix.
    pub rest: &'a str,
}

impl Route {
    /// The decoded mount point and the percent-encoded path below it.
    pub fn mount<'a>(&'a self, received: RoutedTarget<'a>) -> (&'a str, &'a str) {
        let whole = received.whole;
        let (mount, target) = match &self.mount {
            Some(mount) => (mount.as_str(), mount.rest_of(whole).unwrap_or(whole)),
            None => ("", whole),
        };
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        (mount, path)
    }
}

/// The component that answers a location.
pub enum Handler {
    /// An application in our own workers.
    App(Pool),
    /// Upstream servers.
    Upstream(Upstream),
    /// A redirect.
    Redirect(Redirect),
    /// A fixed response.
    Respond(Fixed),
    /// The counts of connections and requests.
    Counts,
}

impl Route {
    /// The upstream servers of this location.
    pub fn upstream(&self) -> Option<&Upstream> {
        match &self.handler {
            Handler::Upstream(upstream) => Some(upstream),
            _ => None,
        }
    }
}

impl Router {
    /// A router for these locations.
    pub fn new(routes: Vec<Route>) -> Self {
        let is_named_only = |route: &Route| route.is_named_only;
        let (named, mut routes): (Vec<_>, Vec<_>) = routes.into_iter().partition(is_named_only);
        routes.sort_by_key(|route| Reverse(route.rank));
        let speaks_http = |route: &Route| matches!(route.upstream(), Some(Upstream::Http(_)));
        Self {
            has_http_upstreams: routes.iter().chain(&named).any(speaks_http),
            routes,
            named,
        }
    }

    /// True if there are HTTP upstreams.
    pub fn has_http_upstreams(&self) -> bool {
        self.has_http_upstreams
    }

    /// All upstreams.
    pub fn upstreams(&self) -> impl Iterator<Item = &Upstream> {
        let all = self.routes.iter().chain(&self.named);
        all.filter_map(Route::upstream)
    }

    /// The location of a target, chosen by its normal form ([`super::normal_target`]).
    pub fn find(&self, normal: &str, origin: RequestedOrigin<'_>) -> Option<&Route> {
        // A target without a path, as in `OPTIONS *`, belongs to the location of the whole site.
        let is_whole = |route: &Route| normal == "*" && route.prefix.as_str().is_empty();
        self.routes.iter().find(|route| {
            (route.prefix.rest_of(normal).is_some() || is_whole(route))
                && origin.is_in(&route.scope)
        })
    }

    /// The location of a name.
    pub fn named(&self, name: &str) -> Option<&Route> {
        let mut all = self.named.iter().chain(&self.routes);
        all.find(|route| route.name.as_deref() == Some(name))
    }

    /// The target as `route`, which answers it, receives it: as the client sent it, `//` and `..`
    /// included, because applications carry whole URLs in their paths (gunicorn and uWSGI pass them
    /// too). Where the raw path belongs to another location, or the settings ask for it, the normal form:
    /// an application never sees a path that begins with the prefix of another location.
    pub fn received<'a>(
        &self,
        route: &Route,
        origin: RequestedOrigin<'_>,
        raw: &'a str,
        normal: &'a str,
    ) -> RoutedTarget<'a> {
        let is_found = || {
            let found = self.find(raw, origin);
            found.is_some_and(|found| std::ptr::eq(found, route))
        };
        // An HTTP server resolves `..` itself, and must not leave the path in place of the prefix.
        let is_confined =
            route.mount.is_some() && matches!(route.upstream(), Some(Upstream::Http(_)));
        let is_raw = || {
            !route.settings.normal_path
                && is_found()
                && !(is_confined && normal_target::climbs(raw))
        };
        let begins_here = raw == normal || is_raw();
        let whole = if begins_here { raw } else { normal };
        let rest = route.prefix.rest_of(whole).unwrap_or(whole);
        RoutedTarget { whole, rest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Compression;
    use http::StatusCode;
    use std::time::Duration;

    const ANY: RequestedOrigin<'static> = RequestedOrigin::ANY;

    fn router(prefixes: &[&str]) -> Router {
        let route = |prefix: &&str| Route {
            prefix: Prefix::new(prefix).unwrap(),
            scope: Scope::default(),
            rank: Scope::default().rank(prefix),
            handler: Handler::Redirect(Redirect {
                to: "/".to_owned(),
                status: StatusCode::FOUND,
                keep_path: false,
            }),
            access: 0,
            request_headers: Vec::new(),
            variables: Vec::new(),
            mount: None,
            name: None,
            is_named_only: false,
            settings: LocationSettings {
                max_body: 0,
                body_timeout: Duration::ZERO,
                buffering: true,
                request_buffering: true,
                normal_path: false,
                compression: Compression::default(),
            },
            rules: ResponseRules::default(),
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
            ("/caf%C3%A9/a", "/caf\u{e9}", "/a"),
            ("*", "", "*"),
        ] {
            let route = router.find(target, ANY).unwrap();
            let received = router.received(route, ANY, target, target);
            let found = (route.prefix.as_str(), received.rest);
            assert_eq!(found, (prefix, rest), "{target}");
        }
    }

    #[test]
    fn a_location_receives_the_raw_target_where_that_begins_in_it() {
        let router = router(&["/", "/api"]);
        for (raw, prefix, whole, rest) in [
            ("//api/x?q", "/api", "/api/x?q", "/x?q"),
            ("/x/../api/a%2fb", "/api", "/api/a/b", "/a/b"),
            ("/%2e/api", "/api", "/api", ""),
            ("/api//a/./b?c", "/api", "/api//a/./b?c", "//a/./b?c"),
            (
                "/api/http://h/../x",
                "/api",
                "/api/http://h/../x",
                "/http://h/../x",
            ),
            ("//x/./y", "", "//x/./y", "//x/./y"),
            ("/x/../http://h/", "", "/x/../http://h/", "/x/../http://h/"),
            ("/api/../x", "", "/x", "/x"),
            ("/api/../api/x", "/api", "/api/../api/x", "/../api/x"),
        ] {
            let normal = crate::front::routing::normal_target::normal(raw).unwrap();
            let route = router.find(&normal, ANY).unwrap();
            let received = router.received(route, ANY, raw, &normal);
            assert_eq!(route.prefix.as_str(), prefix, "{raw}");
            assert_eq!(received, RoutedTarget { whole, rest }, "{raw}");
        }
    }

    #[test]
    fn a_location_may_receive_the_normal_form_of_every_path() {
        let mut router = router(&["/", "/api"]);
        for route in &mut router.routes {
            route.settings.normal_path = true;
        }
        for (raw, whole, rest) in [
            ("//x/./y?q=//", "/x/y?q=//", "/x/y?q=//"),
            ("/api//a/../b?c", "/api/b?c", "/b?c"),
            ("/api/a%2Fb%20c", "/api/a/b%20c", "/a/b%20c"),
            ("*", "*", "*"),
        ] {
            let normal = crate::front::routing::normal_target::normal(raw).unwrap();
            let route = router.find(&normal, ANY).unwrap();
            let received = router.received(route, ANY, raw, &normal);
            assert_eq!(received, RoutedTarget { whole, rest }, "{raw}");
        }
    }

    #[test]
    fn without_a_location_for_the_whole_site_some_paths_have_none() {
        let router = router(&["/api"]);
        for target in ["/", "*", "/apiary", "/x/api"] {
            assert!(router.find(target, ANY).is_none(), "{target}");
        }
    }
}
