//! Settings of each application: those for all, or those of its location.

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pyserve_wire::control::Preload;

use super::application::named_python;
use super::tables::{Given, spelled};
use super::workers::{
    WorkerChoice, WorkerNumbers, check_refork, longest_life, most_memory, most_requests,
    most_workers, preload, thread_count, worker_numbers,
};
use super::{LONGEST_QUEUE, Resolver, existing_directory, wrong};
use crate::config::app::AppRef;
use crate::config::error::{ConfigError, Invalid, invalid};
use crate::config::interpreter::PythonChoice;
use crate::config::{AppSettings, Recycle, UwsgiModule, Workers, native, values};

/// Settings of applications that do not override them.
pub(super) struct Common {
    python: PythonChoice,
    /// True if the settings name one interpreter for all applications.
    python_is_named: bool,
    chdir: PathBuf,
    start_dir: PathBuf,
    env: Vec<(String, String)>,
    pythonpath: Vec<PathBuf>,
    imports: Vec<String>,
    argv: Vec<PathBuf>,
    django_static: bool,
    django_media: bool,
    worker_choice: WorkerChoice,
    workers: Workers,
    recycle: Recycle,
    refork: Option<u64>,
    threads: u32,
    preload: Preload,
    queue_limit: usize,
    queue_timeout: Duration,
    short_first: bool,
    request_timeout: Option<Duration>,
    limit_as: Option<u64>,
    uwsgi_module: Option<UwsgiModule>,
    gunicorn_hooks: Option<PathBuf>,
    dev: bool,
    temp_dir: PathBuf,
}

/// Bytes of options that an application is shown; they travel in one message.
const MOST_OPTIONS: usize = 32 << 10;

impl Resolver<'_> {
    /// Environment variables of applications, companions and `before_start`.
    fn env(&mut self) -> Result<Vec<(String, String)>, ConfigError> {
        Ok(self.many("env", variable)?.unwrap_or_default())
    }

    /// The words of `sys.argv`; none for the default.
    fn argv(&mut self) -> Result<Vec<PathBuf>, ConfigError> {
        let words = self.many("argv", word)?;
        match self.entry("argv") {
            Some(entry) => {
                let (shown, origin) = (entry.values.join(" "), entry.origin.to_string());
                self.show("argv", shown, origin);
            }
            None => self.show_default("argv", "the module or file of the application".to_owned()),
        }
        Ok(words.unwrap_or_default())
    }

    /// The module `uwsgi`, with the options of the layer that has some.
    fn uwsgi_module(&mut self) -> Result<Option<UwsgiModule>, ConfigError> {
        let cache = self.one("uwsgi_cache", values::byte_room)?;
        if !self.one("uwsgi_module", values::yes_or_no)? {
            return Ok(None);
        }
        let mut options = Vec::new();
        let mut room = MOST_OPTIONS;
        let given = self.layers.iter().flat_map(|layer| &layer.uwsgi_options);
        for (name, value) in given {
            let value = value.as_deref().map(native::string);
            let value = value.map(OsStringExt::into_vec);
            let length = name.len() + value.as_ref().map_or(0, Vec::len);
            room = match usize::checked_sub(room, length) {
                Some(left) => left,
                None => continue,
            };
            options.push((name.clone(), value));
        }
        Ok(Some(UwsgiModule { cache, options }))
    }

    /// The file is relative to the current directory, as in gunicorn.
    fn gunicorn_hooks(&mut self) -> Result<Option<PathBuf>, ConfigError> {
        let current = &self.surroundings.current_dir;
        let file = self.optional("gunicorn_hooks", |text| match text {
            "" => Err(invalid("no path", "give one, as in `gunicorn.conf.py`")),
            text if text.starts_with("python:") => Ok(native::path(text)),
            text => Ok(current.join(native::path(text.strip_prefix("file:").unwrap_or(text)))),
        })?;
        if file.is_none() {
            self.show_default("gunicorn_hooks", "none".to_owned());
        }
        Ok(file)
    }

    /// Warns once of each interpreter that was passed over.
    pub(super) fn warn_of_interpreters(&mut self, apps: &[AppSettings]) {
        for app in apps {
            for warning in &app.interpreter.passed_over {
                if !self.warnings.contains(warning) {
                    self.warnings.push(warning.clone());
                }
            }
        }
    }

    /// Settings shared by so many applications; with `needs_python` its interpreter has to exist.
    pub(super) fn common(
        &mut self,
        chdir: &Path,
        temp_dir: &Path,
        dev: bool,
        apps: usize,
        needs_python: bool,
    ) -> Result<Common, ConfigError> {
        let (python, python_is_named) = self.python(chdir, needs_python)?;
        let threads = self.threads()?;
        let recycle = self.recycle()?;
        let preload = self.one("preload", preload)?;
        let refork = self.refork(&recycle, preload)?;
        let worker_choice = self.worker_choice(dev, apps)?;
        Ok(Common {
            python,
            python_is_named,
            chdir: chdir.to_owned(),
            start_dir: self.surroundings.current_dir.clone(),
            env: self.env()?,
            pythonpath: self.pythonpath(chdir)?,
            imports: self.many("import", module)?.unwrap_or_default(),
            argv: self.argv()?,
            django_static: self.one("django_static", values::yes_or_no)?,
            django_media: self.one("django_media", values::yes_or_no)?,
            workers: self.workers(&worker_choice, threads, preload)?,
            worker_choice,
            recycle,
            refork,
            threads,
            preload,
            queue_limit: self.one("queue_limit", queue_limit)?,
            queue_timeout: self.one("queue_timeout", values::positive_duration)?,
            short_first: self.one("short_first", values::yes_or_no)?,
            request_timeout: self.request_timeout(dev)?,
            limit_as: self.limit_as()?,
            uwsgi_module: self.uwsgi_module()?,
            gunicorn_hooks: self.gunicorn_hooks()?,
            dev,
            temp_dir: temp_dir.to_owned(),
        })
    }

    /// The application of a table, where `SCRIPT_NAME` is `mount`.
    pub(super) fn app_of_table(
        &self,
        given: &Given<'_>,
        common: &Common,
        mount: &str,
    ) -> Result<AppSettings, ConfigError> {
        let chdir = given.optional("chdir", |text| existing_directory(text, &common.chdir))?;
        let has_own_directory = chdir.is_some();
        let chdir = chdir.unwrap_or_else(|| common.chdir.clone());
        let app = given.one("app", |text| AppRef::parse(text, &chdir))?;
        let names = [&*spelled("python"), &*spelled("venv")];
        let (python, venv) = (given.entry("python"), given.entry("venv"));
        let places = self.places(&chdir);
        let python = match named_python(names, python, venv, &places)? {
            Some(python) => python,
            // Its directory may have a virtual environment of its own.
            None if has_own_directory && !common.python_is_named => {
                PythonChoice::automatic(&places)
            }
            None => common.python.clone(),
        };
        let mut settings = common.settings(app, python)?;
        mount.clone_into(&mut settings.mount);
        if let Some(dirs) = given.many("pythonpath", |text| existing_directory(text, &chdir))? {
            settings.pythonpath = dirs;
        }
        if let Some(modules) = given.many("import", module)? {
            settings.imports = modules;
        }
        if let Some(words) = given.many("argv", word)? {
            settings.argv = words;
        }
        settings.chdir = chdir;
        // Its own come last, so they hold.
        settings
            .env
            .extend(given.many("env", variable)?.unwrap_or_default());
        let is_served = values::yes_or_no;
        given.set("django_static", &mut settings.django_static, is_served)?;
        given.set("django_media", &mut settings.django_media, is_served)?;
        own_queue(given, &mut settings)?;
        own_workers(given, &common.worker_choice, &mut settings)?;
        Ok(settings)
    }
}

impl Common {
    /// Environment variables of all applications.
    pub(super) fn env(&self) -> &[(String, String)] {
        &self.env
    }

    /// The base of relative paths.
    pub(super) fn chdir(&self) -> &Path {
        &self.chdir
    }

    /// An application that says nothing for itself.
    pub(super) fn alone(&self, app: AppRef) -> Result<AppSettings, ConfigError> {
        self.settings(app, self.python.clone())
    }

    fn settings(&self, app: AppRef, python: PythonChoice) -> Result<AppSettings, ConfigError> {
        Ok(AppSettings {
            app,
            interpreter: python.find()?,
            mount: String::new(),
            env: self.env.clone(),
            chdir: self.chdir.clone(),
            start_dir: self.start_dir.clone(),
            pythonpath: self.pythonpath.clone(),
            imports: self.imports.clone(),
            argv: self.argv.clone(),
            django_static: self.django_static,
            django_media: self.django_media,
            workers: self.workers.clone(),
            recycle: self.recycle,
            refork: self.refork,
            threads: self.threads,
            preload: self.preload,
            queue_limit: self.queue_limit,
            queue_timeout: self.queue_timeout,
            short_first: self.short_first,
            request_timeout: self.request_timeout,
            limit_as: self.limit_as,
            uwsgi_module: self.uwsgi_module.clone(),
            gunicorn_hooks: self.gunicorn_hooks.clone(),
            dev: self.dev,
            temp_dir: self.temp_dir.clone(),
        })
    }
}

/// Reads the settings of a table that concern its queue.
fn own_queue(given: &Given<'_>, settings: &mut AppSettings) -> Result<(), ConfigError> {
    given.set("queue_limit", &mut settings.queue_limit, queue_limit)?;
    let timeout = &mut settings.queue_timeout;
    given.set("queue_timeout", timeout, values::positive_duration)?;
    given.set("short_first", &mut settings.short_first, values::yes_or_no)?;
    if let Some(timeout) = given.optional("request_timeout", values::duration)? {
        settings.request_timeout = (!timeout.is_zero()).then_some(timeout);
    }
    Ok(())
}

/// Reads the settings of a table that concern its processes, and checks them against those for all.
fn own_workers(
    given: &Given<'_>,
    common: &WorkerChoice,
    settings: &mut AppSettings,
) -> Result<(), ConfigError> {
    given.set("threads", &mut settings.threads, thread_count)?;
    given.set("preload", &mut settings.preload, preload)?;
    let recycle = &mut settings.recycle;
    given.set("max_requests", &mut recycle.requests, most_requests)?;
    given.set("max_worker_lifetime", &mut recycle.lifetime, longest_life)?;
    given.set("max_worker_memory", &mut recycle.memory, most_memory)?;
    given.set("refork", &mut settings.refork, most_requests)?;
    check_refork(settings.refork, &settings.recycle, settings.preload).map_err(|invalid| {
        let requests = settings.refork.unwrap_or(0).to_string();
        let origin = given.origin("refork");
        wrong(&spelled("refork"), &requests, origin, invalid)
    })?;
    let mut choice = common.clone();
    if let Some(numbers) = given.optional("workers", worker_numbers)? {
        choice.numbers = (numbers, given.origin("workers").clone());
        if numbers != WorkerNumbers::Auto {
            // That for all is for those that follow the machine.
            choice.most = None;
        }
    }
    if let Some(most) = given.optional("max_workers", most_workers)? {
        choice.most = Some((most, given.origin("max_workers").clone()));
    }
    (settings.workers, _) = choice.workers(settings.threads, settings.preload, spelled)?;
    Ok(())
}

fn queue_limit(text: &str) -> Result<usize, Invalid> {
    values::count(text, 1, LONGEST_QUEUE).map(|limit| limit as usize)
}

/// Reads the name of a module, or of a file with one.
fn module(text: &str) -> Result<String, Invalid> {
    match text.is_empty() || text.contains('\0') {
        false => Ok(text.to_owned()),
        true => Err(invalid("no module", "name one, as in `shop.tasks`")),
    }
}

/// Reads a word of `sys.argv`, which may be empty.
fn word(text: &str) -> Result<PathBuf, Invalid> {
    match text.contains('\0') {
        false => Ok(native::path(text)),
        true => Err(invalid("a NUL in it", "leave it away")),
    }
}

/// Reads `NAME=VALUE` of an environment variable.
fn variable(text: &str) -> Result<(String, String), Invalid> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !text.contains('\0') => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err(invalid(
            "no environment variable",
            "give NAME=VALUE, in a file also a table, as in `{ DJANGO_SETTINGS_MODULE = \"shop.settings\" }`",
        )),
    }
}
