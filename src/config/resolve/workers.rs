//! Number of workers and threads, and whether the application is imported before the fork.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pyserve_wire::control::Preload;
use pyserve_wire::scoreboard::MAX_THREADS;

use super::{Resolver, single, wrong};
use crate::config::error::{ConfigError, Invalid, invalid};
use crate::config::layers::SettingOrigin;
use crate::config::{Recycle, Workers, native, sizing, values};

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

    pub(super) fn touch_reload(&mut self, chdir: &Path) -> Result<Vec<PathBuf>, ConfigError> {
        // It may be made later.
        let files = self.many("touch_reload", |text| match text {
            "" => Err(invalid("no path", "give one, as in `reload.txt`")),
            text => Ok(chdir.join(native::path(text))),
        })?;
        Ok(files.unwrap_or_default())
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

    /// Worker processes of each of so many applications.
    pub(super) fn workers(
        &mut self,
        threads: u32,
        dev: bool,
        apps: usize,
    ) -> Result<Workers, ConfigError> {
        let (workers, shown, origin) = self.workers_and_origin(dev, apps)?;
        check_product(workers.most, threads)
            .map_err(|invalid| wrong("workers", &shown, &origin, invalid))?;
        self.show("workers", shown, origin.to_string());
        Ok(workers)
    }

    fn workers_and_origin(
        &self,
        dev: bool,
        apps: usize,
    ) -> Result<(Workers, String, SettingOrigin), ConfigError> {
        let parse = worker_numbers;
        let from_platform = self.surroundings.environment.variable("WEB_CONCURRENCY");
        let given = match (self.entry("workers"), from_platform) {
            (Some(entry), _) => Some((single("workers", entry, parse)?, entry.origin.clone())),
            (None, Some(text)) => {
                let origin = SettingOrigin::Variable("WEB_CONCURRENCY".to_owned());
                let text = text.to_string_lossy();
                let count =
                    parse(&text).map_err(|invalid| wrong("workers", &text, &origin, invalid))?;
                Some((count, origin))
            }
            (None, None) => None,
        };
        Ok(match given {
            Some((numbers, origin)) => {
                let (workers, shown) = given_workers(numbers, &origin);
                (workers, shown, origin)
            }
            None => {
                let workers = if dev {
                    Workers {
                        count: 1,
                        most: 1,
                        reason: "1, for development".to_owned(),
                    }
                } else {
                    shared(sizing::workers(&self.surroundings.machine), apps)
                };
                let shown = workers.reason.clone();
                (workers, shown, SettingOrigin::Default)
            }
        })
    }
}

/// A number of workers, or the range `2..8`.
pub(super) fn worker_numbers(text: &str) -> Result<(u32, u32), Invalid> {
    let Some((least, most)) = text.split_once("..") else {
        return values::count(text, 1, MOST_WORKERS).map(|count| (count, count));
    };
    let least = values::count(least.trim(), 1, MOST_WORKERS)?;
    Ok((least, values::count(most.trim(), least, MOST_WORKERS)?))
}

/// A number of workers set at `origin`, and how it is shown.
pub(super) fn given_workers(
    (count, most): (u32, u32),
    origin: &SettingOrigin,
) -> (Workers, String) {
    let shown = match count == most {
        true => count.to_string(),
        false => format!("{count}..{most}"),
    };
    let reason = format!("{shown}, set by {origin}");
    let workers = Workers {
        count,
        most,
        reason,
    };
    (workers, shown)
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
pub(super) fn check_product(workers: u32, threads: u32) -> Result<(), Invalid> {
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

/// The workers that the machine can carry, divided among applications.
fn shared(workers: Workers, apps: usize) -> Workers {
    if apps < 2 {
        return workers;
    }
    let count = (workers.count / u32::try_from(apps).unwrap_or(u32::MAX)).max(1);
    let reason = format!("{count} of {}, for {apps} applications", workers.reason);
    Workers {
        count,
        most: count,
        reason,
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
