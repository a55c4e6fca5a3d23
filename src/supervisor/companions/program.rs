//! Starting a program: its command line, directory, `PATH` and user, with its output piped to us.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::fs::fchown;
use rustix::process::{Gid, Signal, Uid};

use super::output::Output;
use super::shell;
use crate::config::companions::Program;
use crate::config::{AppSettings, Config, RunAs, native};
use crate::os::{child, identity, search_path};

/// Environment of the programs that we start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProcessEnvironment {
    /// Their working directory.
    directory: PathBuf,
    /// Their `PATH`, if it differs from ours.
    path: Option<OsString>,
    /// Variables besides ours.
    variables: Vec<(String, String)>,
}

impl ProcessEnvironment {
    /// The directory of the site; the programs of the application's virtual environment come first
    /// in `PATH`, as if it were activated.
    pub fn of(config: &Config, applications: &[AppSettings]) -> Self {
        let path = applications
            .iter()
            .find_map(|app| search_path::activated(&app.interpreter.path));
        Self {
            directory: config.release.settle(&config.chdir),
            path,
            variables: config.env.clone(),
        }
    }
}

impl Program {
    /// True if a shell stays between us and the program.
    pub fn stays_in_shell(&self) -> bool {
        matches!(self, Self::Shell(line) if shell::replaced(line).is_none())
    }
}

/// Starts a program with its output piped to us.
///
/// # Errors
/// The error of the system call for the program or the pipe.
pub fn start(
    program: &Program,
    surroundings: &ProcessEnvironment,
    run_as: Option<&RunAs>,
) -> io::Result<(u32, Output)> {
    let mut command = match program {
        Program::Shell(line) => {
            let mut command = Command::new("/bin/sh");
            command.arg("-c");
            let replaced = shell::replaced(line);
            command.arg(native::string(replaced.as_deref().unwrap_or(line)));
            command
        }
        Program::Words(words) => {
            let (first, rest) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
            let mut command = Command::new(first);
            command.args(rest);
            command
        }
    };
    let variables = surroundings.variables.iter();
    command.envs(variables.map(|(name, value)| (name, native::string(value))));
    let (output, writer) = Output::pipe()?;
    if let Some(user) = run_as {
        become_user(&mut command, user, &writer);
    }
    let again = writer.try_clone()?;
    command
        .current_dir(&surroundings.directory)
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(again);
    if let Some(path) = &surroundings.path {
        // `Command` searches this path for the program too.
        command.env("PATH", path);
    }
    child::end_with_us(&mut command, Signal::TERM);
    let pid = child::spawn(&mut command, &[])?;
    Ok((pid, output))
}

/// Has `command` run as this user, who may also open the pipe again (`/dev/stdout`). Before
/// [`child::end_with_us`], which a change of the user undoes.
fn become_user(command: &mut Command, user: &RunAs, output: &impl AsFd) {
    let groups = identity::groups(user.name.as_deref(), user.gid);
    identity::run_as(command, user.uid, user.gid, &groups);
    command.env("HOME", &user.home);
    for variable in ["USER", "LOGNAME"] {
        match &user.name {
            Some(name) => command.env(variable, name),
            None => command.env_remove(variable),
        };
    }
    let owner = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    // Without it, only what is open already can be written to.
    let _ = fchown(output, Some(owner.0), Some(owner.1));
}
