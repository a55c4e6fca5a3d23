//! The applications of the server: those that serve, in the order of the settings, those that
//! a reload brings up beside them, and those that one took away and that still have requests.
//!
//! ```text
//! joining -> serving -> leaving -> gone        one whose reload fails is discarded
//! ```
//!
//! An application is the one at its prefix: code that changes there is another generation of
//! it, in the same pool. Each has a number of its own, which is never used again.

use std::io;
use std::sync::Weak;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::app::App;
use super::plan::PlanEvent;
use crate::config::AppSettings;
use crate::front::site::Site;
use crate::front::upstream::workers::{Pool, Report};

/// How often to look whether requests can still come to an application that was taken away.
const LOOK: Duration = Duration::from_millis(100);

/// All of them.
pub(super) struct Apps {
    /// In the order of the settings.
    serving: Vec<App>,
    /// They have no requests before [`Apps::follow`].
    joining: Vec<App>,
    leaving: Vec<Leaving>,
    next: usize,
    reports: mpsc::UnboundedSender<Report>,
}

struct Leaving {
    app: App,
    /// What may still send it requests: each is gone when its last request has its answer.
    sites: Vec<Weak<Site>>,
    is_told: bool,
}

impl Apps {
    /// None yet. `reports`: where their pools tell what happens.
    pub(super) fn new(reports: mpsc::UnboundedSender<Report>) -> Self {
        Self {
            serving: Vec::new(),
            joining: Vec::new(),
            leaving: Vec::new(),
            next: 0,
            reports,
        }
    }

    /// One more that serves from the start on; no process yet.
    ///
    /// # Errors
    /// The error of the system call for files and sockets.
    pub(super) fn add(&mut self, settings: AppSettings) -> io::Result<()> {
        let app = self.create(settings)?;
        self.serving.push(app);
        Ok(())
    }

    /// One more that starts beside those that serve; its number.
    ///
    /// # Errors
    /// The error of the system call for files and sockets.
    pub(super) fn join(&mut self, settings: AppSettings) -> io::Result<usize> {
        let mut app = self.create(settings)?;
        let id = app.id();
        app.happened(PlanEvent::Start);
        self.joining.push(app);
        Ok(id)
    }

    fn create(&mut self, settings: AppSettings) -> io::Result<App> {
        let app = App::new(self.next, settings, self.reports.clone())?;
        self.next += 1;
        Ok(app)
    }

    /// Those that serve, in the order of the settings.
    pub(super) fn serving(&self) -> &[App] {
        &self.serving
    }

    /// Their numbers.
    pub(super) fn serving_ids(&self) -> Vec<usize> {
        self.serving.iter().map(App::id).collect()
    }

    /// The same, to be changed.
    pub(super) fn serving_mut(&mut self) -> &mut [App] {
        &mut self.serving
    }

    /// Those that were taken away, and still have requests.
    pub(super) fn leaving(&self) -> impl Iterator<Item = &App> {
        self.leaving.iter().map(|leaving| &leaving.app)
    }

    /// True if this one serves.
    pub(super) fn serves(&self, id: usize) -> bool {
        self.serving.iter().any(|app| app.id() == id)
    }

    /// Those that are brought up.
    pub(super) fn joining_mut(&mut self) -> impl Iterator<Item = &mut App> {
        self.joining.iter_mut()
    }

    /// Every one that has processes.
    pub(super) fn all(&self) -> impl Iterator<Item = &App> {
        let leaving = self.leaving.iter().map(|leaving| &leaving.app);
        self.serving.iter().chain(&self.joining).chain(leaving)
    }

    /// The same, to be changed.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut App> {
        let leaving = self.leaving.iter_mut().map(|leaving| &mut leaving.app);
        let others = self.joining.iter_mut().chain(leaving);
        self.serving.iter_mut().chain(others)
    }

    /// The one with this number.
    pub(super) fn get_mut(&mut self, id: usize) -> Option<&mut App> {
        self.all_mut().find(|app| app.id() == id)
    }

    /// The pools of those with these numbers, in this order.
    pub(super) fn pools(&self, members: &[usize]) -> Vec<Pool> {
        let pool = |id: &usize| {
            let app = self.all().find(|app| app.id() == *id)?;
            Some(app.pool.clone())
        };
        members.iter().filter_map(pool).collect()
    }

    /// From now on those with these numbers serve, in this order, with the code that was
    /// brought up; `sites` may still send requests to the others.
    pub(super) fn follow(&mut self, members: &[usize], sites: Vec<Weak<Site>>) {
        let mut before = std::mem::take(&mut self.serving);
        for app in &mut before {
            app.happened(PlanEvent::TakeOver);
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
            is_told: false,
        }));
    }

    /// What was brought up is not wanted.
    pub(super) fn stay_as_it_is(&mut self) {
        for app in &mut self.serving {
            app.happened(PlanEvent::StayAsItIs);
        }
        for mut app in self.joining.drain(..) {
            app.discard();
        }
    }

    /// Tells those to leave that get no more requests. When to come back, if some still may.
    pub(super) fn let_go(&mut self, now: Instant) -> Option<Instant> {
        let mut look_again = None;
        for leaving in self.leaving.iter_mut().filter(|leaving| !leaving.is_told) {
            if leaving.sites.iter().all(|site| site.strong_count() == 0) {
                leaving.is_told = true;
                tracing::info!(
                    app = leaving.app.name(),
                    "the workers of the application that was taken away leave"
                );
                leaving.app.happened(PlanEvent::Leave);
            } else {
                look_again = Some(now + LOOK);
            }
        }
        look_again
    }

    /// All workers of this one have left, as they were told. `true`: there are no others.
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
