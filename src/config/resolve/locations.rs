//! The `[[location]]` tables: exactly one thing that answers in each, and only settings that
//! this one obeys.

use std::path::Path;

use http::{HeaderValue, StatusCode, Uri};

use super::apps::Common;
use super::bodies::{chosen, codings};
use super::static_files::{missing, plain_prefix};
use super::upstream::Servers;
use super::{Resolver, existing_directory, single, wrong};
use crate::config::error::{ConfigError, Invalid, invalid};
use crate::config::layers::{Entry, Layer, Origin, Table};
use crate::config::locations::{self, Handler, KINDS, Location, Redirect, Respond};
use crate::config::settings::Default;
use crate::config::{
    AppRef, AppSettings, LocationSettings, StaticLocation, UpstreamSettings, values,
};

/// One table, while it is read.
pub(super) struct Given<'a> {
    table: &'a Table,
    /// Its prefix, as [`StaticLocation::prefix`].
    pub(super) prefix: String,
    /// What answers.
    kind: &'static str,
}

impl<'a> Resolver<'a> {
    /// Reads the prefix and the kind of every table.
    pub(super) fn location_tables(&self) -> Result<Vec<Given<'a>>, ConfigError> {
        let layers: &'a [Layer] = self.layers;
        let mut all: Vec<Given<'a>> = Vec::new();
        for table in layers.iter().flat_map(|layer| &layer.locations) {
            let given = Given::read(table)?;
            // Files may leave what they do not have to another location of their prefix.
            let excludes = |other: &&Given<'_>| {
                let is_open = other.is_open() || given.is_open();
                other.prefix == given.prefix && (!is_open || other.is_static() == given.is_static())
            };
            if let Some(twin) = all.iter().find(excludes) {
                return Err(given.refuse_prefix(
                    format!("another location has this prefix ({})", twin.table.origin),
                    "give each prefix once; only a static one with `missing = \"app\"` can stand \
                     beside another, which gets what it does not have",
                ));
            }
            all.push(given);
        }
        Ok(all)
    }
}

/// Adds the tables that name files to the locations of `--static`.
pub(super) fn add_files(
    tables: &[Given<'_>],
    locations: &mut Vec<StaticLocation>,
    chdir: &Path,
) -> Result<(), ConfigError> {
    for given in tables.iter().filter(|given| given.is_static()) {
        if locations.iter().any(|other| other.prefix == given.prefix) {
            let problem = "--static has this prefix, too".to_owned();
            return Err(given.refuse_prefix(problem, "remove one of them"));
        }
        let dir = given.one("static", |text| existing_directory(text, chdir))?;
        locations.push(StaticLocation::new(&*given.prefix, dir));
    }
    Ok(())
}

/// What the tables say about their own files holds, whatever is said about all.
pub(super) fn set_files(
    tables: &[Given<'_>],
    locations: &mut [StaticLocation],
) -> Result<(), ConfigError> {
    for given in tables.iter().filter(|given| given.is_static()) {
        let is_same = |other: &&mut StaticLocation| other.prefix == given.prefix;
        let Some(location) = locations.iter_mut().find(is_same) else {
            continue;
        };
        if let Some(missing) = given.optional("missing", missing)? {
            location.missing = missing;
        }
        if let Some(max_age) = given.optional("max_age", values::duration)? {
            location.max_age = Some(max_age);
        }
    }
    Ok(())
}

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
        general: LocationSettings,
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
            handler,
            strip_prefix: false,
            settings: general,
        }));
        for given in tables.iter().filter(|given| !given.is_static()) {
            let strip_prefix = given.optional("strip_prefix", values::yes_or_no)?;
            let strip_prefix = strip_prefix.unwrap_or(given.is_app()) && given.prefix != "/";
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
                _ => Handler::Respond(given.respond()?),
            };
            locations.push(Location {
                prefix: given.prefix.clone(),
                handler,
                strip_prefix,
                settings: given.settings(general)?,
            });
        }
        Ok((locations, apps))
    }
}

/// Whether the application may be looked for, when nobody names it: not if something else
/// answers where it would, or if others are named.
pub(super) fn leave_room(tables: &[Given<'_>]) -> bool {
    let is_named = |given: &Given<'_>| given.is_app() || given.kind == "upstream";
    !tables
        .iter()
        .any(|given| is_named(given) || given.prefix == "/" && !given.is_static())
}

/// Refuses a table that answers where `by` does.
pub(super) fn make_room(tables: &[Given<'_>], by: &str) -> Result<(), ConfigError> {
    let is_beside = |given: &&Given<'_>| given.prefix == "/" && !given.is_static();
    match tables.iter().find(is_beside) {
        None => Ok(()),
        Some(given) => Err(given.refuse_prefix(
            format!("{by} answers there"),
            "give the location another prefix, or remove that one",
        )),
    }
}

impl<'a> Given<'a> {
    fn read(table: &'a Table) -> Result<Self, ConfigError> {
        let mut given = Self {
            table,
            prefix: "/".to_owned(),
            kind: "",
        };
        let kinds = KINDS.map(|(kind, _)| kind);
        let mut named = kinds.iter().filter(|kind| table.entry(kind).is_some());
        given.kind = match (named.next(), named.next()) {
            (Some(kind), None) => kind,
            (None, _) => {
                return Err(given.refuse(format!(
                    "nothing that answers (give one of {})",
                    kinds.join(", ")
                )));
            }
            (Some(first), Some(second)) => {
                return Err(given.refuse(format!("both {first} and {second} (give one of them, and another [[location]] for the other)")));
            }
        };
        for (name, entry) in table.entries() {
            let owners: Vec<_> = KINDS
                .iter()
                .filter(|(_, own)| own.contains(&name))
                .map(|(kind, _)| *kind)
                .collect();
            if !owners.is_empty() && !owners.contains(&given.kind) {
                return Err(wrong(
                    &spelled(name),
                    &entry.values.join(" "),
                    &entry.origin,
                    invalid(
                        format!("it means nothing beside {}", given.kind),
                        format!("it belongs to {}", owners.join(" and ")),
                    ),
                ));
            }
        }
        given.prefix = given.one("prefix", plain_prefix)?;
        Ok(given)
    }

    pub(super) fn is_static(&self) -> bool {
        self.kind == "static"
    }

    pub(super) fn is_app(&self) -> bool {
        self.kind == "app"
    }

    /// What the table says about the setting of this name.
    pub(super) fn entry(&self, name: &str) -> Option<&'a Entry> {
        self.table.entry(name)
    }

    /// Where a setting stands, or the table that does not have it.
    pub(super) fn origin(&self, name: &str) -> &'a Origin {
        match self.entry(name) {
            Some(entry) => &entry.origin,
            None => &self.table.origin,
        }
    }

    /// What holds for its requests.
    fn settings(&self, general: LocationSettings) -> Result<LocationSettings, ConfigError> {
        let mut settings = general;
        self.set("max_body", &mut settings.max_body, values::byte_limit)?;
        let timeout = &mut settings.body_timeout;
        self.set("body_timeout", timeout, values::positive_duration)?;
        self.set("buffering", &mut settings.buffering, values::yes_or_no)?;
        let request_buffering = &mut settings.request_buffering;
        self.set("request_buffering", request_buffering, values::yes_or_no)?;
        let compression = &mut settings.compression;
        if let Some(given) = self.many("compress", codings)? {
            [compression.zstd, compression.brotli, compression.gzip] = chosen(given);
        }
        self.set("compress_min", &mut compression.min, values::byte_room)?;
        let private = &mut compression.private;
        self.set("compress_private", private, values::yes_or_no)?;
        Ok(settings)
    }

    /// Whether it leaves to another location what it does not have.
    fn is_open(&self) -> bool {
        let missing = self.table.entry("missing");
        self.is_static() && missing.is_some_and(|entry| entry.values == ["app"])
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
            keep_path: keep_path.unwrap_or(!has_end),
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

    /// A setting that is there, or has its default in the table of settings.
    pub(super) fn one<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, Invalid>,
    ) -> Result<T, ConfigError> {
        if let Some(value) = self.optional(name, &parse)? {
            return Ok(value);
        }
        let text = match locations::named(name).map(|setting| setting.default) {
            Some(Default::Value(text)) => text,
            _ => "",
        };
        parse(text).map_err(|invalid| wrong(&spelled(name), text, &self.table.origin, invalid))
    }

    pub(super) fn optional<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Result<Option<T>, ConfigError> {
        let entry = self.table.entry(name);
        entry
            .map(|entry| single(&spelled(name), entry, parse))
            .transpose()
    }

    /// Puts the value of a setting, if it is there, in the place of what holds for all.
    pub(super) fn set<T>(
        &self,
        name: &'static str,
        place: &mut T,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Result<(), ConfigError> {
        if let Some(value) = self.optional(name, parse)? {
            *place = value;
        }
        Ok(())
    }

    /// A setting with several values; `None` if it is not there.
    pub(super) fn many<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, Invalid>,
    ) -> Result<Option<Vec<T>>, ConfigError> {
        let Some(entry) = self.table.entry(name) else {
            return Ok(None);
        };
        let one = |text: &String| {
            parse(text).map_err(|invalid| wrong(&spelled(name), text, &entry.origin, invalid))
        };
        entry
            .values
            .iter()
            .map(one)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    fn refuse(&self, problem: String) -> ConfigError {
        ConfigError::Location {
            place: self.table.origin.to_string(),
            problem,
        }
    }

    fn refuse_prefix(&self, problem: String, remedy: &str) -> ConfigError {
        let origin = self.origin("prefix");
        wrong(
            &spelled("prefix"),
            &self.prefix,
            origin,
            invalid(problem, remedy),
        )
    }
}

/// A setting of a location, for messages.
pub(super) fn spelled(name: &str) -> String {
    format!("[[location]] {name}")
}

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
    let without_fragment = text.split('#').next().unwrap_or_default();
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
