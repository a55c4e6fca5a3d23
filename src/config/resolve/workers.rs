//! How many workers and threads, and whether the application is imported before the fork.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pyserve_wire::control::Preload;
use pyserve_wire::scoreboard::MAX_THREADS;

use super::{Resolver, single, wrong};
use crate::config::error::{ConfigError, Invalid, invalid};
use crate::config::layers::Origin;
use crate::config::{Recycle, Workers, sizing, values};

impl Resolver<'_> {
    /// Threads in each worker.
    pub(super) fn threads(&mut self) -> Result<u32, ConfigError> {
        self.one("threads", |text| values::count(text, 1, MOST_THREADS))
    }

    /// How long a request may keep a worker thread. With `--dev` for ever, unless somebody
    /// says otherwise: it may stand in a debugger.
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

    pub(super) fn touch_reload(&mut self, chdir: &Path) -> Result<Vec<PathBuf>, ConfigError> {
        // It may be made later.
        let files = self.many("touch_reload", |text| match text {
            "" => Err(invalid("no path", "give one, as in `reload.txt`")),
            text => Ok(chdir.join(text)),
        })?;
        Ok(files.unwrap_or_default())
    }

    /// When a worker is replaced.
    pub(super) fn recycle(&mut self) -> Result<Recycle, ConfigError> {
        let requests = self.one("max_requests", |text| values::count(text, 0, u32::MAX))?;
        let lifetime = self.one("max_worker_lifetime", values::duration)?;
        let memory = self.one("max_worker_memory", values::byte_room)?;
        Ok(Recycle {
            requests: (requests > 0).then_some(u64::from(requests)),
            lifetime: (!lifetime.is_zero()).then_some(lifetime),
            memory: (memory > 0).then_some(memory),
        })
    }

    pub(super) fn workers(&mut self, threads: u32, dev: bool) -> Result<Workers, ConfigError> {
        let (workers, shown, origin) = self.workers_and_origin(dev)?;
        if workers.most as usize * threads as usize > MAX_THREADS {
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
        let parse = |text: &str| match text.split_once("..") {
            None => values::count(text, 1, MOST_WORKERS).map(|count| (count, count)),
            Some((least, most)) => {
                let least = values::count(least.trim(), 1, MOST_WORKERS)?;
                Ok((least, values::count(most.trim(), least, MOST_WORKERS)?))
            }
        };
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
            Some(((count, most), origin)) => {
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
                    sizing::workers(&self.surroundings.machine)
                };
                let shown = workers.reason.clone();
                (workers, shown, Origin::Default)
            }
        })
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

/// What nginx and most load balancers wait for an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Most worker processes, and most threads in each: typing errors end here. Both together
/// are bounded by what a scoreboard can name.
const MOST_WORKERS: u32 = 1024;
const MOST_THREADS: u32 = 1024;
