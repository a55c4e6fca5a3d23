//! A real nginx on a Unix socket, beside or in front of what we compare with it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::raw::Connection;
use super::{provision, temp_dir};

/// A running nginx; it has bound its socket when the constructor returns. Dropping stops it.
pub struct Nginx {
    program: PathBuf,
    dir: tempfile::TempDir,
    conf: PathBuf,
}

impl Nginx {
    /// Starts it with these directives in its `http` and in its first `server`. `SOCKET` stands for the
    /// address, for further servers.
    ///
    /// # Errors
    /// Why this machine cannot have one, or what it said instead of starting.
    pub fn start(http: &str, server: &str) -> Result<Self, String> {
        Self::with_servers(&format!("{http}server {{ listen LISTEN; {server} }}"))
    }

    /// Starts it with these directives in its `http`, where `LISTEN` stands for its socket.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn with_servers(http: &str) -> Result<Self, String> {
        let user = match rustix::process::getuid().is_root() {
            true => "user root;",
            false => "",
        };
        Self::with_file(&format!(
            "{user}\npid WORK/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{http}\n}}\n"
        ))
    }

    /// Starts it with a whole file, which writes its `pid` to `WORK/pid`; `LISTEN` stands for its socket.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn with_file(text: &str) -> Result<Self, String> {
        let made = provision::directory("nginx", |dir| vec!["nginx".into(), dir.into()])?;
        let dir = temp_dir();
        let conf = dir.path().join("nginx.conf");
        let work = dir.path().display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {work}/{kind};\n"))
            .concat();
        // nginx's own default is a directory that only its package makes.
        let log = match text.contains("access_log") {
            true => "",
            false => "access_log off;\n",
        };
        let text = text
            .replacen("http {\n", &format!("http {{\n{temporary}{log}"), 1)
            .replace("LISTEN", &format!("unix:{work}/socket"))
            .replace("SOCKET", &format!("unix:{work}/socket"))
            .replace("WORK", &work.to_string());
        std::fs::write(&conf, format!("error_log {work}/log;\n{text}")).unwrap();
        let nginx = Self {
            program: made.join("nginx"),
            dir,
            conf,
        };
        nginx.run(&[]).map(|()| nginx)
    }

    /// nginx goes to the background when it listens, and so ends at once.
    fn run(&self, args: &[&str]) -> Result<(), String> {
        let log = self.dir.path().join("log");
        let status = Command::new(&self.program)
            .arg("-c")
            .arg(&self.conf)
            .arg("-e")
            .arg(&log)
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map_err(|error| error.to_string())?;
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        match status.success() {
            true => Ok(()),
            false => Err(format!("it says: {}", said().trim())),
        }
    }

    /// The socket on which it listens.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// A connection to it.
    pub fn connect(&self) -> Connection {
        Connection::unix(&self.socket())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _has_gone = self.run(&["-s", "stop"]);
    }
}
