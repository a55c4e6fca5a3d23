//! The locations that are not files: what answers in each, and what holds for its requests.

use std::ffi::OsString;
use std::sync::Arc;

use http::{HeaderValue, Method, StatusCode, Uri};

use super::apps::Common;
use super::bodies::{chosen, codings};
use super::tables::{Given, spelled};
use super::upstream::Servers;
use super::{Resolver, wrong};
use crate::config::error::{ConfigError, Invalid, invalid};
use crate::config::locations::{HOST, Handler, Location, Redirect, Respond, WHOLE_SITE};
use crate::config::request_headers::{self, RequestHeaderRule};
use crate::config::upstream::environ_variable;
use crate::config::{
    AppRef, AppSettings, Extent, HostPattern, LocationSettings, ResponseRules, Scheme, Scope,
    StaticLocation, UpstreamSettings, values,
};

impl Resolver<'_> {
    /// The locations that are not files, `app` or `upstream` at `/` among them, and the
    /// applications; `general` holds for those that say nothing.
    pub(super) fn other_locations(
        &self,
        app: Option<AppRef>,
        upstream: Option<UpstreamSettings>,
        tables: &[Given<'_>],
        common: &Common,
        servers: &Servers,
        (general, rules): (LocationSettings, &Arc<ResponseRules>),
    ) -> Result<(Vec<Location>, Vec<AppSettings>), ConfigError> {
        let (mut locations, mut apps) = (Vec::new(), Vec::new());
        let whole_site = match (app, upstream) {
            (Some(app), _) => {
                apps.push(common.alone(app)?);
                Some(Handler::App(0))
            }
            (None, upstream) => upstream.map(Handler::Upstream),
        };
        locations.extend(whole_site.map(|handler| Location {
            prefix: "/".to_owned(),
            scope: Scope::default(),
            handler,
            mount: None,
            name: Some(WHOLE_SITE.to_owned()),
            is_named_only: false,
            settings: general,
            access: 0,
            request_headers: Vec::new(),
            variables: Vec::new(),
            rules: Arc::clone(rules),
        }));
        let of_others = |given: &&Given<'_>| given.is_static() || given.kind == "pass";
        for given in tables.iter().filter(|given| !of_others(given)) {
            let strip_prefix = given.optional("strip_prefix", values::yes_or_no)?;
            let strip_prefix = strip_prefix
                .unwrap_or(given.is_app() && given.scope.extent == Extent::Below)
                && given.prefix != "/";
            let handler = match given.kind {
                "app" => {
                    let mount = if strip_prefix { &*given.prefix } else { "" };
                    apps.push(self.app_of_table(given, common, mount)?);
                    Handler::App(apps.len() - 1)
                }
                "upstream" => {
                    Handler::Upstream(servers.of_table(given, strip_prefix, common.chdir())?)
                }
                "redirect" => Handler::Redirect(given.redirect()?),
                "stub_status" => given.counts()?,
                _ => Handler::Respond(given.respond()?),
            };
            // The prefix stands apart where it is replaced.
            let is_replaced =
                matches!(&handler, Handler::Upstream(upstream) if upstream.replaces_prefix());
            let strip_prefix = strip_prefix || is_replaced;
            locations.push(Location {
                prefix: given.prefix.clone(),
                scope: given.scope.clone(),
                handler,
                mount: strip_prefix.then(|| given.prefix.clone()),
                name: given.name.clone(),
                is_named_only: given.is_named_only,
                settings: given.settings(general)?,
                access: given.access,
                request_headers: given.request_headers()?,
                variables: match given.is_app() {
                    true => given.variables()?,
                    false => Vec::new(),
                },
                rules: given.response_rules(rules, common.chdir())?,
            });
        }
        self.add_passing(tables, &mut locations, (general, rules), common.chdir())?;
        Ok((locations, apps))
    }
}

/// Refuses redirects that send a client round in circles: to their own prefix, or to each other's.
/// What files may answer ends a circle, and so does another host.
pub(super) fn refuse_endless(
    tables: &[Given<'_>],
    locations: &[Location],
    files: &[StaticLocation],
) -> Result<(), ConfigError> {
    for given in tables.iter().filter(|given| given.kind == "redirect") {
        // A host stands for all that its pattern covers.
        let hosts: Vec<_> = match &given.scope.hosts[..] {
            [] => vec![None],
            hosts => hosts.iter().map(Some).collect(),
        };
        let schemes = given
            .scope
            .scheme
            .map_or_else(|| vec![Scheme::Http, Scheme::Https], |scheme| vec![scheme]);
        let origins = hosts
            .into_iter()
            .flat_map(|host| schemes.iter().map(move |scheme| (*scheme, host)));
        for origin in origins {
            let mut path = given.prefix.clone();
            let mut hops = 0;
            while let Some(next) = redirect_of(&path, origin, locations, files) {
                path = next;
                hops += 1;
                if hops > locations.len() {
                    let to = given.one("redirect", redirect_target)?;
                    let problem = invalid(
                        "it leads back to its own prefix: clients would go round in circles",
                        "redirect to a path that another location answers, or to another host",
                    );
                    let origin = given.origin("redirect");
                    return Err(wrong(&spelled("redirect"), &to, origin, problem));
                }
            }
        }
    }
    Ok(())
}

/// The path to which a request for `path` is redirected, over this scheme and on this host.
fn redirect_of(
    path: &str,
    (scheme, host): (Scheme, Option<&HostPattern>),
    locations: &[Location],
    files: &[StaticLocation],
) -> Option<String> {
    let covers = |scope: &Scope, prefix: &str| {
        let is_for = (scope.hosts.is_empty()
            || host.is_some_and(|host| scope.hosts.contains(host)))
            && scope.scheme.is_none_or(|own| own == scheme);
        let rest = scope.behind(prefix, path);
        // A client follows a redirect with GET, except after 307 and 308.
        let is_for = is_for && scope.methods.contain(&Method::GET);
        rest.filter(|_| is_for && scope.covers(path))
            .map(|rest| (scope.rank(prefix), rest))
    };
    let all = locations.iter().filter(|at| !at.is_named_only);
    let all = all.filter_map(|at| {
        let (rank, rest) = covers(&at.scope, &at.prefix)?;
        Some((rank, rest, at))
    });
    // Of equal ranks, which differ in their origins, the first.
    let (rank, rest, at) = all.reduce(|best, other| if other.0 > best.0 { other } else { best })?;
    let mut files = files.iter().filter_map(|at| covers(&at.scope, &at.prefix));
    match &at.handler {
        Handler::Redirect(redirect) if !files.any(|(of_files, _)| of_files >= rank) => {
            next_path(redirect, rest)
        }
        _ => None,
    }
}

/// The path that a redirect sends to, on this host; `rest` is behind its prefix.
fn next_path(redirect: &Redirect, rest: &str) -> Option<String> {
    let path = redirect.to.split(['?', '#']).next().unwrap_or_default();
    if !path.starts_with('/') {
        return None;
    }
    Some(match redirect.keep_path && !rest.is_empty() {
        true => format!("{}{rest}", path.trim_end_matches('/')),
        false => path.to_owned(),
    })
}

impl Given<'_> {
    /// Changes of header fields of its requests.
    pub(super) fn request_headers(&self) -> Result<Vec<RequestHeaderRule>, ConfigError> {
        let given = self.many("request_header", request_headers::parse)?;
        Ok(given.unwrap_or_default())
    }

    /// Variables for its application.
    pub(super) fn variables(&self) -> Result<Vec<(String, OsString)>, ConfigError> {
        let given = self.many("uwsgi_param", environ_variable)?;
        Ok(given.unwrap_or_default())
    }

    /// Settings for its requests.
    pub(super) fn settings(
        &self,
        general: LocationSettings,
    ) -> Result<LocationSettings, ConfigError> {
        let mut settings = general;
        self.set("max_body", &mut settings.max_body, values::byte_limit)?;
        let timeout = &mut settings.body_timeout;
        self.set("body_timeout", timeout, values::positive_duration)?;
        self.set("buffering", &mut settings.buffering, values::yes_or_no)?;
        let request_buffering = &mut settings.request_buffering;
        self.set("request_buffering", request_buffering, values::yes_or_no)?;
        self.set("normal_path", &mut settings.normal_path, values::yes_or_no)?;
        let compression = &mut settings.compression;
        if let Some(given) = self.many("compress", codings)? {
            [compression.zstd, compression.brotli, compression.gzip] = chosen(given);
        }
        self.set("compress_min", &mut compression.min, values::byte_room)?;
        let private = &mut compression.private;
        self.set("compress_private", private, values::yes_or_no)?;
        Ok(settings)
    }

    fn redirect(&self) -> Result<Redirect, ConfigError> {
        let to = self.one("redirect", redirect_target)?;
        let has_end = to.contains(['?', '#']);
        let keep_path = self.optional("keep_path", |text| match values::yes_or_no(text)? {
            true if has_end => Err(invalid(
                "nothing can be put behind a query or fragment",
                "remove it, or what begins with `?` or `#` in redirect",
            )),
            keep => Ok(keep),
        })?;
        let status = self.optional("status", |text| match status(text)?.as_u16() {
            301 | 302 | 303 | 307 | 308 => status(text),
            _ => Err(invalid(
                "no redirect",
                "give 301 or 308 for good, 302, 303 or 307 for now",
            )),
        })?;
        Ok(Redirect {
            to,
            status: status.unwrap_or(StatusCode::FOUND),
            keep_path: keep_path.unwrap_or(!has_end && self.scope.extent != Extent::Start),
        })
    }

    fn counts(&self) -> Result<Handler, ConfigError> {
        self.one("stub_status", |text| match values::yes_or_no(text)? {
            true => Ok(Handler::Counts),
            false => Err(invalid(
                "a location that answers nothing",
                "remove the table",
            )),
        })
    }

    fn respond(&self) -> Result<Respond, ConfigError> {
        let text = self.one("respond", |text| Ok(text.to_owned()))?;
        let has_text = !text.is_empty();
        let status = self.optional("status", |given| match status(given)? {
            // RFC 9110 §15.3.5, §15.3.6, §15.4.5.
            StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED
                if has_text =>
            {
                Err(invalid(
                    "there is no text with this status",
                    "give `respond = \"\"`, or another status",
                ))
            }
            status if has_text && status.as_u16() == CLOSE => Err(invalid(
                "with this status the connection is closed without a response, as in nginx",
                "give `respond = \"\"`, or another status",
            )),
            status => Ok(status),
        })?;
        Ok(Respond {
            text,
            status: status.unwrap_or(StatusCode::OK),
            content_type: self.one("content_type", |text| match HeaderValue::from_str(text) {
                Ok(value) if !text.is_empty() && value.to_str().is_ok() => Ok(text.to_owned()),
                _ => Err(invalid("no media type", "give one, as in `text/html`")),
            })?,
        })
    }
}

/// nginx's status for a connection that is closed without a response.
const CLOSE: u16 = 444;

fn status(text: &str) -> Result<StatusCode, Invalid> {
    let remedy = "give one from 200 to 599";
    let code = text
        .parse::<u16>()
        .ok()
        .filter(|code| *code >= 200 && *code < 600);
    code.and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| invalid("no status of a response", remedy))
}

/// A path on the same host, or a URL with a host; nothing that a browser could take for the
/// other.
fn redirect_target(text: &str) -> Result<String, Invalid> {
    let remedy = "give a path as in `/new`, or a URL as in `https://example.org/new`";
    if text.contains(|c: char| !c.is_ascii_graphic() || c == '\\') {
        return Err(invalid(
            "blanks, backslashes and letters beyond ASCII must be percent-encoded",
            remedy,
        ));
    }
    // In the place of the host alone: elsewhere a client would choose a part of the path.
    let named = match text.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
            let is_user = |authority: &str| authority.contains('@');
            match authority.split_once(HOST).filter(|_| !is_user(authority)) {
                Some((before, behind)) => format!("{scheme}://{before}host{behind}{path}"),
                None => text.to_owned(),
            }
        }
        None => text.to_owned(),
    };
    if named.contains(HOST) {
        return Err(invalid(
            "`{host}` is not in the place of the host",
            "give it once, as in `https://{host}/new` or `https://www.{host}`",
        ));
    }
    let without_fragment = named.split('#').next().unwrap_or_default();
    let uri: Uri = without_fragment
        .parse()
        .map_err(|_| invalid("neither a path nor a URL", remedy))?;
    let is_path = text.starts_with('/') && !text.starts_with("//");
    let is_url = matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
    if is_path || is_url {
        Ok(text.to_owned())
    } else {
        Err(invalid("neither a path nor a URL", remedy))
    }
}
