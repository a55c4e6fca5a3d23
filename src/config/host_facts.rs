//! Facts of this process and its machine on which settings depend: environment, current directory, CPUs and
//! memory, the name by which it was called.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::foreign::found;
use super::sizing::Machine;
use super::{Config, Environment};
use crate::os::standard::Standard;
use crate::os::{cgroup, handover, process};

/// Facts besides the three sources on which a configuration depends.
#[derive(Debug, Clone)]
pub struct HostFacts {
    /// The environment.
    pub environment: Environment,
    /// The directory in which pyserve was started, by the name that the shell has for it. A
    /// link in that name may lead elsewhere by now. A directory that has been removed has a
    /// name that leads nowhere.
    pub current_dir: PathBuf,
    /// The executable of pyserve.
    pub executable: Option<PathBuf>,
    /// CPUs and memory.
    pub machine: Machine,
    /// True if the log goes to a terminal.
    pub is_terminal: bool,
    /// True if the access log goes to a terminal.
    pub is_output_terminal: bool,
    /// The command line of uWSGI, if the program is called by that name.
    pub uwsgi_command_line: Option<Vec<String>>,
    /// The directory of that command line, if a running server has adopted it ([`super::adopted`]).
    pub uwsgi_directory: Option<PathBuf>,
    /// The command line of gunicorn, if the program is called by that name.
    pub gunicorn_command_line: Option<Vec<String>>,
    /// True if this is process 1, which a container's runtime kills if it does not stop in time.
    pub is_init: bool,
}

impl HostFacts {
    /// The surroundings of this process.
    pub fn of_this_process() -> Self {
        let limits = cgroup::limits();
        let memory = cgroup::physical_memory();
        Self {
            environment: Environment::of_this_process(),
            current_dir: working_directory(),
            executable: std::env::current_exe().ok(),
            machine: Machine {
                cpu_quota: limits.cpus,
                affinity: cgroup::affinity(),
                memory: Some(limits.memory.map_or(memory, |limit| limit.min(memory))),
                descriptors: process::descriptor_limit(),
            },
            is_terminal: Standard::Error.is_terminal(),
            is_output_terminal: Standard::Output.is_terminal(),
            uwsgi_command_line: found::called_as("uwsgi"),
            uwsgi_directory: None,
            gunicorn_command_line: found::called_as("gunicorn"),
            is_init: handover::is_init(),
        }
    }
}

/// The name of the current directory, the same for the life of the process: `$PWD` where that
/// is the same directory at the first call, as the shell left it, links included.
fn working_directory() -> PathBuf {
    static NAME: OnceLock<PathBuf> = OnceLock::new();
    NAME.get_or_init(|| {
        let physical = std::env::current_dir().or_else(|_| std::fs::read_link("/proc/self/cwd"));
        let by_shell = std::env::var_os("PWD").map(PathBuf::from);
        by_shell
            .filter(|name| name.is_absolute() && is_current(name))
            .or(physical.ok())
            .unwrap_or_else(|| PathBuf::from("/proc/self/cwd (deleted)"))
    })
    .clone()
}

/// Makes [`Config::current_dir`] the current directory of the process, if it is another one. If it has been
/// removed, the chdir takes its place: programs such as the interpreters of pyenv do not start without a
/// current directory.
pub fn enter_current_directory(config: &Config) {
    if is_current(&config.current_dir) {
        return;
    }
    // Where neither can be entered, starting the interpreter reports the reason.
    let _entered = match config.current_dir.is_dir() {
        true => std::env::set_current_dir(&config.current_dir),
        false => std::env::set_current_dir(config.release.settle(&config.chdir)),
    };
}

fn is_current(name: &Path) -> bool {
    let identity = |path: &Path| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.dev(), found.ino()))
    };
    identity(name).is_some_and(|found| identity(Path::new(".")) == Some(found))
}
