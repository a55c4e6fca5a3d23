//! Static locations: which there are, and what holds for their files.

use std::path::Path;
use std::time::Duration;

use super::tables::{Given, plain_prefix};
use super::{Resolver, existing_directory, listed_choice};
use crate::config::error::{ConfigError, Invalid, invalid};
use crate::config::layers::Origin;
use crate::config::{Immutable, Missing, StaticLocation, StaticSettings, values};

impl Resolver<'_> {
    pub(super) fn static_locations(
        &mut self,
        tables: &[Given<'_>],
        chdir: &Path,
    ) -> Result<Vec<StaticLocation>, ConfigError> {
        let root = self.optional("root", |text| existing_directory(text, chdir))?;
        if root.is_none() {
            self.show_default("root", chdir.display().to_string());
        }
        let root = root.unwrap_or_else(|| chdir.to_owned());
        let mut locations = self.locations("static", chdir)?;
        for name in PREDEFINED {
            let prefix = format!("/{name}");
            let dir = root.join(name);
            let is_taken = locations.iter().any(|location| location.prefix == prefix)
                || tables.iter().any(|given| given.prefix == prefix);
            if dir.is_dir() && !is_taken {
                locations.push(StaticLocation {
                    predefined: true,
                    ..StaticLocation::new(prefix, dir)
                });
            }
        }
        self.show_locations("static", &locations);
        add_files(tables, &mut locations, chdir)?;
        Ok(locations)
    }

    pub(super) fn internal_locations(
        &mut self,
        chdir: &Path,
    ) -> Result<Vec<StaticLocation>, ConfigError> {
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
        self.many(setting, |text| {
            let location = static_location(text, chdir)?;
            let is_known = |other: &StaticLocation| other.prefix == location.prefix;
            if locations.iter().any(is_known) {
                return Err(invalid("the prefix is given twice", "remove one of them"));
            }
            locations.push(location);
            Ok(())
        })?;
        Ok(locations)
    }

    fn show_locations(&mut self, setting: &'static str, locations: &[StaticLocation]) {
        let shown = locations
            .iter()
            .map(|location| format!("{}={}", location.prefix, location.dir.display()))
            .collect::<Vec<_>>();
        let origin = self
            .entry(setting)
            .map_or(Origin::Default, |entry| entry.origin.clone());
        let shown = if shown.is_empty() {
            "none".to_owned()
        } else {
            shown.join(", ")
        };
        self.show(setting, shown, origin.to_string());
    }

    pub(super) fn static_missing(
        &mut self,
        locations: &mut [StaticLocation],
    ) -> Result<(), ConfigError> {
        let given = self.many("static_missing", |text| {
            for_locations(text, locations, |location, text| {
                location.missing = missing(text)?;
                Ok(())
            })
        })?;
        if given.is_none() {
            self.show_default("static_missing", "404".to_owned());
        }
        Ok(())
    }

    pub(super) fn static_max_age(
        &mut self,
        locations: &mut [StaticLocation],
        dev: bool,
    ) -> Result<(), ConfigError> {
        if dev {
            for location in locations.iter_mut() {
                location.max_age = Some(Duration::ZERO);
            }
        }
        let given = self.many("static_max_age", |text| {
            for_locations(text, locations, |location, text| {
                location.max_age = Some(values::duration(text)?);
                Ok(())
            })
        })?;
        if given.is_none() {
            let shown = if dev { "0" } else { "60, and 0 for HTML" };
            self.show_default("static_max_age", shown.to_owned());
        }
        Ok(())
    }

    pub(super) fn static_files(
        &mut self,
        chdir: &Path,
        dev: bool,
    ) -> Result<StaticSettings, ConfigError> {
        let immutable = [
            ("auto", Immutable::Auto),
            ("manifest", Immutable::Manifest),
            ("no", Immutable::No),
            ("off", Immutable::No),
            ("false", Immutable::No),
        ];
        let (brotli, gzip) = self.static_compress()?;
        let check = match self.optional("static_check", values::duration)? {
            Some(check) => check,
            None => {
                let seconds = u64::from(!dev);
                self.show_default("static_check", seconds.to_string());
                Duration::from_secs(seconds)
            }
        };
        let links = self.many("static_links", |text| existing_directory(text, chdir))?;
        Ok(StaticSettings {
            immutable: self.one("static_immutable", |text| {
                listed_choice(text, &immutable, 3)
            })?,
            brotli,
            gzip,
            cache: self.one("static_cache", values::byte_room)?,
            check,
            links: links.unwrap_or_default(),
            hidden: self.one("static_hidden", values::yes_or_no)?,
        })
    }

    /// Whether to compress by brotli, and by gzip.
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

/// Adds the tables that name files to the locations of `--static`.
fn add_files(
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

pub(super) fn static_location(text: &str, chdir: &Path) -> Result<StaticLocation, Invalid> {
    let remedy = "give PREFIX=DIR, as in `/media=uploads`";
    let (prefix, dir) = text
        .split_once('=')
        .ok_or_else(|| invalid("no `=` between prefix and directory", remedy))?;
    if !prefix.starts_with('/') {
        return Err(invalid("the prefix does not start with `/`", remedy));
    }
    let prefix = plain_prefix(prefix)?;
    Ok(StaticLocation::new(prefix, existing_directory(dir, chdir)?))
}

/// Reads `[PREFIX=]VALUE`, and gives the value to the location of that prefix, or to all.
fn for_locations(
    text: &str,
    locations: &mut [StaticLocation],
    mut set: impl FnMut(&mut StaticLocation, &str) -> Result<(), Invalid>,
) -> Result<(), Invalid> {
    let Some((prefix, value)) = text.split_once('=').filter(|_| text.starts_with('/')) else {
        return locations
            .iter_mut()
            .try_for_each(|location| set(location, text));
    };
    let is_meant = |location: &&mut StaticLocation| {
        location.prefix.trim_end_matches('/') == prefix.trim_end_matches('/')
    };
    match locations.iter_mut().find(is_meant) {
        Some(location) => set(location, value),
        None => {
            let known: Vec<_> = locations
                .iter()
                .map(|other| other.prefix.as_str())
                .collect();
            Err(invalid(
                format!("there is no static location {prefix}"),
                format!("give one of {}", known.join(", ")),
            ))
        }
    }
}

fn missing(text: &str) -> Result<Missing, Invalid> {
    match text {
        "404" => return Ok(Missing::Refuse),
        "app" => return Ok(Missing::App),
        _ => {}
    }
    let file = text.trim_start_matches('/');
    let is_plain = file
        .split('/')
        .all(|name| !matches!(name, "" | "." | "..") && !name.contains('\\'));
    if !is_plain || file.chars().any(char::is_control) {
        return Err(invalid(
            "neither `404` nor `app` nor the path of a file in the location",
            "give one of them, as in `index.html`",
        ));
    }
    Ok(Missing::Page(file.to_owned()))
}

/// Directories below the root that are served without being asked for.
const PREDEFINED: [&str; 4] = ["static", "css", "js", "images"];
