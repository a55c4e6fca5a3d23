//! How each application is run: by the settings for all, or by those of its location.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pyserve_wire::control::Preload;

use super::application::named_python;
use super::locations::{Given, spelled};
use super::workers::{
    check_product, check_refork, given_workers, longest_life, most_memory, most_requests, preload,
    thread_count, worker_numbers,
};
use super::{LONGEST_QUEUE, Resolver, existing_directory, wrong};
use crate::config::app::AppRef;
use crate::config::error::{ConfigError, Invalid, invalid};
use crate::config::interpreter::PythonChoice;
use crate::config::{AppSettings, Recycle, Workers, values};

/// How an application is run that says nothing for itself.
pub(super) struct Common {
    python: PythonChoice,
    /// Whether somebody named the interpreter, for all applications.
    python_is_named: bool,
    chdir: PathBuf,
    pythonpath: Vec<PathBuf>,
    django_static: bool,
    django_media: bool,
    workers: Workers,
    recycle: Recycle,
    refork: Option<u64>,
    threads: u32,
    preload: Preload,
    queue_limit: usize,
    queue_timeout: Duration,
    request_timeout: Option<Duration>,
    dev: bool,
    temp_dir: PathBuf,
}

impl Resolver<'_> {
    /// What holds for each of so many applications; with `needs_python` its interpreter has
    /// to be there.
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
        Ok(Common {
            python,
            python_is_named,
            chdir: chdir.to_owned(),
            pythonpath: self.pythonpath(chdir)?,
            django_static: self.one("django_static", values::yes_or_no)?,
            django_media: self.one("django_media", values::yes_or_no)?,
            workers: self.workers(threads, dev, apps)?,
            recycle,
            refork,
            threads,
            preload,
            queue_limit: self.one("queue_limit", queue_limit)?,
            queue_timeout: self.one("queue_timeout", values::positive_duration)?,
            request_timeout: self.request_timeout(dev)?,
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
        settings.chdir = chdir;
        settings.env = given.many("env", variable)?.unwrap_or_default();
        set(
            &mut settings.django_static,
            given.optional("django_static", values::yes_or_no)?,
        );
        set(
            &mut settings.django_media,
            given.optional("django_media", values::yes_or_no)?,
        );
        set(
            &mut settings.threads,
            given.optional("threads", thread_count)?,
        );
        set(&mut settings.preload, given.optional("preload", preload)?);
        set(
            &mut settings.queue_limit,
            given.optional("queue_limit", queue_limit)?,
        );
        let timeout = given.optional("queue_timeout", values::positive_duration)?;
        set(&mut settings.queue_timeout, timeout);
        if let Some(timeout) = given.optional("request_timeout", values::duration)? {
            settings.request_timeout = (!timeout.is_zero()).then_some(timeout);
        }
        let recycle = &mut settings.recycle;
        set(
            &mut recycle.requests,
            given.optional("max_requests", most_requests)?,
        );
        set(
            &mut recycle.lifetime,
            given.optional("max_worker_lifetime", longest_life)?,
        );
        set(
            &mut recycle.memory,
            given.optional("max_worker_memory", most_memory)?,
        );
        if let Some(refork) = given.optional("refork", most_requests)? {
            check_refork(refork, &settings.recycle, settings.preload).map_err(|invalid| {
                let requests = refork.unwrap_or(0).to_string();
                wrong(
                    &spelled("refork"),
                    &requests,
                    given.origin("refork"),
                    invalid,
                )
            })?;
            settings.refork = refork;
        }
        if let Some(numbers) = given.optional("workers", worker_numbers)? {
            (settings.workers, _) = given_workers(numbers, given.origin("workers"));
        }
        let most = settings.workers.most;
        check_product(most, settings.threads).map_err(|invalid| {
            let origin = given.origin("threads");
            wrong(&spelled("workers"), &most.to_string(), origin, invalid)
        })?;
        Ok(settings)
    }
}

impl Common {
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
            env: Vec::new(),
            chdir: self.chdir.clone(),
            pythonpath: self.pythonpath.clone(),
            django_static: self.django_static,
            django_media: self.django_media,
            workers: self.workers.clone(),
            recycle: self.recycle,
            refork: self.refork,
            threads: self.threads,
            preload: self.preload,
            queue_limit: self.queue_limit,
            queue_timeout: self.queue_timeout,
            request_timeout: self.request_timeout,
            dev: self.dev,
            temp_dir: self.temp_dir.clone(),
        })
    }
}

/// Puts a value, if there is one, in its place.
pub(super) fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn queue_limit(text: &str) -> Result<usize, Invalid> {
    values::count(text, 1, LONGEST_QUEUE).map(|limit| limit as usize)
}

/// Reads `NAME=VALUE` of an environment variable.
fn variable(text: &str) -> Result<(String, String), Invalid> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !text.contains('\0') => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err(invalid(
            "no environment variable",
            "give a table, as in `{ DJANGO_SETTINGS_MODULE = \"shop.settings\" }`",
        )),
    }
}
