//! Named locations: `name`, and the two ways to refer to one, `pass = "@NAME"` and
//! `missing = "@NAME"`.

use std::path::Path;
use std::sync::Arc;

use super::locations::refuse_endless;
use super::tables::{Given, spelled};
use super::{Resolver, wrong};
use crate::config::error::{ConfigError, invalid};
use crate::config::locations::{Handler, Location, WHOLE_SITE, reference};
use crate::config::{LocationSettings, Missing, ResponseRules, StaticLocation};

impl Resolver<'_> {
    /// Checks the locations together, and warns of what is missing.
    pub(super) fn check_locations(
        &mut self,
        tables: &[Given<'_>],
        locations: &[Location],
        files: &[StaticLocation],
        rules: &ResponseRules,
    ) -> Result<(), ConfigError> {
        self.check_names(tables, locations, files)?;
        refuse_endless(tables, locations, files)?;
        self.warn_of_pages(rules, locations, files);
        Ok(())
    }

    /// Adds the locations that pass their requests to the application or server of another one, with
    /// settings of their own.
    pub(super) fn add_passing(
        &self,
        tables: &[Given<'_>],
        locations: &mut Vec<Location>,
        (general, rules): (LocationSettings, &Arc<ResponseRules>),
        chdir: &Path,
    ) -> Result<(), ConfigError> {
        let mut passing = Vec::new();
        for given in tables.iter().filter(|given| given.kind == "pass") {
            let to = given.one("pass", reference)?;
            let target = named(locations, &to)
                .filter(|target| matches!(target.handler, Handler::App(_) | Handler::Upstream(_)));
            let refuse = |problem: &str, remedy: String| {
                let (text, origin) = (format!("@{to}"), given.origin("pass"));
                wrong(&spelled("pass"), &text, origin, invalid(problem, remedy))
            };
            let target = target.ok_or_else(|| {
                let remedy = format!(
                    "give `name = \"{to}\"` in the [[location]] of one; `@{WHOLE_SITE}` is the \
                     application or server outside of all tables"
                );
                refuse(
                    "no application and no upstream server has this name",
                    remedy,
                )
            })?;
            if let Some(mount) = &target.mount
                && !is_below(&given.prefix, mount)
            {
                let remedy =
                    format!("give a prefix below {mount}, or `strip_prefix = false` there");
                return Err(refuse("its prefix is not part of this path", remedy));
            }
            if given.entry("uwsgi_param").is_some() && !matches!(target.handler, Handler::App(_)) {
                let remedy = "give it to the location of the servers".to_owned();
                return Err(refuse("uwsgi_param is for an application here", remedy));
            }
            passing.push(Location {
                prefix: given.prefix.clone(),
                scope: given.scope.clone(),
                handler: target.handler.clone(),
                mount: target.mount.clone(),
                name: given.name.clone(),
                is_named_only: given.is_named_only,
                settings: given.settings(general)?,
                rules: given.response_rules(rules, chdir)?,
                access: given.access,
                request_headers: given.request_headers()?,
                variables: given.variables()?,
            });
        }
        // Behind their targets: the first location of an application is its own.
        locations.extend(passing);
        Ok(())
    }

    /// Refuses static locations that leave missing files to a name that no location has.
    fn check_names(
        &self,
        tables: &[Given<'_>],
        locations: &[Location],
        files: &[StaticLocation],
    ) -> Result<(), ConfigError> {
        for file in files {
            let Missing::Named(name) = &file.missing else {
                continue;
            };
            let problem = match named(locations, name) {
                None => "no location has this name",
                Some(target) => match &target.mount {
                    Some(mount) if !is_below(&file.prefix, mount) => {
                        "the prefix of that location is not part of this path"
                    }
                    _ => continue,
                },
            };
            let remedy = format!("give `name = \"{name}\"` in a [[location]] without prefix");
            let own = tables.iter().find(|given| {
                given.prefix == file.prefix
                    && given.scope == file.scope
                    && given.entry("missing").is_some()
            });
            let text = format!("@{name}");
            return Err(match (own, self.entry("static_missing")) {
                (Some(given), _) => {
                    let origin = given.origin("missing");
                    wrong(&spelled("missing"), &text, origin, invalid(problem, remedy))
                }
                (None, Some(entry)) => wrong(
                    "static_missing",
                    &text,
                    &entry.origin,
                    invalid(problem, remedy),
                ),
                (None, None) => continue,
            });
        }
        Ok(())
    }
}

fn named<'a>(locations: &'a [Location], name: &str) -> Option<&'a Location> {
    let is_it = |location: &&Location| location.name.as_deref() == Some(name);
    locations.iter().find(is_it)
}

fn is_below(path: &str, prefix: &str) -> bool {
    let rest = path.strip_prefix(prefix.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
