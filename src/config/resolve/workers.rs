//! Number of workers and threads, and whether the application is imported before the fork.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pyserve_wire::control::Preload;
use pyserve_wire::scoreboard::MAX_THREADS;

use super::{LEAST_ADDRESS_SPACE, Resolver, single, wrong};
use crate::config::error::{ConfigError, Invalid, invalid};
use crate::config::layers::SettingOrigin;
use crate::config::sizing::{Bounds, Machine};
use crate::config::{Recycle, ReloadSettings, Workers, native, sizing, values};

impl Resolver<'_> {
    /// Threads in each worker.
    pub(super) fn threads(&mut self) -> Result<u32, ConfigError> {
        self.one("threads", thread_count)
    }

    /// Longest time that a request may keep a worker thread. With `--dev` there is no limit by
    /// default: the request may stand in a debugger.
    pub(super) fn request_timeout(&mut self, dev: bool) -> Result<Option<Duration>, ConfigError> {
        let timeout = match self.optional("request_timeout", values::duration)? {
            Some(timeout) => timeout,
            None => {
                let default = if dev { Duration::ZERO } else { REQUEST_TIMEOUT };
                self.show_default("request_timeout", default.as_secs().to_string());
                default
            }
        };
        Ok((!timeout.is_zero()).then_some(timeout))
    }

    pub(super) fn startup_log(&mut self, chdir: &Path) -> Result<Option<PathBuf>, ConfigError> {
        let file = self.optional("startup_log", |text| match text {
            "" => Err(invalid("no path", "give one, as in `startup.log`")),
            text => Ok(chdir.join(native::path(text))),
        })?;
        if file.is_none() {
            self.show_default("startup_log", "none".to_owned());
        }
        Ok(file)
    }

    /// When the server reloads by itself, and what a reload does.
    pub(super) fn reloads(
        &mut self,
        chdir: &Path,
        dev: bool,
    ) -> Result<ReloadSettings, ConfigError> {
        Ok(ReloadSettings {
            touch: self.touched("touch_reload", chdir)?,
            touch_workers: self.touched("touch_workers_reload", chdir)?,
            autoreload: self.autoreload(dev)?,
            ends: self.one("exit_on_reload", values::yes_or_no)?,
        })
    }

    /// Files whose change has an effect.
    fn touched(&mut self, name: &'static str, chdir: &Path) -> Result<Vec<PathBuf>, ConfigError> {
        // They may be made later.
        let files = self.many(name, |text| match text {
            "" => Err(invalid("no path", "give one, as in `reload.txt`")),
            text => Ok(chdir.join(native::path(text))),
        })?;
        Ok(files.unwrap_or_default())
    }

    /// Address space of each process of an application; `None` for no limit.
    pub(super) fn limit_as(&mut self) -> Result<Option<u64>, ConfigError> {
        self.one("limit_as", |text| match values::byte_limit(text)? {
            u64::MAX => Ok(None),
            bytes if bytes < LEAST_ADDRESS_SPACE => Err(invalid(
                "too small for an interpreter",
                format!(
                    "give at least {}M, or 0 for no limit",
                    LEAST_ADDRESS_SPACE >> 20
                ),
            )),
            bytes => Ok(Some(bytes)),
        })
    }

    /// True if a saved file of the application is a reason to reload.
    fn autoreload(&mut self, dev: bool) -> Result<bool, ConfigError> {
        let given = self.optional("autoreload", values::yes_or_no)?;
        if given.is_none() {
            self.show_default("autoreload", if dev { "yes" } else { "no" }.to_owned());
        }
        Ok(given.unwrap_or(dev))
    }

    /// When a worker is replaced.
    pub(super) fn recycle(&mut self) -> Result<Recycle, ConfigError> {
        Ok(Recycle {
            requests: self.one("max_requests", most_requests)?,
            lifetime: self.one("max_worker_lifetime", longest_life)?,
            memory: self.one("max_worker_memory", most_memory)?,
        })
    }

    /// After how many requests of one worker that becomes the template.
    pub(super) fn refork(
        &mut self,
        recycle: &Recycle,
        preload: Preload,
    ) -> Result<Option<u64>, ConfigError> {
        self.one("refork", |text| {
            let refork = most_requests(text)?;
            check_refork(refork, recycle, preload).map(|()| refork)
        })
    }

    /// The number of workers in the settings for all of so many applications.
    pub(super) fn worker_choice(
        &mut self,
        dev: bool,
        apps: usize,
    ) -> Result<WorkerChoice, ConfigError> {
        let parse = worker_numbers;
        let from_platform = self.surroundings.environment.variable("WEB_CONCURRENCY");
        let most = match self.entry("max_workers") {
            Some(entry) => Some((
                single("max_workers", entry, most_workers)?,
                entry.origin.clone(),
            )),
            None => None,
        };
        let numbers = match (self.entry("workers"), from_platform) {
            (Some(entry), _) => (single("workers", entry, parse)?, entry.origin.clone()),
            (None, Some(text)) => {
                let origin = SettingOrigin::Variable("WEB_CONCURRENCY".to_owned());
                let text = text.to_string_lossy();
                let numbers =
                    parse(&text).map_err(|invalid| wrong("workers", &text, &origin, invalid))?;
                (
                    numbers.at_most(most.as_ref().map(|(most, _)| *most)),
                    origin,
                )
            }
            (None, None) => (WorkerNumbers::Auto, SettingOrigin::Default),
        };
        Ok(WorkerChoice {
            numbers,
            most,
            dev,
            apps: u32::try_from(apps).unwrap_or(u32::MAX),
            machine: self.surroundings.machine,
        })
    }

    /// Worker processes of each application without numbers of its own.
    pub(super) fn workers(
        &mut self,
        choice: &WorkerChoice,
        threads: u32,
        preload: Preload,
    ) -> Result<Workers, ConfigError> {
        let (workers, shown) = choice.workers(threads, preload, str::to_owned)?;
        self.show("workers", shown, choice.numbers.1.to_string());
        let (most, origin) = match &choice.most {
            Some((most, origin)) => (*most, origin.to_string()),
            None => (workers.most, SettingOrigin::Default.to_string()),
        };
        self.show("max_workers", most.to_string(), origin);
        Ok(workers)
    }
}

/// The number of workers in the settings.
#[derive(Debug, Clone)]
pub(super) struct WorkerChoice {
    pub(super) numbers: (WorkerNumbers, SettingOrigin),
    /// `max_workers`.
    pub(super) most: Option<(u32, SettingOrigin)>,
    dev: bool,
    apps: u32,
    machine: Machine,
}

/// A value of `workers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WorkerNumbers {
    /// The capacity of the machine.
    Auto,
    /// From one number to another, which may be the same.
    Range(u32, u32),
}

impl WorkerNumbers {
    /// The same up to `most`: a platform does not know what was set.
    fn at_most(self, most: Option<u32>) -> Self {
        match (self, most) {
            (Self::Range(from, to), Some(most)) => Self::Range(from.min(most), to.min(most)),
            _ => self,
        }
    }
}

impl WorkerChoice {
    /// The number of workers with so many threads, and how it is shown. `spelled` gives the
    /// names of settings as they stand at their origin.
    pub(super) fn workers(
        &self,
        threads: u32,
        preload: Preload,
        spelled: impl Fn(&str) -> String,
    ) -> Result<(Workers, String), ConfigError> {
        let (numbers, origin) = &self.numbers;
        let (count, most) = match numbers {
            WorkerNumbers::Auto if self.dev => {
                let workers = Workers {
                    count: 1,
                    most: 1,
                    is_auto: true,
                    reason: "1, for development".to_owned(),
                };
                let shown = workers.reason.clone();
                return Ok((workers, shown));
            }
            WorkerNumbers::Auto => {
                let bounds = Bounds {
                    threads,
                    apps: self.apps,
                    most: self
                        .most
                        .as_ref()
                        .map(|(most, origin)| (*most, origin.to_string())),
                    fixed: (preload == Preload::No)
                        .then_some("because with `preload = no` each imports for itself"),
                };
                let workers = sizing::workers(&self.machine, &bounds);
                let shown = workers.reason.clone();
                return Ok((workers, shown));
            }
            WorkerNumbers::Range(count, most) => (*count, *most),
        };
        let shown = match count == most {
            true => count.to_string(),
            false => format!("{count}..{most}"),
        };
        check_product(most, threads)
            .map_err(|invalid| wrong(&spelled("workers"), &shown, origin, invalid))?;
        if let Some((bound, at)) = self.most.as_ref().filter(|(bound, _)| *bound < most) {
            let problem = format!("fewer than the workers, {shown} by {origin}");
            let remedy = "give a larger one, or lower workers";
            let name = spelled("max_workers");
            return Err(wrong(
                &name,
                &bound.to_string(),
                at,
                invalid(problem, remedy),
            ));
        }
        let workers = Workers {
            count,
            most,
            is_auto: false,
            reason: format!("{shown}, set by {origin}"),
        };
        Ok((workers, shown))
    }
}

/// `auto`, a number of workers, or the range `2..8`.
pub(super) fn worker_numbers(text: &str) -> Result<WorkerNumbers, Invalid> {
    if text == "auto" {
        return Ok(WorkerNumbers::Auto);
    }
    let Some((least, most)) = text.split_once("..") else {
        let count = values::count(text, 1, MOST_WORKERS)?;
        return Ok(WorkerNumbers::Range(count, count));
    };
    let least = values::count(least.trim(), 1, MOST_WORKERS)?;
    let most = values::count(most.trim(), least, MOST_WORKERS)?;
    Ok(WorkerNumbers::Range(least, most))
}

/// The largest number of workers.
pub(super) fn most_workers(text: &str) -> Result<u32, Invalid> {
    values::count(text, 1, MOST_WORKERS)
}

/// Requests after which a worker is replaced; none for zero.
pub(super) fn most_requests(text: &str) -> Result<Option<u64>, Invalid> {
    let requests = values::count(text, 0, u32::MAX)?;
    Ok((requests > 0).then_some(u64::from(requests)))
}

/// Time after which a worker is replaced; none for zero.
pub(super) fn longest_life(text: &str) -> Result<Option<Duration>, Invalid> {
    let lifetime = values::duration(text)?;
    Ok((!lifetime.is_zero()).then_some(lifetime))
}

/// Bytes with which a worker is replaced; none for zero.
pub(super) fn most_memory(text: &str) -> Result<Option<u64>, Invalid> {
    let memory = values::byte_room(text)?;
    Ok((memory > 0).then_some(memory))
}

pub(super) fn thread_count(text: &str) -> Result<u32, Invalid> {
    values::count(text, 1, MOST_THREADS)
}

/// Refuses more threads than a scoreboard can name.
fn check_product(workers: u32, threads: u32) -> Result<(), Invalid> {
    if workers as usize * threads as usize <= MAX_THREADS {
        return Ok(());
    }
    Err(invalid(
        format!("with {threads} threads each, these are more than {MAX_THREADS} in all"),
        "lower workers or threads",
    ))
}

/// Refuses a number of requests that no worker reaches, and a template that there is not.
pub(super) fn check_refork(
    refork: Option<u64>,
    recycle: &Recycle,
    preload: Preload,
) -> Result<(), Invalid> {
    if refork.is_some() && preload == Preload::No {
        return Err(invalid(
            "with `preload = no` workers share no template",
            "leave one of both away",
        ));
    }
    match (refork, recycle.requests) {
        (Some(refork), Some(most)) if refork >= most => Err(invalid(
            format!("a worker is replaced after {most} (max_requests)"),
            "give a smaller number, or a larger max_requests",
        )),
        _ => Ok(()),
    }
}

pub(super) fn preload(text: &str) -> Result<Preload, Invalid> {
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

/// The timeout of nginx and of most load balancers.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Most worker processes, and most threads in each: typing errors end here. Both together
/// are bounded by what a scoreboard can name.
const MOST_WORKERS: u32 = 1024;
const MOST_THREADS: u32 = 1024;
