//! Verbs that run a command of the project: deploy, test, shell and manage.
//!
//! The command gets the interpreter, the directory, the variables and the user of the application, so that
//! `docker run IMAGE manage migrate` means the same as the server beside it. It takes the place of this process;
//! as process 1 this process stays above it, forwards signals and reaps orphaned processes.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process;

use anyhow::Context;

use crate::config::layers::Layer;
use crate::config::{self, Config, HostFacts};
use crate::os::signals::{self, HeldSignals};
use crate::os::{child, identity, search_path};

/// A command of the project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Migrate the database and collect static files.
    Deploy,
    /// Run the tests.
    Test,
    /// An interactive Python with the application.
    Shell,
    /// `manage.py`.
    Manage,
}

impl Command {
    /// The verbs, with their help.
    pub const ALL: [(&'static str, Self, &'static str); 4] = [
        (
            "deploy",
            Self::Deploy,
            "Migrate and collect static files of a Django project, or run its `release:`",
        ),
        (
            "test",
            Self::Test,
            "Run the tests of the project: Django's, pytest, or unittest",
        ),
        (
            "shell",
            Self::Shell,
            "Open a Python shell with the application",
        ),
        ("manage", Self::Manage, "Run manage.py of a Django project"),
    ];

    /// The command of a verb.
    pub fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.iter();
        let found = all.find(|(verb, ..)| *verb == name);
        found.map(|(_, command, _)| *command)
    }

    fn verb(self) -> &'static str {
        let mut all = Self::ALL.iter();
        let found = all.find(|(_, command, _)| *command == self);
        found.map_or("manage", |(verb, ..)| verb)
    }

    /// The process type of a `Procfile` that takes its place.
    fn process_type(self) -> Option<&'static str> {
        match self {
            Self::Deploy => Some("release"),
            Self::Test => Some("test"),
            Self::Shell | Self::Manage => None,
        }
    }
}

/// A command with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The command.
    pub command: Command,
    /// Its arguments.
    pub words: Vec<OsString>,
}

/// The program that runs deploy, test and shell.
const PROGRAM: &str = include_str!("../python/pyserve/project.py");

/// Runs the command; returns its exit code where this process is process 1.
///
/// # Errors
/// The first setting that cannot be used, or the error of starting the command.
pub fn run(flags: Layer, request: &Request) -> anyhow::Result<u8> {
    let host = HostFacts::of_this_process();
    let named = request.command.process_type();
    let line = match named {
        Some(kind) => config::process_type(kind, &host),
        None => None,
    };
    let config = config::load(flags, &host)?.config;
    for warning in &config.warnings {
        crate::observe::diagnostics::say(&format!("pyserve: {warning}"));
    }
    let mut command = command(&config, request, line)?;
    if let Some(run_as) = &config.run_as {
        identity::become_for_good(run_as.uid, run_as.gid, run_as.name.as_deref(), &run_as.home)?;
    }
    if host.is_init {
        return watched(&mut command);
    }
    let error = command.exec();
    Err(anyhow::Error::new(error)).with_context(|| cannot_run(&command))
}

/// The command of the shell, or of the interpreter.
fn command(
    config: &Config,
    request: &Request,
    line: Option<String>,
) -> anyhow::Result<process::Command> {
    let verb = request.command.verb();
    let app = config.apps.first();
    let app = app
        .with_context(|| format!("cannot {verb}: there is no application (name one with --app)"))?;
    let python = &app.interpreter.path;
    let mut command = match line {
        Some(line) => {
            let mut command = process::Command::new("/bin/sh");
            command.args(["-c", &format!("{line} \"$@\""), "sh"]);
            command
        }
        None if request.command == Command::Manage => {
            let manage = app.chdir.join("manage.py");
            anyhow::ensure!(
                manage.is_file(),
                "there is no {} (give the directory of the Django project with --chdir)",
                manage.display()
            );
            let mut command = process::Command::new(python);
            command.arg("manage.py");
            command
        }
        None => {
            let mut command = process::Command::new(python);
            command.args(["-c", PROGRAM, verb, &app.app.to_string()]);
            command
        }
    };
    command.args(&request.words);
    command.current_dir(&app.chdir);
    command.envs(
        config
            .env
            .iter()
            .chain(&app.env)
            .map(|(name, value)| (name.clone(), config::native::string(value))),
    );
    if let Some(path) = search_path::activated(python) {
        command.env("PATH", path);
    }
    if !app.pythonpath.is_empty() {
        let others = std::env::var_os("PYTHONPATH").unwrap_or_default();
        let others: Vec<PathBuf> = std::env::split_paths(&others).collect();
        let paths = std::env::join_paths(app.pythonpath.iter().chain(&others));
        command.env(
            "PYTHONPATH",
            paths.context("a path of pythonpath has a colon")?,
        );
    }
    Ok(command)
}

fn cannot_run(command: &process::Command) -> String {
    format!("cannot run {}", command.get_program().display())
}

/// Runs the command as a child of process 1. It gets every signal that a process sends; those of a terminal reach it
/// without help.
fn watched(command: &mut process::Command) -> anyhow::Result<u8> {
    // Before the command starts: its end must not be missed.
    let signals = HeldSignals::all().context("cannot handle signals")?;
    let spawned = signals.spawn(command);
    let pid = spawned.with_context(|| cannot_run(command))?.id();
    loop {
        let received = signals.next().context("cannot wait for signals")?;
        if !received.is_of_child() {
            if received.is_from_process {
                signals::send(pid, received.number);
            }
            continue;
        }
        while let Some((other, status)) = child::reap() {
            if other == pid {
                let killed = 128 + (status & 0x7f);
                return Ok(child::exit_code(status).unwrap_or(killed) as u8);
            }
        }
    }
}
