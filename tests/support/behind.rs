//! A real server behind pyserve, on a Unix socket: uWSGI, gunicorn and others, from an
//! environment that the project makes for itself.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::lines::Lines;
use super::process_tree::{Guard, Guarded, descendants, kill};
use super::{apps, python, skipped};

/// A server behind pyserve, with its socket in a directory of its own. Dropping kills it and its
/// workers.
pub struct Behind {
    child: Child,
    guard: Guard,
    /// What it wrote to stderr.
    pub output: Lines,
    dir: tempfile::TempDir,
}

impl Behind {
    /// Starts it, and waits until it has said `ready`.
    pub fn start(command: &mut Command, dir: tempfile::TempDir, ready: &str) -> Self {
        let mut child = command
            .current_dir(apps())
            .process_group(0)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONPATH", apps())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let guard = Guard::over(&child, Guarded::Group, dir.path());
        let output = Lines::read_from(child.stderr.take().expect("it is piped"));
        let more = Lines::read_from(child.stdout.take().expect("it is piped"));
        let said = if ready == "listening" { &more } else { &output };
        said.wait_for(ready);
        Self {
            child,
            guard,
            output,
            dir,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The path of its socket, by convention.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.guard.dismiss();
        // Stopped first, so that it starts no worker that would be left. No gentler signal: a
        // worker of uWSGI that gets it too early misses it, and is waited for.
        let _ = kill_process(self.pid(), Signal::STOP);
        let workers = descendants(self.pid());
        let _ = self.child.kill();
        let _ = self.child.wait();
        kill(&workers);
        if std::thread::panicking() {
            eprintln!("--- behind:\n{}\n---", self.output.so_far().join("\n"));
        }
    }
}

/// The program `name` of an environment; `None`, and a line, if this machine cannot have it.
pub fn program(set: &str, name: &str) -> Option<PathBuf> {
    let system = python::default();
    let interpreter = python::supported().find(|python| python.path == system);
    match python::environment(set, interpreter?) {
        Ok(dir) => Some(dir.join("bin").join(name)),
        Err(why) => {
            skipped(&format!("the tests of a real {name}"), &why);
            None
        }
    }
}
