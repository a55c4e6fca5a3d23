//! The `[[location]]` tables as they are given: each with its prefix and the one thing that
//! answers in it, and only settings that this one obeys.

use super::{Resolver, single, wrong};
use crate::config::error::{ConfigError, Invalid, invalid};
use crate::config::layers::{Layer, SettingEntry, SettingOrigin, SettingsTable};
use crate::config::locations::{self, KINDS};
use crate::config::native;
use crate::config::settings::Default;
use crate::config::{
    Extent, HostPattern, Methods, Scheme, Scope, Segments, extension_name, method_name,
    segment_beginning, values,
};

/// One table, while it is read.
pub(super) struct Given<'a> {
    table: &'a SettingsTable,
    /// Its prefix, as [`crate::config::StaticLocation::prefix`].
    pub(super) prefix: String,
    /// Its hosts, and what the path stands for.
    pub(super) scope: Scope,
    /// The name by which other locations refer to it.
    pub(super) name: Option<String>,
    /// True if requests reach it by its name alone.
    pub(super) is_named_only: bool,
    /// The handler.
    pub(super) kind: &'static str,
    /// Its index of [`crate::config::Config::access`].
    pub(super) access: usize,
}

impl<'a> Resolver<'a> {
    /// Reads the prefix and the kind of every table.
    pub(super) fn location_tables(&self) -> Result<Vec<Given<'a>>, ConfigError> {
        let layers: &'a [Layer] = self.layers;
        let mut all: Vec<Given<'a>> = Vec::new();
        for table in layers.iter().flat_map(|layer| &layer.locations) {
            let mut given = Given::read(table)?;
            given.access = all.len() + 1;
            // Files may leave what they do not have to another location of their prefix.
            let excludes = |other: &&Given<'_>| {
                let is_open = other.is_open() || given.is_open();
                !(other.is_named_only || given.is_named_only)
                    && other.prefix == given.prefix
                    && other.scope.overlaps(&given.scope)
                    && (!is_open || other.is_static() == given.is_static())
            };
            if let Some(twin) = all.iter().find(excludes) {
                return Err(given.refuse_prefix(
                    given.same_place_as(twin),
                    "locations with one prefix differ in `host`, `scheme`, `method`, `extension` or \
                     `segment`; also a static one with `missing = \"app\"` can stand beside another, \
                     which gets what it does not have",
                ));
            }
            let is_namesake = |other: &&Given<'_>| other.name.is_some() && other.name == given.name;
            if let Some(twin) = all.iter().find(is_namesake) {
                let problem = format!("another location has this name ({})", twin.table.origin);
                return Err(given.refuse_name(problem, "give each name once"));
            }
            all.push(given);
        }
        Ok(all)
    }
}

/// True if the application may be discovered when the settings name none: not if another handler
/// takes its place, or if other applications are named.
pub(super) fn leave_room(tables: &[Given<'_>]) -> bool {
    let is_named = |given: &Given<'_>| given.is_app() || given.kind == "upstream";
    !tables
        .iter()
        .any(|given| is_named(given) || given.is_whole_site())
}

/// Refuses a table that answers where `by` does.
pub(super) fn make_room(tables: &[Given<'_>], by: &str) -> Result<(), ConfigError> {
    let is_app = |given: &&Given<'_>| given.name.as_deref() == Some(locations::WHOLE_SITE);
    if let Some(given) = tables.iter().find(is_app) {
        let problem = format!("it is the name of {by}");
        return Err(given.refuse_name(problem, "give the location another name"));
    }
    match tables.iter().find(|given| given.is_whole_site()) {
        None => Ok(()),
        Some(given) => Err(given.refuse_prefix(
            format!("{by} answers there"),
            "give the location another prefix, or remove that one",
        )),
    }
}

impl<'a> Given<'a> {
    fn read(table: &'a SettingsTable) -> Result<Self, ConfigError> {
        let mut given = Self {
            table,
            prefix: "/".to_owned(),
            scope: Scope::default(),
            name: None,
            is_named_only: false,
            kind: "",
            access: 0,
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
            let owners: Vec<_> = locations::owners(name).collect();
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
        given.place()?;
        Ok(given)
    }

    /// Reads the path, the scheme, the hosts and the methods.
    fn place(&mut self) -> Result<(), ConfigError> {
        self.name = self.optional("name", locations::location_name)?;
        if self.name.is_some() {
            if self.is_static() {
                let remedy = "remove it; other locations have names for `pass` and `missing`";
                return Err(self.refuse_name("files have no name".to_owned(), remedy));
            }
            let places = [
                "prefix",
                "path",
                "starts_with",
                "scheme",
                "host",
                "extension",
                "segment",
                "method",
            ];
            self.is_named_only = places.iter().all(|place| self.entry(place).is_none());
            if self.is_named_only {
                return Ok(());
            }
        }
        self.scope.scheme = self.optional("scheme", Scheme::parse)?;
        for name in ["host", "extension", "segment", "method"] {
            let is_empty = self
                .entry(name)
                .is_some_and(|entry| entry.values.is_empty());
            if is_empty {
                let remedy = "remove it for every request, or give a value";
                return Err(self.wrong_list(name, invalid("an empty list", remedy)));
            }
        }
        self.scope.hosts = self.many("host", HostPattern::parse)?.unwrap_or_default();
        self.scope.hosts.sort();
        self.scope.hosts.dedup();
        let ignore_case = self.optional("ignore_case", values::yes_or_no)?;
        self.scope.ignore_case = ignore_case.unwrap_or_default();
        let extensions = self.many("extension", extension_name)?;
        self.scope.extensions = extensions.unwrap_or_default();
        self.scope.extensions.sort();
        self.scope.extensions.dedup();
        let segments = self.many("segment", segment_beginning)?.unwrap_or_default();
        self.scope.segments =
            Segments::of(segments).map_err(|invalid| self.wrong_list("segment", invalid))?;
        let methods = self.many("method", method_name)?.unwrap_or_default();
        self.scope.methods =
            Methods::of(methods).map_err(|invalid| self.wrong_list("method", invalid))?;
        if let Some(path) = self.optional("path", exact_path)? {
            (self.scope.extent, self.prefix) = (Extent::Exact, path);
            return self.refuse_beside(&[
                ("prefix", "path names the one path"),
                ("starts_with", "path names the one path"),
                ("strip_prefix", "there is nothing behind a path"),
                ("static", "a directory has more than one path"),
                ("extension", "path names the one path"),
                ("segment", "path names the one path"),
            ]);
        }
        if let Some(start) = self.optional("starts_with", start_of_paths)? {
            (self.scope.extent, self.prefix) = (Extent::Start, start);
            let parts = "what is behind it may be a part of a name";
            return self.refuse_beside(&[
                ("prefix", "starts_with names the paths"),
                ("strip_prefix", parts),
                ("replace_prefix", parts),
                ("keep_path", parts),
                ("static", parts),
                ("file", "a file has one path"),
            ]);
        }
        if self.kind == "file" {
            let text = "a file and no path (give the one path of the file, as in `path = \"/robots.txt\"`)";
            return Err(self.refuse(text.to_owned()));
        }
        self.prefix = self.one("prefix", plain_prefix)?;
        Ok(())
    }

    /// Refuses settings, each with its reason, that mean nothing beside the setting of the path.
    fn refuse_beside(&self, others: &[(&'static str, &str)]) -> Result<(), ConfigError> {
        let own = self.scope.extent.setting();
        for (name, problem) in others {
            if let Some(entry) = self.entry(name) {
                let remedy = format!("remove it, or give prefix in place of {own}");
                let (given, invalid) = (entry.values.join(" "), invalid(*problem, remedy));
                return Err(wrong(&spelled(name), &given, &entry.origin, invalid));
            }
        }
        Ok(())
    }

    /// The error of a setting whose values do not go together.
    fn wrong_list(&self, name: &'static str, invalid: Invalid) -> ConfigError {
        let entry = self.entry(name);
        let given = entry.map_or_else(String::new, |entry| entry.values.join(" "));
        wrong(&spelled(name), &given, self.origin(name), invalid)
    }

    /// True if it answers whatever no other location does, and is not files.
    fn is_whole_site(&self) -> bool {
        self.prefix == "/" && self.scope.is_whole() && !self.is_static() && !self.is_named_only
    }

    fn same_place_as(&self, twin: &Self) -> String {
        let what = self.scope.extent.setting();
        let hosts = match (self.scope.extent, self.scope.hosts.is_empty()) {
            (Extent::Below, false) => " for one of its hosts",
            _ => "",
        };
        let methods = match (self.scope.methods.are_all(), hosts.is_empty()) {
            (true, _) => "",
            (false, true) => " for one of its methods",
            (false, false) => " and one of its methods",
        };
        format!(
            "another location has this {what}{hosts}{methods} ({})",
            twin.table.origin
        )
    }

    pub(super) fn is_static(&self) -> bool {
        matches!(self.kind, "static" | "file")
    }

    pub(super) fn is_app(&self) -> bool {
        self.kind == "app"
    }

    /// The table's entry for the setting of this name.
    pub(super) fn entry(&self, name: &str) -> Option<&'a SettingEntry> {
        self.table.entry(name)
    }

    /// The place of a setting, or of the table that does not have it.
    pub(super) fn origin(&self, name: &str) -> &'a SettingOrigin {
        match self.entry(name) {
            Some(entry) => &entry.origin,
            None => &self.table.origin,
        }
    }

    /// True if another location answers for missing files.
    fn is_open(&self) -> bool {
        let missing = self.table.entry("missing");
        self.is_static() && missing.is_some_and(|entry| entry.values == ["app"])
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

    fn refuse_name(&self, problem: String, remedy: &str) -> ConfigError {
        let (name, origin) = (
            self.name.as_deref().unwrap_or_default(),
            self.origin("name"),
        );
        wrong(&spelled("name"), name, origin, invalid(problem, remedy))
    }

    pub(super) fn refuse_prefix(&self, problem: String, remedy: &str) -> ConfigError {
        let name = self.scope.extent.setting();
        let origin = self.origin(name);
        wrong(
            &spelled(name),
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

/// A path as it reads after decoding; a slash at its end counts.
fn exact_path(path: &str) -> Result<String, Invalid> {
    let prefix = plain_prefix(path)?;
    let is_directory = path.ends_with('/') && prefix != "/";
    Ok(if is_directory { prefix + "/" } else { prefix })
}

/// The start of paths as it reads after decoding, which may end within a segment.
fn start_of_paths(path: &str) -> Result<String, Invalid> {
    match exact_path(path)? {
        all if all == "/" => Err(invalid(
            "all paths begin so",
            "give `prefix = \"/\"` in its place",
        )),
        start => Ok(start),
    }
}

/// A prefix as it reads after decoding, without a slash at its end; `/` for everything.
pub(super) fn plain_prefix(prefix: &str) -> Result<String, Invalid> {
    if !prefix.starts_with('/') {
        return Err(invalid(
            "the prefix does not start with `/`",
            "give one as in `/media`",
        ));
    }
    native::utf8_alone(prefix)?;
    let prefix = prefix.trim_end_matches('/');
    let is_plain = prefix
        .split('/')
        .skip(1)
        .all(|segment| !matches!(segment, "" | "." | ".."));
    if !is_plain || prefix.contains(['?', '#', '%', '\\']) || prefix.chars().any(char::is_control) {
        return Err(invalid(
            "the prefix is no plain path",
            "give it as it reads after decoding, without `.` and `..`, as in `/media`",
        ));
    }
    Ok(if prefix.is_empty() { "/" } else { prefix }.to_owned())
}
