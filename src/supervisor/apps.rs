//! The applications of the server: those that serve, in the order of the settings; those that a
//! reload starts beside them; and those that a reload removed and that still have requests.
//!
//! ```text
//! joining -> serving -> leaving -> gone        one whose reload fails is discarded
//! ```
//!
//! An application is identified by its prefix. Changed code at the same prefix is another
//! generation of it, in the same pool. Each application has a number, which is never reused.

use std::io;
use std::sync::Weak;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::app::App;
use super::plan::PlanEvent;
use crate::config::AppSettings;
use crate::front::site::Site;
use crate::front::upstream::workers::{Pool, Report};

/// Interval at which a removed application is checked for requests that may still reach it.
const LOOK: Duration = Duration::from_millis(100);

/// All applications.
pub(super) struct Apps {
    /// In the order of the settings.
    serving: Vec<App>,
    /// These get no requests before [`Apps::follow`].
    joining: Vec<App>,
    leaving: Vec<Leaving>,
    next: usize,
    reports: mpsc::UnboundedSender<Report>,
}

struct Leaving {
    app: App,
    /// Sites that may still send it requests; a site is dropped with its last response.
    sites: Vec<Weak<Site>>,
    is_asked: bool,
}

impl Apps {
    /// Creates an empty list. The pools send their events to `reports`.
    pub(super) fn new(reports: mpsc::UnboundedSender<Report>) -> Self {
        Self {
            serving: Vec::new(),
            joining: Vec::new(),
            leaving: Vec::new(),
            next: 0,
            reports,
        }
    }

    /// Adds an application that serves from the start, without a process.
    ///
    /// # Errors
    /// The error of the system call for files and sockets.
    pub(super) fn add(&mut self, settings: AppSettings) -> io::Result<()> {
        let app = self.create(settings)?;
        self.serving.push(app);
        Ok(())
    }

    /// Adds an application that starts beside the serving ones; returns its number.
    ///
    /// # Errors
    /// The error of the system call for files and sockets.
    pub(super) fn join(&mut self, settings: AppSettings) -> io::Result<usize> {
        let mut app = self.create(settings)?;
        let id = app.id();
        app.handle(PlanEvent::Start);
        self.joining.push(app);
        Ok(id)
    }

    fn create(&mut self, settings: AppSettings) -> io::Result<App> {
        let app = App::new(self.next, settings, self.reports.clone())?;
        self.next += 1;
        Ok(app)
    }

    /// Serving applications, in the order of the settings.
    pub(super) fn serving(&self) -> &[App] {
        &self.serving
    }

    /// Their numbers.
    pub(super) fn serving_ids(&self) -> Vec<usize> {
        self.serving.iter().map(App::id).collect()
    }

    /// Serving applications, mutable.
    pub(super) fn serving_mut(&mut self) -> &mut [App] {
        &mut self.serving
    }

    /// Applications that were removed and still have requests.
    pub(super) fn leaving(&self) -> impl Iterator<Item = &App> {
        self.leaving.iter().map(|leaving| &leaving.app)
    }

    /// True if this application serves.
    pub(super) fn serves(&self, id: usize) -> bool {
        self.serving.iter().any(|app| app.id() == id)
    }

    /// Applications that are starting.
    pub(super) fn joining_mut(&mut self) -> impl Iterator<Item = &mut App> {
        self.joining.iter_mut()
    }

    /// All applications that have processes.
    pub(super) fn all(&self) -> impl Iterator<Item = &App> {
        let leaving = self.leaving.iter().map(|leaving| &leaving.app);
        self.serving.iter().chain(&self.joining).chain(leaving)
    }

    /// All applications that have processes, mutable.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut App> {
        let leaving = self.leaving.iter_mut().map(|leaving| &mut leaving.app);
        let others = self.joining.iter_mut().chain(leaving);
        self.serving.iter_mut().chain(others)
    }

    /// The application with this number.
    pub(super) fn get_mut(&mut self, id: usize) -> Option<&mut App> {
        self.all_mut().find(|app| app.id() == id)
    }

    /// The pools of the applications with these numbers, in this order.
    pub(super) fn pools(&self, members: &[usize]) -> Vec<Pool> {
        let pool = |id: &usize| {
            let app = self.all().find(|app| app.id() == *id)?;
            Some(app.pool.clone())
        };
        members.iter().filter_map(pool).collect()
    }

    /// Switches to the applications with these numbers, in this order, and to their new
    /// generations. `sites` may still send requests to the others.
    pub(super) fn follow(&mut self, members: &[usize], sites: Vec<Weak<Site>>) {
        let mut before = std::mem::take(&mut self.serving);
        for app in &mut before {
            app.handle(PlanEvent::TakeOver);
        }
        before.append(&mut self.joining);
        for id in members {
            if let Some(at) = before.iter().position(|app| app.id() == *id) {
                self.serving.push(before.swap_remove(at));
            }
        }
        before.retain(|app| !app.is_gone);
        self.leaving.extend(before.into_iter().map(|app| Leaving {
            app,
            sites: sites.clone(),
            is_asked: false,
        }));
    }

    /// Discards the new generations and applications.
    pub(super) fn discard_new(&mut self) {
        for app in &mut self.serving {
            app.handle(PlanEvent::DiscardNew);
        }
        for mut app in self.joining.drain(..) {
            app.discard();
        }
    }

    /// Asks removed applications to leave when no site sends them requests. Returns the time of the
    /// next check, if one is needed.
    pub(super) fn retire_removed(&mut self, now: Instant) -> Option<Instant> {
        let mut look_again = None;
        for leaving in self.leaving.iter_mut().filter(|leaving| !leaving.is_asked) {
            if leaving.sites.iter().all(|site| site.strong_count() == 0) {
                leaving.is_asked = true;
                tracing::info!(
                    app = leaving.app.name(),
                    "asking the workers of the removed application to exit"
                );
                leaving.app.handle(PlanEvent::Leave);
            } else {
                look_again = Some(now + LOOK);
            }
        }
        look_again
    }

    /// Handles the exit of all workers of an application. `true`: no application is left.
    pub(super) fn gone(&mut self, id: usize) -> bool {
        if let Some(at) = self
            .leaving
            .iter()
            .position(|leaving| leaving.app.id() == id)
        {
            self.leaving.remove(at).app.drain_log();
        } else if let Some(app) = self.get_mut(id) {
            app.is_gone = true;
        }
        self.are_gone()
    }

    /// True if no application has workers.
    pub(super) fn are_gone(&self) -> bool {
        self.all().all(|app| app.is_gone)
    }
}
