//! A real nginx on a Unix socket, beside or in front of what we compare with it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::raw::Connection;
use super::temp_dir;

/// A running nginx; it has bound its socket when the constructor returns. Dropping stops it.
pub struct Nginx {
    dir: tempfile::TempDir,
    conf: PathBuf,
}

impl Nginx {
    /// Starts it with these directives in its `http` and in its only `server`. `None`: there
    /// is no nginx on this machine.
    pub fn start(http: &str, server: &str) -> Option<Self> {
        let dir = temp_dir();
        let conf = dir.path().join("nginx.conf");
        let user = match rustix::process::getuid().is_root() {
            true => "user root;",
            false => "",
        };
        let work = dir.path().display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {work}/{kind};\n"))
            .concat();
        let text = format!(
            "{user}\npid {work}/pid;\nerror_log {work}/log;\nevents {{}}\nhttp {{\naccess_log off;\n\
             {temporary}{http}server {{ listen unix:{work}/socket; {server} }}\n}}\n"
        );
        std::fs::write(&conf, text).unwrap();
        let nginx = Self { dir, conf };
        nginx.run(&[]).then_some(nginx)
    }

    /// nginx goes to the background when it listens, and so ends at once.
    fn run(&self, args: &[&str]) -> bool {
        let path = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";
        Command::new("nginx")
            .env("PATH", path)
            .arg("-c")
            .arg(&self.conf)
            .arg("-e")
            .arg(self.dir.path().join("log"))
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    /// A connection to it.
    pub fn connect(&self) -> Connection {
        Connection::unix(&self.dir.path().join("socket"))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.run(&["-s", "stop"]);
    }
}
