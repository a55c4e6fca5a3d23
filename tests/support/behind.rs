//! A real server behind pyserve, on a Unix socket: uWSGI, gunicorn and others, from an
//! environment that the project makes for itself.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::lines::Lines;
use super::{apps, python, skipped};

/// A server behind pyserve, with its socket in a directory of its own. Dropping kills it.
pub struct Behind {
    child: Child,
    /// What it wrote to stderr.
    pub output: Lines,
    dir: tempfile::TempDir,
}

impl Behind {
    /// Starts it, and waits until it has said `ready`.
    pub fn start(command: &mut Command, dir: tempfile::TempDir, ready: &str) -> Self {
        let mut child = command
            .current_dir(apps())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONPATH", apps())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = Lines::read_from(child.stderr.take().expect("it is piped"));
        let more = Lines::read_from(child.stdout.take().expect("it is piped"));
        let said = if ready == "listening" { &more } else { &output };
        said.wait_for(ready);
        Self { child, output, dir }
    }

    /// The path of its socket, by convention.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        // INT, so that workers go as well; and KILL in case.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let _ = self.child.wait();
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
