//! Processes beside the application: the `[[companion]]` tables of `pyserve.toml`.
//!
//! This file lists the settings of such a table; [`super::resolve`] reads them.

use std::fmt;
use std::time::Duration;

use super::foreign::secrets;
use super::schedule::Schedule;
use super::settings::{Default, Setting};
use super::{RunAs, native};
use crate::os::child::StopSignal;

/// A process beside the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Companion {
    /// Names it in the log; no other has the same.
    pub name: String,
    /// The program.
    pub program: Program,
    /// True if the server ends when the companion does.
    pub is_essential: bool,
    /// Time between SIGTERM and SIGKILL. `None`: [`STOP_TIMEOUT`] when the server stops, no limit
    /// at a reload. When the server stops, the graceful timeout is the limit in any case.
    pub stop_timeout: Option<Duration>,
    /// The signal that asks it to end.
    pub stop_signal: StopSignal,
    /// A reload starts it again even if its settings are the same: its code may have changed.
    pub restart_on_reload: bool,
    /// At a reload the new process starts while the old one still finishes its work.
    pub overlap: bool,
    /// Starts it again when it has exited.
    pub restart: Restart,
    /// The times at which it runs, to its end each time; `None`: always.
    pub schedule: Option<Schedule>,
    /// The user that it runs as; `None`: that of the server.
    pub run_as: Option<RunAs>,
}

/// The exits after which a companion is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Restart {
    /// All of them.
    #[default]
    Always,
    /// Those with an exit code other than 0, or by a signal.
    OnFailure,
    /// None.
    Never,
}

impl Restart {
    /// The values of the setting.
    pub const ALL: [(&'static str, Self); 3] = [
        ("always", Self::Always),
        ("on-failure", Self::OnFailure),
        ("never", Self::Never),
    ];

    /// True if a process that has exited with this code is started again; `None`: it was killed by a signal.
    pub fn follows(self, exit_code: Option<i32>) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => exit_code != Some(0),
            Self::Never => false,
        }
    }
}

/// Time between SIGTERM and SIGKILL of a companion without a `stop_timeout`, when the server stops.
/// uWSGI and systemd wait longer (60 and 90 s); supervisord waits 10 s, which is short for a task queue.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(30);

impl fmt::Display for Companion {
    /// Its name, what runs, and that the server ends with it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.name, self.program)?;
        if let Some(schedule) = &self.schedule {
            write!(f, ", {schedule}")?;
        }
        if let Some(run_as) = &self.run_as {
            write!(f, ", as uid {} and gid {}", run_as.uid, run_as.gid)?;
        }
        let restart = Restart::ALL.iter().find(|(_, one)| *one == self.restart);
        if let Some((name, _)) = restart.filter(|(_, one)| *one != Restart::default()) {
            write!(f, ", restart {name}")?;
        }
        match self.is_essential {
            true => f.write_str(", essential"),
            false => Ok(()),
        }
    }
}

/// A program with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// A line for `/bin/sh`, see [`native`].
    Shell(String),
    /// The program and its arguments; at least one word.
    Words(Vec<String>),
}

impl fmt::Display for Program {
    /// As one would type it, without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shell(line) => f.write_str(&secrets::masked(&native::shown(line))),
            Self::Words(words) => f.write_str(&secrets::masked(&words.join(" "))),
        }
    }
}

/// Every setting of a companion.
pub static COMPANION_SETTINGS: &[Setting] = &[
    Setting {
        name: "name",
        value_name: "NAME",
        heading: HEADING,
        help: "Its name in the log",
        repeatable: false,
        default: Default::Computed("the first word of the command"),
    },
    Setting {
        name: "command",
        value_name: "COMMAND",
        heading: HEADING,
        help: "What runs: a line for the shell, or an array with the program and its arguments",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "essential",
        value_name: "yes|no",
        heading: HEADING,
        help: "End the server when it ends",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "restart",
        value_name: "always|on-failure|never",
        heading: HEADING,
        help: "Start it again when it has exited: after every exit, after an exit code other than 0 or a signal, or never",
        repeatable: false,
        default: Default::Value("always"),
    },
    Setting {
        name: "stop_timeout",
        value_name: "TIME",
        heading: HEADING,
        help: "Time between SIGTERM to its main process and SIGKILL to its process group; when the server stops, \
               at most what is left of graceful_timeout",
        repeatable: false,
        default: Default::Computed("30 when the server stops, no limit at a reload"),
    },
    Setting {
        name: "stop_signal",
        value_name: "TERM|HUP|INT|QUIT|KILL|USR1|USR2",
        heading: HEADING,
        help: "Signal that asks it to end, in place of SIGTERM",
        repeatable: false,
        default: Default::Value("TERM"),
    },
    Setting {
        name: "restart_on_reload",
        value_name: "yes|no",
        heading: HEADING,
        help: "Start it again at a reload, so that it runs the new code; if its command has changed it is in any case",
        repeatable: false,
        default: Default::Value("yes"),
    },
    Setting {
        name: "overlap",
        value_name: "yes|no",
        heading: HEADING,
        help: "At a reload, start the new process while the old one still finishes its work",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "schedule",
        value_name: "CRON",
        heading: HEADING,
        help: "Run it at these times, as in `0 3 * * *` (crontab: minute, hour, day of the month, month, day of the \
               week) or `@daily`, in the time zone of TZ",
        repeatable: false,
        default: Default::None,
    },
    Setting {
        name: "every",
        value_name: "TIME",
        heading: HEADING,
        help: "Run it so long after the start of the run before, first after the start of the server",
        repeatable: false,
        default: Default::None,
    },
    Setting {
        name: "user",
        value_name: "NAME|UID",
        heading: HEADING,
        help: "The user that it runs as, with the user's groups; the server has to run as root",
        repeatable: false,
        default: Default::Computed("that of the server"),
    },
    Setting {
        name: "group",
        value_name: "NAME|GID",
        heading: HEADING,
        help: "With `user`: the group that it runs as",
        repeatable: false,
        default: Default::Computed("that of the user"),
    },
];

const HEADING: &str = "Companion";
