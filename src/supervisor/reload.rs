//! Reloads: reads the settings again, and starts the new code of each application beside the old,
//! which keeps serving if the reload fails.
//!
//! 1. The settings are read. An error ends the reload.
//! 2. Every application starts its new code, new applications too ([`super::apps`]).
//! 3. When all are prepared, everything takes over together: code, settings, locations. If one
//!    fails, nothing changes.
//!
//! A reload may adopt a command line of uWSGI ([`crate::config::adopted`]): if it succeeds, all that follow read
//! the settings as if the server had been started by that.
//!
//! One reload runs at a time. A request that arrives meanwhile starts the next one afterwards, so
//! that it includes all earlier changes. It replaces the reload under way if that one does not end,
//! and in development at once.

pub mod changes;
pub mod triggers;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::Supervisor;
use super::app::App;
use super::companions::ProcessEnvironment;
use crate::config::{AppSettings, CommandLine, ConfigError, Resolved, enter_current_directory};
use crate::observe::codes;
use crate::observe::metrics::METRICS;
use crate::observe::status::remember_error;
use crate::os::descriptors;
use crate::supervisor::reload::changes::{differences, gone_application, needs_site};

/// Settings that are read only when the server starts.
const AT_START: &[&str] = &[
    "bind",
    "bind_mode",
    "bind_owner",
    "uid",
    "gid",
    "front_threads",
    "umask",
    "pidfile",
    "access_log",
    "access_log_format",
    "access_log_status",
    "access_log_skip",
    "access_log_file",
    "log_file",
    "log_format",
    "log_level",
    "admin",
    "control",
    "control_fifo",
    "max_connections",
    "startup_log",
    "before_start",
];

/// Time that a reload without an end delays the next one, beside twice the time of the import.
const PATIENCE: Duration = Duration::from_secs(15);

/// Response to a reload that was requested after the stop had begun.
const STOPPING: &str = "no reload: the server is stopping";

/// Response to a reload that was requested during an upgrade.
const UPGRADING: &str = "no reload: an upgrade is under way, which loads code and settings again (repeat the order when it has ended)";

/// Response to a command line for a server that has no use for it.
const NO_IMAGE: &str = "the server takes no command line of uWSGI: the setting `image` is off";

/// Reads the settings, with an adopted command line, and finds the interpreters of the applications.
pub type Load = Arc<dyn Fn(Option<&CommandLine>) -> Result<Loaded, ConfigError> + Send + Sync>;
/// The settings, and those of each application.
pub type Loaded = (Resolved, Vec<AppSettings>);
/// Receives the outcome of a reload; a text if it failed.
pub type ReloadReply = oneshot::Sender<Result<Reloaded, String>>;

/// A reload that succeeded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reloaded {
    /// Settings that have changed.
    pub changed: Vec<String>,
    /// Settings that change only after a restart.
    pub at_restart: Vec<String>,
    /// For an adopted command line: what is served now, and the line that says so.
    pub serves: Option<String>,
    /// True if the server ends in place of the reload, as `exit_on_reload` says.
    pub ends: bool,
    /// Duration in seconds.
    pub took: f64,
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ends {
            return f.write_str("stopping in place of the reload (exit_on_reload)");
        }
        write!(f, "reloaded in {:.2} s", self.took)?;
        if let Some(serves) = &self.serves {
            write!(f, "\nserves {serves}")?;
        }
        if !self.changed.is_empty() {
            write!(f, "\nsettings that changed: {}", self.changed.join(", "))?;
        }
        if !self.at_restart.is_empty() {
            let settings = self.at_restart.join(", ");
            write!(f, "\nchanged settings that need a restart: {settings}")?;
        }
        Ok(())
    }
}

/// Requested reloads, and the one under way.
pub(super) struct Reloads {
    load: Load,
    loaded: mpsc::UnboundedSender<Result<Loaded, ConfigError>>,
    /// True if another one was requested.
    asked: bool,
    /// The command line that the requested one adopts.
    adopts: Option<CommandLine>,
    /// The command line that a reload has adopted.
    adopted: Option<CommandLine>,
    waiting: Vec<ReloadReply>,
    under_way: Option<UnderWay>,
}

struct UnderWay {
    began: Instant,
    replies: Vec<ReloadReply>,
    /// The command line that it adopts.
    adopts: Option<CommandLine>,
    /// The settings; `None` while they are read.
    resolved: Option<Resolved>,
    /// Numbers of the applications in the order of the settings.
    members: Vec<usize>,
    /// Applications whose outcome is not known yet.
    awaited: HashSet<usize>,
    failures: Vec<String>,
}

impl Reloads {
    /// No reload is requested. The results of `load` arrive through `loaded`.
    pub(super) fn new(
        load: Load,
        adopted: Option<CommandLine>,
        loaded: mpsc::UnboundedSender<Result<Loaded, ConfigError>>,
    ) -> Self {
        Self {
            load,
            loaded,
            asked: false,
            adopts: None,
            adopted,
            waiting: Vec::new(),
            under_way: None,
        }
    }

    /// The command line that the settings in effect include.
    pub(super) fn adopted(&self) -> Option<CommandLine> {
        self.adopted.clone()
    }

    /// True while a reload has not ended, or another one was requested.
    pub(super) fn is_under_way(&self) -> bool {
        self.asked || self.under_way.is_some()
    }
}

impl Supervisor {
    /// Switches to the current code and settings without losing a request; with `exit_on_reload` the server stops
    /// instead.
    pub(super) fn reload(&mut self, reply: Option<ReloadReply>) {
        let ends = self.resolved.config.reloads.ends;
        if !ends || self.is_stopping() || self.upgrade.is_under_way() {
            return self.reload_in_place(reply);
        }
        tracing::info!("a reload was asked for: stopping instead (exit_on_reload)");
        if let Some(reply) = reply {
            let stopping = Reloaded {
                ends,
                ..Reloaded::default()
            };
            let _gone = reply.send(Ok(stopping));
        }
        self.ask_to_stop();
    }

    /// Switches to the current code and settings without losing a request.
    pub(super) fn reload_in_place(&mut self, reply: Option<ReloadReply>) {
        if self.is_stopping() {
            if let Some(reply) = reply {
                let _gone = reply.send(Err(STOPPING.to_owned()));
            }
            return;
        }
        if self.upgrade.is_under_way() {
            match reply {
                // Its client would wait for a process that may end in the upgrade.
                Some(reply) => drop(reply.send(Err(UPGRADING.to_owned()))),
                None => self.reload_after_upgrade(),
            }
            return;
        }
        self.reloads.asked = true;
        self.reloads.waiting.extend(reply);
        self.overtake();
    }

    /// Reloads with a command line of uWSGI in the place of the server's own, if this is the server of an image.
    pub(super) fn adopt(&mut self, line: CommandLine, reply: ReloadReply) {
        if !self.resolved.config.is_image {
            let _gone = reply.send(Err(NO_IMAGE.to_owned()));
            return;
        }
        if !self.is_stopping() && !self.upgrade.is_under_way() {
            tracing::info!("`{line}` was called beside this server, which reloads by it");
            self.reloads.adopts = Some(line);
        }
        self.reload_in_place(Some(reply));
    }

    /// Starts the requested reload in place of one that takes too long.
    pub(super) fn overtake(&mut self) {
        if self.reloads.asked
            && let Some(under_way) = &self.reloads.under_way
        {
            let is_loaded = under_way.resolved.is_some();
            let late = under_way.began + self.patience();
            if late > Instant::now() {
                self.wake_at(late);
            } else if is_loaded {
                self.give_up();
            }
        }
        self.begin_reload();
    }

    fn give_up(&mut self) {
        if let Some(under_way) = self.reloads.under_way.take() {
            let took = under_way.began.elapsed().as_secs_f64();
            tracing::info!("reload abandoned after {took:.1} s in favour of the next one");
            // They get the outcome of the next one, which adopts what this one was to adopt.
            self.reloads.waiting.extend(under_way.replies);
            self.reloads.adopts = self.reloads.adopts.take().or(under_way.adopts);
            self.apps.discard_new();
        }
    }

    /// Time that a requested reload waits for the one under way. New code may never finish its
    /// import. In development, where a file is saved in the middle of an edit, the next reload does
    /// not wait at all. Elsewhere it waits much longer than the last import took, or reloads at
    /// short intervals would never finish.
    fn patience(&self) -> Duration {
        if self.resolved.config.dev {
            return Duration::ZERO;
        }
        let longest = self.apps.serving().iter().map(App::import_time).max();
        PATIENCE + 2 * longest.unwrap_or_default()
    }

    fn begin_reload(&mut self) {
        if !self.reloads.asked || self.reloads.under_way.is_some() {
            return;
        }
        tracing::info!("reloading");
        self.notify_reloading();
        self.reloads.asked = false;
        let adopts = self.reloads.adopts.take();
        let command_line = adopts.clone().or_else(|| self.reloads.adopted());
        self.reloads.under_way = Some(UnderWay {
            began: Instant::now(),
            replies: std::mem::take(&mut self.reloads.waiting),
            adopts,
            resolved: None,
            members: Vec::new(),
            awaited: HashSet::new(),
            failures: Vec::new(),
        });
        let (load, loaded) = (Arc::clone(&self.reloads.load), self.reloads.loaded.clone());
        tokio::task::spawn_blocking(move || {
            let _supervisor_gone = loaded.send(load(command_line.as_ref()));
        });
    }

    /// Handles the settings that were read.
    pub(super) fn loaded(&mut self, loaded: Result<Loaded, ConfigError>) {
        let Some(under_way) = &mut self.reloads.under_way else {
            return;
        };
        let (resolved, applications) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                under_way.failures.push(chain(&error));
                return self.end_reload();
            }
        };
        if let Some(gone) = gone_application(&self.resolved.config, &resolved.config) {
            under_way.failures.push(gone);
            return self.end_reload();
        }
        for warning in &resolved.config.warnings {
            tracing::warn!("{warning}");
        }
        for (index, settings) in applications.into_iter().enumerate() {
            let prefix = resolved.config.place_of(index);
            let before = &self.resolved.config;
            let mut serving = self.apps.serving_mut().iter_mut().enumerate();
            let same =
                serving.find(|(index, app)| before.place_of(*index) == prefix && !app.is_gone);
            let id = match same {
                Some((_, app)) => {
                    app.reload(settings);
                    app.id()
                }
                None => match self.apps.join(settings) {
                    Ok(id) => id,
                    Err(error) => {
                        let error = descriptors::explain(&error);
                        let text = format!("cannot start the application at {prefix}: {error}");
                        under_way.failures.push(text);
                        continue;
                    }
                },
            };
            under_way.members.push(id);
            under_way.awaited.insert(id);
        }
        under_way.resolved = Some(resolved);
        if under_way.awaited.is_empty() {
            self.end_reload();
        }
    }

    /// The new code of an application can take over.
    pub(super) fn app_prepared(&mut self, id: usize) {
        self.app_has_said(id);
    }

    /// The new code of an application cannot be run.
    pub(super) fn app_failed(&mut self, id: usize, text: &str) {
        let name = self.apps.get_mut(id).map(|app| app.name());
        let Some(under_way) = &mut self.reloads.under_way else {
            return;
        };
        // Else the application was discarded, and this is the response.
        if under_way.resolved.is_some() {
            let text = match text {
                "" => "its workers end before they are ready (see the log)",
                text => text.trim_end(),
            };
            let name = name.unwrap_or_default();
            under_way.failures.push(format!("{name}: {text}"));
            self.app_has_said(id);
        }
    }

    fn app_has_said(&mut self, id: usize) {
        if let Some(under_way) = &mut self.reloads.under_way
            && under_way.resolved.is_some()
        {
            under_way.awaited.remove(&id);
            if under_way.awaited.is_empty() {
                self.end_reload();
            }
        }
    }

    /// The server stops: the new code is discarded.
    pub(super) fn cancel_reload(&mut self) {
        self.reloads.asked = false;
        for reply in self.reloads.waiting.drain(..) {
            let _gone = reply.send(Err(STOPPING.to_owned()));
        }
        if let Some(under_way) = &mut self.reloads.under_way {
            under_way.failures.push("the server is stopping".to_owned());
            self.end_reload();
        }
    }

    fn end_reload(&mut self) {
        let Some(under_way) = self.reloads.under_way.take() else {
            return;
        };
        let UnderWay {
            began,
            replies,
            adopts,
            resolved,
            members,
            mut failures,
            ..
        } = under_way;
        let mut reloaded = Reloaded::default();
        if let Some(resolved) = resolved.filter(|_| failures.is_empty()) {
            let changed = differences(&self.resolved, &resolved);
            (reloaded.at_restart, reloaded.changed) = changed
                .into_iter()
                .partition(|name| AT_START.contains(&&**name));
            reloaded.serves = adopts.as_ref().and_then(|_| served_by(&resolved));
            let moved = resolved
                .config
                .release
                .moved_since(&self.resolved.config.release);
            match self.follow(resolved, &members) {
                Ok(()) => {
                    self.reloads.adopted = adopts.or_else(|| self.reloads.adopted());
                    moved
                        .iter()
                        .for_each(|link| tracing::info!("{link} from now on"));
                }
                Err(error) => failures.push(error.to_string()),
            }
        }
        if !failures.is_empty() {
            self.apps.discard_new();
        }
        self.show_in_development(&failures);
        reloaded.took = began.elapsed().as_secs_f64();
        let outcome = self.report(reloaded, &failures);
        self.notify_reloaded(match &outcome {
            Ok(_) => "reloaded",
            Err(text) => text,
        });
        for reply in replies {
            let _gone = reply.send(outcome.clone());
        }
        self.begin_reload();
    }

    /// Counts and logs the outcome, and returns it for those that asked.
    fn report(&self, reloaded: Reloaded, failures: &[String]) -> Result<Reloaded, String> {
        METRICS.reloads.up(match failures.is_empty() {
            true => "done",
            false => "failed",
        });
        if failures.is_empty() {
            let changed = reloaded.changed.join(", ");
            let changed = (!changed.is_empty()).then_some(changed);
            tracing::info!(changed, "reloaded in {:.2} s", reloaded.took);
            if !reloaded.at_restart.is_empty() {
                let settings = reloaded.at_restart.join(", ");
                tracing::warn!(
                    code = codes::NEEDS_RESTART,
                    settings,
                    "changed settings that need a restart"
                );
            }
            return Ok(reloaded);
        }
        let (text, mut meanwhile) = (failures.join("\n"), self.meanwhile().to_owned());
        let stale = self.resolved.config.release.stale();
        if !stale.is_empty() {
            meanwhile = format!("{meanwhile} ({})", stale.join(", "));
        }
        tracing::error!(
            code = codes::RELOAD_FAILED,
            "reload failed, {meanwhile}:\n{text}"
        );
        remember_error(&format!("reload failed: {text}"));
        Err(format!("the reload failed, {meanwhile}:\n{text}"))
    }

    /// The state of the server after a failed reload.
    fn meanwhile(&self) -> &'static str {
        match self.shows_errors() && !self.apps.serving().is_empty() {
            true => "requests for the application get this error until a file is saved (--dev)",
            false => "the old code and settings keep serving",
        }
    }

    /// True if a failed reload is shown to clients. Requests in flight at a stop still get their
    /// own responses.
    fn shows_errors(&self) -> bool {
        self.resolved.config.dev && self.stop_asked.is_none()
    }

    /// In development the error page shows why the saved code does not run, instead of responses of
    /// the old code.
    fn show_in_development(&self, failures: &[String]) {
        let why = (self.shows_errors() && !failures.is_empty()).then(|| failures.join("\n"));
        for app in self.apps.serving() {
            app.pool.set_unusable(why.as_deref());
        }
    }

    /// An application cannot be run from the start on. `false`: neither can the server.
    pub(super) fn waits_for_repair(&mut self, id: usize, text: &str) -> bool {
        if !self.resolved.config.dev || self.is_stopping() || self.upgrade.is_waiting() {
            return false;
        }
        let Some(app) = self.apps.get_mut(id) else {
            return false;
        };
        let name = app.name();
        app.discard();
        app.pool.set_unusable(Some(text));
        // Clients get the page with the error.
        self.log_listening();
        tracing::error!(
            code = codes::IMPORT,
            app = name,
            "the application cannot be loaded; retrying when a file is saved (--dev):\n{text}"
        );
        remember_error(&format!("{name}: {text}"));
        true
    }

    /// Switches everything to these settings and applications.
    fn follow(&mut self, resolved: Resolved, members: &[usize]) -> std::io::Result<()> {
        let before = self.apps.serving_ids();
        // Everything that may fail comes first.
        let is_same = before == members && !needs_site(&self.resolved, &resolved);
        let site = match is_same {
            true => None,
            false => {
                let pools = self.apps.pools(members);
                Some(self.front.site(&resolved.config, &pools)?)
            }
        };
        if let Some(site) = site {
            self.front.change(site, &resolved.config);
        }
        self.apps.follow(members, self.front.past());
        let config = &resolved.config;
        enter_current_directory(config);
        self.stop
            .set_times(config.drain_delay, config.graceful_timeout);
        self.resolved = Arc::new(resolved);
        let leave_within = self.resolved.config.graceful_timeout;
        for app in self.apps.serving_mut() {
            app.leave_within = leave_within;
        }
        self.companions_follow();
        for (index, app) in self.apps.serving().iter().enumerate() {
            let (found, app) = (app.found_files(), (app.id(), Some(index)));
            self.front.serve_found(&self.resolved.config, app, &found);
        }
        for id in before.iter().filter(|id| !members.contains(id)) {
            let app = (*id, None);
            self.front.serve_found(&self.resolved.config, app, &[]);
        }
        self.retire_removed();
        // An application that was awaited may have been removed.
        self.announce();
        self.watch();
        Ok(())
    }
}

impl Supervisor {
    /// Companions follow the code and settings that the workers have switched to.
    fn companions_follow(&mut self) {
        let serving = self.apps.serving().iter();
        let applications: Vec<_> = serving
            .map(|app| AppSettings::clone(&app.settings()))
            .collect();
        let config = &self.resolved.config;
        let surroundings = ProcessEnvironment::of(config, &applications);
        self.companions
            .follow(&config.companions, surroundings, Instant::now());
        self.look_after_companions();
    }
}

/// `hello.wsgi (uwsgi.ini:6)`: the application, and the place that names it.
fn served_by(resolved: &Resolved) -> Option<String> {
    let mut all = resolved.origins.iter();
    let (_, app, origin) = all.find(|(name, ..)| *name == "app")?;
    Some(format!("{app} ({origin})"))
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings;

    #[test]
    fn settings_that_need_a_restart_exist() {
        for name in AT_START {
            assert!(settings::named(name).is_some(), "{name}");
        }
    }
}
