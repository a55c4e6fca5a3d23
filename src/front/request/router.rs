//! Which part of pyserve answers a path, files apart: the location with the longest prefix.
//!
//! Nothing is allocated and nothing is waited for. Files are asked by [`super::files`], for
//! which the length of the prefix found here decides who comes first.

use std::cmp::Reverse;

use crate::config::LocationSettings;
use crate::front::prefix::Prefix;
use crate::front::upstream::workers::Pool;

/// All locations but those of files.
pub struct Router {
    /// Longest prefix first.
    routes: Vec<Route>,
}

/// One location.
pub struct Route {
    /// The paths that belong to it.
    pub prefix: Prefix,
    /// Who answers them.
    pub handler: Handler,
    /// What holds for them.
    pub settings: LocationSettings,
}

/// Who answers.
pub enum Handler {
    /// An application in workers of ours.
    App(Pool),
}

impl Router {
    /// Sorts the locations.
    pub fn new(mut routes: Vec<Route>) -> Self {
        routes.sort_by_key(|route| Reverse(route.prefix.as_str().len()));
        Self { routes }
    }

    /// The location of a request's target, percent-encoded and with its query.
    pub fn find(&self, target: &str) -> Option<&Route> {
        let found = self
            .routes
            .iter()
            .find(|route| route.prefix.rest_of(target).is_some());
        // A target without a path, as in `OPTIONS *`, is the whole site's.
        let is_last = |route: &&Route| route.prefix.as_str().is_empty() && target == "*";
        found.or_else(|| self.routes.last().filter(is_last))
    }
}
