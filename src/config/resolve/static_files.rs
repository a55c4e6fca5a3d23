//! Static locations: which there are, and what holds for their files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::header::ACCEPT_RANGES;

use super::bodies::{chosen, codings};
use super::tables::{Given, plain_prefix};
use super::{Resolver, directory, existing_directory, listed_choice};
use crate::config::error::{ConfigError, Invalid, invalid};
use crate::config::layers::SettingOrigin;
use crate::config::locations::reference;
use crate::config::settings::{self, Default};
use crate::config::{
    EveryLocation, FileTypes, HeaderRule, Immutable, Listing, MAX_RANGES, Missing, ResponseRules,
    StaticLocation, StaticSettings, native, values,
};

impl Resolver<'_> {
    /// The static and internal locations, and the settings of all of them.
    pub(super) fn file_locations(
        &mut self,
        tables: &[Given<'_>],
        chdir: &Path,
        dev: bool,
        rules: &Arc<ResponseRules>,
    ) -> Result<(Vec<StaticLocation>, Vec<StaticLocation>, EveryLocation), ConfigError> {
        let mut static_locations = self.static_locations(tables, chdir)?;
        let mut internal_locations = self.internal_locations(chdir)?;
        let mut every_location =
            self.each_location(&mut static_locations, &mut internal_locations, chdir, dev)?;
        every_location.rules = Arc::clone(rules);
        for location in &mut static_locations {
            location.rules = Arc::clone(rules);
        }
        set_files(tables, &mut static_locations, rules, chdir)?;
        for location in &mut static_locations {
            // A page would be a neighbour of the one file.
            if location.file.is_some() && matches!(location.missing, Missing::Page(_)) {
                location.missing = Missing::Refuse;
            }
        }
        self.warnings.extend(missing_pages(&static_locations));
        Ok((static_locations, internal_locations, every_location))
    }

    fn static_locations(
        &mut self,
        tables: &[Given<'_>],
        chdir: &Path,
    ) -> Result<Vec<StaticLocation>, ConfigError> {
        let root = self.optional("root", |text| match text {
            NO_ROOT => Ok(None),
            dir => existing_directory(dir, chdir).map(Some),
        })?;
        if root.is_none() {
            self.show_default("root", chdir.display().to_string());
        }
        let root = root.unwrap_or_else(|| Some(chdir.to_owned()));
        let mut locations = self.locations("static", chdir)?;
        let names = root
            .iter()
            .flat_map(|root| PREDEFINED.map(|name| (root, name)));
        for (root, name) in names {
            let prefix = format!("/{name}");
            let dir = root.join(name);
            let is_taken = locations.iter().any(|location| location.prefix == prefix)
                || tables
                    .iter()
                    .any(|given| given.prefix == prefix && given.scope.is_whole());
            if dir.is_dir() && !is_taken {
                locations.push(StaticLocation {
                    predefined: true,
                    ..StaticLocation::new(prefix, dir).of_a_build()
                });
            }
        }
        self.show_locations("static", &locations);
        let warnings = add_files(tables, &mut locations, chdir)?;
        self.warnings.extend(warnings);
        Ok(locations)
    }

    fn internal_locations(&mut self, chdir: &Path) -> Result<Vec<StaticLocation>, ConfigError> {
        let locations = self.locations("internal", chdir)?;
        self.show_locations("internal", &locations);
        Ok(locations)
    }

    /// The locations that a setting of `PREFIX=DIR` names.
    fn locations(
        &mut self,
        setting: &'static str,
        chdir: &Path,
    ) -> Result<Vec<StaticLocation>, ConfigError> {
        let mut locations: Vec<StaticLocation> = Vec::new();
        let is_foreign = self.is_foreign(setting);
        let mut missing = Vec::new();
        self.many(setting, |text| {
            let found = |dir: &str| directory(dir, chdir, is_foreign, &mut missing);
            let location = static_location(text, found)?;
            let is_known = |other: &StaticLocation| other.prefix == location.prefix;
            if locations.iter().any(is_known) {
                return Err(invalid("the prefix is given twice", "remove one of them"));
            }
            locations.push(location);
            Ok(())
        })?;
        self.warn_of_missing(setting, &missing);
        Ok(locations)
    }

    fn show_locations(&mut self, setting: &'static str, locations: &[StaticLocation]) {
        let shown = locations
            .iter()
            .map(|location| format!("{}={}", location.prefix, location.dir.display()))
            .collect::<Vec<_>>();
        let origin = self
            .entry(setting)
            .map_or(SettingOrigin::Default, |entry| entry.origin.clone());
        let shown = if shown.is_empty() {
            "none".to_owned()
        } else {
            shown.join(", ")
        };
        self.show(setting, shown, origin.to_string());
    }

    /// Reads the settings of single locations, `[PREFIX=]VALUE`. What they say about every
    /// location is returned.
    fn each_location(
        &mut self,
        locations: &mut [StaticLocation],
        internal: &mut [StaticLocation],
        chdir: &Path,
        dev: bool,
    ) -> Result<EveryLocation, ConfigError> {
        let mut all: Vec<&mut StaticLocation> = locations.iter_mut().collect();
        self.spread("static_missing", &mut all, missing, |at, missing| {
            at.missing = missing;
        })?;
        let always_ask = dev.then_some(Duration::ZERO);
        for location in &mut all {
            location.max_age = always_ask;
        }
        let max_age = self.spread("static_max_age", &mut all, values::duration, |at, age| {
            at.max_age = Some(age);
        })?;
        if dev && self.entry("static_max_age").is_none() {
            self.show_default("static_max_age", "0".to_owned());
        }
        let immutable = self.spread("static_immutable", &mut all, immutable, |at, rule| {
            at.immutable = rule;
        })?;
        let listing = self.spread("static_listing", &mut all, listing, |at, form| {
            at.listing = form;
        })?;
        self.spread(
            "static_index",
            &mut all,
            values::yes_or_no,
            |at, is_index| {
                at.index = is_index;
            },
        )?;
        // Files that only the application can send may be compressed too.
        all.extend(internal);
        let precompressed = self.spread(
            "static_precompressed",
            &mut all,
            values::yes_or_no,
            |at, is_used| at.precompressed = is_used,
        )?;
        let types = self.types(chdir)?;
        for location in all {
            location.types = Arc::clone(&types);
        }
        Ok(EveryLocation {
            max_age: max_age.or(always_ask),
            immutable,
            precompressed,
            types,
            listing: listing.unwrap_or_default(),
            rules: Arc::default(),
        })
    }

    /// Types by the ends of names: those of `types`, then those of files.
    fn types(&mut self, chdir: &Path) -> Result<FileTypes, ConfigError> {
        let mut all = BTreeMap::new();
        for (end, media_type) in self.types_files(chdir)? {
            all.entry(end).or_insert(media_type);
        }
        all.extend(self.many("types", file_type)?.unwrap_or_default());
        Ok(Arc::new(all))
    }

    /// Reads `[PREFIX=]VALUE`s, and gives each value to the locations of that prefix, or to
    /// all. The last that is for all is returned.
    fn spread<T: Clone>(
        &mut self,
        setting: &'static str,
        locations: &mut [&mut StaticLocation],
        parse: impl Fn(&str) -> Result<T, Invalid>,
        set: impl Fn(&mut StaticLocation, T),
    ) -> Result<Option<T>, ConfigError> {
        let mut for_all = None;
        let given = self.many(setting, |text| {
            let (prefix, value) = match text.split_once('=') {
                Some((prefix, value)) if text.starts_with('/') => (Some(prefix), value),
                _ => (None, text),
            };
            let value = parse(value)?;
            match prefix {
                Some(prefix) => for_prefix(prefix, locations, |at| set(at, value.clone())),
                None => {
                    for location in locations.iter_mut() {
                        set(location, value.clone());
                    }
                    for_all = Some(value);
                    Ok(())
                }
            }
        })?;
        let default = settings::named(setting).map(|setting| setting.default);
        if let (None, Some(Default::Computed(shown))) = (given, default) {
            self.show_default(setting, shown.to_owned());
        }
        Ok(for_all)
    }

    pub(super) fn static_files(
        &mut self,
        chdir: &Path,
        dev: bool,
    ) -> Result<StaticSettings, ConfigError> {
        let (brotli, gzip) = self.static_compress()?;
        let check = match self.optional("static_check", values::duration)? {
            Some(check) => check,
            None => {
                let seconds = u64::from(!dev);
                self.show_default("static_check", seconds.to_string());
                Duration::from_secs(seconds)
            }
        };
        let links = self.directories("static_links", chdir)?;
        Ok(StaticSettings {
            brotli,
            gzip,
            cache: self.one("static_cache", values::byte_room)?,
            check,
            links,
            hidden: self.one("static_hidden", values::yes_or_no)?,
        })
    }

    /// The settings for brotli and for gzip.
    fn static_compress(&mut self) -> Result<(bool, bool), ConfigError> {
        let choices = [
            ("br", (true, false)),
            ("gzip", (false, true)),
            ("no", (false, false)),
            ("off", (false, false)),
            ("false", (false, false)),
        ];
        let given = self.many("static_compress", |text| {
            text.split(',')
                .try_fold((false, false), |(br, gzip), part| {
                    let (also_br, also_gzip) = listed_choice(part.trim(), &choices, 3)?;
                    Ok((br || also_br, gzip || also_gzip))
                })
        })?;
        let Some(given) = given else {
            self.show_default("static_compress", "br, gzip".to_owned());
            return Ok((true, true));
        };
        let both = given.iter();
        Ok(both.fold((false, false), |all, one| (all.0 || one.0, all.1 || one.1)))
    }
}

/// Adds the tables that name files to the locations of `--static`. Warnings are about directories that are
/// missing now.
fn add_files(
    tables: &[Given<'_>],
    locations: &mut Vec<StaticLocation>,
    chdir: &Path,
) -> Result<Vec<String>, ConfigError> {
    let mut warnings = Vec::new();
    for given in tables.iter().filter(|given| given.is_static()) {
        let is_same = |other: &StaticLocation| {
            other.prefix == given.prefix && other.scope.overlaps(&given.scope)
        };
        if locations.iter().any(is_same) {
            let problem = "--static has this prefix, too".to_owned();
            return Err(given.refuse_prefix(problem, "remove one of them"));
        }
        let mut missing = Vec::new();
        let name = if given.kind == "file" {
            "file"
        } else {
            "static"
        };
        let origin = given.origin(name);
        let is_foreign = matches!(origin, SettingOrigin::Foreign { .. });
        let mut found = |dir: &str| directory(dir, chdir, is_foreign, &mut missing);
        let location = match given.optional("file", |text| single_file(text, &mut found))? {
            Some((dir, name)) => StaticLocation {
                file: Some(name),
                ..StaticLocation::new(&*given.prefix, dir)
            },
            None => {
                let dir = given.optional("static", &mut found)?.unwrap_or_default();
                StaticLocation::new(&*given.prefix, dir)
            }
        };
        locations.push(StaticLocation {
            scope: given.scope.clone(),
            access: given.access,
            ..location
        });
        warnings.extend(missing.iter().map(|dir| {
            format!(
                "{origin}: {name}: there is no directory {} now",
                dir.display()
            )
        }));
    }
    Ok(warnings)
}

/// Applies the settings of tables to their own files; they take precedence over those for all.
fn set_files(
    tables: &[Given<'_>],
    locations: &mut [StaticLocation],
    rules: &Arc<ResponseRules>,
    chdir: &Path,
) -> Result<(), ConfigError> {
    for given in tables.iter().filter(|given| given.is_static()) {
        let is_same = |other: &&mut StaticLocation| {
            other.prefix == given.prefix && other.scope == given.scope
        };
        let Some(location) = locations.iter_mut().find(is_same) else {
            continue;
        };
        if let Some(missing) = given.optional("missing", missing)? {
            location.missing = missing;
        }
        if let Some(max_age) = given.optional("max_age", values::duration)? {
            location.max_age = Some(max_age);
        }
        given.set("immutable", &mut location.immutable, immutable)?;
        let precompressed = &mut location.precompressed;
        given.set("precompressed", precompressed, values::yes_or_no)?;
        given.set("index", &mut location.index, values::yes_or_no)?;
        given.set("html", &mut location.html, values::yes_or_no)?;
        given.set("listing", &mut location.listing, listing)?;
        if let Some(codings) = given.many("compress", codings)? {
            let [_, brotli, gzip] = chosen(codings);
            location.compress = Some([brotli, gzip]);
        }
        let most = MAX_RANGES as u32;
        if let Some(most) = given.optional("max_ranges", |text| values::count(text, 0, most))? {
            location.max_ranges = most as usize;
        }
        if let Some(types) = given.many("types", file_type)? {
            let own = Arc::make_mut(&mut location.types);
            if types.iter().any(|(end, _)| end == "**") {
                own.clear();
            }
            own.extend(types);
        }
        location.rules = given.response_rules(rules, chdir)?;
        if location.max_ranges == 0 {
            let rules = Arc::make_mut(&mut location.rules);
            rules.headers.push(HeaderRule::without(ACCEPT_RANGES));
        }
    }
    Ok(())
}

/// The directory and the name of a file. The file may come later.
fn single_file(
    text: &str,
    directory: impl FnOnce(&str) -> Result<PathBuf, Invalid>,
) -> Result<(PathBuf, String), Invalid> {
    native::utf8_alone(text)?;
    let (dir, name) = match text.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((dir, name)) => (dir, name),
        None => (".", text),
    };
    let dir = directory(dir)?;
    let is_plain = !matches!(name, "" | "." | "..") && !name.chars().any(char::is_control);
    if !is_plain || dir.join(name).is_dir() {
        return Err(invalid(
            "not the path of a file",
            "give one, as in `static/robots.txt`; a directory is `static`",
        ));
    }
    Ok((dir, name.to_owned()))
}

/// Warnings of single files that are missing, and of pages for missing files that are missing themselves. A page that is named for all
/// locations has to be in one of them.
fn missing_pages(locations: &[StaticLocation]) -> Vec<String> {
    let page = |location: &StaticLocation| match &location.missing {
        Missing::Page(page) => Some((page.clone(), location.dir.join(page).is_file())),
        Missing::Refuse | Missing::App | Missing::Named(_) => None,
    };
    let pages: Vec<_> = locations.iter().filter_map(page).collect();
    let lacks = |location: &&StaticLocation| {
        page(location).is_some_and(|(page, _)| !pages.contains(&(page, true)))
    };
    let warning = |location: &StaticLocation| {
        let (page, _) = page(location)?;
        Some(format!(
            "the page for missing files of {}, {page}, is not in {}: until it is there, they are 404 (make the file, or change static_missing, or missing in [[location]])",
            location.prefix,
            location.dir.display()
        ))
    };
    let absent = |location: &StaticLocation| {
        let file = location.dir.join(location.file.as_ref()?);
        let (place, file, is_there) = (location.place(), file.display(), file.is_file());
        (!is_there).then(|| format!("there is no file {file}: until it is there, {place} is 404"))
    };
    let pages = locations.iter().filter(lacks).filter_map(warning);
    pages.chain(locations.iter().filter_map(absent)).collect()
}

pub(super) fn static_location(
    text: &str,
    directory: impl FnOnce(&str) -> Result<PathBuf, Invalid>,
) -> Result<StaticLocation, Invalid> {
    let remedy = "give PREFIX=DIR, as in `/media=uploads`";
    let (prefix, dir) = text
        .split_once('=')
        .ok_or_else(|| invalid("no `=` between prefix and directory", remedy))?;
    if !prefix.starts_with('/') {
        return Err(invalid("the prefix does not start with `/`", remedy));
    }
    let prefix = plain_prefix(prefix)?;
    Ok(StaticLocation::new(prefix, directory(dir)?))
}

/// Has the locations of this prefix changed.
fn for_prefix(
    prefix: &str,
    locations: &mut [&mut StaticLocation],
    mut change: impl FnMut(&mut StaticLocation),
) -> Result<(), Invalid> {
    let mut is_known = false;
    for location in locations.iter_mut() {
        if location.prefix.trim_end_matches('/') == prefix.trim_end_matches('/') {
            change(location);
            is_known = true;
        }
    }
    if is_known {
        return Ok(());
    }
    let known: Vec<_> = locations
        .iter()
        .map(|other| other.prefix.as_str())
        .collect();
    Err(invalid(
        format!("there is no static location {prefix}"),
        format!("give one of {}", known.join(", ")),
    ))
}

/// Reads `yes`, `no` or `json`.
fn listing(text: &str) -> Result<Listing, Invalid> {
    match (text.eq_ignore_ascii_case("json"), values::yes_or_no(text)) {
        (true, _) => Ok(Listing::Json),
        (false, Ok(true)) => Ok(Listing::AsAsked),
        (false, Ok(false)) => Ok(Listing::No),
        (false, Err(_)) => Err(invalid("no form of a listing", "give yes, no or json")),
    }
}

fn immutable(text: &str) -> Result<Immutable, Invalid> {
    let choices = [
        ("auto", Immutable::Auto),
        ("manifest", Immutable::Manifest),
        ("no", Immutable::No),
        ("off", Immutable::No),
        ("false", Immutable::No),
    ];
    listed_choice(text, &choices, 3)
}

/// Reads `EXT=TYPE`.
pub(super) fn file_type(text: &str) -> Result<(String, String), Invalid> {
    let remedy = "give EXT=TYPE, as in `ts=video/mp2t`";
    let (end, media_type) = text
        .split_once('=')
        .ok_or_else(|| invalid("no `=` between the end of a name and its type", remedy))?;
    let end = end.trim().trim_start_matches('.');
    if end.is_empty() || end.contains('/') || end.chars().any(char::is_control) {
        return Err(invalid(
            "neither an extension nor the name of a file",
            remedy,
        ));
    }
    native::utf8_alone(end)?;
    let media_type = media_type.trim();
    if !values::is_media_type(media_type) {
        return Err(invalid("no media type", remedy));
    }
    Ok((end.to_lowercase(), media_type.to_owned()))
}

fn missing(text: &str) -> Result<Missing, Invalid> {
    match text {
        "404" => return Ok(Missing::Refuse),
        "app" => return Ok(Missing::App),
        _ if text.starts_with('@') => return reference(text).map(Missing::Named),
        _ => {}
    }
    native::utf8_alone(text)?;
    let file = text.trim_start_matches('/');
    let is_plain = file
        .split('/')
        .all(|name| !matches!(name, "" | "." | "..") && !name.contains('\\'));
    if !is_plain || file.chars().any(char::is_control) {
        return Err(invalid(
            "neither `404` nor `app` nor `@NAME` nor the path of a file in the location",
            "give one of them, as in `index.html`",
        ));
    }
    Ok(Missing::Page(file.to_owned()))
}

/// In place of a directory: no directory is served by its name.
const NO_ROOT: &str = "none";
/// Directories below the root that are served without being asked for.
const PREDEFINED: [&str; 4] = ["static", "css", "js", "images"];
