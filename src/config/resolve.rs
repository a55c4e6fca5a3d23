//! From layers of texts to the final [`Config`]: precedence, meaning, defaults.
//!
//! Every setting is looked up once, in the order of `Resolver::config`: where the
//! application is, how it is run, where to listen, how much is allowed, what is logged. A
//! default that the table writes out is read like any other value; what a computed default
//! is, stands here and in the files below alone, one for each concern.
//!
//! Relative paths are below `chdir`; `chdir` itself is relative to the current directory,
//! or to the directory of the settings file that names it.

mod access;
mod acme;
mod application;
mod apps;
mod bodies;
mod clients;
mod companions;
mod front;
pub(super) mod identity;
mod locations;
mod logging;
mod names;
pub mod operations;
mod responses;
mod static_files;
mod stopping;
mod tables;
mod tls;
mod types_files;
mod upstream;
mod workers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Invalid, invalid};
use super::foreign::image::Image;
use super::foreign::secrets;
use super::layers::{Layer, SettingEntry, SettingOrigin};
use super::settings::{self, Default};
use super::{Config, HostFacts, Resolved, UnknownHost, native, values};
use crate::os::access::{AccessKind, obstacle};

/// Resolves the layers, the strongest first. `settings_file` is the file that was read.
///
/// # Errors
/// [`ConfigError`] for the first setting that cannot be used.
pub fn resolve(
    layers: &[Layer],
    settings_file: Option<PathBuf>,
    surroundings: &HostFacts,
) -> Result<Resolved, ConfigError> {
    let mut resolver = Resolver {
        layers,
        surroundings,
        shown: BTreeMap::new(),
        warnings: Vec::new(),
    };
    resolver.foreign_files()?;
    let config = resolver.config(settings_file)?;
    let origins = settings::all()
        .filter_map(|setting| {
            let (value, origin) = resolver.shown.remove(setting.name)?;
            Some((setting.name, value, origin))
        })
        .collect();
    Ok(Resolved {
        config,
        origins,
        notices: Vec::new(),
    })
}

/// The settings file to read: the one that was named, else `pyserve.toml` in the current
/// directory if it is there.
///
/// # Errors
/// [`ConfigError::Value`] if the file that was named is not there.
pub fn settings_file(
    layers: &[&Layer],
    surroundings: &HostFacts,
) -> Result<Option<PathBuf>, ConfigError> {
    let Some(entry) = layers.iter().find_map(|layer| layer.entry("config")) else {
        let path = surroundings.current_dir.join(SETTINGS_FILE);
        // It may be in there. With a chdir elsewhere the current directory does not matter.
        if !layers.iter().any(|layer| layer.entry("chdir").is_some())
            && let Some(obstacle) = obstacle(&surroundings.current_dir, AccessKind::Search)
        {
            return Err(ConfigError::CurrentDirectory {
                path: surroundings.current_dir.clone(),
                problem: obstacle.to_string(),
            });
        }
        return Ok(path.is_file().then(|| PathBuf::from(SETTINGS_FILE)));
    };
    single("config", entry, |path| {
        let path = native::path(path);
        let absolute = surroundings.current_dir.join(&path);
        if absolute.is_file() {
            Ok(Some(path))
        } else {
            let problem = match obstacle(&absolute, AccessKind::Read) {
                Some(obstacle) => format!("cannot read it: {obstacle}"),
                None => "there is no such file".to_owned(),
            };
            Err(invalid(
                problem,
                format!("give an existing one, or leave it out for ./{SETTINGS_FILE}"),
            ))
        }
    })
}

/// The settings file that is read unasked.
const SETTINGS_FILE: &str = "pyserve.toml";
/// Least address space of an interpreter with an application.
const LEAST_ADDRESS_SPACE: u64 = 64 << 20;
/// Longest queue: a million waiting requests take gigabytes and hours.
const LONGEST_QUEUE: u32 = 1_000_000;

struct Resolver<'a> {
    layers: &'a [Layer],
    surroundings: &'a HostFacts,
    /// Value for people and origin, by setting.
    shown: BTreeMap<&'static str, (String, String)>,
    warnings: Vec<String>,
}

impl Resolver<'_> {
    fn config(&mut self, settings_file: Option<PathBuf>) -> Result<Config, ConfigError> {
        let chdir = self.chdir()?;
        let settings_file = self.settings_file(settings_file, &chdir);
        let dev = self.one("dev", values::yes_or_no)?;
        let tables = self.location_tables()?;
        let run_as = self.run_as()?;
        let access = self.access(&tables, &chdir, run_as.as_ref())?;
        let release = self.release(&chdir, &tables);
        let response_rules = self.response_rules(&chdir)?;
        let (static_locations, internal_locations, every_location) =
            self.file_locations(&tables, &chdir, dev, &response_rules)?;
        let servers = self.servers(&chdir)?;
        let (app, upstream) = self.whole_site(&servers, &chdir, &static_locations, &tables)?;
        let temp_dir = self.temp_dir(&chdir)?;
        let apps = tables.iter().filter(|given| given.is_app()).count() + app.iter().len();
        let common = self.common(&chdir, &temp_dir, dev, apps, app.is_some())?;
        let settings = self.location_settings()?;
        let general = (settings, &response_rules);
        let (locations, apps) =
            self.other_locations(app, upstream, &tables, &common, &servers, general)?;
        self.check_locations(&tables, &locations, &static_locations, &response_rules)?;
        self.warn_of_interpreters(&apps);
        let companions = self.companions(run_as.as_ref())?;
        let (graceful_timeout, drain_delay) = self.stopping(&companions)?;
        let bind = self.bind(&chdir)?;
        Ok(application::settled(Config {
            apps,
            companions,
            env: common.env().to_vec(),
            before_start: self.before_start()?,
            locations,
            location_settings: settings,
            access,
            https: self.https(&chdir, &bind)?,
            bind,
            static_locations,
            internal_locations,
            every_location,
            static_files: self.static_files(&chdir, dev)?,
            graceful_timeout,
            drain_delay,
            upgrade_timeout: self.one("upgrade_timeout", values::positive_duration)?,
            startup_log: self.startup_log(&chdir)?,
            response_spool: self.response_spool()?,
            response_rules,
            unknown_host: self.one("unknown_host", UnknownHost::parse)?,
            compress_types: self.compress_types()?,
            header_timeout: self.one("header_timeout", values::positive_duration)?,
            keepalive_timeout: self.one("keepalive_timeout", values::duration)?,
            client_limits: self.client_limits()?,
            trust: self.trust()?,
            proxy_protocol: self.peers("proxy_protocol")?,
            access_log: self.access_log(dev)?,
            access_log_lines: self.access_log_lines()?,
            log_files: self.log_files(&chdir)?,
            umask: self.umask()?,
            pidfile: self.file("pidfile", &chdir)?,
            control_fifo: self.file("control_fifo", &chdir)?,
            is_image: self.is_image()?,
            log_format: self.log_format()?,
            log_level: self.one("log_level", values::log_filter)?,
            server_header: self.one("server_header", values::yes_or_no)?,
            dev,
            control: self.control(&chdir, &temp_dir)?,
            temp_dir,
            run_as,
            socket_files: self.socket_files()?,
            admin: self.admin(&chdir)?,
            admin_on_main: self.one("admin_on_main", values::yes_or_no)?,
            front_threads: self.front_threads()?,
            settings_file,
            reloads: self.reloads(&chdir, dev)?,
            warnings: std::mem::take(&mut self.warnings),
            current_dir: release.settle(&self.surroundings.current_dir),
            source_dirs: Vec::new(),
            physical_dirs: Vec::new(),
            release,
            chdir,
        }))
    }

    /// Files of other servers have been read; their names are shown.
    fn foreign_files(&mut self) -> Result<(), ConfigError> {
        self.many("ini", |_| Ok(()))?;
        self.many("prestart", |_| Ok(()))?;
        for name in ["nginx", "gunicorn", "supervisord"] {
            if self.optional(name, |_| Ok(()))?.is_none() {
                self.show_default(name, "none".to_owned());
            }
        }
        Ok(())
    }

    /// Variables and files of other images have been read.
    fn is_image(&mut self) -> Result<bool, ConfigError> {
        let image = self.one("image", |text| values::choice(text, &Image::CHOICES))?;
        Ok(image != Image::No)
    }

    // Looking up.

    /// The entry of the layer with the highest precedence.
    fn entry(&self, name: &str) -> Option<&SettingEntry> {
        self.layers.iter().find_map(|layer| layer.entry(name))
    }

    /// A setting whose default is written in the table.
    fn one<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, Invalid>,
    ) -> Result<T, ConfigError> {
        if let Some(value) = self.optional(name, &parse)? {
            return Ok(value);
        }
        let text = match settings::named(name).map(|setting| setting.default) {
            Some(Default::Value(text)) => text,
            _ => "",
        };
        let value =
            parse(text).map_err(|invalid| wrong(name, text, &SettingOrigin::Default, invalid))?;
        self.show_default(name, text.to_owned());
        Ok(value)
    }

    /// A setting that may be absent.
    fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, Invalid>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(entry) = self.entry(name) else {
            return Ok(None);
        };
        let value = single(name, entry, parse)?;
        self.show(name, entry.values.join(" "), entry.origin.to_string());
        Ok(Some(value))
    }

    /// A repeatable setting; `None` if it is not set.
    fn many<T>(
        &mut self,
        name: &'static str,
        mut parse: impl FnMut(&str) -> Result<T, Invalid>,
    ) -> Result<Option<Vec<T>>, ConfigError> {
        let Some(entry) = self.entry(name) else {
            self.show_default(name, "none".to_owned());
            return Ok(None);
        };
        let values = entry
            .values
            .iter()
            .map(|text| parse(text).map_err(|invalid| wrong(name, text, &entry.origin, invalid)))
            .collect::<Result<_, _>>()?;
        self.show(name, entry.values.join(", "), entry.origin.to_string());
        Ok(Some(values))
    }

    /// A setting of several directories, of which those of a foreign file may be missing.
    fn directories(
        &mut self,
        name: &'static str,
        base: &Path,
    ) -> Result<Vec<PathBuf>, ConfigError> {
        let is_foreign = self.is_foreign(name);
        let mut missing = Vec::new();
        let dirs = self.many(name, |text| match name {
            "pythonpath" if is_archive(&base.join(native::path(text)), is_foreign) => {
                Ok(base.join(native::path(text)))
            }
            _ => directory(text, base, is_foreign, &mut missing),
        })?;
        self.warn_of_missing(name, &missing);
        Ok(dirs.unwrap_or_default())
    }

    /// True if a foreign file says what the setting is.
    fn is_foreign(&self, name: &str) -> bool {
        let entry = self.entry(name);
        entry.is_some_and(|entry| matches!(entry.origin, SettingOrigin::Foreign { .. }))
    }

    /// Warns of settings that are given although something is missing without which they have no effect.
    fn warn_of_idle(&mut self, names: &[&str], missing: &str) {
        for name in names {
            if let Some(entry) = self.entry(name)
                && !self.is_foreign(name)
            {
                let warning = format!("{}: {name} has no effect: {missing}", entry.origin);
                self.warnings.push(warning);
            }
        }
    }

    fn warn_of_missing(&mut self, name: &str, missing: &[PathBuf]) {
        let origin = self.entry(name).map(|entry| entry.origin.to_string());
        for dir in missing {
            let origin = origin.as_deref().unwrap_or_default();
            let dir = dir.display();
            self.warnings
                .push(format!("{origin}: {name}: there is no directory {dir} now"));
        }
    }

    fn show(&mut self, name: &'static str, value: String, origin: String) {
        let value = native::shown(&value).into_owned();
        let value = match name {
            "app" | "argv" | "env" | "before_start" | "uwsgi_param" => {
                let known = self.layers.iter().flat_map(|layer| &layer.secrets);
                secrets::hidden(&value, known)
            }
            // Its fields are named: what foreign lines hide is not shown here.
            "header" => {
                let known = self.layers.iter().flat_map(|layer| &layer.secrets);
                secrets::without_known(&value, known)
            }
            _ => value,
        };
        self.shown.insert(name, (value, origin));
    }

    fn show_default(&mut self, name: &'static str, value: String) {
        self.show(name, value, SettingOrigin::Default.to_string());
    }
}

/// Reads the value of a setting that takes one.
fn single<T>(
    name: &str,
    entry: &SettingEntry,
    parse: impl FnOnce(&str) -> Result<T, Invalid>,
) -> Result<T, ConfigError> {
    let text = match entry.values.as_slice() {
        [text] => text,
        _ => {
            let all = entry.values.join(" ");
            let several = invalid("this setting takes one value", "give one");
            return Err(wrong(name, &all, &entry.origin, several));
        }
    };
    parse(text).map_err(|invalid| wrong(name, text, &entry.origin, invalid))
}

fn wrong(name: &str, value: &str, origin: &SettingOrigin, invalid: Invalid) -> ConfigError {
    let place = origin.spell(name, value);
    let hides = name.ends_with("env")
        || name.ends_with("command")
        || name.ends_with("_param")
        || name.ends_with("app");
    ConfigError::Value {
        place: if hides {
            secrets::masked(&place)
        } else {
            place
        },
        // Both may quote the value.
        problem: native::shown(&invalid.problem).into_owned(),
        remedy: native::shown(&invalid.remedy).into_owned(),
    }
}

/// One of the choices, of which only the first `listed` are named in an error.
fn listed_choice<T: Copy>(text: &str, choices: &[(&str, T)], listed: usize) -> Result<T, Invalid> {
    values::choice(text, choices).or_else(|_| values::choice(text, &choices[..listed]))
}

/// True for a file from which Python imports modules as from a directory (`zipimport`), and for a directory in
/// one. A foreign file may give it any name.
fn is_archive(path: &Path, is_foreign: bool) -> bool {
    let file = path.ancestors().find(|part| part.is_file());
    file.is_some_and(|file| {
        let ending = file.extension().and_then(|ending| ending.to_str());
        is_foreign || matches!(ending, Some("zip" | "egg" | "whl" | "pyz"))
    })
}

/// As [`existing_directory`]; a directory that a foreign file names may be missing, as other servers do not
/// look at the start. It becomes one of the `missing`.
fn directory(
    text: &str,
    base: &Path,
    is_foreign: bool,
    missing: &mut Vec<PathBuf>,
) -> Result<PathBuf, Invalid> {
    let dir: PathBuf = base.join(native::path(text)).components().collect();
    match is_foreign && !text.is_empty() && !dir.is_dir() {
        true => {
            missing.push(dir.clone());
            Ok(dir)
        }
        false => existing_directory(text, base),
    }
}

fn existing_directory(text: &str, base: &Path) -> Result<PathBuf, Invalid> {
    if text.is_empty() {
        return Err(invalid("no directory", "give one, as in `.`"));
    }
    // Without `.`; `..` stays, because what it means depends on links.
    let dir: PathBuf = base.join(native::path(text)).components().collect();
    if dir.is_dir() {
        return Ok(dir);
    }
    let shown = dir.display();
    let problem = match std::fs::read_link(&dir) {
        _ if dir.exists() => format!("{shown} is not a directory"),
        Ok(target) => match obstacle(&dir, AccessKind::Search) {
            Some(obstacle) => format!("cannot use {shown}: {obstacle}"),
            None => {
                let target = target.display();
                format!("{shown} is a link to {target}, which is not there")
            }
        },
        Err(_) => match obstacle(&dir, AccessKind::Search) {
            Some(obstacle) => format!("cannot use {shown}: {obstacle}"),
            None => format!("there is no directory {shown}"),
        },
    };
    Err(invalid(
        problem,
        format!(
            "give an existing one; relative paths are below {}",
            base.display()
        ),
    ))
}

#[cfg(test)]
mod location_tests;
#[cfg(test)]
mod static_file_tests;
#[cfg(test)]
mod tests;
