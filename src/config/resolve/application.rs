//! The application, its directory and its interpreter.

use std::path::{Path, PathBuf};

use super::tables::{Given, leave_room, make_room};
use super::upstream::Servers;
use super::{Resolver, SETTINGS_FILE, existing_directory, single, wrong};
use crate::config::app::AppRef;
use crate::config::discovery::{self, Discovery};
use crate::config::error::{ConfigError, invalid};
use crate::config::interpreter::{Places, PythonChoice};
use crate::config::layers::{SettingEntry, SettingOrigin};
use crate::config::upstream::UpstreamSettings;
use crate::config::{Config, HostFacts, Release, StaticLocation};

impl<'a> Resolver<'a> {
    pub(super) fn chdir(&mut self) -> Result<PathBuf, ConfigError> {
        let current = &self.surroundings.current_dir;
        let Some(entry) = self.entry("chdir") else {
            if let Err(error) = std::fs::metadata(current) {
                return Err(ConfigError::CurrentDirectory {
                    path: current.clone(),
                    problem: error.to_string(),
                });
            }
            self.show_default("chdir", current.display().to_string());
            return Ok(current.clone());
        };
        let base = match &entry.origin {
            SettingOrigin::File { path, .. } => {
                current.join(path.parent().unwrap_or(Path::new("")))
            }
            _ => current.clone(),
        };
        let chdir = single("chdir", entry, |text| existing_directory(text, &base))?;
        self.show(
            "chdir",
            chdir.display().to_string(),
            entry.origin.to_string(),
        );
        Ok(chdir)
    }

    /// The links on the way to the directories of the applications.
    pub(super) fn release(&self, chdir: &Path, tables: &[Given<'_>]) -> Release {
        let current = &self.surroundings.current_dir;
        let own: Vec<_> = tables
            .iter()
            // A wrong one is reported where it is used.
            .filter_map(|given| {
                let dir = given.optional("chdir", |text| existing_directory(text, chdir));
                dir.ok().flatten()
            })
            .collect();
        let all = [&**current, chdir].into_iter();
        Release::of(all.chain(own.iter().map(PathBuf::as_path)))
    }

    /// Shows which file was read, and warns of one beside the application that was not.
    /// Returns its whole path.
    pub(super) fn settings_file(&mut self, file: Option<PathBuf>, chdir: &Path) -> Option<PathBuf> {
        let current = &self.surroundings.current_dir;
        let path = file.as_ref().map(|path| current.join(path));
        let beside_app = chdir.join(SETTINGS_FILE);
        match file {
            Some(file) => {
                let origin = self
                    .entry("config")
                    .map_or(SettingOrigin::Default, |entry| entry.origin.clone());
                self.show("config", file.display().to_string(), origin.to_string());
            }
            None => {
                if beside_app.is_file() {
                    self.warnings.push(format!(
                        "{} is not read, because it is not in the current directory (name it with --config)",
                        beside_app.display()
                    ));
                }
                self.show_default("config", "none".to_owned());
            }
        }
        path
    }

    /// The handler of the whole site: an application, or upstream servers.
    pub(super) fn whole_site(
        &mut self,
        servers: &Servers,
        chdir: &Path,
        static_locations: &[StaticLocation],
        tables: &[Given<'_>],
    ) -> Result<(Option<AppRef>, Option<UpstreamSettings>), ConfigError> {
        let upstream = self.upstream(servers, chdir, tables)?;
        let app = match upstream {
            Some(_) => None,
            None => self.app(chdir, static_locations, tables)?,
        };
        Ok((app, upstream))
    }

    pub(super) fn app(
        &mut self,
        chdir: &Path,
        static_locations: &[StaticLocation],
        tables: &[Given<'_>],
    ) -> Result<Option<AppRef>, ConfigError> {
        if let Some(app) = self.optional("app", |text| AppRef::parse(text, chdir))? {
            make_room(tables, "the application of --app")?;
            return Ok(Some(app));
        }
        if !leave_room(tables) {
            self.show_default("app", "none, a location answers in its place".to_owned());
            return Ok(None);
        }
        match discovery::discover(chdir)? {
            Discovery::Found(app) => {
                self.show(
                    "app",
                    app.to_string(),
                    format!("found: {}", app.found.as_deref().unwrap_or_default()),
                );
                Ok(Some(app))
            }
            Discovery::Nothing(_) if !static_locations.is_empty() || !tables.is_empty() => {
                self.show_default("app", "none".to_owned());
                Ok(None)
            }
            Discovery::Nothing(looked_for) => Err(ConfigError::NothingToServe {
                directory: chdir.to_owned(),
                looked_for,
            }),
        }
    }

    /// Finds the interpreter, and returns true if the settings name it. It has to exist if it
    /// `is_needed`.
    pub(super) fn python(
        &mut self,
        chdir: &Path,
        is_needed: bool,
    ) -> Result<(PythonChoice, bool), ConfigError> {
        let places = self.places(chdir);
        // The stronger layer wins: a flag --python over a PYSERVE_VENV of the image.
        let named = self.layers.iter().find_map(|layer| {
            match (layer.entry("python"), layer.entry("venv")) {
                (None, None) => None,
                both => Some(both),
            }
        });
        let (python, venv) = named.unwrap_or((None, None));
        let choice = named_python(["python", "venv"], python, venv, &places)?;
        let choice = choice.unwrap_or_else(|| PythonChoice::automatic(&places));
        if let (None, Some(venv)) = (python, venv) {
            self.show("venv", venv.values.join(" "), venv.origin.to_string());
        }
        match choice.find() {
            Ok(interpreter) => self.show(
                "python",
                interpreter.path.display().to_string(),
                interpreter.origin,
            ),
            Err(error) if is_needed || named.is_some() => return Err(error),
            Err(_) => self.show_default("python", "none".to_owned()),
        }
        Ok((choice, named.is_some()))
    }

    /// Places in which an interpreter is looked for.
    pub(super) fn places<'p>(&self, chdir: &'p Path) -> Places<'p>
    where
        'a: 'p,
    {
        let surroundings: &'a HostFacts = self.surroundings;
        Places {
            chdir,
            executable: surroundings.executable.as_deref(),
            virtual_env: surroundings.environment.variable("VIRTUAL_ENV"),
            path: surroundings.environment.variable("PATH"),
        }
    }

    pub(super) fn pythonpath(&mut self, chdir: &Path) -> Result<Vec<PathBuf>, ConfigError> {
        self.directories("pythonpath", chdir)
    }
}

/// Replaces the links of the release in all paths that belong to it, and notes what depends on the disk.
pub(super) fn settled(mut config: Config) -> Config {
    let apps = config.apps.iter();
    config.source_dirs = apps
        .flat_map(|app| std::iter::once(&app.chdir).chain(&app.pythonpath))
        .cloned()
        .collect();
    let release = std::mem::take(&mut config.release);
    release.settle_config(&mut config);
    config.release = release;
    let internal = config.internal_locations.iter();
    let locations = config.static_locations.iter().chain(internal);
    config.physical_dirs = locations
        .map(|location| {
            std::fs::canonicalize(&location.dir).unwrap_or_else(|_| location.dir.clone())
        })
        .collect();
    config
}

/// The interpreter that the settings name, by one of two settings with these names.
pub(super) fn named_python(
    names: [&str; 2],
    python: Option<&SettingEntry>,
    venv: Option<&SettingEntry>,
    places: &Places<'_>,
) -> Result<Option<PythonChoice>, ConfigError> {
    let name = |text: &str| {
        if text.is_empty() {
            Err(invalid("no path", "give one"))
        } else {
            Ok(text.to_owned())
        }
    };
    match (python, venv) {
        (Some(python), Some(venv)) => Err(wrong(
            names[0],
            &python.values.join(" "),
            &python.origin,
            invalid(
                format!("{} names an interpreter as well", venv.origin),
                "give only one of python and venv",
            ),
        )),
        (Some(python), None) => {
            let file = single(names[0], python, name)?;
            let origin = python.origin.to_string();
            Ok(Some(PythonChoice::python(&file, &origin, places)))
        }
        (None, Some(venv)) => {
            let dir = single(names[1], venv, name)?;
            let origin = venv.origin.to_string();
            Ok(Some(PythonChoice::venv(&dir, &origin, places)))
        }
        (None, None) => Ok(None),
    }
}
