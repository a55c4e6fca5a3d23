//! From layers of texts to the final [`Config`]: precedence, meaning, defaults.
//!
//! Every setting is looked up once, in the order of `Resolver::config`: where the
//! application is, how it is run, where to listen, how much is allowed, what is logged. A
//! default that the table writes out is read like any other value; what a computed default
//! is, stands here alone.
//!
//! Relative paths are below `chdir`; `chdir` itself is relative to the current directory,
//! or to the directory of the settings file that names it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pyserve_wire::control::Preload;
use pyserve_wire::scoreboard::MAX_THREADS;

use super::app::{self, AppRef, Discovery};
use super::error::{ConfigError, Invalid, invalid};
use super::interpreter::{Places, PythonChoice};
use super::layers::{Entry, Layer, Origin};
use super::settings::{self, Default, SETTINGS};
use super::{
    AccessLog, Config, Immutable, ListenAddress, LogFormat, Missing, Resolved, StaticLocation,
    StaticSettings, Surroundings, Trust, Workers, sizing, values,
};

/// Resolves the layers, the strongest first. `settings_file` is the file that was read.
///
/// # Errors
/// [`ConfigError`] for the first setting that cannot be used.
pub fn resolve(
    layers: &[Layer],
    settings_file: Option<PathBuf>,
    surroundings: &Surroundings,
) -> Result<Resolved, ConfigError> {
    let mut resolver = Resolver {
        layers,
        surroundings,
        shown: BTreeMap::new(),
        warnings: Vec::new(),
    };
    let config = resolver.config(settings_file)?;
    let origins = SETTINGS
        .iter()
        .filter_map(|setting| {
            let (value, origin) = resolver.shown.remove(setting.name)?;
            Some((setting.name, value, origin))
        })
        .collect();
    Ok(Resolved { config, origins })
}

/// The settings file to read: the one that was named, else `pyserve.toml` in the current
/// directory if it is there.
///
/// # Errors
/// [`ConfigError::Value`] if the file that was named is not there.
pub fn settings_file(
    layers: &[&Layer],
    surroundings: &Surroundings,
) -> Result<Option<PathBuf>, ConfigError> {
    let Some(entry) = layers.iter().find_map(|layer| layer.entry("config")) else {
        let is_there = surroundings.current_dir.join(SETTINGS_FILE).is_file();
        return Ok(is_there.then(|| PathBuf::from(SETTINGS_FILE)));
    };
    single("config", entry, |path| {
        if surroundings.current_dir.join(path).is_file() {
            Ok(Some(PathBuf::from(path)))
        } else {
            Err(invalid(
                "there is no such file",
                format!("give an existing one, or leave it out for ./{SETTINGS_FILE}"),
            ))
        }
    })
}

/// The settings file that is read unasked.
const SETTINGS_FILE: &str = "pyserve.toml";

/// Directories below the root that are served without being asked for.
const PREDEFINED: [&str; 4] = ["static", "css", "js", "images"];

/// Most worker processes, and most threads in each: typing errors end here. Both together
/// are bounded by what a scoreboard can name.
const MOST_WORKERS: u32 = 1024;
const MOST_THREADS: u32 = 1024;

/// Most threads of the front; more than there are CPUs are never of use.
const MOST_FRONT_THREADS: u32 = 256;

/// Longest queue: a million waiting requests take gigabytes and hours.
const LONGEST_QUEUE: u32 = 1_000_000;

struct Resolver<'a> {
    layers: &'a [Layer],
    surroundings: &'a Surroundings,
    /// Value for people and origin, by setting.
    shown: BTreeMap<&'static str, (String, String)>,
    warnings: Vec<String>,
}

impl Resolver<'_> {
    fn config(&mut self, settings_file: Option<PathBuf>) -> Result<Config, ConfigError> {
        let chdir = self.chdir()?;
        self.settings_file(settings_file, &chdir);
        let dev = self.one("dev", values::yes_or_no)?;
        let mut static_locations = self.static_locations(&chdir)?;
        self.static_missing(&mut static_locations)?;
        self.static_max_age(&mut static_locations, dev)?;
        let app = self.app(&chdir, &static_locations)?;
        let python = self.python(&chdir, app.is_some())?;
        let threads = self.one("threads", |text| values::count(text, 1, MOST_THREADS))?;
        let workers = self.workers(threads, dev)?;
        Ok(Config {
            app,
            python,
            pythonpath: self.pythonpath(&chdir)?,
            bind: self.bind(&chdir)?,
            static_locations,
            internal_locations: self.internal_locations(&chdir)?,
            django_static: self.one("django_static", values::yes_or_no)?,
            django_media: self.one("django_media", values::yes_or_no)?,
            static_files: self.static_files(&chdir, dev)?,
            workers,
            threads,
            preload: self.one("preload", preload)?,
            queue_limit: self.one("queue_limit", |text| values::count(text, 1, LONGEST_QUEUE))?
                as usize,
            queue_timeout: self.one("queue_timeout", values::positive_duration)?,
            graceful_timeout: self.one("graceful_timeout", values::duration)?,
            max_body: self.one("max_body", values::byte_limit)?,
            header_timeout: self.one("header_timeout", values::positive_duration)?,
            body_timeout: self.one("body_timeout", values::positive_duration)?,
            keepalive_timeout: self.one("keepalive_timeout", values::positive_duration)?,
            trust: self.trust()?,
            access_log: self.access_log()?,
            log_format: self.log_format()?,
            log_level: self.one("log_level", values::log_filter)?,
            server_header: self.one("server_header", values::yes_or_no)?,
            dev,
            temp_dir: self.temp_dir(&chdir)?,
            front_threads: self.front_threads()?,
            warnings: std::mem::take(&mut self.warnings),
            chdir,
        })
    }

    // Application and interpreter.

    fn chdir(&mut self) -> Result<PathBuf, ConfigError> {
        let current = &self.surroundings.current_dir;
        let Some(entry) = self.entry("chdir") else {
            self.show_default("chdir", current.display().to_string());
            return Ok(current.clone());
        };
        let base = match &entry.origin {
            Origin::File { path, .. } => current.join(path.parent().unwrap_or(Path::new(""))),
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

    /// Shows which file was read, and warns of one beside the application that was not.
    fn settings_file(&mut self, file: Option<PathBuf>, chdir: &Path) {
        let beside_app = chdir.join(SETTINGS_FILE);
        match file {
            Some(file) => {
                let origin = self
                    .entry("config")
                    .map_or(Origin::Default, |entry| entry.origin.clone());
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
    }

    fn app(
        &mut self,
        chdir: &Path,
        static_locations: &[StaticLocation],
    ) -> Result<Option<AppRef>, ConfigError> {
        if let Some(app) = self.optional("app", |text| AppRef::parse(text, chdir))? {
            return Ok(Some(app));
        }
        match app::discover(chdir)? {
            Discovery::Found(app) => {
                self.show(
                    "app",
                    app.to_string(),
                    format!("found: {}", app.found.as_deref().unwrap_or_default()),
                );
                Ok(Some(app))
            }
            Discovery::Nothing(_) if !static_locations.is_empty() => {
                self.show_default("app", "none, static files only".to_owned());
                Ok(None)
            }
            Discovery::Nothing(looked_for) => Err(ConfigError::NothingToServe {
                directory: chdir.to_owned(),
                looked_for,
            }),
        }
    }

    fn python(&mut self, chdir: &Path, is_needed: bool) -> Result<PythonChoice, ConfigError> {
        let environment = &self.surroundings.environment;
        let places = Places {
            chdir,
            executable: self.surroundings.executable.as_deref(),
            virtual_env: environment.variable("VIRTUAL_ENV"),
            path: environment.variable("PATH"),
        };
        // The stronger layer wins: a flag --python over a PYSERVE_VENV of the image.
        let named = self.layers.iter().find_map(|layer| {
            match (layer.entry("python"), layer.entry("venv")) {
                (None, None) => None,
                both => Some(both),
            }
        });
        let (python, venv) = named.unwrap_or((None, None));
        let name = |text: &str| {
            if text.is_empty() {
                Err(invalid("no path", "give one"))
            } else {
                Ok(text.to_owned())
            }
        };
        let choice = match (python, venv) {
            (Some(python), Some(venv)) => {
                return Err(wrong(
                    "python",
                    &python.values.join(" "),
                    &python.origin,
                    invalid(
                        format!("{} names an interpreter as well", venv.origin),
                        "give only one of python and venv",
                    ),
                ));
            }
            (Some(python), None) => PythonChoice::python(
                &single("python", python, name)?,
                &python.origin.to_string(),
                &places,
            ),
            (None, Some(venv)) => {
                let venv_dir = single("venv", venv, name)?;
                self.show("venv", venv_dir.clone(), venv.origin.to_string());
                PythonChoice::venv(&venv_dir, &venv.origin.to_string(), &places)
            }
            (None, None) => PythonChoice::automatic(&places),
        };
        match choice.find() {
            Ok(interpreter) => self.show(
                "python",
                interpreter.path.display().to_string(),
                interpreter.origin,
            ),
            Err(error) if is_needed || named.is_some() => return Err(error),
            Err(_) => self.show_default("python", "none".to_owned()),
        }
        Ok(choice)
    }

    fn pythonpath(&mut self, chdir: &Path) -> Result<Vec<PathBuf>, ConfigError> {
        let dirs = self.many("pythonpath", |text| existing_directory(text, chdir))?;
        Ok(dirs.unwrap_or_default())
    }

    // Listening.

    fn bind(&mut self, chdir: &Path) -> Result<Vec<ListenAddress>, ConfigError> {
        let parse = |text: &str| ListenAddress::parse(text, chdir);
        if let Some(addresses) = self.many("bind", parse)?
            && !addresses.is_empty()
        {
            return Ok(addresses);
        }
        let tcp =
            |ip: Ipv4Addr, port: u16| ListenAddress::Tcp(SocketAddr::new(IpAddr::V4(ip), port));
        let (address, origin) = match self.surroundings.environment.variable("PORT") {
            None => (tcp(Ipv4Addr::LOCALHOST, 8000), Origin::Default),
            Some(port) => {
                let origin = Origin::Variable("PORT".to_owned());
                let port = port.to_string_lossy();
                let number = values::count(&port, 0, u32::from(u16::MAX))
                    .map_err(|invalid| wrong("bind", &port, &origin, invalid))?;
                (tcp(Ipv4Addr::UNSPECIFIED, number as u16), origin)
            }
        };
        self.show("bind", address.to_string(), origin.to_string());
        Ok(vec![address])
    }

    fn trust(&mut self) -> Result<Trust, ConfigError> {
        let mut trust = Trust::default();
        let given = self.many("trust", |text| {
            text.split(',').try_for_each(|part| trust.add(part.trim()))
        })?;
        if given.is_none() {
            self.show_default("trust", "none".to_owned());
        }
        Ok(trust)
    }

    fn front_threads(&mut self) -> Result<usize, ConfigError> {
        let given = self.optional("front_threads", |text| {
            values::count(text, 1, MOST_FRONT_THREADS)
        })?;
        Ok(match given {
            Some(threads) => threads as usize,
            None => {
                // The front takes a fraction of what Python takes. On two CPUs one thread
                // costs 18 µs of CPU for a hello request, two of them 22 (they wake each
                // other), and one alone answers more requests.
                let threads = (self.surroundings.machine.cpus() / 2).clamp(1, 8);
                self.show_default("front_threads", threads.to_string());
                threads as usize
            }
        })
    }

    // Static files.

    fn static_locations(&mut self, chdir: &Path) -> Result<Vec<StaticLocation>, ConfigError> {
        let root = self.optional("root", |text| existing_directory(text, chdir))?;
        if root.is_none() {
            self.show_default("root", chdir.display().to_string());
        }
        let root = root.unwrap_or_else(|| chdir.to_owned());
        let mut locations = self.locations("static", chdir)?;
        for name in PREDEFINED {
            let prefix = format!("/{name}");
            let dir = root.join(name);
            if dir.is_dir() && locations.iter().all(|location| location.prefix != prefix) {
                locations.push(StaticLocation {
                    predefined: true,
                    ..StaticLocation::new(prefix, dir)
                });
            }
        }
        self.show_locations("static", &locations);
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

    fn static_missing(&mut self, locations: &mut [StaticLocation]) -> Result<(), ConfigError> {
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

    fn static_max_age(
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

    fn static_files(&mut self, chdir: &Path, dev: bool) -> Result<StaticSettings, ConfigError> {
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
            cache: self.one("static_cache", |text| match text {
                "0" | "no" | "off" | "false" => Ok(0),
                text => values::byte_limit(text),
            })?,
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

    fn temp_dir(&mut self, chdir: &Path) -> Result<PathBuf, ConfigError> {
        if let Some(dir) = self.optional("temp_dir", |text| existing_directory(text, chdir))? {
            return Ok(dir);
        }
        let (dir, origin) = match self.surroundings.environment.variable("TMPDIR") {
            Some(dir) => (chdir.join(dir), Origin::Variable("TMPDIR".to_owned())),
            None => (PathBuf::from("/tmp"), Origin::Default),
        };
        self.show("temp_dir", dir.display().to_string(), origin.to_string());
        Ok(dir)
    }

    // Workers.

    fn workers(&mut self, threads: u32, dev: bool) -> Result<Workers, ConfigError> {
        let (workers, shown, origin) = self.workers_and_origin(dev)?;
        if workers.count as usize * threads as usize > MAX_THREADS {
            return Err(wrong(
                "workers",
                &shown,
                &origin,
                invalid(
                    format!(
                        "with {threads} threads each, these are more than {MAX_THREADS} in all"
                    ),
                    "lower workers or threads",
                ),
            ));
        }
        self.show("workers", shown, origin.to_string());
        Ok(workers)
    }

    fn workers_and_origin(&self, dev: bool) -> Result<(Workers, String, Origin), ConfigError> {
        let parse = |text: &str| values::count(text, 1, MOST_WORKERS);
        let from_platform = self.surroundings.environment.variable("WEB_CONCURRENCY");
        let given = match (self.entry("workers"), from_platform) {
            (Some(entry), _) => Some((single("workers", entry, parse)?, entry.origin.clone())),
            (None, Some(text)) => {
                let origin = Origin::Variable("WEB_CONCURRENCY".to_owned());
                let text = text.to_string_lossy();
                let count =
                    parse(&text).map_err(|invalid| wrong("workers", &text, &origin, invalid))?;
                Some((count, origin))
            }
            (None, None) => None,
        };
        Ok(match given {
            Some((count, origin)) => {
                let reason = format!("{count}, set by {origin}");
                (Workers { count, reason }, count.to_string(), origin)
            }
            None => {
                let workers = if dev {
                    Workers {
                        count: 1,
                        reason: "1, for development".to_owned(),
                    }
                } else {
                    sizing::workers(&self.surroundings.machine)
                };
                let shown = workers.reason.clone();
                (workers, shown, Origin::Default)
            }
        })
    }

    // Logging.

    fn access_log(&mut self) -> Result<AccessLog, ConfigError> {
        let choices = [
            ("off", AccessLog::Off),
            ("combined", AccessLog::Combined),
            ("json", AccessLog::Json),
            ("no", AccessLog::Off),
            ("false", AccessLog::Off),
        ];
        if let Some(format) =
            self.optional("access_log", |text| listed_choice(text, &choices, 3))?
        {
            return Ok(format);
        }
        let (format, shown) = if self.surroundings.is_terminal {
            (AccessLog::Off, "off")
        } else {
            (AccessLog::Combined, "combined")
        };
        self.show_default("access_log", shown.to_owned());
        Ok(format)
    }

    fn log_format(&mut self) -> Result<LogFormat, ConfigError> {
        let choices = [("pretty", LogFormat::Pretty), ("json", LogFormat::Json)];
        if let Some(format) = self.optional("log_format", |text| values::choice(text, &choices))? {
            return Ok(format);
        }
        let (format, shown) = if self.surroundings.is_terminal {
            (LogFormat::Pretty, "pretty")
        } else {
            (LogFormat::Json, "json")
        };
        self.show_default("log_format", shown.to_owned());
        Ok(format)
    }

    // Looking up.

    /// What the strongest layer says about a setting.
    fn entry(&self, name: &str) -> Option<&Entry> {
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
        let value = parse(text).map_err(|invalid| wrong(name, text, &Origin::Default, invalid))?;
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

    /// A repeatable setting; `None` if nobody sets it.
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

    fn show(&mut self, name: &'static str, value: String, origin: String) {
        self.shown.insert(name, (value, origin));
    }

    fn show_default(&mut self, name: &'static str, value: String) {
        self.show(name, value, Origin::Default.to_string());
    }
}

/// Reads the value of a setting that takes one.
fn single<T>(
    name: &str,
    entry: &Entry,
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

fn wrong(name: &str, value: &str, origin: &Origin, invalid: Invalid) -> ConfigError {
    ConfigError::Value {
        place: origin.spell(name, value),
        problem: invalid.problem,
        remedy: invalid.remedy,
    }
}

/// One of the choices, of which only the first `listed` are named in an error.
fn listed_choice<T: Copy>(text: &str, choices: &[(&str, T)], listed: usize) -> Result<T, Invalid> {
    values::choice(text, choices).or_else(|_| values::choice(text, &choices[..listed]))
}

fn preload(text: &str) -> Result<Preload, Invalid> {
    match values::yes_or_no(text) {
        Ok(true) => Ok(Preload::Yes),
        Ok(false) => Ok(Preload::No),
        Err(_) => values::choice(
            text,
            &[
                ("auto", Preload::Auto),
                ("yes", Preload::Yes),
                ("no", Preload::No),
            ],
        ),
    }
}

fn existing_directory(text: &str, base: &Path) -> Result<PathBuf, Invalid> {
    if text.is_empty() {
        return Err(invalid("no directory", "give one, as in `.`"));
    }
    // Without `.`; `..` stays, because what it means depends on links.
    let dir: PathBuf = base.join(text).components().collect();
    if dir.is_dir() {
        return Ok(dir);
    }
    let problem = if dir.exists() {
        format!("{} is not a directory", dir.display())
    } else {
        format!("there is no directory {}", dir.display())
    };
    Err(invalid(
        problem,
        format!(
            "give an existing one; relative paths are below {}",
            base.display()
        ),
    ))
}

fn static_location(text: &str, chdir: &Path) -> Result<StaticLocation, Invalid> {
    let remedy = "give PREFIX=DIR, as in `/media=uploads`";
    let (prefix, dir) = text
        .split_once('=')
        .ok_or_else(|| invalid("no `=` between prefix and directory", remedy))?;
    if !prefix.starts_with('/') {
        return Err(invalid("the prefix does not start with `/`", remedy));
    }
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
    let prefix = if prefix.is_empty() { "/" } else { prefix };
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

#[cfg(test)]
mod tests;
