//! Reports slow imports: the place where the import hangs, and a server that the module starts by
//! itself.
//!
//! Counts checks instead of seconds, as [`super::liveness`] does.

use std::collections::HashMap;
use std::time::Instant;

use tokio_util::task::TaskTracker;

use super::App;
use super::liveness::FORK;
use crate::observe::codes;
use crate::os::{listening, process, terminal};
use crate::supervisor::generation::Python;
use crate::supervisor::starting::Starting;
use crate::supervisor::starting::stack::{Roots, Stack};

/// Checks after which a process is reported first; then after twice as many, and so on.
const FIRST: u32 = 5;

/// Number of checks in a row at which each process was still starting.
pub(super) struct Imports {
    seen: HashMap<u32, u32>,
    tasks: TaskTracker,
}

impl Imports {
    /// `tasks` tracks the tasks that read stacks.
    pub(super) fn new(tasks: TaskTracker) -> Self {
        Self {
            seen: HashMap::new(),
            tasks,
        }
    }

    /// Takes the processes of one check; returns those to report, with their number of checks.
    fn look(&mut self, starting: Vec<Starting>) -> Vec<(Starting, u32)> {
        self.seen
            .retain(|pid, _| starting.iter().any(|process| process.pid == *pid));
        let mut due = Vec::new();
        for process in starting {
            let seen = self.seen.entry(process.pid).or_default();
            *seen += 1;
            // The first check finds a process that has just started.
            let looks = *seen - 1;
            if looks.is_multiple_of(FIRST) && (looks / FIRST).is_power_of_two() {
                due.push((process, looks));
            }
        }
        due
    }
}

impl App {
    /// Reads the stacks of processes with a slow import, and logs the place.
    pub(super) fn look_at_imports(&mut self) {
        let mut starting = self.starting();
        // A person debugs it.
        if let Some(group) = terminal::foreground_group() {
            starting.retain(|starting| !process::is_in_group(starting.pid, group));
        }
        let due = self.imports.look(starting);
        for (process, seconds) in due {
            let (name, roots) = (self.name(), self.roots(process.generation));
            let ask = async move { report(&name, &process, seconds, &roots).await };
            self.imports.tasks.spawn(ask);
        }
    }

    /// Reads the stack of a template that forks no worker, and logs the place.
    pub(super) fn ask_template(&self, pid: u32) {
        let templates = self
            .generations
            .values()
            .filter_map(Python::template_process);
        for template in templates.filter(|template| template.pid == pid) {
            let (name, roots) = (self.name(), self.roots(template.generation));
            let ask = async move { report_template(&name, &template, &roots).await };
            self.imports.tasks.spawn(ask);
        }
    }

    /// Directories of the application's own source.
    fn roots(&self, generation: u32) -> Roots {
        let python = self.generations.get(&generation);
        let settings = python.map_or(&self.settings, |python| &python.settings);
        let directories = settings.pythonpath.iter().chain([&settings.chdir]);
        Roots(directories.cloned().collect())
    }

    /// Checks the processes of an application that does not serve yet, if a check is due.
    pub fn check_start(&mut self, now: Instant) {
        let next = self.check_processes(now);
        self.emit(super::AppEvent::WakeAt(next));
    }
}

async fn report(app: &str, process: &Starting, seconds: u32, roots: &Roots) {
    let Starting { worker, pid, .. } = *process;
    if process.pipe.is_none() && !process.has_begun {
        tracing::warn!(
            code = codes::IMPORT_HANGS,
            app,
            worker,
            pid,
            "the interpreter has not started for {seconds} s: sitecustomize or a .pth file may hang"
        );
        return;
    }
    let text = process.stacks().await;
    let stack = Stack::parse(&text);
    let what = match worker {
        Some(_) => "the worker has not become ready",
        None => "the import has not returned",
    };
    match stack.place(roots) {
        Some(place) => tracing::warn!(
            code = codes::IMPORT_HANGS,
            app,
            worker,
            pid,
            "{what} for {seconds} s; it is at {place}:{}",
            stack.text()
        ),
        None => tracing::warn!(
            code = codes::IMPORT_HANGS,
            app,
            worker,
            pid,
            "{what} for {seconds} s, and does not answer where it is: it may be stopped"
        ),
    }
    let addresses = listening::of_process(pid);
    if let Some(sentence) = stack.own_server(roots, &addresses) {
        tracing::warn!(code = codes::OWN_SERVER, app, worker, pid, "{sentence}");
    }
}

async fn report_template(app: &str, template: &Starting, roots: &Roots) {
    let stack = Stack::parse(&template.stacks().await);
    let pid = template.pid;
    match stack.place(roots) {
        Some(place) => tracing::error!(
            code = codes::TEMPLATE_HANGS,
            app,
            pid,
            "the template forks no worker for {FORK} s; it is at {place}, and is replaced:{}",
            stack.text()
        ),
        None => tracing::error!(
            code = codes::TEMPLATE_HANGS,
            app,
            pid,
            "the template forks no worker for {FORK} s, and does not answer where it is: it is stopped, or code outside Python hangs; it is replaced"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32) -> Starting {
        Starting {
            generation: 0,
            worker: None,
            pid,
            has_begun: false,
            pipe: None,
        }
    }

    #[test]
    fn a_long_import_is_reported_after_5_10_20_and_40_checks() {
        let mut imports = Imports::new(TaskTracker::new());
        let due = (0..50).flat_map(|_| imports.look(vec![process(7)]));
        let looks: Vec<_> = due.map(|(_, looks)| looks).collect();
        assert_eq!(looks, [5, 10, 20, 40]);
        imports.look(vec![]);
        assert!((0..5).all(|_| imports.look(vec![process(7)]).is_empty()));
    }
}
